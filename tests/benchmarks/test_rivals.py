"""The benchmark compares programs that compute the same thing, on the images that it says."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.measure import BenchmarkError, measure
from benchmarks.subset import copy_subset, list_paths

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = "weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
LABELS = ("lemon", "plum", "kiwi")


@pytest.fixture(scope="module")
def weights() -> str:
    path = Path(os.environ.get("ORCHARD_SHARED", "")) / WEIGHTS
    if not path.is_absolute() or not path.exists():
        pytest.skip("ORCHARD_SHARED names no folder with the network's weights")
    return str(path)


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
@pytest.mark.shared
@pytest.mark.spark
def test_rivals_find_the_jobs_vectors(images: Path, weights: str, tmp_path: Path) -> None:
    common = ("--images", str(images), "--output")
    job_folder = tmp_path / "results/same/runs/once"
    measure("spark_job", *common, str(tmp_path), "--batch", "same", "--run", "once")
    k = json.loads((job_folder / "run.json").read_text())["model"]["k"]
    job = vectors(job_folder / "vectors")
    assert len(job) == 24

    with_weights = ("--weights", weights)
    notebook = measure(
        "benchmarks.notebook", *common, str(tmp_path / "notebook"), *with_weights,
        *("--partitions", "1"),
    )  # fmt: skip
    script = measure("benchmarks.single_machine", *common, str(tmp_path / "script"), *with_weights)

    assert k == result(notebook.output)["k"] == result(script.output)["k"]
    assert result(notebook.output)["inferred"] > len(job)
    assert relative_difference(vectors(tmp_path / "notebook"), job) < 1e-3
    # scikit-learn divides by n where the others divide by n - 1; TensorFlow resizes otherwise.
    scale = np.sqrt(23 / 24)
    assert relative_difference(vectors(tmp_path / "script") * scale, job) < 0.1


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


def result(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def vectors(table: Path) -> NDArray[np.float64]:
    """Vectors [n, k] of a table, by label and file name."""
    frame = pd.read_parquet(table)
    frame["name"] = frame["path"].str.split("/").str[-1]
    frame = frame.sort_values(["label", "name"])
    found: NDArray[np.float64] = np.stack(frame["vector"].to_list()).astype(float)
    return found


def relative_difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far apart the inner products of all pairs are; signs and rotations do not count."""
    products = other @ other.T
    return float(np.linalg.norm(one @ one.T - products) / np.linalg.norm(products))
