"""What a report reads of a run: all that is small, and some of what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from spark_job import contract, tables
from spark_job.objects import open_folder
from spark_job.report import results as room
from spark_job.report.results import AXES, MapPoints, read_results
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.objects import Folder

BATCH = "monday"


@pytest.fixture
def output(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "out"))


def write_vectors(folder: Folder, part: int, rows: int, k: int = 12) -> None:
    """One file of vectors, whose first components tell the part and the row."""
    vectors = np.zeros((rows, k), np.float32)
    vectors[:, 0], vectors[:, 1] = part, np.arange(rows)
    names = [f"L/{part}-{row:06d}.jpg" for row in range(rows)]
    columns = [names, ["L"] * rows, ["m"] * rows, tables.as_lists(vectors)]
    schema = tables.vectors_schema(k)
    tables.write_table(folder / contract.VECTORS, tables.part_name(part), schema, columns, {})


def test_of_a_small_run_every_image_is_on_the_map(output: Folder) -> None:
    receipt = publish_batch(output, BATCH, 12)
    found = read_results(output, BATCH, receipt.run)
    assert found.receipt == receipt
    assert len(found.points.path) == len(set(found.points.path)) == 12
    assert found.points.vector.shape == (12, min(AXES, receipt.model.k))
    assert found.model is not None
    assert found.model.model == receipt.model.model
    assert found.shares.sum() == pytest.approx(1)
    assert [row["reason"] for row in found.rejects] == ["empty"]
    assert found.findings == {}


def test_of_a_large_one_images_are_taken_evenly_from_all_files(
    output: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = publish_batch(output, BATCH, 12)
    folder = output / contract.run_folder(BATCH, receipt.run)
    (folder / contract.VECTORS).clear()
    for part in range(9):
        write_vectors(folder, part, 1000)
    monkeypatch.setattr(room, "MAPPED", 900)
    points = read_results(output, BATCH, receipt.run).points
    assert points.places is None
    _require_even(points, list(range(9)))
    monkeypatch.setattr(room, "MAPPED", 300)
    monkeypatch.setattr(room, "MAP_GROUPS", 3)
    points = read_results(output, BATCH, receipt.run).points
    assert points.places == 3
    _require_even(points, [0, 3, 6])
    monkeypatch.setattr(room, "MAP_BYTES", 1)
    points = read_results(output, BATCH, receipt.run).points
    assert points.places == 1
    assert set(points.vector[:, 0]) == {0}


def _require_even(points: MapPoints, parts: list[int]) -> None:
    """Every tenth row of these parts alone, each with its own vector."""
    n = 100 * len(parts)
    assert points.vector.shape == (n, AXES)
    for number, part in enumerate(parts):
        rows = points.vector[100 * number : 100 * (number + 1)]
        assert (rows[:, 0] == part).all()
        assert rows[:, 1].tolist() == list(range(0, 1000, 10))
    names = [f"L/{part:.0f}-{row:06.0f}.jpg" for part, row in points.vector[:, :2]]
    assert points.path == names


def test_of_very_many_rejects_the_first_are_read(
    output: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = publish_batch(output, BATCH, 12)
    folder = output / contract.run_folder(BATCH, receipt.run) / contract.REJECTS
    for part in range(3):
        rows = [f"L/{part}-{number}.jpg" for number in range(40)]
        columns = [rows, ["L"] * 40, [0] * 40, ["1"] * 40, ["decode"] * 40, ["empty"] * 40]
        columns.append([""] * 40)
        tables.write_table(folder, tables.part_name(part), tables.REJECTS_SCHEMA, columns, {})
    monkeypatch.setattr(room, "REJECTS", 50)
    found = read_results(output, BATCH, receipt.run).rejects
    assert [row["path"] for row in found] == [f"L/0-{n}.jpg" for n in range(40)] + [
        f"L/1-{n}.jpg" for n in range(10)
    ]


def test_a_model_that_is_gone_leaves_the_rest(output: Folder) -> None:
    receipt = publish_batch(output, BATCH, 12)
    (output / contract.MODELS).clear()
    folder = output / contract.run_folder(BATCH, receipt.run)
    folder.delete([contract.VARIANCE_FILE])
    found = read_results(output, BATCH, receipt.run)
    assert found.model is None
    assert len(found.shares) == 0
    assert len(found.points.path) == 12
