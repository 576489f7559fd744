"""Folders in S3, through obstore; through boto3 for keys that it cannot name."""

from __future__ import annotations

import io
import os
import re
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import SpooledTemporaryFile
from threading import RLock
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_job.errors import UsageError
from spark_job.objects import (
    ENTRIES,
    BusyError,
    ConflictError,
    Content,
    Entry,
    ExpiredError,
    Folder,
    NoSuchBucketError,
    RefusedError,
    ResetError,
    ServerError,
    ThrottledError,
    TimedOutError,
    WrongClockError,
    require_at_most,
)
from spark_job.retries import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from obstore.store import S3Store

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 20
"""Seconds to wait for a connection, and for an answer or more of it; S3 begins in a tenth."""

WRITE_TIMEOUT = 120
"""Seconds to wait for the answer to a write, its sending included: 5 MB on a slow line."""

SLOWEST = 25_000
"""Bytes a second that the slowest line sends: what is written in one piece has as long as it takes
at that rate, if that is longer."""

WHOLE_TIMEOUT = 600
"""Seconds for one request in all, but for a write that has more."""

GOOD_FOR = timedelta(minutes=10)
"""For how long credentials of a profile are used before the profile is asked for them again: it
gives none that expire sooner, for it renews them ten minutes before."""

LIST_AT_ONCE = 1000
"""Objects per listing request, which is S3's own limit."""

IN_MEMORY = 32_000_000
"""Bytes of a file that are kept in memory until they are uploaded; more go to a temporary file."""

UPLOADS = 4
"""Parts of a large file that are uploaded side by side."""

LISTINGS = 16
"""Folders of a bucket that are listed side by side."""


EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
SKEWED = {"RequestTimeTooSkewed", "RequestInTheFuture"}
"""Codes of AWS' answers to a machine whose clock is wrong."""

METADATA = "169.254."
"""How the addresses begin at which AWS's machines and containers get their credentials."""

THROTTLED = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
"""Codes of S3's answers, where the status alone does not tell."""


_PAGE = pa.schema([("path", pa.string()), ("size", pa.int64()), ("e_tag", pa.string())])
"""Columns of a page of objects, among others."""


