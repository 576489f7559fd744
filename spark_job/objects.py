"""Folders on local disks and in S3, through one interface.

Names are relative to their folder, with ``/`` between components. Both kinds are picklable: they
hold names only, and each process connects by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from time import sleep
from typing import IO, TYPE_CHECKING, Any

from spark_job.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from obstore import WritableFile
    from obstore.store import S3Store

S3_TIMEOUT = "60s"
"""For one request; S3 answers in a tenth of a second, or is asked again."""

LIST_AT_ONCE = 1000
"""Objects per listing request, which is S3's own limit."""


LOCK_ATTEMPTS = 10
"""Times that a folder is made and locked which others remove."""

AGAIN_AFTER = (0.2, 1.0, 4.0)
"""Seconds to wait before a request is repeated that obstore does not repeat by itself."""

LISTINGS = 16
"""Folders of a bucket that are listed side by side."""


class ConflictError(Exception):
    """A file is not, or no longer, what it was expected to be: somebody else wrote it."""


class FileTooLargeError(Exception):
    """A file has more bytes than its reader accepts; its only argument is their number."""


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
        Changes when the content does: the ETag in S3, time in nanoseconds and size on a disk.
    """

    name: str
    bytes: int | None
    version: str | None


@dataclass(frozen=True)
class Folder(ABC):
    """A folder; its methods raise OSError where it cannot be reached.

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
    def entries(self) -> Iterator[Entry]:
        """Name every file below this folder, in no particular order; nothing where it is none."""

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
        prefix = prefix.strip("/")
        return S3Folder(f"s3://{bucket}/{prefix}".rstrip("/"), bucket, prefix)
    if "://" in uri:
        raise UsageError(f"{uri!r} is neither a local path nor an s3:// URI")
    path = os.path.normpath(Path(uri).absolute())
    return LocalFolder(path, path)


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
        path = f"{self.path}/{name}"
        # Without blocking, or a pipe would be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path} is no regular file")
            _require_at_most(limit, status.st_size)
            return file.read()

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
                    version = f"{status.st_mtime_ns}-{status.st_size}"
                    yield Entry(prefix + entry.name, status.st_size, version)

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


