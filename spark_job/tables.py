"""The tables' schemas, and their Parquet files."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pyarrow import csv, parquet

from spark_job import contract, listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from spark_job.objects import Folder

REJECTS_SCHEMA = pa.schema(
    [*listing.SCHEMA, ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)

POSTPONED_SCHEMA = pa.schema([*listing.SCHEMA, ("kind", pa.string()), ("detail", pa.string())])


class FeatureRow(NamedTuple):
    """A row of the features table, but for its features."""

    path: str
    label: str | None
    bytes: int
    version: str | None
    sha256: str
    phash: int
    chroma: float
    width: int
    height: int
    format: str


class RejectRow(NamedTuple):
    """A row of the rejects table."""

    path: str
    label: str | None
    bytes: int | None
    version: str | None
    stage: str
    reason: str
    detail: str


class PostponedRow(NamedTuple):
    """A row of the images that the store did not give for now."""

    path: str
    label: str | None
    bytes: int | None
    version: str | None
    kind: str
    detail: str


@lru_cache
def features_schema(features: int) -> pa.Schema:
    """Schema of the features table for a network of so many features."""
    return pa.schema(
        [
            *listing.SCHEMA,
            ("sha256", pa.string()),
            ("phash", pa.int64()),
            ("chroma", pa.float32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("format", pa.string()),
            ("features", pa.list_(pa.float32(), features)),
        ]
    )


def vectors_schema(k: int) -> pa.Schema:
    """Schema of the vectors table for k components."""
    return pa.schema(
        [
            ("path", pa.string()),
            ("label", pa.string()),
            ("model", pa.string()),
            ("vector", pa.list_(pa.float32(), k)),
        ]
    )


def part_name(part: int) -> str:
    """Name of a part's file in a settled run."""
    return f"part-{part:05d}.parquet"


def attempt_name(part: int, attempt: str) -> str:
    """Name of a part's file in the work folder: no two attempts write to the same."""
    return f"part-{part:05d}-{attempt}.parquet"


def open_table(stream: IO[bytes], schema: pa.Schema, ids: dict[str, str]) -> parquet.ParquetWriter:
    """Open a table's file for writing, with the ids of what made it in the Parquet footer."""
    # Floats do not repeat, and nobody asks for the least of a feature: a dictionary and statistics
    # of them would only cost time.
    names = set(schema.names)
    return parquet.ParquetWriter(
        stream,
        schema.with_metadata({f"orchard.{key}": ids[key] for key in ids}),
        compression="zstd",
        use_dictionary=sorted(names & {"label", "model", "format", "stage", "reason"}),
        write_statistics=sorted(names & {"path", "label", "model", "reason"}),
    )


def write_table(
    folder: Folder, name: str, schema: pa.Schema, columns: list[Any], ids: dict[str, str]
) -> None:
    """Write a file of columns: sequences of values, or Arrow arrays."""
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    with folder.create(name) as stream, open_table(stream, schema, ids) as writer:
        writer.write_table(pa.table(arrays, schema=writer.schema))


def write_empty(folder: Folder, name: str, schema: pa.Schema, ids: dict[str, str]) -> None:
    """Write a file without rows, so that readers find the table."""
    write_table(folder, name, schema, [[] for _ in schema], ids)


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read a file of a table."""
    return parquet.read_table(pa.BufferReader(folder.read(name)), columns=columns)


def as_matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """View a column of fixed-size lists as a matrix [rows, list size]."""
    array = column.combine_chunks()
    size: int = array.type.list_size
    matrix: NDArray[np.float32] = array.flatten().to_numpy().reshape(-1, size)
    return matrix


def as_lists(matrix: NDArray[np.float32]) -> pa.Array:
    """Make a column of fixed-size lists of a matrix's rows."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def write_vectors_csv(folder: Folder, files: Iterable[str], k: int) -> None:
    """Write the vectors of `files` as one CSV: path, label, v1 to vk."""
    names = [f"v{number}" for number in range(1, k + 1)]
    schema = pa.schema([("path", pa.string()), ("label", pa.string())])
    for name in names:
        schema = schema.append(pa.field(name, pa.float32()))
    with (
        folder.create(contract.VECTORS_FILE) as stream,
        csv.CSVWriter(stream, schema) as writer,
    ):
        for file in files:
            content = parquet.ParquetFile(io.BytesIO(folder.read(file)))
            for batch in content.iter_batches(10_000):
                table = pa.Table.from_batches([batch])
                values = as_matrix(table["vector"])
                columns = [table["path"], table["label"], *values.T.copy()]
                writer.write_table(pa.table(columns, schema=schema))
