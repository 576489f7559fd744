"""Which images a batch holds: by listing its folder, or from a manifest.

A listing is an Arrow table sorted by path with the columns ``path`` (relative to the batch's
folder), ``label`` (the parent folder's name; null for an image that lies in none), ``bytes`` and
``version`` (the time of the last change, UTC; both null where a manifest does not tell).
"""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, fs, parquet

from spark_job.errors import UsageError
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spark_job.objects import Folder

EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")

MARKER = "_READY"
"""Starts the batch that it lies in; it is no file of the batch."""

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("bytes", pa.int64()),
        ("version", pa.string()),
    ]
)


@dataclass(frozen=True)
class Listing:
    """A batch's images.

    Attributes
    ----------
    table
        One row per image, see the module.
    ignored
        Files that are no images by their extension: how many of each extension.
    """

    table: pa.Table
    ignored: Counter[str]

    @property
    def mean_bytes(self) -> float:
        """Mean size of the images whose size is known; 0 where none is."""
        return pc.mean(self.table["bytes"]).as_py() or 0.0


def require_folder(folder: Folder) -> None:
    """Refuse a batch's folder that is none, before anything is started for it.

    Raises
    ------
    UsageError
        Where `folder` does not exist or is a file.
    """
    try:
        kind = _kind(folder)
    except OSError as error:
        raise UsageError(f"cannot look at {folder.uri}: {error}") from error
    if kind == fs.FileType.NotFound:
        raise UsageError(f"there is no folder {folder.uri}; check --images")
    if kind != fs.FileType.Directory:
        raise UsageError(
            f"{folder.uri} is a file; --images takes the folder that holds a batch's images"
        )


def list_images(folder: Folder) -> Listing:
    """List the images below `folder`; names that begin with a dot are passed over.

    Raises
    ------
    UsageError
        Where `folder` cannot be listed.
    """
    try:
        top = _entries(folder.filesystem, folder.path, recursive=False)
        below = [info.path for info in top if info.type == fs.FileType.Directory]
        with ThreadPoolExecutor(16) as pool:  # one label at a time would be slow in S3
            found = pool.map(lambda path: _entries(folder.filesystem, path, recursive=True), below)
            parts = [_table(folder, top), *(_table(folder, entries) for entries in found)]
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{folder.uri} holds a file whose name is not UTF-8 ({error.object!r}); rename it"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot list {folder.uri}: {error}") from error
    table = pa.concat_tables([table for table, _ in parts]).sort_by("path")
    ignored: Counter[str] = sum((counts for _, counts in parts), Counter())
    return Listing(_without_repeats(table), ignored)


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
        content = open_folder(parent or ".").read(name)
        if name.lower().endswith(".parquet"):
            table = parquet.read_table(io.BytesIO(content), columns=["path"])
        else:
            text = csv.ConvertOptions(column_types={"path": pa.string()}, include_columns=["path"])
            table = csv.read_csv(io.BytesIO(content), convert_options=text)
        names = table["path"].cast(pa.string()).to_pylist()
        paths = [_relative(path, folder, uri) for path in names]
    except FileNotFoundError:
        raise UsageError(f"there is no manifest at {uri}") from None
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UsageError(
            f"cannot read the manifest {uri}: {error}; it is a CSV or Parquet file with a column "
            "`path`"
        ) from error
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise UsageError(f"the manifest {uri} names {repeated[0]!r} more than once")
    paths.sort()
    nothing = [None] * len(paths)
    columns = [paths, [_label(path) for path in paths], nothing, nothing]
    return Listing(pa.table(columns, schema=SCHEMA), Counter())


def _kind(folder: Folder) -> fs.FileType:
    """Tell what `folder` is; in S3 by listing it.

    S3 may refuse to say that an object is not there, unless the whole bucket may be listed.
    """
    selector = fs.FileSelector(folder.path, allow_not_found=True)
    if not folder.is_local and folder.filesystem.get_file_info(selector):
        return fs.FileType.Directory
    return folder.filesystem.get_file_info(folder.path).type


def _entries(filesystem: fs.FileSystem, path: str, *, recursive: bool) -> list[fs.FileInfo]:
    selector = fs.FileSelector(path, recursive=recursive)
    entries: list[fs.FileInfo] = filesystem.get_file_info(selector)
    return entries


def _without_repeats(table: pa.Table) -> pa.Table:
    """Keep each path of a sorted listing once.

    In S3 a key with an empty component, ``batch//1.jpg``, makes a folder ``batch/`` in ``batch``,
    whose listing is all of ``batch`` again.
    """
    paths = table["path"].combine_chunks()
    if len(paths) < 2:
        return table
    first = pc.not_equal(paths[1:], paths[:-1])
    return table.filter(pa.concat_arrays([pa.array([True]), first]))


def _table(folder: Folder, entries: Iterable[fs.FileInfo]) -> tuple[pa.Table, Counter[str]]:
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    ignored: Counter[str] = Counter()
    changed = []
    for info in entries:
        path = info.path[len(folder.path) + 1 :]
        if info.type != fs.FileType.File or "/." in f"/{path}" or path == MARKER:
            continue
        if info.extension.lower() not in EXTENSIONS:
            ignored[info.extension.lower()] += 1
            continue
        rows["path"].append(path)
        rows["label"].append(_label(path))
        rows["bytes"].append(info.size)
        changed.append(info.mtime_ns)
    times = pa.array(changed, pa.timestamp("ns"))
    rows["version"] = pc.strftime(times, "%Y-%m-%dT%H:%M:%SZ") if changed else []
    return pa.table(rows, schema=SCHEMA), ignored


def _label(path: str) -> str | None:
    parents = path.split("/")[:-1]
    return parents[-1] or None if parents else None


def _relative(path: str | None, folder: Folder, manifest: str) -> str:
    relative = (path or "").removeprefix(f"{folder.uri}/")
    if {"", ".", ".."} & set(relative.split("/")) or "://" in relative:
        raise UsageError(
            f"the manifest {manifest} names {path!r}, which does not lie in {folder.uri}; its "
            "paths are relative to --images"
        )
    return relative
