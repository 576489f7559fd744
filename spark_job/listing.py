"""Which images a batch holds: by listing its folder, or from a manifest; and how they are dealt.

A listing is written in parts, as rows with the columns ``path`` (relative to the batch's folder),
``label`` (the parent folder's name; null for an image that lies in none), ``bytes`` and
``version`` (see `objects.Entry`; both null where a manifest does not tell), in the order of paths.
A local name that is not UTF-8 is listed with escapes for the bytes that are not, and without size
and version: it leads to no file, and becomes a reject. A listing is held as columns, in the order
in which they were found, so that ten million images fit in memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from spark_job import contract
from spark_job.errors import UsageError
from spark_job.objects import ENTRIES, BusyError, Folder, open_folder, read_file
from spark_job.receipts import add_digests, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    Thing = TypeVar("Thing")

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("bytes", pa.int64()),
        ("version", pa.string()),
    ]
)

LISTED = frozenset((*contract.EXTENSIONS, *contract.HEIF, *contract.RAW))
"""Extensions of images: of those that are taken, and of those that a person takes for such."""

RAW_NAME = rf"(?i)\.(?P<extension>{'|'.join(contract.RAW)})$"

FILE_PARTS = 1000
"""Parts per file of a written listing: a task reads the index of so many to find its own."""

BLOCK = 50_000
"""Rows that become Python objects at a time."""

CHUNK = 500_000
"""Rows of a chunk of a listing's columns."""

PART_IMAGES = 768
"""Most images of a part: 9 s of a slow core with the default network."""

PART_SECONDS = 10.0
"""What a part should take at most, for that is what a crash costs."""

BYTES_PER_SECOND = 25_600_000
"""Of JPEGs of megapixels that a slow core decodes."""

