"""A folder goes up once, whoever uploaded some of it, and only what the job would list."""

from __future__ import annotations

import hashlib
import io
import json
import os
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from PIL import Image

from orchard.cloud import etags, executions
from orchard.cloud.uploading import _is_same, survey, upload
from spark_job import retries, s3
from spark_job.errors import JobError, NoImagesError, UsageError
from spark_job.listing import list_images
from spark_job.objects import (
    Entry,
    ExpiredError,
    RefusedError,
    TimedOutError,
    WrongClockError,
    open_folder,
)
from spark_job.s3 import S3Folder
from tests.orchard.command import refusal, succeed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchard.cloud.stack import Stack

HEIF = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50


def picture(colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def july(tmp_path: Path) -> Path:
    folder = tmp_path / "july"
    for number, name in enumerate(("Kiwi/1.png", "Kiwi/2.png", "Plum/1.PNG", "Plum/é 100%#.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return folder


@pytest.fixture
def batch(stack: Stack) -> S3Folder:
    folder = stack.root / "images/july"
    assert isinstance(folder, S3Folder)
    return folder


@contextmanager
def listening(
    handler: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Folder]:
    """A folder of a server of our own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    s3._connected.cache_clear()
    try:
        folder = open_folder("s3://any/images")
        assert isinstance(folder, S3Folder)
        yield folder
    finally:
        s3._connected.cache_clear()
        server.shutdown()
        server.server_close()


def test_what_the_job_would_pass_over_stays_here(july: Path) -> None:
    (july / "notes.txt").write_text("x")
    (july / ".hidden.png").write_bytes(picture(9))
    (july / "Kiwi" / "IMG_1.CR2").write_bytes(b"raw")
    (july / "Kiwi" / "IMG_2.HEIC").write_bytes(HEIF)
    (july / "Kiwi" / "IMG_3.heic").write_bytes(picture(8))  # phones call JPEGs so, too
    found = survey(str(july))
    names = [one.name for one in found.pictures]
    assert names == [
        "Kiwi/1.png",
        "Kiwi/2.png",
        "Kiwi/IMG_3.heic",
        "Plum/1.PNG",
        "Plum/é 100%#.png",
    ]
    assert (found.ignored, found.unsupported) == ({"txt": 1}, {"cr2": 1, "heic": 1})
    assert found.bytes == sum((july / name).stat().st_size for name in names)


def test_a_folder_without_pictures_is_told(july: Path, stack: Stack) -> None:
    empty = july.parent / "empty"
    empty.mkdir()
    (empty / "a.nef").write_bytes(b"raw")
    with pytest.raises(NoImagesError, match="has no pictures that are taken"):
        survey(str(empty))
    assert "there is no folder" in refusal("upload", "nowhere", "july", "--stack", stack.name)
    with pytest.raises(UsageError, match="is in S3 already"):
        survey("s3://bucket/images")


def test_only_what_is_new_goes_up_and_content_decides(july: Path, batch: S3Folder) -> None:
    found = survey(str(july))
    assert (upload(str(july), found, batch).new, len(list_images(batch))) == (4, 4)
    assert {entry.name for entry in batch.entries()} == {one.name for one in found.pictures}
    again = upload(str(july), found, batch)
    assert (again.new, again.there, again.replaced, again.bytes) == (0, 4, 0, 0)


def test_a_picture_replaces_another_one_only_if_it_is_said(
    july: Path, batch: S3Folder, stack: Stack
) -> None:
    """As where two memory cards both begin with IMG_0001."""
    succeed("upload", str(july), "--stack", stack.name)
    before = {entry.name: batch.read(entry.name) for entry in batch.entries()}
    # Of the same size and yet another picture, and of another size.
    content = bytearray((july / "Kiwi/1.png").read_bytes())
    content[-20] ^= 1
    (july / "Kiwi/1.png").write_bytes(content)
    (july / "Plum/1.PNG").write_bytes(picture(7) + b"more")
    (july / "Kiwi/new.png").write_bytes(picture(8))
    told = refusal("upload", str(july), "--stack", stack.name)
    assert told.startswith(
        f"2 pictures of these names are in {batch.uri} with other content (Kiwi/1.png, Plum/1.PNG);"
    )
    assert "--replace" in told
    assert {entry.name: batch.read(entry.name) for entry in batch.entries()} == before
    done = succeed("upload", str(july), "--replace", "--json", "--stack", stack.name)
    told_of = json.loads(done.stdout)
    assert (told_of["uploaded"], told_of["replaced"], told_of["there"]) == (1, 2, 2)
    assert "1 picture uploaded, 2 replaced (" in done.stderr
    assert batch.read("Kiwi/1.png") == content


@pytest.mark.parametrize("name", ["Kiwi/1.png", "Kiwi/a\x7fb.png"], ids=["obstore", "boto3"])
@pytest.mark.parametrize("same", [True, False])
def test_what_somebody_uploads_at_the_same_moment_is_not_replaced(
    tmp_path: Path, batch: S3Folder, monkeypatch: pytest.MonkeyPatch, name: str, same: bool
) -> None:
    file = tmp_path / "july" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(picture(1))
    theirs = picture(1 if same else 2)

    def listed_before(folder: S3Folder) -> Iterator[Entry]:
        folder._put_odd(name, theirs)
        return iter(())

    monkeypatch.setattr(S3Folder, "entries", listed_before)
    found = survey(str(tmp_path / "july"))
    if same:
        done = upload(str(tmp_path / "july"), found, batch)
        assert (done.new, done.there) == (0, 1)
    else:
        with pytest.raises(UsageError, match="1 picture of this name is in s3://"):
            upload(str(tmp_path / "july"), found, batch)
    assert batch.read(name) == theirs


def test_it_does_not_matter_with_what_the_rest_was_uploaded(
    tmp_path: Path, batch: S3Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs of AWS write what is large in parts, whose ETag is no MD5 of the content."""
    content = picture(1) + os.urandom(9_000_000)
    file = tmp_path / "july" / "Kiwi" / "1.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    boto3.client("s3").upload_file(str(file), batch.bucket, f"{batch.prefix}/Kiwi/1.png")
    (entry,) = batch.entries()
    assert entry.version is not None
    assert entry.version.endswith('-2"')
    found = survey(str(tmp_path / "july"))
    assert upload(str(tmp_path / "july"), found, batch).there == 1
    monkeypatch.setattr(etags, "PARTS", ())
    assert upload(str(tmp_path / "july"), found, batch).there == 1, "it is read"
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UsageError, match=r"Kiwi/1\.png"):
        upload(str(tmp_path / "july"), found, batch)


def test_a_large_picture_has_the_time_that_a_slow_line_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            sleep(2.5)
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(s3, "WRITE_TIMEOUT", 1)
    monkeypatch.setattr(s3, "WHOLE_TIMEOUT", 1)
    monkeypatch.setattr(retries, "PATIENCE", 0.0)
    with listening(Slow, monkeypatch) as folder:
        with pytest.raises(TimedOutError):
            folder.write_checked("small.tif", b"1")
        folder.write_checked("large.tif", bytes(4 * s3.SLOWEST))


def test_each_file_is_sent_with_its_checksum_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was read here, for S3 to hold what it receives against."""
    received: list[tuple[Any, bytes]] = []

    class Server(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            received.append((self.headers, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Server, monkeypatch) as folder:
        folder.write_checked("a.png", b"content")
    [(headers, body)] = received
    assert body == b"content"
    checksum = b64encode(hashlib.sha256(b"content").digest()).decode()
    assert headers["x-amz-checksum-sha256"] == checksum
    assert "x-amz-checksum-sha256" in headers["authorization"].partition("SignedHeaders=")[2]


def test_where_the_etag_is_no_md5_the_checksum_tells(july: Path, batch: S3Folder) -> None:
    """As of objects that a key of KMS encrypts."""
    upload(str(july), survey(str(july)), batch)
    content = (july / "Kiwi/1.png").read_bytes()
    known = Entry("Kiwi/1.png", len(content), f'"{"0" * 32}"')
    assert batch.sha256_of("Kiwi/1.png") is None, "moto keeps no checksum of such a request"
    assert _is_same(batch, known, content), "so it is read"
    assert not _is_same(batch, known, content[:-1] + b"x")
    batch._put_odd("Kiwi/1.png", content)
    assert batch.sha256_of("Kiwi/1.png") == hashlib.sha256(content).hexdigest()
    assert _is_same(batch, known, content)
    assert not _is_same(batch, known, content[:-1] + b"x")
    assert not _is_same(batch, Entry("gone.png", len(content), '"1"'), content)


def test_a_name_that_the_stores_library_cannot_take_goes_up_too(
    tmp_path: Path, batch: S3Folder
) -> None:
    odd = tmp_path / "odd" / "a\x7fb" / "1.png"
    odd.parent.mkdir(parents=True)
    odd.write_bytes(picture(1))
    assert upload(str(tmp_path / "odd"), survey(str(tmp_path / "odd")), batch).new == 1
    assert [entry.name for entry in batch.entries()] == ["a\x7fb/1.png"]
    assert upload(str(tmp_path / "odd"), survey(str(tmp_path / "odd")), batch).there == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ExpiredError("token"), 5, "sign in (aws sso login), and the same command goes on"),
        (RefusedError("denied"), 2, "you may not upload to s3://"),
    ],
    ids=["expired", "refused"],
)
def test_what_ends_an_upload_is_a_sentence(
    july: Path,
    batch: S3Folder,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    words: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(S3Folder, "write_checked", fail)
    with pytest.raises(JobError) as raised:
        upload(str(july), survey(str(july)), batch)
    assert raised.value.exit_code == code
    assert words in str(raised.value)


def test_a_file_that_goes_meanwhile_is_named(july: Path, batch: S3Folder) -> None:
    found = survey(str(july))
    (july / "Kiwi/2.png").unlink()
    with pytest.raises(JobError, match=r"Kiwi/2\.png cannot be read \(No such file"):
        upload(str(july), found, batch)


def test_the_folders_name_is_the_batchs(july: Path, stack: Stack) -> None:
    told = succeed("upload", str(july), "--stack", stack.name)
    assert told.stdout == f"s3://{stack.data_bucket}/images/july\n"
    assert f"`orchard start july --follow --stack {stack.name}` runs the batch" in told.stderr


def test_to_follow_a_run_is_to_start_it(july: Path, stack: Stack) -> None:
    executions.start(stack, {"batch": "july"})
    told = refusal("upload", str(july), "--follow", "--stack", stack.name)
    assert told.startswith("the run july.1 of batch july goes on")


def test_a_wrong_clock_is_no_lack_of_rights(july: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = b"<Error><Code>RequestTimeTooSkewed</Code><Message>Too large</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Server, monkeypatch) as folder, pytest.raises(WrongClockError):
        upload(str(july), survey(str(july)), folder)
