"""Folders on local disks and in S3, through one interface.

Names are relative to their folder, with ``/`` between components. Both kinds are picklable: they
hold names only, and each process connects by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from spark_job.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOCK_ATTEMPTS = 10
"""Times that a folder is made and locked which others remove."""


class ConflictError(Exception):
    """A file is not, or no longer, what it was expected to be: somebody else wrote it."""


class FileTooLargeError(Exception):
    """A file has more bytes than its reader accepts; its only argument is their number."""


class RefusedError(PermissionError):
    """The store knows who asks, and does not give: nobody need ask again."""


class WrongClockError(RefusedError):
    """The store takes no request of this moment, for this machine's clock is wrong."""


class NoSuchBucketError(OSError):
    """There is no such bucket."""


class BusyError(OSError):
    """The store did not do what it was asked for, and may later."""

    kind: ClassVar[str]
    """What the store did, in a word or two."""

    passes: ClassVar[bool] = True
    """Whether waiting may help."""


class ThrottledError(BusyError):
    """It was asked for too much."""

    kind = "throttled"


class TimedOutError(BusyError):
    """It did not answer in time."""

    kind = "timed out"


class ResetError(BusyError):
    """The connection broke, or could not be made, or ended before the content did."""

    kind = "connection lost"


class ServerError(BusyError):
    """Something failed inside of the store."""

    kind = "server error"


class ExpiredError(BusyError):
    """The credentials were good once; the user has to sign in again."""

    kind = "credentials expired"
    passes = False


@dataclass(frozen=True)
class Entry:
    """One file of a folder.

    Attributes
    ----------
    name
        Relative to the folder.
    bytes
        Its size; None where the file system does not tell, as of a broken link.
    version
        Changes when the content does: the ETag in S3; on a disk the times of the content's and of
        the file's last change, in nanoseconds, and the size.
    """

    name: str
    bytes: int | None
    version: str | None


ENTRIES = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("version", pa.string())])
"""Columns of entries in a table."""

BLOCK = 50_000
"""Rows of such a table that are Python objects first."""


@dataclass(frozen=True)
class Content:
    """What a file holds, and the version that it was read in; see `Entry`."""

    bytes: bytes
    version: str | None