SMALL_PART = 64
"""Least images of a part, where there are enough: the last ones are small, and so end together."""


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
        One row per image, unsorted; see `objects.ENTRIES`. Columns of which nothing is known may be
        of the type null, which takes no memory.
    order
        Row numbers in the order of paths.
    ignored
        Files that are no images by their extension: how many of each extension.
    labels
        What corrections call the images, a row for each of `found`; null for those that are called
        as their folder, and None where all are.
    dropped, relabelled
        How many images corrections took out, and how many of these they call otherwise.
    """

    found: pa.Table
    order: NDArray[np.uint32]
    ignored: Counter[str]
    labels: pa.DictionaryArray | None = None
    dropped: int = 0
    relabelled: int = 0

    def __len__(self) -> int:
        """Count the images."""
        return len(self.order)

    @property
    def mean_bytes(self) -> float:
        """Mean size of the images whose size is known; 0 where none is."""
        sizes = self.found["bytes"]
        if len(self.order) < len(sizes):
            sizes = sizes.take(pa.array(self.order))
        return pc.mean(sizes).as_py() or 0.0

    @property
    def raw(self) -> Counter[str]:
        """Count the raw files of cameras, which will not be read, by their extensions."""
        paths = self.found["path"]
        if len(self.order) < len(paths):
            listed = np.zeros(len(paths), bool)
            listed[self.order] = True
            paths = paths.filter(pa.array(listed))
        matched = pc.extract_regex(paths, RAW_NAME)
        extensions = pc.utf8_lower(pc.struct_field(matched, "extension")).drop_null()
        counts = pc.value_counts(extensions).to_pylist()
        return Counter({one["values"]: one["counts"] for one in counts})

    def only(self, wanted: NDArray[np.bool_]) -> Listing:
        """Keep the `wanted` images, [n] in the order of paths."""
        return replace(self, order=self.order[wanted])

    def rows(self, start: int, size: int) -> pa.Table:
        """Give rows as `SCHEMA` has them, in the order of paths."""
        numbers = self.order[start : start + size]
        rows = _take(self.found, numbers)
        labels = pa.array([label_of(path) for path in rows["path"].to_pylist()], pa.string())
        if self.labels is not None:
            corrected = self.labels.take(pa.array(numbers)).cast(pa.string())
            labels = pc.coalesce(corrected, labels)
        columns = [rows["path"], labels, rows["bytes"], rows["version"]]
        return pa.table(columns, names=SCHEMA.names).cast(SCHEMA)


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
    except BusyError:
        raise
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
        blocks = (_images(block, ignored) for block in folder.blocks())
        tables = list(_joined(blocks))
    except BusyError:
        raise
    except OSError as error:
        raise UsageError(f"cannot list {folder.uri}: {error}") from error
    return _sorted(pa.concat_tables(tables) if tables else ENTRIES.empty_table(), ignored)


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
    try:
        content = read_file(uri)
        chunks = [_relative(chunk, folder, uri) for chunk in _manifest_paths(uri, content)]
        del content
    except FileNotFoundError:
        raise UsageError(f"there is no manifest at {uri}") from None
    except BusyError:
        raise
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UsageError(
            f"cannot read the manifest {uri}: {error}; it is a CSV or Parquet file with a column "
            "`path`"
        ) from error
    relative = pa.chunked_array(chunks, pa.string())
    nothing = pa.nulls(len(relative))
    listing = _sorted(pa.table([relative, nothing, nothing], names=ENTRIES.names), Counter())
    if len(listing) < len(relative):
        raise UsageError(f"the manifest {uri} names {_repeated(relative)!r} more than once")
    return listing


def plan_parts(images: int, slots: int, mean_bytes: float = 0.0, seconds: float = 0.0) -> list[int]:
    """Number of images per part.

    Guided self-scheduling (C. D. Polychronopoulos, D. J. Kuck, IEEE Trans. Computers C-36(12),
    1987): each part takes its share of half of what remains, so that tasks are few and still end
    together.

    A part is to take ten seconds, and a crash then costs at most twenty of each slot where the
    images come and are decoded at half of what is reckoned with or faster: 13 MB/s and slot, or 26
    ms for each small image with the default network. It may cost more where a store is slower, or
    where many pixels lie in few bytes, as of plain PNGs. No part is smaller than an image.

    Parameters
    ----------
    images
        How many there are.
    slots
        Tasks at a time.
    mean_bytes
        Of an image; 0 where nothing is known of it.
    seconds
        That the network takes for an image, as measured; 0 where that does not matter.
    """
    each = mean_bytes / BYTES_PER_SECOND + seconds
    largest = max(1, int(min(PART_IMAGES, PART_SECONDS / max(each, 1e-9))))
    smallest = min(SMALL_PART, largest, -(-images // slots))
    parts = []
    while images:
        size = min(images, max(smallest, min(largest, images // (2 * slots))))
        parts.append(size)
        images -= size
    return parts


def spread(parts: list[int], slots: int) -> tuple[list[int], list[int]]:
    """Deal parts so that those which run together lie far apart among the images.

    S3 divides its load by the beginnings of keys: `slots` neighbours at a time would ask one place
    for everything.

    Parameters
    ----------
    parts
        Sizes in the order in which they will run.
    slots
        Parts that run together.

    Returns
    -------
    list, list
        Sizes of the parts by their numbers, which follow the images' order, and the numbers in the
        order in which they will run.
    """
    by_stretch = sorted(range(len(parts)), key=lambda turn: (turn % slots, turn))
    turns = [0] * len(parts)
    for number, turn in enumerate(by_stretch):
        turns[turn] = number
    return [parts[turn] for turn in by_stretch], turns


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
            for sizes in _lots(islice(remaining, FILE_PARTS)):
                rows = listing.rows(start, sum(sizes))
                versions = rows["version"].to_pylist()
                paths = rows["path"].to_pylist()
                digests.append(listing_digest(zip(paths, versions, strict=True)))
                start += len(rows)
                for size in sizes:
                    writer.write_table(rows[:size], row_group_size=size)
                    rows = rows[size:]
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


def _lots(parts: Iterator[int]) -> Iterator[list[int]]:
    """Group sizes of parts so that a group is about `BLOCK` rows: they are found together."""
    lot: list[int] = []
    for size in parts:
        if lot and sum(lot) + size > BLOCK:
            yield lot
            lot = []
        lot.append(size)
    if lot:
        yield lot


def _manifest_paths(name: str, content: bytes) -> Iterator[pa.Array]:
    """Read a manifest's paths, a chunk of a listing or a megabyte of text at a time."""
    source = pa.BufferReader(content)
    batches: Iterable[pa.RecordBatch]
    if name.lower().endswith(".parquet"):
        batches = parquet.ParquetFile(source).iter_batches(CHUNK, columns=["path"])
    else:
        text = csv.ConvertOptions(column_types={"path": pa.string()}, include_columns=["path"])
        batches = csv.open_csv(source, convert_options=text)
    for batch in batches:
        yield batch.column("path").cast(pa.string())


