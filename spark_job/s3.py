"""Folders in S3, through obstore; through boto3 for keys that it cannot name."""

from __future__ import annotations

import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from time import sleep
from typing import TYPE_CHECKING, Any

from spark_job.errors import UsageError
from spark_job.objects import ConflictError, Entry, Folder, require_at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from obstore import WritableFile
    from obstore.store import S3Store

S3_TIMEOUT = "60s"
"""For one request; S3 answers in a tenth of a second, or is asked again."""

LIST_AT_ONCE = 1000
"""Objects per listing request, which is S3's own limit."""

AGAIN_AFTER = (0.2, 1.0, 4.0)
"""Seconds to wait before a request is repeated that obstore does not repeat by itself."""

LISTINGS = 16
"""Folders of a bucket that are listed side by side."""


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
            require_at_most(limit, found.meta["size"])
            return found.bytes().to_bytes()

    def _read_odd(self, name: str, limit: int | None) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = _client().get_object(Bucket=self.bucket, Key=self._key(name))
            require_at_most(limit, found["ContentLength"])
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
