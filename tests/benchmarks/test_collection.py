"""Batches that were run before: what is measured, and the targets that it is held against."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import collection
from benchmarks.collection import BATCHES, STAGES, Collected, Timed, collection_section
from benchmarks.measure import BenchmarkError
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path

MATCHED = {"left": 0, "seconds": 1.0, "slots": 2, "listing_bytes": 3e8, "driver_bytes": 3.1e8}


def collected() -> Collected:
    """A fixed cost of 3 s and a first run of 103 s, of which what is tried costs what it should."""

    def timed(what: str, seconds: float) -> Timed:
        return Timed(what, seconds, 10, 20, {"featurize": 1.0, "moments": 0.5, "calibrate": 1.25})

    return Collected(
        images=1_000,
        few=timed("32 images", 3.0),
        runs=[
            timed("the first run", 103.0),
            timed("unchanged", 5.0),
            timed("10 more", 6.0),
            timed("another number of components", 7.5),
        ],
        batches=[timed(f"batch-{number}", 20.0) for number in range(BATCHES)],
        build=2.5,
        matched=[{"images": 100, **MATCHED}, {"images": 1_000, **MATCHED}],
    )


def test_targets_are_the_fixed_cost_and_what_is_new() -> None:
    targets = collection_section(collected()).targets
    assert [(one.wanted, one.reached, one.met) for one in targets] == [
        ("≤ 13.3 s (fixed cost and 10% of the first run)", "5.0 s", True),
        ("about 1%", "1.0%", True),
        ("< 8.0 s (fixed cost and 5 s)", "7.5 s", True),
        ("flat", "0.00 GB", True),
    ]


@pytest.mark.parametrize(("run", "seconds"), [(1, 14.0), (2, 8.0), (3, 8.0)])
def test_what_takes_too_long_is_not_met(run: int, seconds: float) -> None:
    found = collected()
    found.runs[run] = replace(found.runs[run], seconds=seconds)
    targets = collection_section(found).targets
    assert [place for place, one in enumerate(targets) if one.met is False] == [run - 1]


def test_what_updating_costs_has_a_row_of_its_own() -> None:
    found = collected()
    found.batches[BATCHES - 1] = replace(
        found.batches[BATCHES - 1], stages={"featurize": 9.0, "fit": 0.25, "project": 0.5}
    )
    page = [line.split("|") for line in "\n".join(collection_section(found).blocks).splitlines()]
    rows = [[cell.strip() for cell in line[1:-1]] for line in page]
    assert ["of batch-9, updating", "0.8", "", ""] in rows
    assert ["batch-0", "0.0", "0.0", "1.0", "0.5", "0.0", "1.2", "0.0", "0.0"] in rows
    assert ["batch-9", "0.0", "0.0", "9.0", "0.0", "0.2", "0.0", "0.5", "0.0"] in rows


def test_images_that_are_added_are_new_by_their_content_and_dealt_ones_the_same(
    tmp_path: Path,
) -> None:
    plant(tmp_path / "in", {"Kiwi": 13, "Plum": 12}, seed=3)
    before = {path.read_bytes() for path in (tmp_path / "in").rglob("*.jpg")}
    dealt = collection._deal(tmp_path / "in", tmp_path / "dealt")
    assert len(dealt) == BATCHES
    found = [path for folder in dealt for path in folder.rglob("*.jpg")]
    assert len(found) == 25
    assert {path.read_bytes() for path in found} == before
    assert all((folder / "Kiwi").is_dir() and (folder / "Plum").is_dir() for folder in dealt)
    assert collection._grow(tmp_path / "in", 5) == 5
    after = [path.read_bytes() for path in (tmp_path / "in").rglob("*.jpg")]
    assert (len(after), len({*after} - before)) == (30, 5)
    with pytest.raises(BenchmarkError, match="cannot be doubled"):
        collection._grow(tmp_path / "in", 31)


@pytest.mark.job
def test_a_run_tells_what_it_computed_and_its_stages(tmp_path: Path) -> None:
    plant(tmp_path / "in", {"Kiwi": 22, "Plum": 20}, seed=3)
    first = collection._job("first", tmp_path / "in", tmp_path / "out")
    assert (first.computed, first.known) == (42, 0)
    assert {*STAGES} - {*first.stages} == {"carry over"}
    again = collection._job("again", tmp_path / "in", tmp_path / "out", "--pca", "update")
    assert (again.computed, again.known) == (0, 42)
    assert again.stages["carry over"] > 0
    assert again.seconds > sum(again.stages[stage] for stage in ("carry over", "moments"))