@dataclass(frozen=True)
class S3Folder(Folder):
    """A prefix of a bucket.

    Attributes
    ----------
    bucket, prefix
        The prefix is without slashes at its ends, and may be empty.
    """

    bucket: str
    prefix: str

    @property
    def is_local(self) -> bool:
        """False."""
        return False

    @property
    def _store(self) -> S3Store:
        return _store(self.bucket)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def __truediv__(self, relative: str) -> S3Folder:
        """Give a folder below this one."""
        return S3Folder(f"{self.uri}/{relative}", self.bucket, self._key(relative))

    def exists(self) -> bool:
        """Whether anything lies below it."""
        import obstore
        from obstore.exceptions import InvalidPathError

        with _as_os_errors():
            try:
                return bool(next(obstore.list(self._store, self.prefix or None, chunk_size=1), []))
            except InvalidPathError:
                return True

    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """Read the file `name`, in one request; see `Folder.read`."""
        import obstore

        with _as_os_errors():
            try:
                found = obstore.get(self._store, self._key(name))
            except ValueError:  # a key that the store's library cannot name
                return self._read_odd(name, limit)
            _require_at_most(limit, found.meta["size"])
            return found.bytes().to_bytes()

    def _read_odd(self, name: str, limit: int | None) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = _client().get_object(Bucket=self.bucket, Key=self._key(name))
            _require_at_most(limit, found["ContentLength"])
            content: bytes = found["Body"].read()
        except ClientError as error:
            missing = error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
            raise (FileNotFoundError if missing else OSError)(str(error)) from error
        except BotoCoreError as error:
            raise OSError(str(error)) from error
        return content

    def entries(self) -> Iterator[Entry]:
        """Name every file below this folder; the folders in it are listed side by side."""
        from obstore.exceptions import InvalidPathError

        try:
            top = self._list()
        except InvalidPathError:
            blocks = self._odd_blocks()
        else:
            yield from self._to_entries(self._without_marker(top["objects"]))
            below = [S3Folder("", self.bucket, str(path)) for path in top["common_prefixes"]]
            blocks = _side_by_side([folder._blocks for folder in below])
        for block in blocks:
            yield from self._to_entries(block)

    def _to_entries(self, objects: Iterable[Any]) -> Iterator[Entry]:
        start = len(self.prefix) + 1 if self.prefix else 0
        return (Entry(one["path"][start:], one["size"], one["e_tag"]) for one in objects)

    def _blocks(self) -> Iterator[list[Any]]:
        import obstore
        from obstore.exceptions import InvalidPathError

        with _as_os_errors():
            try:
                listed = obstore.list(self._store, self.prefix or None, chunk_size=LIST_AT_ONCE)
                yield from map(self._without_marker, listed)
            except InvalidPathError:  # some may come twice: a listing keeps each once
                yield from self._odd_blocks()

    def _without_marker(self, objects: Iterable[Any]) -> list[Any]:
        """Take out the empty object by which S3's console shows this folder."""
        return [one for one in objects if one["path"] != self.prefix]

    def _odd_blocks(self) -> Iterator[list[Any]]:
        """List with boto3, which takes keys with an empty component or a control character."""
        from botocore.exceptions import BotoCoreError, ClientError

        prefix = f"{self.prefix}/" if self.prefix else ""
        try:
            pages = _client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
                yield [
                    {"path": one["Key"], "size": one["Size"], "e_tag": one["ETag"]}
                    for one in page.get("Contents", [])
                    if not one["Key"].endswith("/")
                ]
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error

    def folders(self) -> list[str]:
        """Name the folders right in this one, sorted."""
        found = self._list()["common_prefixes"]
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def files(self) -> list[str]:
        """Name the files right in this folder, sorted."""
        return sorted(one["path"].rpartition("/")[2] for one in self._list()["objects"])

    def _list(self) -> Any:
        import obstore
        from obstore.exceptions import InvalidPathError

        with _as_os_errors(InvalidPathError):
            return obstore.list_with_delimiter(self._store, self.prefix or None)

    @contextmanager
    def create(self, name: str) -> Iterator[io.RawIOBase]:
        """Open `name` for writing; it is uploaded when the block ends, in parts if it is large."""
        import obstore

        with _as_os_errors(), obstore.open_writer(self._store, self._key(name)) as stream:
            yield _Upload(stream)

    def write(self, name: str, content: bytes) -> None:
        """Write the file `name`."""
        import obstore

        with _as_os_errors():
            obstore.put(self._store, self._key(name), content)

    def copy(self, name: str, target: Folder, target_name: str) -> None:
        """Copy a file on the server's side."""
        import obstore

        if not isinstance(target, S3Folder) or target.bucket != self.bucket:
            raise TypeError(f"{target.uri} is not in the bucket {self.bucket}")
        with _as_os_errors():
            obstore.copy(self._store, self._key(name), target._key(target_name))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files."""
        import obstore

        keys = [self._key(name) for name in names]
        for start in range(0, len(keys), LIST_AT_ONCE):
            for pause in (*AGAIN_AFTER, None):  # obstore does not ask again here
                try:
                    with _as_os_errors():
                        obstore.delete(self._store, keys[start : start + LIST_AT_ONCE])
                    break
                except OSError:
                    if pause is None:
                        raise
                    sleep(pause)

    def clear(self) -> None:
        """Delete all that lies below this folder."""
        self.delete([entry.name for entry in self.entries()])

    def read_tagged(self, name: str) -> tuple[bytes, str] | None:
        """Read the file `name` with its ETag.

        The folder is listed first: asking for an object that is not there may be refused instead
        of answered, unless the whole bucket may be listed.
        """
        import obstore

        parent, _, last = name.rpartition("/")
        if last not in (self / parent if parent else self).files():
            return None
        with _as_os_errors():
            try:
                found = obstore.get(self._store, self._key(name))
            except FileNotFoundError:
                return None
            return found.bytes().to_bytes(), str(found.meta["e_tag"])

    def swap(self, name: str, content: bytes, expected: str | None) -> str:
        """Write with ``If-Match`` or ``If-None-Match``.

        A request whose answer was lost may have been carried out, and S3 may refuse one for
        another that came to nothing (409): after a failure what is there now decides.
        """
        import obstore
        from obstore.exceptions import BaseError, PermissionDeniedError

        mode: Any = "create" if expected is None else {"e_tag": expected}
        for pause in (*AGAIN_AFTER, None):
            try:
                done = obstore.put(
                    self._store, self._key(name), content, mode=mode, use_multipart=False
                )
                return str(done["e_tag"])
            except (BaseError, FileNotFoundError) as error:
                found = self.read_tagged(name)
                if found is not None and found[0] == content:
                    return found[1]
                if (found and found[1]) != expected:
                    raise ConflictError(
                        f"{self.uri}/{name} was written by somebody else"
                    ) from error
                if pause is None or isinstance(error, PermissionDeniedError):
                    raise OSError(_in_s3s_words(str(error))) from error
                sleep(pause)
        raise AssertionError("the last attempt returns or raises")


class _Upload(io.RawIOBase):
    """obstore's writer as the standard library's kind of file, which pyarrow wants."""

    def __init__(self, stream: WritableFile) -> None:
        self._stream = stream

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, content: Any) -> int:
        """Upload `content` after what was written before."""
        # A copy: obstore reads it later, when pyarrow writes other things into its buffer.
        return self._stream.write(bytes(content))


def _require_at_most(limit: int | None, size: int) -> None:
    if limit is not None and size > limit:
        raise FileTooLargeError(size)


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pass_over_missing(_function: Any, _path: str, raised: Any) -> None:
    """Let `shutil.rmtree` go on where somebody else deleted the same."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