def _take(table: pa.Table, rows: NDArray[np.uint32]) -> pa.Table:
    """Take rows from the chunks that they lie in; Arrow would copy whole columns of text first."""
    batches = table.to_batches()
    ends = np.cumsum([len(batch) for batch in batches], dtype=np.uint64)
    chunks = np.searchsorted(ends, rows, side="right")
    by_chunk = np.argsort(chunks, kind="stable")
    pieces = []
    for chunk, group in _grouped(chunks[by_chunk]):
        start = ends[chunk] - len(batches[chunk])
        pieces.append(batches[chunk].take(pa.array(rows[by_chunk[group]] - start)))
    together = pa.Table.from_batches(pieces, table.schema).combine_chunks()
    return together.take(pa.array(np.argsort(by_chunk)))


def _grouped(numbers: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Find where each of the sorted `numbers` lies."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(numbers)]):
        yield int(numbers[start]), slice(start, end)


def _images(block: pa.Table, ignored: Counter[str]) -> pa.Table:
    """Take the images out of a block of entries; what else has an extension is counted."""
    names = block["path"]
    passed_over = pc.or_(
        pc.match_substring_regex(names, r"(^|/)\."), pc.equal(names, contract.READY)
    )
    block = block.filter(pc.invert(passed_over))
    extensions = pc.struct_field(pc.extract_regex(block["path"], r"\.(?P<e>[^./]*)$"), "e")
    extensions = pc.fill_null(pc.utf8_lower(extensions), "")
    listed = pc.is_in(extensions, pa.array(LISTED))
    for one in pc.value_counts(extensions.filter(pc.invert(listed))).to_pylist():
        ignored[one["values"]] += one["counts"]
    return block.filter(listed)


def _joined(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join blocks to chunks: what is joined takes just its size, what was built up to twice."""
    some: list[pa.Table] = []
    rows = 0
    for block in blocks:
        some.append(block)
        rows += len(block)
        if rows >= CHUNK:
            yield pa.concat_tables(some).combine_chunks()
            some, rows = [], 0
    if some:
        yield pa.concat_tables(some).combine_chunks()


def _sorted(found: pa.Table, ignored: Counter[str]) -> Listing:
    """Order a listing, each path once."""
    order = pc.sort_indices(found["path"]).to_numpy().astype(np.uint32)
    repeated: list[int] = []
    for start in range(0, len(order) - 1, BLOCK):
        rows = _take(found.select(["path"]), order[start : start + BLOCK + 1])["path"]
        paths = rows.combine_chunks()
        same = pc.equal(paths[1:], paths[:-1]).to_numpy(zero_copy_only=False)
        repeated.extend((np.flatnonzero(same) + start + 1).tolist())
    return Listing(found, np.delete(order, repeated) if repeated else order, ignored)


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
