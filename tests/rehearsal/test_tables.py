"""A comparison that fails shows both sides."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.rehearsal.tables import Published

if TYPE_CHECKING:
    from pathlib import Path

PATHS = ["a/1.jpg", "a/2.jpg", "b/3.jpg"]


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """A batch of three images, written as the contract says and read back."""
    run = tmp_path / "results/b/runs/r"
    model = tmp_path / "models/e/m"
    for folder in (run / "features", run / "vectors", run / "rejects", model):
        folder.mkdir(parents=True)
    rows: dict[str, Any] = {"path": PATHS, "label": ["a", "a", "b"]}
    features = [[0.5] * 8, [1.5] * 8, [2.5] * 8]
    vectors = [[0.25, 1.0], [0.5, 2.0], [0.75, 3.0]]
    table = pa.table(rows | {"version": ["x", "y", "z"], "features": features})
    pq.write_table(table[2:], run / "features/part-0.parquet")
    pq.write_table(table[:2], run / "features/part-1.parquet")
    pq.write_table(
        pa.table(rows | {"model": ["m"] * 3, "vector": vectors}), run / "vectors/p.parquet"
    )
    pq.write_table(pa.table(rows | {"reason": ["why"] * 3})[:1], run / "rejects/p.parquet")
    np.savez(model / "model.npz", mean=np.ones(8), eigenvalues=np.arange(8.0))
    receipt = {"extractor": "e", "model": {"model": "m"}}
    (run / "run.json").write_text(json.dumps(receipt))
    (tmp_path / "results/b/current.json").write_text(json.dumps({"run": "r"}))
    return Published.read(tmp_path, "b")


def changed(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, table[column].type))


def said(ours: Published, theirs: Published, **named: float) -> str:
    with pytest.raises(AssertionError) as failed:
        ours.assert_same(theirs, **named)
    return str(failed.value)


def test_the_same_are_the_same_wherever_their_images_lie(published: Published) -> None:
    assert published.features["path"].to_pylist() == PATHS
    elsewhere = changed(published.features, "version", 0, "another store's")
    published.assert_same(replace(published, features=elsewhere))


def test_both_sides_of_the_first_rows_that_differ_are_shown(published: Published) -> None:
    other = replace(
        published, features=changed(published.features, "features", 1, [1.5] * 5 + [9.5] * 3)
    )
    assert said(published, other) == (
        "features: features of a/2.jpg (row 1)\n"
        "  8 numbers, from number 5 on: [1.5, 1.5, 1.5]\n"
        "  8 numbers, from number 5 on: [9.5, 9.5, 9.5]"
    )
    other = replace(published, rejects=changed(published.rejects, "reason", 0, "because"))
    assert said(published, other) == ("rejects: reason of a/1.jpg (row 0)\n  'why'\n  'because'")


def test_a_missing_row_and_a_missing_column_are_named(published: Published) -> None:
    other = replace(published, vectors=published.vectors.slice(1))
    assert said(published, other) == ("vectors: the first paths that differ\n  a/1.jpg\n  a/2.jpg")
    other = replace(published, vectors=published.vectors.slice(0, 2))
    assert said(published, other) == "vectors: one has more rows\n  3 rows\n  2 rows"
    other = replace(published, vectors=published.vectors.drop_columns(["model"]))
    assert "the columns differ" in said(published, other)


def test_vectors_may_differ_as_far_as_told_and_features_not_at_all(published: Published) -> None:
    vectors = changed(published.vectors, "vector", 2, [0.75, 3.0 + 1e-6])
    published.assert_same(replace(published, vectors=vectors), vectors_within=1e-5)
    assert "vectors: vector of b/3.jpg" in said(published, replace(published, vectors=vectors))
    vectors = changed(published.vectors, "vector", 2, [0.75, 3.1])
    other = replace(published, vectors=vectors)
    assert "[0.75, 3.1]" in said(published, other, vectors_within=1e-5)
    features = changed(published.features, "features", 0, [0.5 + 1e-6] * 8)
    other = replace(published, features=features)
    assert "features of a/1.jpg" in said(published, other, vectors_within=1e-5)


def test_models_agree_to_nine_digits(published: Published) -> None:
    mean = published.model["mean"]
    published.assert_same(replace(published, model=published.model | {"mean": mean + 1e-10}))
    other = replace(published, model=published.model | {"mean": mean + 1e-8})
    assert "mean" in said(published, other)
