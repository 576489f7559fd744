"""Which images a batch holds: by listing its folder, or from a manifest; and how they are dealt.

A listing is written in parts, as rows with the columns ``path`` (relative to the batch's folder),
``label`` (the parent folder's name; null for an image that lies in none), ``bytes`` and
``version`` (see `objects.Entry`; both null where a manifest does not tell), in the order of paths.
It is held as columns in the order in which they were found, so that ten million fit in memory.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from spark_job import contract
from spark_job.errors import UsageError
from spark_job.objects import Folder, open_folder
from spark_job.receipts import add_digests, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from spark_job.objects import Entry

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("bytes", pa.int64()),
        ("version", pa.string()),
    ]
)

FOUND = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("version", pa.string())])
"""A listing's columns while they are held: labels follow from paths."""

FILE_PARTS = 1000
"""Parts per file of a written listing: a task reads the index of so many to find its own."""

BLOCK = 100_000
"""Rows that become Python objects at a time."""

PART_IMAGES = 1024
"""Most images of a part, which bounds what a lost worker costs."""

PART_BYTES = 256_000_000
"""The same for photographs of megabytes: about ten seconds."""


@dataclass(frozen=True)
class Image:
    """One image as listed."""

    path: str
    label: str | None
    bytes: int | None
    version: str | None


@dataclass(frozen=True)
class Listing:
    """A batch's images.

    Attributes
    ----------
    found
        One row per image, unsorted; see `FOUND`.
    order
        Row numbers in the order of paths.
    ignored
        Files that are no images by their extension: how many of each extension.
    """

    found: pa.Table
    order: NDArray[np.uint64]
    ignored: Counter[str]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.order)

    @property
    def mean_bytes(self) -> float:
        """Mean size of the images whose size is known; 0 where none is."""
        return pc.mean(self.found["bytes"]).as_py() or 0.0

    def rows(self, start: int, size: int) -> pa.Table:
        """Give rows as `SCHEMA` has them, in the order of paths."""
        rows = self.found.take(self.order[start : start + size])
        labels = pa.array([label_of(path) for path in rows["path"].to_pylist()], pa.string())
        return pa.table([rows["path"], labels, rows["bytes"], rows["version"]], schema=SCHEMA)


def require_folder(folder: Folder) -> None:
    """Refuse a batch's folder that is none, before anything is started for it.

    Raises
    ------
    UsageError
        Where `folder` does not exist or is a file.
    """
    try:
        if folder.exists():
            return
        parent, _, name = folder.uri.rpartition("/")
        is_file = bool(parent and name) and name in open_folder(parent or "/").files()
    except OSError as error:
        raise UsageError(f"cannot look at {folder.uri}: {error}") from error
    except UsageError:  # a bucket without a prefix has no parent
        is_file = False
    if is_file:
        raise UsageError(
            f"{folder.uri} is a file; --images takes the folder that holds a batch's images"
        )
    raise UsageError(f"there is no folder {folder.uri}; check --images")


def list_images(folder: Folder) -> Listing:
    """List the images below `folder`; names that begin with a dot are passed over.

    Raises
    ------
    UsageError
        Where `folder` cannot be listed.
    """
    ignored: Counter[str] = Counter()
    try:
        tables = [_table(entries, ignored) for entries in _blocks(folder.entries())]
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{folder.uri} holds a file whose name is not UTF-8 ({error.object!r}); rename it"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot list {folder.uri}: {error}") from error
    return _sorted(pa.concat_tables(tables) if tables else FOUND.empty_table(), ignored)


def read_manifest(uri: str, folder: Folder) -> Listing:
    """Take the images that the manifest at `uri` names, whether or not they exist.

    Parameters
    ----------
    uri
        A ``.csv`` (with a header) or ``.parquet`` file with a column ``path``: relative to
        `folder`, or beginning with its URI.
    folder
        The batch's folder.

    Raises
    ------
    UsageError
        Where the manifest cannot be read or names something outside `folder`, or twice.
    """
    parent, _, name = uri.rpartition("/")
    try:
        content = open_folder(parent or ("/" if uri.startswith("/") else ".")).read(name)
        if name.lower().endswith(".parquet"):
            table = parquet.read_table(io.BytesIO(content), columns=["path"])
        else:
            text = csv.ConvertOptions(column_types={"path": pa.string()}, include_columns=["path"])
            table = csv.read_csv(io.BytesIO(content), convert_options=text)
        del content
        paths = table["path"].cast(pa.string())
    except FileNotFoundError:
        raise UsageError(f"there is no manifest at {uri}") from None
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UsageError(
            f"cannot read the manifest {uri}: {error}; it is a CSV or Parquet file with a column "
            "`path`"
        ) from error
    del table
    relative = pa.chunked_array(
        [_relative(chunk, folder, uri) for chunk in paths.chunks], pa.string()
    )
    nothing = [pa.nulls(len(relative), kind) for kind in (pa.int64(), pa.string())]
    listing = _sorted(pa.table([relative, *nothing], schema=FOUND), Counter())
    if len(listing) < len(relative):
        raise UsageError(f"the manifest {uri} names {_repeated(relative)!r} more than once")
    return listing


