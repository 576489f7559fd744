"""What one poisonous image costs a run: one on which the decoder hangs, and one on which it aborts.

`benchmarks/poisonous` makes images poisonous by a mark at their end.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import REPOSITORY, BenchmarkError
from benchmarks.order import PROCESSES, SPARK
from benchmarks.page import Section, Target, table
from benchmarks.poisonous.sitecustomize import ABORTS, HANGS
from benchmarks.programs import run_job
from benchmarks.results import named

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.programs import Run
    from benchmarks.subset import Subsets

POISONS = {"hangs": HANGS, "aborts": ABORTS}
"""What a decoder does, and the mark at the end of the image on which it does so."""

ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY / "benchmarks/poisonous")}

LIMIT_SECONDS = 600
"""How much longer than without a run with a poisonous image may take before it is given up."""


class Poisoned(NamedTuple):
    """A run with one poisonous image.

    Attributes
    ----------
    effect
        One of `POISONS`.
    run
        None where it failed, did not end, or rejected another number of images than this one.
    failure
        Why, in a line.
    """

    effect: str
    run: Run | None
    failure: str


@dataclass(frozen=True)
class Turn:
    """Runs on one engine: without a poisonous image `before` and `after` those with one."""

    engine: str
    before: Run
    poisoned: list[Poisoned]
    after: Run

    def cost(self, run: Run) -> float:
        """How many seconds longer than those without a run took."""
        return run.seconds - mean([self.before.seconds, self.after.seconds])


def run_poison(given: argparse.Namespace, subsets: Subsets) -> list[Turn]:
    """Run the job on both engines, with and without a poisonous image."""
    size = given.poison_images
    return [run_turn(subsets[size], size, engine) for engine in (PROCESSES, SPARK)]


def run_turn(images: Path, size: int, engine: str, limit: float = LIMIT_SECONDS) -> Turn:
    """Run the job on one engine: without poison, with each one, and without again.

    Parameters
    ----------
    images, size
        A folder, one of whose images is poisonous for a while, and how many there are.
    engine
        The job's.
    limit
        See `LIMIT_SECONDS`.
    """
    job = partial(run_job, images, size, engine, environment=ENVIRONMENT)
    before = job()
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    poisoned = []
    for effect, mark in POISONS.items():
        with marked(paths[size // 2], mark):
            try:
                run = job(how=f"one image {effect}", limit_seconds=before.seconds + limit)
                _require_one_reject(run, before)
                poisoned.append(Poisoned(effect, run, ""))
            except BenchmarkError as error:
                poisoned.append(Poisoned(effect, None, str(error).strip().splitlines()[-1]))
    return Turn(engine, before, poisoned, job())


@contextmanager
def marked(path: Path, mark: bytes) -> Iterator[None]:
    """Append `mark` to a file until the block ends."""
    content = path.read_bytes()
    path.write_bytes(content + mark)
    try:
        yield
    finally:
        path.write_bytes(content)


def _require_one_reject(run: Run, before: Run) -> None:
    """Let no time count in which the image did nothing, or others were lost with it."""
    rejected = run.details["counts"]["rejected"] - before.details["counts"]["rejected"]
    if rejected != 1:
        raise BenchmarkError(f"{run.program}: {rejected} images were rejected for it, and not 1")


def poison_section(turns: list[Turn]) -> Section:
    """Tell what poisonous images cost."""
    blocks = [
        _runs(turns),
        "Wall-clock times of whole runs; what an image costs is over the runs without before and "
        "after. It is one in the middle of the batch, and it hangs, holding the interpreter's "
        "lock, or aborts the process whenever it is opened.",
        *(
            f"The run on {named(turn.engine)} with one that {one.effect} failed: {one.failure}"
            for turn in turns
            for one in turn.poisoned
            if one.run is None
        ),
    ]
    targets = [_target(turn, poisoned) for turn in turns for poisoned in turn.poisoned]
    return Section("Poisonous images", targets, blocks)


def _target(turn: Turn, poisoned: Poisoned) -> Target:
    name = f"{named(turn.engine)}: one image of {turn.before.images:,} that {poisoned.effect}"
    if poisoned.run is None:
        return Target(name, "< 30 s more", "the run failed", met=False)
    cost = turn.cost(poisoned.run)
    return Target(name, "< 30 s more", f"{cost:.1f} s", cost < 30)


def _runs(turns: list[Turn]) -> str:
    rows = []
    for turn in turns:
        rows.append((turn.before.program, f"{turn.before.images:,}", _seconds(turn.before), ""))
        for poisoned in turn.poisoned:
            name = f"{turn.before.program}, one image {poisoned.effect}"
            if poisoned.run is None:
                rows.append((name, f"{turn.before.images:,}", "failed", ""))
            else:
                cost = f"{turn.cost(poisoned.run):.1f}"
                rows.append((name, f"{turn.before.images:,}", _seconds(poisoned.run), cost))
        rows.append((turn.after.program, f"{turn.after.images:,}", _seconds(turn.after), ""))
    return table(("program", "images", "seconds", "more than without"), rows)


def _seconds(run: Run) -> str:
    return f"{run.seconds:.1f}"
