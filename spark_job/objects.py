"""Folders on local disks and in S3, through one interface."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import fs

from spark_job.errors import UsageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

S3_ATTEMPTS = 10
"""Tries per S3 request, with exponential back-off: rides out about a minute of 503s."""


@dataclass(frozen=True)
class Folder:
    """A folder and how to reach it; picklable, so that Spark's workers can open it too.

    Attributes
    ----------
    filesystem
        The one that holds it.
    path
        Its path there, without a trailing slash; ``bucket/prefix`` in S3.
    uri
        Its name for a person.
    """

    filesystem: FileSystem
    path: str
    uri: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def __truediv__(self, relative: str) -> Folder:
        """Give a folder below this one."""
        return Folder(self.filesystem, f"{self.path}/{relative}", f"{self.uri}/{relative}")

    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """Read the file `name`.

        Raises
        ------
        OSError
            Where it cannot be read.
        FileTooLargeError
            Where it has more than `limit` bytes; then none of them is read.
        """
        path = f"{self.path}/{name}"
        if self.is_local:  # Python's own open takes a fifth of pyarrow's time, for each image
            # Without blocking, or a pipe would be waited for.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(f"{path} is no regular file")
                _require_at_most(limit, status.st_size)
                return file.read()
        with self.filesystem.open_input_file(path) as stream:
            _require_at_most(limit, stream.size())
            content: bytes = stream.read()
            return content

    def read_or_none(self, name: str) -> bytes | None:
        """Read the file `name` of this very folder; None where there is none.

        In S3 the folder is listed first: asking for an object that is not there may be refused
        instead of answered, unless the whole bucket may be listed.
        """
        if not self.is_local and name not in self.files(recursive=False):
            return None
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write the file `name` so that a reader sees all of it or nothing."""
        with self.create(name) as stream:
            stream.write(content)

    def create(self, name: str) -> Any:
        """Open `name` for writing; nothing appears under its name before it is closed.

        A local file is renamed into place, and not where an error ended its `with` block.
        """
        path = f"{self.path}/{name}"
        if not self.is_local:
            return self.filesystem.open_output_stream(path, compression=None)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return _RenamedWhenClosed(path)

    def files(self, *, recursive: bool = True) -> list[str]:
        """Name the files below (or right in) this folder, sorted; none where it does not exist."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found = self.filesystem.get_file_info(selector)
        start = len(self.path) + 1
        return sorted(info.path[start:] for info in found if info.type == fs.FileType.File)

    def delete(self, name: str) -> None:
        """Delete the file `name`."""
        self.filesystem.delete_file(f"{self.path}/{name}")

    def clear(self) -> None:
        """Delete everything in this folder; it need not exist."""
        self.filesystem.delete_dir_contents(self.path, missing_dir_ok=True)


class FileTooLargeError(Exception):
    """A file has more bytes than its reader accepts; its only argument is their number."""


class _RenamedWhenClosed:
    """A local output stream under a temporary name until its content is complete."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Readers of a folder of Parquet pass over names that begin with a dot.
        self._temporary = str(Path(path).with_name(f".{Path(path).name}.{os.getpid()}.tmp"))
        self._stream = pa.OSFile(self._temporary, "wb")

    def __enter__(self) -> pa.NativeFile:
        return self._stream

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._stream.close()
        if error is None:
            Path(self._temporary).replace(self._path)
        else:
            Path(self._temporary).unlink()


def _require_at_most(limit: int | None, size: int) -> None:
    if limit is not None and size > limit:
        raise FileTooLargeError(size)


def open_folder(uri: str) -> Folder:
    """Reach the folder that `uri` names: a local path or ``s3://bucket/prefix``.

    The prefix is taken literally: ``%``, ``#`` and ``?`` are ordinary characters of a key.

    Raises
    ------
    UsageError
        Where the URI is of another kind.
    """
    if uri.startswith("s3://"):
        path = uri.removeprefix("s3://").strip("/")
        if not path:
            raise UsageError(f"{uri!r} names no bucket; write s3://BUCKET/PREFIX")
        return Folder(_s3(path.partition("/")[0]), path, f"s3://{path}")
    if "://" in uri:
        raise UsageError(f"{uri!r} is neither a local path nor an s3:// URI")
    path = str(Path(uri).absolute())
    return Folder(fs.LocalFileSystem(), path, path)


def _s3(bucket: str) -> fs.S3FileSystem:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if region is None and endpoint is None:
        try:
            region = fs.resolve_s3_region(bucket)
        except OSError as error:
            raise UsageError(
                f"cannot find the region of the bucket {bucket!r} ({error}); check its name, or "
                "set AWS_REGION"
            ) from error
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        retry_strategy=retries,
        # A small file is one request instead of a multipart upload of three.
        allow_delayed_open=True,
    )
