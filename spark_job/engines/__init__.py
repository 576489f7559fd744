"""Where the parts of a batch run: in processes of this machine, or on Spark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from spark_job.progress import Progress
    from spark_job.receipts import EngineReceipt

    Result = TypeVar("Result")
    Report = Callable[[int], None]
    """Tells how many images of its part a worker has done so far."""

    Work = Callable[[int, Report], Result]
    """What a worker does with part number so-and-so; picklable."""

ATTEMPTS = 4
"""Times that a part is tried before its failure fails the run."""


@dataclass(frozen=True)
class Task:
    """A part of a round of parts; what a worker says comes with the task that it says it of."""

    round: int
    part: int


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
        parts: int,
        progress: Progress | None = None,
    ) -> list[Result]:
        """Give `work` each number from 0 to ``parts - 1``.

        A part whose worker dies or raises is tried again, `ATTEMPTS` times in all; attempts at one
        part may overlap where a worker was only believed dead.

        Parameters
        ----------
        description
            For a person who watches.
        work
            Runs in a worker.
        parts
            How many there are.
        progress
            Is told what the workers report.

        Returns
        -------
        list
            What `work` returned, by number.
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