class ChangedError(OSError):
    """An object is not what it was when it was listed."""


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
        return _store(self.bucket, READ_TIMEOUT)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def __truediv__(self, relative: str) -> S3Folder:
        """Give a folder below this one."""
        return S3Folder(f"{self.uri}/{relative}", self.bucket, self._key(relative))

    def exists(self) -> bool:
        """Whether anything lies below it."""
        import obstore
        from obstore.exceptions import InvalidPathError

        def look() -> bool:
            with _as_os_errors(InvalidPathError):
                return bool(next(obstore.list(self._store, self.prefix or None, chunk_size=1), []))

        try:
            return patiently(look)
        except InvalidPathError:
            return True

    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """Read the file `name`, in one request; see `Folder.read`."""
        return patiently(lambda: self._get(name, limit, None)).bytes

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Read a range of the file `name`, in one request; see `Folder.read_range`."""
        return patiently(lambda: self._get_range(name, start, length))

    def _get_range(self, name: str, start: int, length: int) -> bytes:
        import obstore

        with _as_os_errors():
            try:
                found = obstore.get_range(self._store, self._key(name), start=start, length=length)
                return found.to_bytes()
            except ValueError:  # a key that the store's library cannot name
                pass
        with _boto3_as_os_errors():
            asked = f"bytes={start}-{start + length - 1}"
            answer = _client().get_object(Bucket=self.bucket, Key=self._key(name), Range=asked)
            content: bytes = answer["Body"].read()
            return content

    def read_once(self, name: str, *, limit: int, version: str | None) -> Content:
        """Read the file `name` as it is now, in one request; see `Folder.read_once`."""
        try:
            return self._get(name, limit, version)
        except ChangedError:
            return self._get(name, limit, None)

    def _get(self, name: str, limit: int | None, version: str | None) -> Content:
        """Read a file, or only the `version` of it that is wanted."""
        import obstore

        with _as_os_errors():
            try:
                options: Any = None if version is None else {"if_match": version}
                found = obstore.get(self._store, self._key(name), options=options)
            except ValueError:  # a key that the store's library cannot name
                return self._get_odd(name, limit, version)
            require_at_most(limit, found.meta["size"])
            return Content(found.bytes().to_bytes(), found.meta["e_tag"])

    def _get_odd(self, name: str, limit: int | None, version: str | None) -> Content:
        options = {} if version is None else {"IfMatch": version}
        with _boto3_as_os_errors():
            found = _client().get_object(Bucket=self.bucket, Key=self._key(name), **options)
            require_at_most(limit, found["ContentLength"])
            return Content(found["Body"].read(), found["ETag"])

    def entries(self) -> Iterator[Entry]:
        """Name every file below this folder; the folders in it are listed side by side."""
        for block in self.blocks():
            for row in block.to_pylist():
                yield Entry(row["path"], row["bytes"], row["version"])

    def blocks(self) -> Iterator[pa.Table]:
        """Name the files that `entries` does, in tables; see `Folder.blocks`."""
        from obstore.exceptions import InvalidPathError

        try:
            top = self._list(return_arrow=True)
        except InvalidPathError:
            pages = self._odd_pages()
        else:
            yield self._to_table(self._without_marker(top["objects"]))
            below = [S3Folder("", self.bucket, str(path)) for path in top["common_prefixes"]]
            pages = _side_by_side([folder._pages for folder in below])
        for page in pages:
            yield self._to_table(page)

    def _without_marker(self, page: Any) -> pa.Table:
        """Take out the empty object by which S3's console shows this folder."""
        found = pa.table(page).select(_PAGE.names).cast(_PAGE)
        return found.filter(pc.not_equal(found["path"], self.prefix))

    def _to_table(self, page: pa.Table) -> pa.Table:
        """Make a block of a page of objects: keys become names."""
        start = len(self.prefix) + 1 if self.prefix else 0
        names = pc.utf8_slice_codeunits(page["path"], start)
        return pa.table([names, page["size"], page["e_tag"]], schema=ENTRIES)

    def _pages(self) -> Iterator[pa.Table]:
        import obstore
        from obstore.exceptions import InvalidPathError

        listed: Iterator[Any] | None = None
        last: str | None = None

        def following() -> Any:
            """Give the next page; after a failure, by a new request for what follows the last."""
            nonlocal listed
            with _as_os_errors(InvalidPathError):
                listed = listed or obstore.list(
                    self._store,
                    self.prefix or None,
                    offset=last,
                    chunk_size=LIST_AT_ONCE,
                    return_arrow=True,
                )
                going, listed = listed, None
                page = next(going, None)
                listed = going
                return page

        try:
            while (page := patiently(following)) is not None:
                yield self._without_marker(page)
                last = pa.table(page)["path"][-1].as_py()
        except InvalidPathError:
            yield from self._odd_pages(last)

    def _odd_pages(self, after: str | None = None) -> Iterator[pa.Table]:
        """List with boto3, which takes keys with an empty component or a control character."""
        prefix = f"{self.prefix}/" if self.prefix else ""
        last = after or ""
        while True:
            page = patiently(partial(_odd_page, self.bucket, prefix, last))
            rows = [
                {"path": one["Key"], "size": one["Size"], "e_tag": one["ETag"]}
                for one in page.get("Contents", [])
                if not one["Key"].endswith("/")
            ]
            yield pa.Table.from_pylist(rows, _PAGE)
            if not page["IsTruncated"]:
                return
            last = page["Contents"][-1]["Key"]

    def folders(self) -> list[str]:
        """Name the folders right in this one, sorted."""
        found = self._list()["common_prefixes"]
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def files(self) -> list[str]:
        """Name the files right in this folder, sorted."""
        return sorted(one["path"].rpartition("/")[2] for one in self._list()["objects"])

    def _list(self, *, return_arrow: bool = False) -> Any:
        import obstore
        from obstore.exceptions import InvalidPathError

        kind: Any = {"return_arrow": return_arrow}

        def look() -> Any:
            with _as_os_errors(InvalidPathError):
                return obstore.list_with_delimiter(self._store, self.prefix or None, **kind)

        return patiently(look)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Open `name` for writing; it is uploaded when the block ends."""
        with SpooledTemporaryFile(IN_MEMORY) as stream:
            yield stream
            self._put(name, stream)

    def write(self, name: str, content: bytes) -> None:
        """Write the file `name`."""
        self._put(name, io.BytesIO(content))

    def _put(self, name: str, stream: IO[bytes]) -> None:
        import obstore

        def put() -> None:
            stream.seek(0)
            with _as_os_errors():
                obstore.put(
                    _store(self.bucket, WRITE_TIMEOUT),
                    self._key(name),
                    stream,
                    max_concurrency=UPLOADS,
                )

        patiently(put)

    def write_checked(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Write the file `name` in one request, with its SHA-256.

        S3 refuses what it did not receive so, and keeps the checksum for `sha256_of`. In one piece,
        the ETag is the content's MD5 too, unless a key of KMS encrypts it.

        Parameters
        ----------
        name, content
            What.
        new
            Write it only where there is no such file.

        Raises
        ------
        ConflictError
            Where there is one; it may be of this very request, whose first answer was lost.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        store = _store(self.bucket, _write_timeout(len(content)), checksums=True)
        mode: Any = "create" if new else "overwrite"

        def put() -> None:
            with _as_os_errors():
                try:
                    obstore.put(store, self._key(name), content, mode=mode, use_multipart=False)
                except ValueError:  # a key that the store's library cannot name
                    self._put_odd(name, content, new=new)
                except (AlreadyExistsError, PreconditionError) as error:
                    self._settle(name, error)

        patiently(put)

    def _put_odd(self, name: str, content: bytes, *, new: bool = False) -> None:
        condition = {"IfNoneMatch": "*"} if new else {}
        try:
            with _boto3_as_os_errors():
                _client().put_object(
                    Bucket=self.bucket,
                    Key=self._key(name),
                    Body=content,
                    ChecksumAlgorithm="SHA256",
                    **condition,
                )
        except ChangedError as error:
            self._settle(name, error)

    def _settle(self, name: str, refusal: Exception) -> None:
        """Raise why a file could not be created: it is there, or another write came to nothing."""
        try:
            self._head(name)
        except FileNotFoundError:
            raise ServerError(_in_s3s_words(str(refusal))) from refusal
        raise ConflictError(f"{self.uri}/{name} is there already") from refusal

    def sha256_of(self, name: str) -> str | None:
        """Ask for the SHA-256, in hexadecimal, of a file that was written with it; else None."""
        checksum = patiently(lambda: self._head(name)).get("ChecksumSHA256")
        # Of a file in several parts it is one of their checksums, and says so.
        if checksum is None or "-" in checksum:
            return None
        return b64decode(checksum).hex()

    def _head(self, name: str) -> Any:
        with _boto3_as_os_errors():
            return _client().head_object(
                Bucket=self.bucket, Key=self._key(name), ChecksumMode="ENABLED"
            )

    def copy(self, name: str, target: Folder, target_name: str) -> None:
        """Copy a file on the server's side."""
        import obstore

        if not isinstance(target, S3Folder) or target.bucket != self.bucket:
            raise TypeError(f"{target.uri} is not in the bucket {self.bucket}")
        store, source, to = (
            _store(self.bucket, WRITE_TIMEOUT),
            self._key(name),
            target._key(target_name),
        )

        def copy() -> None:
            with _as_os_errors():
                obstore.copy(store, source, to)

        patiently(copy)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files."""
        import obstore

        def delete(keys: list[str]) -> None:
            with _as_os_errors():
                obstore.delete(self._store, keys)

        keys = [self._key(name) for name in names]
        for start in range(0, len(keys), LIST_AT_ONCE):
            patiently(partial(delete, keys[start : start + LIST_AT_ONCE]))

    def clear(self) -> None:
        """Delete all that lies below this folder."""
        self.delete([entry.name for entry in self.entries()])

    def read_tagged(self, name: str) -> tuple[bytes, str] | None:
        """Read the file `name` with its ETag.

        The folder is listed first: asking for an object that is not there may be refused instead
        of answered, unless the whole bucket may be listed.
        """
        parent, _, last = name.rpartition("/")
        if last not in (self / parent if parent else self).files():
            return None
        try:
            found = patiently(lambda: self._get(name, None, None))
        except FileNotFoundError:
            return None
        return found.bytes, str(found.version)

    def swap(self, name: str, content: bytes, expected: str | None) -> str:
        """Write with ``If-Match`` or ``If-None-Match``.

        A request whose answer was lost may have been carried out, and S3 may refuse one for
        another that came to nothing (409): after a failure what is there now decides.
        """
        return patiently(lambda: self._swap(name, content, expected))

    def _swap(self, name: str, content: bytes, expected: str | None) -> str:
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        mode: Any = "create" if expected is None else {"e_tag": expected}
        try:
            done = obstore.put(
                self._store, self._key(name), content, mode=mode, use_multipart=False
            )
            return str(done["e_tag"])
        except (BaseError, FileNotFoundError) as error:
            failure = _to_os_error(error)
            lost = isinstance(error, AlreadyExistsError | PreconditionError | FileNotFoundError)
        if isinstance(failure, RefusedError | NoSuchBucketError):
            raise failure
        found = self.read_tagged(name)
        if found is not None and found[0] == content:
            return found[1]
        if (found and found[1]) != expected:
            raise ConflictError(f"{self.uri}/{name} was written by somebody else") from failure
        raise ServerError(str(failure)) if lost else failure


@contextmanager
def _as_os_errors(*passed: type[Exception]) -> Iterator[None]:
    """Raise what obstore raises as an OSError of its kind, but for those `passed`."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if error.errno is not None:  # not obstore's
            raise
        raise _to_os_error(error) from error
    except BaseError as error:
        if isinstance(error, passed):
            raise
        raise _to_os_error(error) from error


