"""Where a run's tables, receipts and models lie, how they look, and how they are published.

results/<batch>/runs/<run>/   images.parquet, features/, rejects/, vectors/, moments.npz, run.json
results/<batch>/current.json  the published run: written last, in one atomic write
models/<model>/               model.npz, model.json
models/current.json           the model that `--pca auto` uses
"""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import contextmanager
from signal import SIG_IGN, SIGINT, SIGTERM, signal
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv, parquet

from spark_job import listing
from spark_job.errors import UsageError
from spark_job.pca import PCAModel
from spark_job.settings import FEATURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from spark_job.objects import Folder

LISTING = "images.parquet"

FEATURES_SCHEMA = pa.schema(
    [
        *listing.SCHEMA,
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("features", pa.list_(pa.float32(), FEATURES)),
    ]
)
REJECTS_SCHEMA = pa.schema(
    [*listing.SCHEMA, ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)


def vectors_schema(k: int) -> pa.Schema:
    """Schema of the vectors table for k components."""
    return pa.schema(
        [("path", pa.string()), ("label", pa.string()), ("vector", pa.list_(pa.float32(), k))]
    )


def run_folder(output: Folder, batch: str, run: str) -> Folder:
    """Folder of a run."""
    return output / f"results/{batch}/runs/{run}"


def claim_run(output: Folder, batch: str, run: str, images_uri: str) -> Folder:
    """Prepare the folder of a new run; what an earlier attempt left there is removed.

    Raises
    ------
    UsageError
        Where the run is published already, the batch's name belongs to other images, or nothing
        can be written.
    """
    folder = run_folder(output, batch, run)
    try:
        published = _read_json(output / f"results/{batch}", "current.json")
        finished = _read_json(folder, "run.json")
        # A receipt younger than what is published belongs to a run that ended just before its
        # own publication: it may be repeated.
        if finished and published and finished["finished"] <= published["finished"]:
            raise UsageError(f"{folder.uri} holds a finished run; choose another --run")
        if published is not None and published["images"] != images_uri:
            raise UsageError(
                f"{output.uri} already holds a batch {batch!r}, made from {published['images']} "
                f"and not from {images_uri}; choose another --batch or --output"
            )
        if folder.files():
            folder.clear()
        folder.write(LISTING, b"")  # to see that it can be; the listing itself follows
    except OSError as error:
        raise UsageError(f"cannot write to {output.uri}: {error}; check --output") from error
    except ValueError as error:
        raise UsageError(
            f"results/{batch}/current.json in {output.uri} is damaged ({error}); restore it, or "
            "choose another --batch"
        ) from error
    return folder


def write_listing(run: Folder, table: pa.Table, parts: list[int]) -> None:
    """Write what was listed, one row group per part, so that a worker reads only its own."""
    with run.create(LISTING) as stream, parquet.ParquetWriter(stream, table.schema) as writer:
        start = 0
        for size in parts:
            writer.write_table(table.slice(start, size), row_group_size=size)
            start += size


def read_part_of_listing(run: Folder, part: int) -> pa.Table:
    """Read the images of one part."""
    with run.filesystem.open_input_file(f"{run.path}/{LISTING}") as file:
        return parquet.ParquetFile(file).read_row_group(part)


def write_part(run: Folder, table: str, part: int, content: pa.Table, ids: dict[str, str]) -> None:
    """Write one part of a table, with the ids of what made it in the Parquet footer.

    A repeated task writes the same rows to the same name, so a retry leaves nothing behind.
    """
    content = content.replace_schema_metadata({f"orchard.{key}": ids[key] for key in ids})
    with run.create(f"{table}/part-{part:05d}.parquet") as stream:
        # Floats do not repeat, and nobody asks for the least of a feature: a dictionary and
        # statistics of them would only cost time.
        parquet.write_table(
            content,
            stream,
            compression="zstd",
            use_dictionary=["label"],
            write_statistics=["path", "label"],
        )


def keep_only(run: Folder, table: str, parts: Iterable[int]) -> None:
    """Delete what other than `parts` lies in a table: rows of a task that was lost and repeated."""
    kept = {f"part-{part:05d}.parquet" for part in parts}
    for name in (run / table).files():
        if name not in kept:
            (run / table).delete(name)


def count_rows(run: Folder, table: str, parts: Iterable[int]) -> int:
    """Count the rows of a table by its footers."""
    return sum(
        parquet.read_metadata(io.BytesIO((run / table).read(f"part-{part:05d}.parquet"))).num_rows
        for part in parts
    )


def read_part(run: Folder, table: str, part: int, columns: list[str] | None = None) -> pa.Table:
    """Read one part of a table."""
    with run.filesystem.open_input_file(f"{run.path}/{table}/part-{part:05d}.parquet") as file:
        return parquet.read_table(file, columns=columns)


def as_matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """View a column of fixed-size lists as a matrix [rows, list size]."""
    array = column.combine_chunks()
    size: int = array.type.list_size
    matrix: NDArray[np.float32] = array.flatten().to_numpy().reshape(-1, size)
    return matrix


def as_lists(matrix: NDArray[np.float32]) -> pa.Array:
    """Make a column of fixed-size lists of a matrix's rows."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def write_csv(run: Folder, parts: list[int], k: int) -> None:
    """Write the vectors as one CSV: path, label, v1 to vk."""
    names = [f"v{number}" for number in range(1, k + 1)]
    schema = pa.schema([("path", pa.string()), ("label", pa.string())])
    for name in names:
        schema = schema.append(pa.field(name, pa.float32()))
    with run.create("vectors.csv") as stream, csv.CSVWriter(stream, schema) as writer:
        for part in parts:
            table = read_part(run, "vectors", part)
            values = as_matrix(table["vector"])
            columns = [table["path"], table["label"], *values.T.copy()]
            writer.write_table(pa.table(columns, schema=schema))


def model_id(determined_by: dict[str, Any]) -> str:
    """Name a model by the hash of what determines it: images, extractor, and how it was fitted."""
    canonical = json.dumps(determined_by, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def combine_digests(digests: Iterable[str]) -> str:
    """Digest a set of images by their sha256, in any order: the sum modulo 2**256.

    Sums combine in turn, so a set's digest follows from those of its parts.
    """
    return f"{sum(int(digest, 16) for digest in digests) % 2**256:064x}"


def write_model(
    output: Folder, model: PCAModel, card: dict[str, Any]
) -> tuple[PCAModel, dict[str, Any]]:
    """Store a model and its card under its id, and return what is stored there.

    A stored model is never modified: where this one exists already, that is what is returned.
    """
    folder = output / f"models/{card['model']}"
    stored = _read_json(folder, "model.json")
    if stored is not None:
        return PCAModel.from_bytes(folder.read("model.npz")), stored
    folder.write("model.npz", model.to_bytes())
    write_json(folder, "model.json", card)
    return model, card


def read_current_model(output: Folder) -> tuple[PCAModel, dict[str, Any]] | None:
    """Read the current model and its card; None where there is none yet."""
    current = _read_json(output / "models", "current.json")
    if current is None:
        return None
    folder = output / f"models/{current['model']}"
    return PCAModel.from_bytes(folder.read("model.npz")), json.loads(folder.read("model.json"))


def publish(output: Folder, run: Folder, receipt: dict[str, Any]) -> None:
    """Make a finished run the batch's current one; its receipt first, the pointer last."""
    pointer = {key: receipt[key] for key in ("run", "images", "finished")}
    with _uninterrupted():
        write_json(run, "run.json", receipt)
        if not receipt["model"]["reused"]:
            write_json(output / "models", "current.json", {"model": receipt["model"]["model"]})
        write_json(output / f"results/{receipt['batch']}", "current.json", pointer)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM for three small writes that belong together."""
    if current_thread() is not main_thread():
        yield
        return
    former = {number: signal(number, SIG_IGN) for number in (SIGINT, SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal(number, handler)


def write_json(folder: Folder, name: str, content: dict[str, Any]) -> None:
    """Write a JSON file, readable by a person."""
    folder.write(name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _read_json(folder: Folder, name: str) -> dict[str, Any] | None:
    content = folder.read_or_none(name)
    return None if content is None else json.loads(content)