@dataclass(frozen=True)
class Folder(ABC):
    """A folder; its methods raise OSError where it cannot be reached.

    In S3 each method but `read_once` asks again for a minute before it raises a `BusyError`.

    Attributes
    ----------
    uri
        Its name for a person, without a trailing slash.
    """

    uri: str

    @property
    @abstractmethod
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""

    @abstractmethod
    def __truediv__(self, relative: str) -> Folder:
        """Give a folder below this one."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether it is a folder; in S3, whether anything lies below it."""

    @abstractmethod
    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """Read the file `name`.

        Raises
        ------
        OSError
            Where it cannot be read; FileNotFoundError where it is not there.
        FileTooLargeError
            Where it has more than `limit` bytes; then none of them is read.
        """

    @abstractmethod
    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Read `length` bytes of the file `name` from `start` on, all of which it has.

        Raises
        ------
        OSError
            Where they cannot be read; FileNotFoundError where there is no such file.
        """

    @abstractmethod
    def read_once(self, name: str, *, limit: int, version: str | None) -> Content:
        """Read the file `name` as it is now, without asking again.

        Parameters
        ----------
        name, limit
            See `read`.
        version
            That it had when it was listed, if it is known: in S3 the request asks for it, and the
            file as it is now is read where it has changed.

        Raises
        ------
        BusyError
            Where the store may give it later.
        RefusedError
            Where it will not.
        OSError, FileTooLargeError
            See `read`.
        """

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Name every file below this folder, in no particular order; nothing where it is none."""

    def blocks(self) -> Iterator[pa.Table]:
        """Name the files that `entries` does, in tables with the columns of `ENTRIES`.

        A name that is not UTF-8 is escaped, and its file has neither size nor version then: no
        table can hold what would lead back to it.
        """
        entries = map(_in_utf8, self.entries())
        while some := list(islice(entries, BLOCK)):
            columns = zip(*((one.name, one.bytes, one.version) for one in some), strict=True)
            yield pa.table(list(map(list, columns)), schema=ENTRIES)

    @abstractmethod
    def folders(self) -> list[str]:
        """Name the folders right in this one, sorted; none where it does not exist."""

    @abstractmethod
    def files(self) -> list[str]:
        """Name the files right in this folder, sorted; none where it does not exist."""

    @abstractmethod
    def create(self, name: str) -> Any:
        """Open `name` for writing, in a ``with`` block.

        Nothing appears under its name before the block ends, and nothing at all where an error
        ends it.
        """

    @abstractmethod
    def copy(self, name: str, target: Folder, target_name: str) -> None:
        """Copy a file to another folder of the same kind without reading it."""

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there are passed over."""

    @abstractmethod
    def clear(self) -> None:
        """Delete this folder with all that lies in it; it need not exist."""

    @abstractmethod
    def read_tagged(self, name: str) -> tuple[bytes, str] | None:
        """Read the file `name` with a tag for `swap`; None where there is none."""

    @abstractmethod
    def swap(self, name: str, content: bytes, expected: str | None) -> str:
        """Replace a file if it still has the tag `expected`, or does not exist where that is None.

        Returns
        -------
        str
            The new content's tag.

        Raises
        ------
        ConflictError
            Where it has another tag, exists already or is gone.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write the file `name` so that a reader sees all of it or nothing."""
        with self.create(name) as stream:
            stream.write(content)

    def read_or_none(self, name: str) -> bytes | None:
        """Read the file `name`; None where there is none."""
        found = self.read_tagged(name)
        return None if found is None else found[0]


def open_folder(uri: str) -> Folder:
    """Reach the folder that `uri` names: a local path or ``s3://bucket/prefix``.

    The prefix is taken literally: ``%``, ``#`` and ``?`` are ordinary characters of a key.

    Raises
    ------
    UsageError
        Where the URI is of another kind.
    """
    if uri.startswith("s3://"):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise UsageError(f"{uri!r} names no bucket; write s3://BUCKET/PREFIX")
        from spark_job.s3 import S3Folder  # only where there is S3

        prefix = prefix.strip("/")
        return S3Folder(f"s3://{bucket}/{prefix}".rstrip("/"), bucket, prefix)
    if "://" in uri:
        raise UsageError(f"{uri!r} is neither a local path nor an s3:// URI")
    path = os.path.normpath(Path(uri).absolute())
    return LocalFolder(path, path)


def read_file(uri: str, *, limit: int | None = None) -> bytes:
    """Read one file that a person named: a local path or ``s3://bucket/key``.

    Raises
    ------
    UsageError, OSError, FileTooLargeError
        See `open_folder` and `Folder.read`.
    """
    parent, _, name = uri.rpartition("/")
    return open_folder(parent or ("/" if uri.startswith("/") else ".")).read(name, limit=limit)


@dataclass(frozen=True)
class LocalFolder(Folder):
    """A folder of this machine.

    Attributes
    ----------
    path
        Absolute.
    """

    path: str

    @property
    def is_local(self) -> bool:
        """True."""
        return True

    def __truediv__(self, relative: str) -> LocalFolder:
        """Give a folder below this one."""
        path = f"{self.path}/{relative}"
        return LocalFolder(path, path)

    def exists(self) -> bool:
        """Whether it is a folder."""
        try:
            return stat.S_ISDIR(Path(self.path).stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """Read the file `name`; see `Folder.read`."""
        return self._read(name, limit).bytes

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Read a range of the file `name`; see `Folder.read_range`."""
        with Path(self.path, name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def read_once(self, name: str, *, limit: int, version: str | None) -> Content:
        """Read the file `name` as it is now; see `Folder.read_once`."""
        del version  # what is opened is what is there now
        try:
            return self._read(name, limit)
        except PermissionError as error:
            raise RefusedError(str(error)) from error

    def _read(self, name: str, limit: int | None) -> Content:
        path = f"{self.path}/{name}"
        # Without blocking, or a pipe would be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path} is no regular file")
            require_at_most(limit, status.st_size)
            return Content(file.read(), _version(status))

    def entries(self) -> Iterator[Entry]:
        """Name every file below this folder, through links too."""
        yield from self._entries(self.path, "", ())

    def _entries(self, path: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Any:
        try:
            at = Path(path).stat()
            found = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        here = (at.st_dev, at.st_ino)
        if here in above:  # a link to a folder above
            return
        with found:
            for entry in found:
                try:
                    status = entry.stat()
                except OSError:  # a link that leads nowhere, in a circle or where none may look
                    if entry.is_symlink():
                        yield Entry(prefix + entry.name, None, None)
                    continue
                if stat.S_ISDIR(status.st_mode):
                    yield from self._entries(entry.path, f"{prefix}{entry.name}/", (*above, here))
                elif stat.S_ISREG(status.st_mode):
                    yield Entry(prefix + entry.name, status.st_size, _version(status))

    def folders(self) -> list[str]:
        """Name the folders right in this one, sorted."""
        return self._names(Path.is_dir)

    def files(self) -> list[str]:
        """Name the files right in this folder, sorted."""
        return self._names(Path.is_file)

    def _names(self, wanted: Any) -> list[str]:
        try:
            return sorted(path.name for path in Path(self.path).iterdir() if wanted(path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Open `name` for writing; it is renamed into place when the block ends."""
        path = Path(self.path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readers of a folder of Parquet pass over names that begin with a dot.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("wb") as stream:
                yield stream
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def copy(self, name: str, target: Folder, target_name: str) -> None:
        """Give a file a second name; where the file system has no links, copy it."""
        if not isinstance(target, LocalFolder):
            raise TypeError(f"{target.uri} is not on a disk")
        source, to = Path(self.path, name), Path(target.path, target_name)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.unlink(missing_ok=True)
        try:
            to.hardlink_to(source)
        except FileNotFoundError:
            raise
        except OSError:
            with source.open("rb") as file, target.create(target_name) as stream:
                shutil.copyfileobj(file, stream)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files."""
        for name in names:
            Path(self.path, name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete this folder with all that lies in it."""
        shutil.rmtree(self.path, onerror=_pass_over_missing)

    def read_tagged(self, name: str) -> tuple[bytes, str] | None:
        """Read the file `name` with a hash of its content."""
        try:
            content = self.read(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content, _tag(content)

    def swap(self, name: str, content: bytes, expected: str | None) -> str:
        """Compare and replace under the folder's lock; a holder that is killed gives it back."""
        Path(self.path).mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.read_tagged(name)
            if (found and found[1]) != expected:
                raise ConflictError(f"{self.path}/{name} was written by somebody else")
            self.write(name, content)
        finally:
            os.close(lock)
        return _tag(content)

    def try_lock(self) -> int | None:
        """Lock this folder for this process's life, making it; None where another one holds it.

        Returns
        -------
        int
            A file descriptor: closing it, or any end of this process, unlocks the folder.
        """
        for attempt in range(LOCK_ATTEMPTS):
            try:
                Path(self.path).mkdir(parents=True, exist_ok=True)
                lock = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:  # an empty folder above was removed meanwhile
                if attempt == LOCK_ATTEMPTS - 1:
                    raise
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), Path(self.path).stat()):
                    return lock
            except BlockingIOError:
                os.close(lock)
                return None
            except FileNotFoundError:
                pass
            except OSError as error:
                os.close(lock)
                raise UsageError(
                    f"{self.path} lies on a file system without locks ({error}); choose an "
                    "--output on another one"
                ) from error
            os.close(lock)  # it was removed meanwhile
        return None

    def remove_if_empty(self) -> None:
        """Remove this folder where nothing lies in it."""
        with suppress(OSError):
            Path(self.path).rmdir()


def _in_utf8(entry: Entry) -> Entry:
    """Escape a name that is not UTF-8, of which Python makes no text that can be written."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return Entry(os.fsencode(entry.name).decode(errors="backslashreplace"), None, None)
    return entry


def require_at_most(limit: int | None, size: int) -> None:
    """Raise `FileTooLargeError` for a file of more than `limit` bytes."""
    if limit is not None and size > limit:
        raise FileTooLargeError(size)


def _version(status: os.stat_result) -> str:
    # An archive may give all its files one time, and two of one size may change places: only the
    # kernel's own time of change tells, as git knows. Where a file is merely linked or its owner
    # changes, that costs a read: its content is known.
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_size}"


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pass_over_missing(_function: Any, _path: str, raised: Any) -> None:
    """Let `shutil.rmtree` go on where somebody else deleted the same."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]
