"""Real images, and whole jobs that several tests look at."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from pyarrow import parquet

from spark_job.engines.spark import start_spark
from tests.spark_job.jobs import Job, environment_with, run_job
from tests.spark_job.photographs import GOOD, encoded, fruit, plant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession


@pytest.fixture(scope="package")
def spark() -> Iterator[SparkSession]:
    """Spark in this process, for what no whole job shows."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_with({}).items():  # start_spark sets JAVA_HOME and others
            patch.setenv(name, value)
        spark = start_spark("local[1]", "tests")
    yield spark
    spark.stop()


@pytest.fixture(scope="session")
def fruits(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images, ``<label>/<file>``: those that the reference features are of."""
    reference = parquet.read_table(
        shared / "reference" / "emr_features_280x1280.parquet", columns=["path"]
    )
    wanted = {"/".join(path.split("/")[-2:]) for path in reference["path"].to_pylist()}
    folder = tmp_path_factory.mktemp("fruits")
    with tarfile.open(shared / "fruits360" / "fruits360-test.tar") as tar:
        for member in tar:
            if member.name.removeprefix("Test/") in wanted:
                tar.extract(member, folder, filter="data")
    return folder / "Test"


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of small fruits in folders of awkward names, with the `BAD` files among them."""
    folder = tmp_path_factory.mktemp("photo graphs")
    plant(folder, GOOD)
    lemon = (folder / "Lemon" / "Lemon_000.jpg").read_bytes()
    (folder / "Lemon" / "empty.jpg").touch()
    (folder / "Lemon" / "half.jpg").write_bytes(lemon[: len(lemon) // 2])
    (folder / "Lemon" / "notes.jpg").write_text("to do: photograph more lemons")
    Image.new("1", (10_000, 10_000)).save(folder / "Lemon" / "100 megapixels.png")
    # It opens and cannot be read, even by root: address 0 of the reading process.
    (folder / "リンゴ" / "unreadable.jpg").symlink_to("/proc/self/mem")
    (folder / "on top.PNG").write_bytes(encoded(fruit(900)))
    (folder / "README.txt").write_text("not an image, by its name")
    return folder


@pytest.fixture(scope="session")
def job(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The job on `photographs`, published."""
    output = tmp_path_factory.mktemp("output")
    options = ["--run", "first", "--max-reject-rate", "0.2", "--csv"]
    ended = run_job(photographs, output, *options)
    assert ended.exit_code == 0, ended.err
    return ended


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve fruits of two labels, none of them in `photographs`."""
    folder = tmp_path_factory.mktemp("few")
    plant(folder, {"Kiwi": 6, "Plum": 6}, seed=500)
    return folder