@contextmanager
def _as_os_errors(*passed: type[Exception]) -> Iterator[None]:
    """Raise what obstore raises as OSError, with S3's own words, but for those `passed`."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if error.errno is not None:  # not obstore's
            raise
        raise FileNotFoundError(_in_s3s_words(str(error))) from error
    except BaseError as error:
        if isinstance(error, passed):
            raise
        raise OSError(_in_s3s_words(str(error))) from error


def _side_by_side(listings: list[Callable[[], Iterator[list[Any]]]]) -> Iterator[list[Any]]:
    """Yield the blocks of several listings as they come."""
    blocks: SimpleQueue[list[Any] | BaseException | None] = SimpleQueue()

    def run(listing: Callable[[], Iterator[list[Any]]]) -> None:
        try:
            for block in listing():
                blocks.put(block)
            blocks.put(None)
        except BaseException as error:
            blocks.put(error)

    with ThreadPoolExecutor(LISTINGS) as pool:
        for listing in listings:
            pool.submit(run, listing)
        ended = 0
        while ended < len(listings):
            block = blocks.get()
            if isinstance(block, BaseException):
                pool.shutdown(cancel_futures=True)
                raise block
            if block is None:
                ended += 1
            else:
                yield block


def _in_s3s_words(text: str) -> str:
    found = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text, re.DOTALL)
    return f"{found[1]}: {found[2]}" if found else text.partition("\n")[0]


@lru_cache
def _store(bucket: str) -> S3Store:
    """Connect to a bucket, once per process; obstore reads ``AWS_…`` from the environment."""
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"region": _region(bucket, endpoint)}
    if endpoint is not None:
        options["endpoint"] = endpoint
    if _has_profile():
        options["credential_provider"] = _credentials()
    return S3Store(
        bucket,
        client_options={
            "timeout": S3_TIMEOUT,
            "allow_http": bool(endpoint and endpoint.startswith("http:")),
        },
        **options,
    )


def _has_profile() -> bool:
    """Whether the user's own AWS configuration has the credentials, and not the environment."""
    if "AWS_PROFILE" in os.environ:
        return True
    home = Path.home() / ".aws"
    files = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials"),
        os.environ.get("AWS_CONFIG_FILE", home / "config"),
    )
    return "AWS_ACCESS_KEY_ID" not in os.environ and any(Path(file).is_file() for file in files)


def _credentials() -> Any:
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        raise UsageError(
            f"the AWS configuration gives no credentials ({error}); check AWS_PROFILE, or sign in"
        ) from error


def _region(bucket: str, endpoint: str | None) -> str:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        return region or "us-east-1"
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = boto3.Session()
        found = session.client("s3", region_name=session.region_name or "us-east-1").head_bucket(
            Bucket=bucket
        )
        return str(found["BucketRegion"])
    except (BotoCoreError, ClientError, KeyError) as error:
        raise UsageError(
            f"cannot find the region of the bucket {bucket!r} ({error}); check its name, or set "
            "AWS_REGION"
        ) from error


@lru_cache
def _client() -> Any:
    """Connect with boto3, for keys that obstore cannot name."""
    import boto3

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return boto3.client("s3", endpoint_url=endpoint)