def _to_os_error(error: Exception) -> OSError:
    """Tell what happened from the text, which is all that obstore gives of most errors."""
    text = str(error)
    if "credential provider" in text or METADATA in text:
        kind = ExpiredError if "expired" in text.lower() else ResetError
        return kind(f"no credentials could be had ({_in_s3s_words(text)})")
    status = re.search(r"status code: (\d+)", text)
    code = re.search(r"<Code>(.*?)</Code>", text)
    words = _in_s3s_words(text)
    if status is not None:
        return _of_answer(int(status[1]), code[1] if code else "", words)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(words)
    server = re.search(r"https?://[^/\s]+", text)
    if "kind: Timeout" in text:
        return TimedOutError(f"no answer from {server[0] if server else 'S3'} in time")
    if "HTTP error" in text:
        return ResetError(f"no connection to {server[0] if server else 'S3'}, or it was lost")
    if re.search(r"expired", text, re.IGNORECASE):  # as a profile's provider of credentials says
        return ExpiredError(words)
    return OSError(words)


def _of_answer(status: int, code: str, words: str) -> OSError:
    """Make an error of S3's answer: HTTP's status, S3's code."""
    kind: type[OSError] = OSError
    if code in EXPIRED:
        kind = ExpiredError
    elif status in (429, 503) or code in THROTTLED:
        kind = ThrottledError
    elif code == "RequestTimeout" or status == 408:
        kind = TimedOutError
    elif status >= 500:
        kind = ServerError
    elif code == "NoSuchBucket":
        kind = NoSuchBucketError
    elif code in SKEWED:
        kind = WrongClockError
    elif status in (401, 403):
        kind = RefusedError
    elif status == 404:
        kind = FileNotFoundError
    elif status == 412:
        kind = ChangedError
    return kind(words)


