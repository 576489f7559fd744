"""The small files beside a run's tables: the spectrum, the part receipts, the receipt as a row."""

from __future__ import annotations

import io
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from spark_job import contract
from spark_job.tables import part_name

if TYPE_CHECKING:
    from spark_job.objects import Folder
    from spark_job.pca import PCAModel
    from spark_job.receipts import PartReceipt, RunReceipt

_COUNTS = pa.map_(pa.string(), pa.int64())
_SECONDS = pa.map_(pa.string(), pa.float64())

_COUNTED = (
    ("listed", pa.int64()),
    ("computed", pa.int64()),
    ("carried_over", pa.int64()),
    ("rejected", pa.int64()),
    ("unsupported", pa.int64()),
    ("reasons", _COUNTS),
)

PARTS_SCHEMA = pa.schema(
    [
        ("part", pa.int32()),
        ("attempt", pa.string()),
        ("features", pa.string()),
        ("rejects", pa.string()),
        ("first", pa.string()),
        ("last", pa.string()),
        *_COUNTED,
        ("digest_listing", pa.string()),
        ("digest_images", pa.string()),
        ("digest_features", pa.string()),
        ("seconds", _SECONDS),
        ("processor", pa.string()),
        ("versions", pa.map_(pa.string(), pa.string())),
    ]
)

RUN_SCHEMA = pa.schema(
    [
        ("batch", pa.string()),
        ("run", pa.string()),
        ("images", pa.string()),
        ("started", pa.timestamp("us", "UTC")),
        ("finished", pa.timestamp("us", "UTC")),
        *_COUNTED,
        ("network", pa.string()),
        ("extractor", pa.string()),
        ("model", pa.string()),
        ("model_reused", pa.bool_()),
        ("k", pa.int32()),
        ("variance_kept", pa.float64()),
        ("variance_kept_here", pa.float64()),
        ("largest_z", pa.float64()),
        ("engine", pa.string()),
        ("slots", pa.int32()),
        ("processors", _COUNTS),
        ("images_per_second", pa.float64()),
        ("seconds", pa.float64()),
        ("stages", _SECONDS),
        ("dollars", pa.float64()),
    ]
)


def write_variance(folder: Folder, model: PCAModel) -> None:
    """Write the whole spectrum: component, eigenvalue, share, cumulative_share."""
    shares = model.explained_variance_ratio
    columns = {
        "component": np.arange(1, len(shares) + 1),
        "eigenvalue": model.eigenvalues,
        "share": shares,
        "cumulative_share": np.cumsum(shares),
    }
    file = io.BytesIO()
    csv.write_csv(pa.table(columns), file)
    folder.write(contract.VARIANCE_FILE, file.getvalue())


def write_parts(folder: Folder, receipts: list[PartReceipt]) -> None:
    """Write the part receipts as a table, for whoever asks where time went."""
    _write(folder, contract.PARTS_FILE, PARTS_SCHEMA, [_part_row(one) for one in receipts])


def write_receipt(folder: Folder, receipt: RunReceipt) -> None:
    """Write a run's receipt as a table of one row, for SQL."""
    row: dict[str, Any] = asdict(receipt) | _counted(asdict(receipt.counts))
    for name in ("started", "finished"):
        row[name] = datetime.fromisoformat(row[name])
    row |= {
        "model": receipt.model.model,
        "model_reused": receipt.model.reused,
        "engine": receipt.engine.name,
        "slots": receipt.engine.slots,
        "processors": list(receipt.processors.items()),
        "seconds": receipt.seconds["total"],
        "stages": [item for item in receipt.seconds.items() if item[0] != "total"],
        "dollars": None if receipt.dollars is None else receipt.dollars.estimate,
    }
    for name in ("k", "variance_kept", "variance_kept_here", "largest_z"):
        row[name] = getattr(receipt.model, name)
    _write(folder, contract.RECEIPT_TABLE, RUN_SCHEMA, [row])


def _part_row(receipt: PartReceipt) -> dict[str, Any]:
    row = _counted(asdict(receipt.counts)) | asdict(receipt)
    for table in ("features", "rejects"):  # as settled, under its plain name
        row[table] = None if row[table] is None else part_name(receipt.part)
    row |= {f"digest_{name}": value for name, value in asdict(receipt.digests).items()}
    for name in ("seconds", "versions"):
        row[name] = list(row[name].items())
    return row


def _counted(counts: dict[str, Any]) -> dict[str, Any]:
    return counts | {"reasons": list(counts["rejects"].items())}


def _write(folder: Folder, name: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
    with folder.create(name) as stream:
        parquet.write_table(pa.table(columns, schema=schema), stream, compression="zstd")
