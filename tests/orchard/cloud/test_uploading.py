"""A folder goes up once, whoever uploaded some of it, and only what the job would list."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from orchard.cloud.uploading import _is_same, survey, upload
from spark_job import s3
from spark_job.errors import JobError, NoImagesError, UsageError
from spark_job.listing import list_images
from spark_job.objects import Entry, ExpiredError, RefusedError, open_folder
from spark_job.s3 import S3Folder
from tests.orchard.command import refusal, succeed

if TYPE_CHECKING:
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
    assert (upload(str(july), found, batch).files, len(list_images(batch))) == (4, 4)
    assert {entry.name for entry in batch.entries()} == {one.name for one in found.pictures}
    again = upload(str(july), found, batch)
    assert (again.files, again.there, again.bytes) == (0, 4, 0)
    # Of the same size and an earlier time, and yet another picture.
    content = bytearray((july / "Kiwi/1.png").read_bytes())
    content[-20] ^= 1
    (july / "Kiwi/1.png").write_bytes(content)
    changed = upload(str(july), survey(str(july)), batch)
    assert (changed.files, changed.there) == (1, 3)
    assert batch.read("Kiwi/1.png") == content


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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    s3._connected.cache_clear()
    try:
        folder = open_folder("s3://any/images")
        assert isinstance(folder, S3Folder)
        folder.write_checked("a.png", b"content")
    finally:
        s3._connected.cache_clear()
        server.shutdown()
        server.server_close()
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
    assert not _is_same(batch, known, content), "moto keeps no checksum of such a request"
    batch._put_odd("Kiwi/1.png", content)
    assert _is_same(batch, known, content)
    assert not _is_same(batch, known, content[:-1] + b"x")
    assert not _is_same(batch, Entry("gone.png", len(content), '"1"'), content)


def test_a_name_that_the_stores_library_cannot_take_goes_up_too(
    tmp_path: Path, batch: S3Folder
) -> None:
    odd = tmp_path / "odd" / "a\x7fb" / "1.png"
    odd.parent.mkdir(parents=True)
    odd.write_bytes(picture(1))
    moved = upload(str(tmp_path / "odd"), survey(str(tmp_path / "odd")), batch)
    assert moved.files == 1
    assert [entry.name for entry in batch.entries()] == ["a\x7fb/1.png"]
    assert upload(str(tmp_path / "odd"), survey(str(tmp_path / "odd")), batch).there == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ExpiredError("token"), 5, "sign in (aws sso login), and the same command goes on"),
        (RefusedError("denied"), 2, "you may not upload to s3://"),
    ],
)
def test_what_ends_an_upload_is_a_sentence(
    july: Path,
    batch: S3Folder,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    words: str,
) -> None:
    def fail(*_: Any) -> None:
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