@contextmanager
def _boto3_as_os_errors() -> Iterator[None]:
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        told = error.response["Error"]
        words = f"{told.get('Code')}: {told.get('Message')}"
        raise _of_answer(status, told.get("Code", ""), words) from error
    except (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError) as error:
        raise TimedOutError(str(error)) from error
    except (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.IncompleteReadError,
    ) as error:
        raise ResetError(str(error)) from error
    except exceptions.BotoCoreError as error:
        raise OSError(str(error)) from error


def _odd_page(bucket: str, prefix: str, after: str) -> Any:
    with _boto3_as_os_errors():
        return _client().list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after)


def _side_by_side(listings: list[Callable[[], Iterator[Any]]]) -> Iterator[Any]:
    """Yield the pages of several listings as they come."""
    blocks: SimpleQueue[Any] = SimpleQueue()

    def run(listing: Callable[[], Iterator[Any]]) -> None:
        try:
            for block in listing():
                blocks.put(block)
            blocks.put(None)
        except BaseException as error:
            blocks.put(error)

    pool = ThreadPoolExecutor(LISTINGS)
    try:
        for listing in listings:
            pool.submit(run, listing)
        ended = 0
        while ended < len(listings):
            block = blocks.get()
            if isinstance(block, BaseException):
                raise block
            if block is None:
                ended += 1
            else:
                yield block
    finally:  # an interrupt does not wait for a store that does not answer
        pool.shutdown(wait=False, cancel_futures=True)


