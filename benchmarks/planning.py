"""How far `orchard plan` is off: what it says of a batch, and what the batch then takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.measure import measure
from benchmarks.page import Section, Target, table
from benchmarks.subset import list_paths

if TYPE_CHECKING:
    import argparse

    from benchmarks.subset import Subsets

TITLE = "How far the plan is off"

WANTED = 0.25
"""Of the time that a batch takes."""


@dataclass(frozen=True)
class Planned:
    """A batch: its images, how many of them were tried, and seconds.

    Attributes
    ----------
    what
        In words.
    images, sample
        How many there are, and were tried.
    planned, took
        Seconds that `orchard plan` said of this machine, and of `orchard run`, whole.
    planning
        Seconds that the plan itself took, whole.
    """

    what: str
    images: int
    sample: int
    planned: float
    took: float
    planning: float

    @property
    def off(self) -> float:
        """By what share of the time that it took the plan was too long; negative: too short."""
        return self.planned / self.took - 1


def run_planning(given: argparse.Namespace, subsets: Subsets) -> list[Planned]:
    """Plan and run each batch, one right after the other."""
    batches = [("images", subsets[size]) for size in given.plan_images]
    if given.photographs:
        batches.insert(0, ("photographs", Path(given.photographs)))
    return [_try(what, folder) for what, folder in batches]


def planning_section(found: list[Planned]) -> Section:
    """Tell how far the plan was off."""
    targets = [
        Target(
            f"the plan for {one.images:,} {one.what}, off by",
            f"≤ {WANTED:.0%}",
            f"{one.off:+.0%}",
            abs(one.off) <= WANTED,
        )
        for one in found
    ]
    columns = ("batch", "tried", "planned, s", "took, s", "off", "the plan itself, s")
    rows = [
        (
            f"{one.images:,} {one.what}",
            f"{one.sample:,}",
            f"{one.planned:.1f}",
            f"{one.took:.1f}",
            f"{one.off:+.1%}",
            f"{one.planning:.1f}",
        )
        for one in found
    ]
    blocks = [
        table(columns, rows),
        "`orchard plan`, and then `orchard run` of the same folder with a model of its own, "
        "interpreter start to exit. Only the time here is measured: what the plan says of a "
        "cluster has not been held against one.",
    ]
    return Section(TITLE, targets, blocks)


def _try(what: str, folder: Path) -> Planned:
    plan = measure("orchard", "plan", str(folder), "--json")
    told = json.loads(plan.output)
    with TemporaryDirectory(prefix="orchard-benchmark-") as output:
        run = measure("orchard", "run", str(folder), "--output", output, "--max-reject-rate", "1")
    return Planned(
        what=what,
        images=len(list_paths(str(folder))),
        sample=told["measured"]["sample"],
        planned=told["here"],
        took=run.seconds,
        planning=plan.seconds,
    )