def plan_parts(images: int, slots: int, mean_bytes: float = 0.0) -> list[int]:
    """Number of images per part, for `images` of `mean_bytes` over `slots` tasks at a time.

    Guided self-scheduling (C. D. Polychronopoulos, D. J. Kuck, IEEE Trans. Computers C-36(12),
    1987): each part takes its share of half of what remains, so that tasks are few and still end
    together.
    """
    largest = max(1, int(min(PART_IMAGES, PART_BYTES / max(mean_bytes, 1.0))))
    smallest = min(64, largest, -(-images // slots))
    parts = []
    while images:
        size = min(images, max(smallest, min(largest, images // (2 * slots))))
        parts.append(size)
        images -= size
    return parts


def write_listing(work: Folder, listing: Listing, parts: list[int]) -> str:
    """Write a listing, one row group per part; its digest by path and version."""
    start = 0
    digests = []
    remaining = iter(parts)
    for number in range(-(-len(parts) // FILE_PARTS)):
        name = f"{contract.LISTING}/{number:05d}.parquet"
        with (
            work.create(name) as stream,
            parquet.ParquetWriter(stream, SCHEMA, compression="zstd") as writer,
        ):
            for size in islice(remaining, FILE_PARTS):
                rows = listing.rows(start, size)
                writer.write_table(rows, row_group_size=size)
                versions = rows["version"].to_pylist()
                paths = rows["path"].to_pylist()
                digests.append(listing_digest(zip(paths, versions, strict=True)))
                start += size
    return add_digests(digests)


def read_part(work: Folder, part: int) -> list[Image]:
    """Read the images of one part of a written listing."""
    number, group = divmod(part, FILE_PARTS)
    rows = _listing_file(work, number).read_row_group(group)
    return [Image(**row) for row in rows.to_pylist()]


@lru_cache(maxsize=1)
def _listing_file(work: Folder, number: int) -> parquet.ParquetFile:
    """Open a listing's file; the next part is most often in the same one."""
    content = work.read(f"{contract.LISTING}/{number:05d}.parquet")
    return parquet.ParquetFile(pa.BufferReader(content))


def listing_digest(rows: Iterable[tuple[str, str | None]]) -> str:
    """Digest of rows by path and version."""
    return digest(f"{path}\0{version or ''}".encode() for path, version in rows)


def label_of(path: str) -> str | None:
    """Label of an image: the name of the folder right above it."""
    parents = path.split("/")[:-1]
    return parents[-1] or None if parents else None


def _blocks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while block := list(islice(entries, BLOCK)):
        yield block


def _table(entries: list[Entry], ignored: Counter[str]) -> pa.Table:
    rows: list[Entry] = []
    for entry in entries:
        if "/." in f"/{entry.name}" or entry.name == contract.READY:
            continue
        extension = entry.name.rpartition("/")[2].rpartition(".")
        suffix = extension[2].lower() if extension[1] else ""
        if suffix in contract.EXTENSIONS:
            rows.append(entry)
        else:
            ignored[suffix] += 1
    columns = [
        [entry.name for entry in rows],
        [entry.bytes for entry in rows],
        [entry.version for entry in rows],
    ]
    return pa.table(columns, schema=FOUND)


def _sorted(found: pa.Table, ignored: Counter[str]) -> Listing:
    """Order a listing, each path once."""
    order = pc.sort_indices(found["path"]).to_numpy()
    repeated = [np.zeros(1, bool)]
    for start in range(0, len(order) - 1, BLOCK):
        rows = found["path"].take(order[start : start + BLOCK + 1]).combine_chunks()
        repeated.append(pc.equal(rows[1:], rows[:-1]).to_numpy(zero_copy_only=False))
    return Listing(found, order[~np.concatenate(repeated)[: len(order)]], ignored)


def _repeated(paths: pa.ChunkedArray) -> str:
    counts = pc.value_counts(paths)
    return str(next(one["values"] for one in counts.to_pylist() if one["counts"] > 1))


def _relative(paths: pa.Array, folder: Folder, manifest: str) -> pa.Array:
    start = f"{folder.uri}/"
    below = pc.starts_with(paths, start)
    relative = pc.if_else(below, pc.utf8_slice_codeunits(paths, len(start)), paths)
    # Components that are empty, "." or "..", a scheme, or nothing at all.
    wrong = pc.match_substring_regex(relative, r"(^|/)\.{0,2}(/|$)|://")
    wrong = pc.fill_null(wrong, fill_value=True)
    if pc.any(wrong).as_py():
        named = paths.filter(wrong)[0].as_py()
        raise UsageError(
            f"the manifest {manifest} names {named!r}, which does not lie in {folder.uri}; its "
            "paths are relative to --images"
        )
    return relative
