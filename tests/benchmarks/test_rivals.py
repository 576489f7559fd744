"""The benchmark compares programs that compute the same thing, on the images that it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from benchmarks.measure import BenchmarkError, measure
from benchmarks.subset import copy_subset, list_paths
from spark_job import pca
from spark_job.decode import decode
from spark_job.moments import Moments
from spark_job.networks import load_card

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WEIGHTS = "weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
LABELS = ("lemon", "plum", "kiwi")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth random photographs, eight a label."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(3)
    for label in LABELS:
        (folder / label).mkdir()
        for number in range(8):
            blocks = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
            photograph = Image.fromarray(blocks).resize((100, 100))
            photograph.save(folder / label / f"{number}.jpg", quality=95)
    return folder


@pytest.mark.keras
def test_rivals_see_the_jobs_pixels(images: Path) -> None:
    from benchmarks import notebook, single_machine

    for path in images.rglob("*.jpg"):
        content = path.read_bytes()
        pixels = decode(content, load_card(), max_pixels=10_000).pixels / np.float32(127.5) - 1
        assert np.abs(notebook.to_pixels(content) - pixels).max() < 1e-6
        # TensorFlow interpolates a little otherwise; a bilinear resize is nine times as far.
        levels = 127.5 * np.abs(single_machine.to_pixels(str(path)) - pixels)
        assert levels.mean() < 0.3


@pytest.mark.spark
def test_notebook_reduces_features_as_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import notebook
    from spark_job.engines.spark import start_spark

    for name in ("JAVA_HOME", "PYSPARK_PYTHON", "PYTHONPATH"):  # start_spark sets them
        monkeypatch.setenv(name, os.environ.get(name, ""))
    random = np.random.default_rng(5)
    features = random.standard_normal((60, 4)) @ random.standard_normal((4, 12)) + 3
    features += random.standard_normal(features.shape) / 10
    model = pca.fit(Moments.of(features), variance=0.8)
    spark = start_spark("local[1]", "rivals")
    try:
        rows = [(f"{number:02}", "plum", row) for number, row in enumerate(features.tolist())]
        frame = spark.createDataFrame(rows, "path string, label string, features array<float>")
        found, k = notebook.reduce_features(frame, 0.8, most=12)
        reduced = np.array([row.vector for row in found.orderBy("path").collect()])
    finally:
        spark.stop()
    assert k == model.k > 1
    assert relative_difference(reduced, model.project(features)) < 1e-5


@pytest.mark.keras
@pytest.mark.shared
@pytest.mark.spark
def test_script_finds_the_jobs_vectors(images: Path, shared: Path, tmp_path: Path) -> None:
    given = ("--images", str(images), "--output")
    measure("spark_job", *given, str(tmp_path), "--batch", "same", "--run", "once")
    script = measure(
        *("benchmarks.single_machine", *given, str(tmp_path / "script")),
        *("--weights", str(shared / WEIGHTS)),
    )
    run = tmp_path / "results/same/runs/once"
    assert (
        json.loads(script.output)["k"] == json.loads((run / "run.json").read_text())["model"]["k"]
    )
    # scikit-learn divides by n where the job divides by n - 1.
    scale = np.sqrt(23 / 24)
    assert relative_difference(vectors(tmp_path / "script") * scale, vectors(run / "vectors")) < 0.1


def test_subset_is_spread_evenly_over_labels(images: Path, tmp_path: Path) -> None:
    subset = copy_subset(str(images), list_paths(str(images)), 9, tmp_path)
    copies = [path for path in subset.rglob("*") if path.is_file()]
    assert Counter(path.parent.name for path in copies) == dict.fromkeys(LABELS, 3)
    assert all(
        path.read_bytes() == (images / path.relative_to(subset)).read_bytes() for path in copies
    )


def test_failure_of_a_measured_program_is_told_in_its_own_words() -> None:
    with pytest.raises(BenchmarkError, match=re.escape("spark_job failed with code 2")) as failure:
        measure("spark_job", "--variance", "7")
    assert "variance" in str(failure.value)


def test_memory_is_that_of_all_processes() -> None:
    child = "content = b'x' * 300_000_000; import time; time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert measure("timeit", "-n1", "-r1", parent).peak_bytes > 300_000_000


def test_cpu_is_that_of_all_processes_but_not_of_one_that_runs_on() -> None:
    spin = "import time; ends = time.process_time() + 1\nwhile time.process_time() < ends: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            assert 1 <= measure("timeit", "-n1", "-r1", parent).cpu_seconds < 2
        finally:
            other.kill()


def test_a_program_that_does_not_end_is_ended_with_all_its_processes() -> None:
    marker = f"{os.getpid()}.25"
    sleep = f"import time; time.sleep(10_000 + {marker})"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleep!r}])"
    with pytest.raises(BenchmarkError, match="timeit did not end within 2 s"):
        measure("timeit", "-n1", "-r1", parent, limit_seconds=2)
    left = [p for p in psutil.process_iter(["cmdline"]) if sleep in (p.info["cmdline"] or ())]
    assert psutil.wait_procs(left, timeout=10)[1] == [], "killed, and gone before long"


def test_a_persons_own_aws_settings_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "fruit-company")
    statement = "import os; assert [n for n in os.environ if n[:4] == 'AWS_'] == ['AWS_REGION']"
    measure("timeit", "-n1", "-r1", statement, environment={"AWS_REGION": "eu-west-1"})


def vectors(table: Path) -> NDArray[np.float64]:
    """Vectors [n, k] of a table, by label and file name."""
    frame = pd.read_parquet(table)
    frame["name"] = frame["path"].str.split("/").str[-1]
    frame = frame.sort_values(["label", "name"])
    found: NDArray[np.float64] = np.stack(frame["vector"].to_list()).astype(float)
    return found


def relative_difference(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """How far apart the inner products of all pairs are; signs and rotations do not count."""
    products = other @ other.T
    return float(np.linalg.norm(one @ one.T - products) / np.linalg.norm(products))
