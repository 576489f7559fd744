"""What looking at a batch costs is measured as it is said to be."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from benchmarks.finding import Findings, Looked, findings_section, run_findings
from benchmarks.subset import Subsets
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.job
def test_batches_and_made_up_rows_are_looked_at(tmp_path: Path) -> None:
    images = tmp_path / "images"
    plant(images, {"Apple": 12, "Lime": 12})
    paths = sorted(str(path.relative_to(images)) for path in images.rglob("*.jpg"))
    given = argparse.Namespace(finding_sizes=[12, 24], finding_rows=[300, 900])
    found = run_findings(given, Subsets(str(images), paths, tmp_path / "subsets"))
    assert [one.images for one in found.batches] == [12, 24]
    assert all(one.infer > 0 < one.findings and one.report_bytes > 10_000 for one in found.batches)
    assert [one["rows"] for one in found.rows] == [300, 900]
    assert all(one["driver_bytes"] > 50_000_000 for one in found.rows)
    section = findings_section(found)
    assert "| 24     |" in section.blocks[1]


def test_targets_follow_the_shares() -> None:
    few, many = looked(2_000, findings=1.0), looked(20_000, findings=40.0)
    rows = [row(100_000, 10.0, 1.0), row(400_000, 60.0, 1.2)]
    met = {one.name: one for one in findings_section(Findings([few, many], rows)).targets}
    cost = met["findings of 2,000 images over their inference"]
    assert (cost.reached, cost.met) == ("10.0%", True)
    assert not met["findings of 20,000 images over their inference"].met
    assert not met["seconds per row at 400,000 rows over those at 100,000"].met
    assert met["driver's memory at 400,000 rows over that at 100,000"].met
    assert met["report of 20,000 images"].met


def looked(images: int, findings: float) -> Looked:
    return Looked(images, images / 100, findings, 2, 1.0, 3.0, 2_000_000)


def row(rows: int, seconds: float, driver: float) -> dict[str, float]:
    sizes = {"driver_bytes": driver * 1e9, "worker_bytes": 1e9}
    return {"rows": rows, "seconds": seconds, "slots": 2, "cells": 9, "recall": 0.9, **sizes}
