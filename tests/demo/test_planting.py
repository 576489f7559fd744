"""The demonstration finds what is planted in its batch, and little else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from demo.drawing.fruits import FRUITS
from demo.planting import IDENTICAL, NEAR, OUTLIERS, SWAPPED, UNSUPPORTED, plant
from demo.synthetic import PER_LABEL, make_batch
from spark_job.receipts import RunReceipt

if TYPE_CHECKING:
    from pathlib import Path

    from tests.demo.conftest import Demonstration

pytestmark = pytest.mark.job

STRAY = 3
"""Suspects, and outliers, that nobody planted; among three hundred pictures some are odd."""


@pytest.fixture(scope="module")
def run(demonstration: Demonstration) -> Path:
    folder, done = demonstration
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("out/synthetic-fruit/results/synthetic-fruit/runs/*")
    return run


@pytest.fixture(scope="module")
def receipt(run: Path) -> RunReceipt:
    return RunReceipt.from_json((run / "run.json").read_bytes(), str(run))


def rows(run: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(run / table).to_pylist()
    return found


def groups(run: Path) -> dict[str, int]:
    """Numbers of groups of copies, by path."""
    return {row["path"]: row["group"] for row in rows(run, "findings/duplicates")}


def test_every_picture_is_accounted_for(run: Path, receipt: RunReceipt) -> None:
    planted = len(IDENTICAL) + len(NEAR) + len(SWAPPED) + len(OUTLIERS)
    assert receipt.counts.featurized == len(FRUITS) * PER_LABEL + planted
    assert receipt.counts.rejected == 4
    (unsupported,) = (
        row["path"] for row in rows(run, "rejects") if row["reason"] == "unsupported-format"
    )
    assert unsupported == UNSUPPORTED


def test_identical_copies_are_all_found_and_the_originals_kept(run: Path) -> None:
    found = rows(run, "findings/duplicates")
    identical = {row["path"] for row in found if row["kind"] == "identical"}
    assert identical == {*IDENTICAL, *IDENTICAL.values()}
    group = groups(run)
    assert all(group[copy] == group[original] for copy, original in IDENTICAL.items())
    assert {row["path"] for row in found if row["keep"]} >= set(IDENTICAL.values())


def test_copies_that_are_stored_in_another_way_are_found(run: Path) -> None:
    group = groups(run)
    missed = [
        copy
        for copy, stored in NEAR.items()
        if copy not in group or group[copy] != group.get(stored.original)
    ]
    assert len(missed) <= 0.1 * len(NEAR), missed
    planted = {*IDENTICAL, *IDENTICAL.values(), *NEAR, *(one.original for one in NEAR.values())}
    assert set(group) <= planted


def test_swapped_labels_are_found_with_what_they_should_be(run: Path) -> None:
    suggested = {row["path"]: row["suggested"] for row in rows(run, "findings/suspects")}
    assert {path: suggested.get(path) for path in SWAPPED} == SWAPPED
    assert len(suggested) <= len(SWAPPED) + STRAY, set(suggested) - set(SWAPPED)


def test_what_does_not_belong_there_stands_out(run: Path, receipt: RunReceipt) -> None:
    assert receipt.findings is not None
    standing_out = [row["path"] for row in rows(run, "findings/outliers")]
    standing_out = standing_out[: receipt.findings.outliers]
    assert set(standing_out) >= set(OUTLIERS)
    assert len(standing_out) <= len(OUTLIERS) + STRAY, set(standing_out) - set(OUTLIERS)


def test_labels_are_told_apart_where_nothing_was_planted(run: Path) -> None:
    strays = Counter(path.partition("/")[0] for path in SWAPPED)
    for row in rows(run, "findings/labels"):
        disagreeing = round((1 - row["agreeing"]) * row["n"]) - strays[row["label"]]
        assert disagreeing <= 0.05 * row["n"], row


def test_the_report_shows_pictures_of_all_of_it(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    for path in (*IDENTICAL, *NEAR, *SWAPPED, *OUTLIERS):
        assert f'data-path="{path}"' in page
    assert UNSUPPORTED in page


def test_what_is_planted_is_the_same_each_time(
    demonstration: Demonstration, tmp_path: Path
) -> None:
    make_batch(tmp_path)
    plant(tmp_path)
    there = demonstration.folder / "out" / "synthetic-fruit" / "images"
    files = sorted(path.relative_to(there) for path in there.rglob("*.*"))
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    differing = [
        str(file) for file in files if (there / file).read_bytes() != (tmp_path / file).read_bytes()
    ]
    assert differing == []
