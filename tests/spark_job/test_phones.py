"""Batches as phones and cameras leave them, run as a user runs them."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyarrow import parquet

from spark_job.networks import load_card
from tests.spark_job.files import tiff
from tests.spark_job.jobs import files_below, read_json, run_job
from tests.spark_job.photographs import encoded, fruit, photograph, plant

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


HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(3000)
DNG = tiff(np.zeros((120, 160, 3), np.uint8), 2, more={50706: [1, 4, 0, 0]})
ENGINES = [
    pytest.param((), id="processes"),
    pytest.param(
        ("--engine", "spark", "--master", "local[2,4]"), id="spark", marks=pytest.mark.spark
    ),
]


def phone(folder: Path, *, jpegs: int, heics: int, raws: int) -> None:
    """What a phone holds: JPEGs, one of them under HEIC's name, HEICs and raw files."""
    plant(folder, {"Kiwi": jpegs - 1})
    (folder / "Kiwi" / "sent.heic").write_bytes(encoded(fruit(99), "JPEG"))
    for number in range(heics):
        (folder / "Kiwi" / f"IMG_{number:04}.HEIC").write_bytes(HEIC)
    for number in range(raws):
        (folder / "Kiwi" / f"IMG_{number:04}.DNG").write_bytes(DNG)


@pytest.mark.parametrize("engine", ENGINES)
def test_pictures_that_are_not_taken_are_counted_and_named(
    engine: tuple[str, ...], tmp_path: Path
) -> None:
    phone(tmp_path / "in", jpegs=8, heics=5, raws=2)
    (tmp_path / "in" / "Kiwi" / "renamed.jpg").write_bytes(HEIC)
    (tmp_path / "in" / "Kiwi" / "notes.txt").write_text("no picture")
    job = run_job(tmp_path / "in", tmp_path / "out", *engine)
    counts = job.receipt["counts"]
    assert (counts["listed"], counts["computed"], counts["rejected"]) == (16, 8, 0)
    assert counts["unsupported"] == 8
    assert counts["formats"] == {"heic": 5, "dng": 2, "jpg": 1}
    assert counts["rejects"] == {}
    assert counts["ignored"] == {"txt": 1}
    rows = job.table("rejects").to_pylist()
    assert len(rows) == 8
    assert {(row["stage"], row["reason"]) for row in rows} == {("decode", "unsupported-format")}
    assert all("convert it to JPEG" in row["detail"] for row in rows)
    assert job.outcomes()["Kiwi/sent.heic"] == "featurized"
    assert (
        "8 pictures in formats that are not taken (5 .heic, 2 .dng, 1 .jpg): convert them to JPEG"
    ) in job.out
    [row] = parquet.read_table(job.run / "receipt" / "run.parquet").to_pylist()
    assert (row["unsupported"], row["rejected"], row["reasons"]) == (8, 0, [])


def test_more_of_them_than_of_others_are_not_published_unless_allowed(tmp_path: Path) -> None:
    phone(tmp_path / "in", jpegs=4, heics=5, raws=0)
    refused = run_job(tmp_path / "in", tmp_path / "out", "--run", "r")
    assert refused.exit_code == 4
    assert "5 of 9 images were in formats that are not taken" in refused.err
    assert "--allow-unsupported" in refused.err
    failure = read_json(tmp_path / "out/work/batch/r/failure.json")
    assert (failure["exit_code"], failure["error"]) == (4, "UnsupportedFormatsError")
    assert not (tmp_path / "out/results").exists()
    allowed = run_job(tmp_path / "in", tmp_path / "out", "--allow-unsupported")
    assert allowed.receipt["counts"]["unsupported"] == 5
    assert allowed.table("features").num_rows == 4


def test_nothing_but_heics_is_told_as_such(tmp_path: Path) -> None:
    phone(tmp_path / "in", jpegs=1, heics=3, raws=0)
    (tmp_path / "in/Kiwi/sent.heic").unlink()
    job = run_job(tmp_path / "in", tmp_path / "out")
    assert job.exit_code == 4
    assert " of 3 images were in formats that are not taken" in job.err


def test_mostly_raw_files_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    phone(tmp_path / "in", jpegs=3, heics=1, raws=5)
    job = run_job(tmp_path / "in", tmp_path / "out", "--run", "r")
    assert job.exit_code == 4
    assert "5 of 9 images are raw files of cameras (5 .dng), which are not taken" in job.err
    assert files_below(tmp_path / "out/work/batch/r") == {"claim.json", "failure.json"}
    allowed = run_job(tmp_path / "in", tmp_path / "out", "--allow-unsupported")
    assert allowed.receipt["counts"]["formats"] == {"dng": 5, "heic": 1}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_name_that_is_not_utf8_rejects_one_image(engine: tuple[str, ...], tmp_path: Path) -> None:
    plant(tmp_path / "in", {"Plum": 5})
    plum = tmp_path / "in" / "Plum"
    (plum / "Plum_000.jpg").rename(plum / os.fsdecode(b"caf\xe9.jpg"))
    job = run_job(tmp_path / "in", tmp_path / "out", "--max-reject-rate", "0.2", "--csv", *engine)
    [row] = job.table("rejects").to_pylist()
    assert (row["path"], row["label"]) == ("Plum/caf\\xe9.jpg", "Plum")
    assert (row["stage"], row["reason"]) == ("read", "bad-name")
    assert job.receipt["counts"]["rejects"] == {"bad-name": 1}
    assert job.table("features").num_rows == 4
