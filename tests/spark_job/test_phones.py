"""Batches as phones and cameras leave them, run as a user runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from spark_job.networks import load_card
from tests.spark_job.jobs import run_job
from tests.spark_job.photographs import photograph, plant

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.job


def test_decoding_in_full_is_another_extractor_with_models_of_its_own(tmp_path: Path) -> None:
    plant(tmp_path / "in", {"Kiwi": 4})
    (tmp_path / "in" / "Kiwi" / "large.jpg").write_bytes(photograph((1800, 1400)))
    scaled = run_job(tmp_path / "in", tmp_path / "out")
    full = run_job(tmp_path / "in", tmp_path / "out", "--full-decode", batch="full")
    assert scaled.receipt["extractor"] == load_card().extractor
    assert full.receipt["extractor"] == load_card().in_full().extractor
    assert full.receipt["settings"]["full_decode"] is True
    assert full.receipt["model"]["reused"] is False
    assert "of images decoded otherwise" in full.err
    for job in (scaled, full):
        [row] = [row for row in job.table("features").to_pylist() if "large" in row["path"]]
        assert (row["width"], row["height"]) == (1800, 1400)
    ours, theirs = (
        np.stack(job.table("features")["features"].to_numpy()) for job in (scaled, full)
    )
    apart = np.abs(ours - theirs).max(axis=1)
    assert (apart[:4] == 0).all(), "small images are decoded alike"
    assert 0 < apart[4] < 1
