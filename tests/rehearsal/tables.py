"""What a run published, as tables to compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_job.contract import (
    CURRENT,
    FEATURES,
    MODEL_FILE,
    MODELS,
    REJECTS,
    RUN,
    VECTORS,
    models_folder,
    results_folder,
    run_folder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rehearsal.local_cloud import LocalCloud

MODEL_DIFFERS = 1e-9
"""How far a model's numbers may lie apart, by the largest of their kind: sums in another order."""

OF_THE_STORE = ("version",)
"""Columns that tell of where an image lies, and not of the image."""


@dataclass(frozen=True)
class Published:
    """The tables, the model and the receipt of a batch's current run, rows by their paths."""

    features: pa.Table
    vectors: pa.Table
    rejects: pa.Table
    model: dict[str, NDArray[np.float64]]
    receipt: dict[str, Any]

    @classmethod
    def of(cls, cloud: LocalCloud, batch: str, folder: Path) -> Published:
        """Fetch what a batch published."""
        for fetched in (results_folder(batch), MODELS):
            cloud.fetch(f"{fetched}/", folder)
        return cls.read(folder, batch)

    @classmethod
    def read(cls, root: Path, batch: str) -> Published:
        """Read what a batch published under `root`."""
        pointer = (root / results_folder(batch) / CURRENT).read_text(encoding="utf-8")
        run = root / run_folder(batch, json.loads(pointer)["run"])
        receipt = json.loads((run / RUN).read_text(encoding="utf-8"))
        models = root / models_folder(receipt["extractor"])

        def table(name: str) -> pa.Table:
            parts = [pq.read_table(path) for path in sorted((run / name).glob("*.parquet"))]
            return pa.concat_tables(parts).sort_by("path")

        with np.load(models / receipt["model"]["model"] / MODEL_FILE) as model:
            return cls(table(FEATURES), table(VECTORS), table(REJECTS), {**model}, receipt)

    def assert_same(self, other: Published, *, vectors_within: float = 0.0) -> None:
        """Fail, showing both sides, unless both have the same features, vectors and rejects.

        Bit for bit; but the vectors may be told to differ, by so much in each number, and the
        models may by `MODEL_DIFFERS`. Models of two batches have ids of their own.
        """
        alike = self.receipt.get("batch") == other.receipt.get("batch")
        for name in (REJECTS, FEATURES, VECTORS):
            within = vectors_within if name == VECTORS else 0.0
            tables = getattr(self, name), getattr(other, name)
            if name == VECTORS and not alike:
                tables = tables[0].drop_columns("model"), tables[1].drop_columns("model")
            difference = first_difference(*tables, within)
            assert difference is None, f"{name}: {difference}"
        assert self.model.keys() == other.model.keys()
        for name, ours in self.model.items():
            theirs = other.model[name]
            assert ours.shape == theirs.shape, f"{name} of the models"
            atol = MODEL_DIFFERS * np.abs(ours).max()
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=atol, err_msg=name)


def first_difference(ours: pa.Table, theirs: pa.Table, within: float = 0.0) -> str | None:
    """Show the first rows of two tables that differ, one above the other; None if none do.

    Lists of numbers are the same when no number differs by more than `within`.
    """
    columns = [name for name in ours.column_names if name not in OF_THE_STORE]
    if set(columns) != set(theirs.column_names) - set(OF_THE_STORE):
        return _both("the columns differ", ours.column_names, theirs.column_names)
    for left, right in zip(ours["path"].to_pylist(), theirs["path"].to_pylist(), strict=False):
        if left != right:
            return _both("the first paths that differ", left, right)
    if len(ours) != len(theirs):
        return _both("one has more rows", *(f"{len(table)} rows" for table in (ours, theirs)))
    for column in columns:
        differing = _differing(ours[column], theirs[column], within)
        if differing is not None:
            path = ours["path"][differing].as_py()
            sides = (table[column][differing].as_py() for table in (ours, theirs))
            return _both(f"{column} of {path} (row {differing})", *_shown(*sides))
    return None


def _differing(ours: pa.ChunkedArray, theirs: pa.ChunkedArray, within: float) -> int | None:
    """Return the first row in which two columns of one length differ."""
    if ours.equals(theirs):
        return None
    for row, (left, right) in enumerate(zip(ours.to_pylist(), theirs.to_pylist(), strict=True)):
        if left != right and not (within and _close(left, right, within)):
            return row
    return None


def _close(left: Any, right: Any, within: float) -> bool:
    if not isinstance(left, list) or not isinstance(right, list) or len(left) != len(right):
        return False
    return bool(np.allclose(left, right, rtol=0, atol=within))


def _shown(left: Any, right: Any) -> tuple[str, ...]:
    """Write both values; of two long lists, a few numbers from the first that differs on."""
    if not (isinstance(left, list) and isinstance(right, list) and max(len(left), len(right)) > 6):
        return repr(left), repr(right)
    pairs = enumerate(zip(left, right, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), 0)
    return tuple(f"{len(v)} numbers, from number {at} on: {v[at : at + 4]}" for v in (left, right))


def _both(what: str, *sides: object) -> str:
    return "\n".join([what, *(f"  {side}" for side in sides)])
