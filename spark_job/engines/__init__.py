"""Where the parts of a batch run: in processes of this machine, or on Spark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spark_job.progress import Progress
    from spark_job.receipts import EngineReceipt

    Result = TypeVar("Result")
    Work = Callable[[int, "Attempt"], Result]
    """What a worker does with part number so-and-so; picklable."""

ATTEMPTS = 4
"""Times that a part is tried before its failure fails the run."""


@dataclass(frozen=True)
class Attempt:
    """One of several attempts at a part.

    Attributes
    ----------
    number
        From 0.
    report
        Takes how many images of the part are done so far.
    """

    number: int
    report: Callable[[int], None]


@dataclass(frozen=True)
class Task:
    """An attempt at a part of a round; what a worker says comes with what it says it of."""

    round: int
    part: int
    attempt: int = 0


class Engine(Protocol):
    """Runs numbered parts on workers, several at a time, each in the end exactly once."""

    @property
    def slots(self) -> int:
        """Parts that run at the same time."""
        ...

    def receipt(self) -> EngineReceipt:
        """Say what it was."""
        ...

    def run(
        self,
        description: str,
        work: Work[Result],
        parts: Sequence[int],
        progress: Progress | None = None,
        check: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Give `work` each of the numbers `parts`, in this order.

        A part whose worker dies or raises is tried again, `ATTEMPTS` times in all; attempts at one
        part may overlap where a worker was only believed dead.

        Parameters
        ----------
        description
            For a person who watches.
        work
            Runs in a worker.
        parts
            Their numbers, each once.
        progress
            Is told what the workers report.
        check
            Is given each result as it comes; what it raises ends the round.

        Returns
        -------
        list
            What `work` returned, sorted by number.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None:
        """Stop the workers, at work or not."""
        ...


def submitted() -> bool:
    """Whether spark-submit started this process and configured Spark."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def start_engine(
    engine: str | None, *, master: str, name: str, warm_up: Callable[[], object]
) -> Engine:
    """Start an engine, which goes on starting in the background.

    Parameters
    ----------
    engine
        ``processes`` or ``spark``; None for Spark where spark-submit started this process, and
        processes elsewhere.
    master
        Spark's, where spark-submit does not say.
    name
        What a person calls the work.
    warm_up
        What each worker does first, while others still start.
    """
    if engine == "spark" or (engine is None and submitted()):
        from spark_job.engines.spark import SparkEngine

        return SparkEngine(master, name, warm_up)
    from spark_job.engines.processes import ProcessEngine

    return ProcessEngine(warm_up)
