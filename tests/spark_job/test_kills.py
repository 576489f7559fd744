"""The whole job, killed at twenty moments: what was done stays done, and nothing half is published.

Each chain of runs is killed again and again, until one may end: early moments are among its first
runs, and settling and publishing among its last ones, which have nothing left to compute.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from tests.spark_job.jobs import REPOSITORY, arguments, read_json, run_job
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.job

CHAINS, KILLS = 4, 5

LONGEST = 6.0
"""Seconds after its first sign of life by which a run is killed."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several parts for each of two workers, and a reject."""
    folder = tmp_path_factory.mktemp("killed")
    plant(folder, {"Kiwi": 90, "Plum": 90, "Fig": 90}, seed=4_000)
    (folder / "Fig/empty.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("undisturbed")
    job = run_job(images, output, "--pca", "fit")
    assert job.exit_code == 0, job.err
    return published(output)


@pytest.mark.parametrize("chain", range(CHAINS))
def test_killed_at_any_moment_the_next_run_goes_on(
    chain: int, images: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    choose = random.Random(chain)
    longest = LONGEST
    for _ in range(KILLS):
        known = done(tmp_path)
        killed = kill(images, tmp_path, choose.uniform(0.0, longest))
        longest = longest if killed else longest / 2
        assert done(tmp_path) >= known, "what was done is done no more"
        if (tmp_path / "results/batch/current.json").exists():
            assert published(tmp_path) == undisturbed
        for run in tmp_path.glob("results/batch/runs/*/run.json"):
            assert len(parquet.read_table(run.parent / "vectors")) == 270
    known = done(tmp_path)
    last = run_job(images, tmp_path, "--pca", "fit")
    assert last.exit_code == 0, last.err
    assert published(tmp_path) == undisturbed
    counts = last.receipt["counts"]
    assert counts["carried_over"] + counts["rejected"] >= known
    assert not list((tmp_path / "work").iterdir())


def kill(images: Path, output: Path, after: float) -> bool:
    """Run the job and kill it with all its workers; whether it was still running."""
    process = subprocess.Popen(
        arguments(images, output, "--pca", "fit"),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    before = set(output.glob("work/batch/*"))
    until = monotonic() + 60
    while process.poll() is None and set(output.glob("work/batch/*")) <= before:
        assert monotonic() < until, "it gave no sign of life"
        sleep(0.01)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0
    return False


def done(output: Path) -> int:
    """Count the images that a later run need not compute: of finished parts, and of whole runs."""
    paths: set[str] = set()
    for receipt in output.glob("work/batch/*/parts/*.json"):
        told = json.loads(receipt.read_bytes())
        for table in ("features", "rejects"):
            if told[table] is not None:
                file = receipt.parents[1] / table / told[table]
                paths.update(parquet.read_table(file, columns=["path"])["path"].to_pylist())
    for run in output.glob("results/batch/runs/*/run.json"):
        for table in ("features", "rejects"):
            found = parquet.read_table(run.parent / table, columns=["path"])
            paths.update(found["path"].to_pylist())
    return len(paths)


def published(output: Path) -> dict[str, Any]:
    """What a reader who follows the pointer finds; of the vectors, which images have one."""
    run = output / "results/batch/runs" / read_json(output / "results/batch/current.json")["run"]
    found: dict[str, Any] = {}
    for table in ("features", "rejects"):
        found[table] = parquet.read_table(run / table).sort_by("path").to_pylist()
    vectors = parquet.read_table(run / "vectors").sort_by("path")
    found["vectors"] = vectors.select(["path", "label"]).to_pylist()
    told = read_json(run / "run.json")
    found["model"] = told["model"]["model"]
    found["digests"] = told["digests"]
    return found