def _in_s3s_words(text: str) -> str:
    found = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text, re.DOTALL)
    return f"{found[1]}: {found[2]}" if found else text.partition("\n")[0]


def _write_timeout(size: int) -> int:
    """Seconds for a write in one piece: of a few lengths, for each has a connection of its own."""
    seconds = WRITE_TIMEOUT
    while seconds * SLOWEST < size:
        seconds *= 2
    return seconds


def _store(bucket: str, timeout: int, *, checksums: bool = False) -> S3Store:
    """Connect to a bucket, once per process, however many threads ask for it."""
    with CONNECTING:
        return _connected(bucket, timeout, checksums)


@lru_cache
def _connected(bucket: str, timeout: int, checksums: bool) -> S3Store:
    """Connect to a bucket; obstore reads ``AWS_…`` from the environment.

    It does not ask again by itself, for it would hide from us that S3 is busy.
    """
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"region": _region(bucket, endpoint)}
    if endpoint is not None:
        options["endpoint"] = endpoint
    if checksums:
        options["checksum_algorithm"] = "SHA256"
    if _has_profile():
        options["credential_provider"] = _credentials()
    return S3Store(
        bucket,
        client_options={
            "connect_timeout": f"{CONNECT_TIMEOUT}s",
            "read_timeout": f"{timeout}s",
            "timeout": f"{max(WHOLE_TIMEOUT, timeout)}s",
            "allow_http": bool(endpoint and endpoint.startswith("http:")),
        },
        retry_config={"max_retries": 0},
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


@lru_cache
def _signed_in() -> Any:
    import boto3

    return boto3.Session(region_name=os.environ.get("AWS_REGION"))


def aws_session() -> Any:
    """Sign in once per process: a profile may ask a person for a code each time that one does.

    Whoever makes a client of it holds `CONNECTING`.
    """
    with CONNECTING:
        return _signed_in()


def require_credentials() -> None:
    """Look for credentials, of which S3's own client would wait for a minute.

    Raises
    ------
    UsageError
        Where there are none.
    """
    from botocore.exceptions import BotoCoreError

    try:
        found = aws_session().get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise UsageError(
            f"the AWS configuration gives no credentials ({error}); check AWS_PROFILE, or sign in"
        ) from error
    if found is None:
        raise UsageError(
            "there are no AWS credentials here; set AWS_PROFILE, or sign in (aws sso login)"
        )


def _credentials() -> Any:
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider(aws_session(), ttl=GOOD_FOR)
    except (BotoCoreError, ValueError) as error:
        raise UsageError(
            f"the AWS configuration gives no credentials ({error}); check AWS_PROFILE, or sign in"
        ) from error


def _region(bucket: str, endpoint: str | None) -> str:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        return region or "us-east-1"

    def look() -> str:
        with _boto3_as_os_errors():
            session = aws_session()
            client = session.client(
                "s3", region_name=session.region_name or "us-east-1", config=_configuration()
            )
            return str(client.head_bucket(Bucket=bucket)["BucketRegion"])

    try:
        return patiently(look)
    except BusyError:
        raise
    except (OSError, KeyError) as error:
        raise UsageError(
            f"cannot find the region of the bucket {bucket!r} ({error}); check its name, or set "
            "AWS_REGION"
        ) from error


def _client() -> Any:
    """Connect with boto3, for keys that obstore cannot name."""
    with CONNECTING:
        return _connected_client()


@lru_cache
def _connected_client() -> Any:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION")  # which boto3 does not know, and AWS' command line does
    return aws_session().client(
        "s3", region_name=region, endpoint_url=endpoint, config=_configuration()
    )


def _configuration() -> Any:
    from botocore.config import Config

    return Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"total_max_attempts": 1},
    )


CONNECTING = RLock()
"""Held while a session or a client is made, which boto3 does not do in two threads at once."""
