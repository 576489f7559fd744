from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError

from spark_job import s3 as s3_module
from spark_job.errors import UsageError
from spark_job.objects import (
    ConflictError,
    Entry,
    FileTooLargeError,
    Folder,
    LocalFolder,
    open_folder,
)
from spark_job.s3 import S3Folder
from tests.spark_job.jobs import REPOSITORY, files_below

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Accents composed (NFC) and decomposed (NFD) are two names of two files.
NAMES = [
    "plain.jpg",
    "with space.jpg",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "リンゴ 01.jpg",
    "a%20b#c?.jpg",
    "100%.jpg",
    "+&=;,@$'!().jpg",
    "a%2Fb.jpg",
    '{curly}[square]~`^|\\"<>.jpg',
    "..two dots.jpg",
]

OTHER = "neither a local path nor an s3:// URI"


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder of either kind, with a name that URIs would quote."""
    if request.param == "local":
        return open_folder(str(tmp_path / "a folder#1?"))
    bucket = request.getfixturevalue("bucket")
    return open_folder(f"s3://{bucket}/{tmp_path.name}/a folder#1?")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_and_listed_under_any_name(folder: Folder, name: str) -> None:
    folder.write(f"below/{name}", b"content")
    assert folder.read(f"below/{name}") == b"content"
    below = folder / "below"
    assert below.read(name) == b"content"
    assert below.files() == [name]
    assert [(entry.name, entry.bytes) for entry in folder.entries()] == [(f"below/{name}", 7)]
    below.copy(name, folder / name, "copy")
    assert (folder.folders(), (folder / name).read("copy")) == (sorted(["below", name]), b"content")
    below.delete([name])
    assert below.files() == []


def test_names_that_differ_in_normalization_only_are_two_files(folder: Folder) -> None:
    folder.write(NAMES[2], b"composed")
    folder.write(NAMES[3], b"decomposed")
    assert (folder.read(NAMES[2]), folder.read(NAMES[3])) == (b"composed", b"decomposed")


def test_a_file_that_is_not_there_is_none_or_an_error(folder: Folder) -> None:
    assert folder.read_or_none("nothing.json") is None
    assert folder.read_tagged("nothing.json") is None
    with pytest.raises(FileNotFoundError):
        folder.read("nothing.json")
    with pytest.raises(FileNotFoundError):
        folder.copy("nothing.json", folder, "copy.json")


def test_writing_replaces(folder: Folder) -> None:
    folder.write("current.json", b"a longer first version")
    folder.write("current.json", b"second")
    assert folder.read("current.json") == b"second"


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_a_file_is_read_under_any_name(folder: Folder, name: str) -> None:
    folder.write(name, b"0123456789")
    assert folder.read_range(name, 3, 4) == b"3456"
    assert folder.read_range(name, 8, 99) == b"89"
    with pytest.raises(FileNotFoundError):
        folder.read_range("missing", 0, 1)


def test_a_file_above_the_limit_is_not_read(folder: Folder) -> None:
    folder.write("large", bytes(1001))
    assert len(folder.read("large", limit=1001)) == 1001
    with pytest.raises(FileTooLargeError) as error:
        folder.read("large", limit=1000)
    assert error.value.args == (1001,)


def test_a_range_of_a_file_is_read(folder: Folder) -> None:
    folder.write("below/digits", b"0123456789")
    assert folder.read_range("below/digits", 2, 3) == b"234"
    assert folder.read_range("below/digits", 0, 10) == b"0123456789"
    with pytest.raises(FileNotFoundError):
        folder.read_range("below/nothing", 0, 1)


def test_clear_empties_this_folder_and_no_other(folder: Folder) -> None:
    for name in ("runs/a/x", "runs/a/deep/y", "runs/ab/z"):
        folder.write(name, b"1")
    (folder / "runs/a").clear()
    assert folder.read_or_none("runs/a/x") is None
    assert folder.read_or_none("runs/a/deep/y") is None
    assert folder.read("runs/ab/z") == b"1"
    (folder / "runs/never").clear()


def test_a_folder_travels_to_a_worker(folder: Folder) -> None:
    folder.write("x", b"1")
    there: Folder = pickle.loads(pickle.dumps(folder))
    assert there.read("x") == b"1"
    assert there.uri == folder.uri


@pytest.mark.parametrize("size", [4, 25_000_000])
def test_a_file_appears_when_it_is_complete_and_not_if_writing_fails(
    folder: Folder, size: int
) -> None:
    def write(*, fail: bool) -> None:
        with folder.create("table/part-0.parquet") as stream:
            stream.write(bytes(size))
            assert folder.read_or_none("table/part-0.parquet") is None
            if fail:
                raise RuntimeError("the disk of the worker is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write(fail=True)
    assert list(folder.entries()) == []
    if isinstance(folder, S3Folder):  # parts of an upload that nobody ends are paid for
        uploads = s3().list_multipart_uploads(Bucket=folder.bucket).get("Uploads", [])
        assert [one["Key"] for one in uploads if one["Key"].startswith(folder.prefix)] == []
    write(fail=False)
    assert [entry.name for entry in folder.entries()] == ["table/part-0.parquet"]
    assert len(folder.read("table/part-0.parquet")) == size


def test_a_buffer_may_be_filled_anew_once_it_is_written(folder: Folder) -> None:
    buffer = bytearray(10_000)
    with folder.create("x") as stream:
        for number in range(50):
            buffer[:] = bytes([number]) * len(buffer)
            stream.write(memoryview(buffer).cast("b"))
    assert folder.read("x") == b"".join(bytes([number]) * len(buffer) for number in range(50))


def test_what_a_killed_worker_leaves_is_hidden_from_readers(tmp_path: Path) -> None:
    """Spark, pandas and pyarrow pass over names that begin with a dot, and over no others."""
    with open_folder(str(tmp_path)).create("table/part-0.parquet") as stream:
        stream.write(b"half")
        assert [name for name in files_below(tmp_path) if "/." not in f"/{name}"] == []


def test_a_pointer_is_swapped_only_by_who_has_read_it(folder: Folder) -> None:
    first = folder.swap("current.json", b"1", None)
    assert folder.read_tagged("current.json") == (b"1", first)
    with pytest.raises(ConflictError, match=r"current\.json was written by somebody else"):
        folder.swap("current.json", b"2", None)
    second = folder.swap("current.json", b"2", first)
    assert second != first
    with pytest.raises(ConflictError):
        folder.swap("current.json", b"3", first)
    assert folder.read_tagged("current.json") == (b"2", second)
    folder.delete(["current.json"])
    with pytest.raises(ConflictError):
        folder.swap("current.json", b"3", second)
    assert folder.read_or_none("current.json") is None


def test_a_swap_whose_answer_was_lost_has_not_lost_to_itself(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 carries a request out, and the connection breaks before it says so."""
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")
    put = obstore.put

    def lose(*given: Any, **options: Any) -> Any:
        monkeypatch.undo()
        put(*given, **options)
        raise GenericError("connection reset")

    monkeypatch.setattr(obstore, "put", lose)
    first = folder.swap("current.json", b"1", None)
    monkeypatch.setattr(obstore, "put", lose)
    second = folder.swap("current.json", b"2", first)
    assert folder.read_tagged("current.json") == (b"2", second)


def test_a_swap_that_was_not_carried_out_is_tried_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")

    def fail(*_: Any, **__: Any) -> Any:
        monkeypatch.undo()
        raise AlreadyExistsError("409 Conflict: another request came to nothing")

    monkeypatch.setattr(obstore, "put", fail)
    tag = folder.swap("current.json", b"1", None)
    assert folder.read_tagged("current.json") == (b"1", tag)


COUNT = """
import sys
from spark_job.objects import ConflictError, open_folder
folder, done = open_folder(sys.argv[1]), 0
while done < int(sys.argv[2]):
    found = folder.read_tagged("current.json")
    try:
        folder.swap("current.json", b"%d" % (int(found[0]) + 1), found[1])
        done += 1
    except ConflictError:
        pass
"""


def test_no_swap_of_two_processes_is_lost(tmp_path: Path) -> None:
    """On a disk; moto compares and writes in two steps, as S3 does not, and loses some."""
    folder = open_folder(str(tmp_path))
    each = 200
    folder.swap("current.json", b"0", None)
    counters = [python(COUNT, folder.uri, str(each)) for _ in range(2)]
    assert [counter.wait(60) for counter in counters] == [0, 0]
    assert folder.read("current.json") == b"%d" % (2 * each)


HOLD = """
import sys, time
from spark_job.objects import LocalFolder, open_folder
def hold(*_):
    print("held", flush=True)
    time.sleep(60)
LocalFolder.write = hold
open_folder(sys.argv[1]).swap("current.json", b"1", None)
"""


def test_a_process_that_is_killed_while_it_swaps_blocks_nobody(tmp_path: Path) -> None:
    folder = LocalFolder(str(tmp_path), str(tmp_path))
    holder = python(HOLD, folder.uri)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert folder.try_lock() is None, "it holds the lock"
    holder.kill()
    holder.wait()
    folder.swap("current.json", b"2", None)
    assert folder.read("current.json") == b"2"


def test_a_lock_is_held_until_it_is_closed_and_survives_that_its_folder_is_removed(
    tmp_path: Path,
) -> None:
    folder = open_folder(str(tmp_path)) / "work"
    assert isinstance(folder, LocalFolder)
    lock = folder.try_lock()
    assert lock is not None
    assert folder.try_lock() is None
    folder.clear()
    again = folder.try_lock()
    assert again is not None, "the new folder of this name is another one"
    os.close(lock)
    assert folder.try_lock() is None
    os.close(again)


def test_a_copy_replaces_and_does_not_follow_later_writings(folder: Folder) -> None:
    folder.write("features/part-0.parquet", b"accepted")
    target = folder / "runs/r"
    target.write("features/0.parquet", b"of an attempt that crashed")
    folder.copy("features/part-0.parquet", target, "features/0.parquet")
    folder.write("features/part-0.parquet", b"of a worker that lost its driver")
    assert target.read("features/0.parquet") == b"accepted"


def test_a_local_copy_takes_no_space(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    folder.write("a", b"1")
    folder.copy("a", folder / "b", "c")
    assert (tmp_path / "a").samefile(tmp_path / "b" / "c")


def test_where_a_disk_has_no_links_a_file_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = open_folder(str(tmp_path))
    folder.write("a", b"1")
    folder.copy("a", folder / "b", "c")
    assert not (tmp_path / "a").samefile(tmp_path / "b" / "c")
    assert (folder / "b").read("c") == b"1"
    assert files_below(tmp_path) == {"a", "b/c"}
    (tmp_path / "a").unlink()
    with pytest.raises(FileNotFoundError):
        folder.copy("a", folder / "b", "c")
    assert files_below(tmp_path) <= {"b/c"}, "no half copy is left"


def test_a_copy_to_a_folder_of_another_kind_is_a_mistake(bucket: str, tmp_path: Path) -> None:
    local, there = open_folder(str(tmp_path)), open_folder(f"s3://{bucket}/x")
    for source, target in ((local, there), (there, local)):
        with pytest.raises(TypeError, match="is not "):
            source.copy("a", target, "a")


@pytest.mark.parametrize("in_memory", [1_000, 30_000_000])
def test_a_large_file_is_uploaded_in_parts_from_memory_or_a_disk(
    in_memory: int, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "IN_MEMORY", in_memory)
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")
    content = os.urandom(12_000_001)
    with folder.create("large") as stream:
        for start in range(0, len(content), 1_000_000):
            stream.write(content[start : start + 1_000_000])
    assert folder.read("large") == content
    [entry] = folder.entries()
    assert entry.bytes == len(content)
    assert str(entry.version).strip('"').endswith("-3"), "an upload in three parts"


def test_what_is_deleted_need_not_be_there(folder: Folder) -> None:
    for name in ("a", "b", "c/d"):
        folder.write(name, b"1")
    folder.delete(["a", "never", "c/d", "c/never"])
    folder.delete([])
    assert [entry.name for entry in folder.entries()] == ["b"]


def test_many_files_are_listed_and_deleted_block_by_block(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "LIST_AT_ONCE", 7)
    names = [f"{label}/{number}" for label in ("a", "b") for number in range(10, 30)] + ["top"]
    for name in names:
        folder.write(name, b"1")
    assert sorted(entry.name for entry in folder.entries()) == names
    folder.clear()
    assert list(folder.entries()) == []


def test_a_version_changes_with_the_content(folder: Folder) -> None:
    folder.write("a", b"1")
    [before] = folder.entries()
    assert list(folder.entries()) == [before]
    folder.write("a", b"2")
    [after] = folder.entries()
    assert after.version not in (None, before.version)
    tagged = folder.read_tagged("a")
    if not folder.is_local:
        assert tagged == (b"2", after.version), "both are the ETag"


def test_folders_and_files_are_those_right_in_a_folder(folder: Folder) -> None:
    for name in ("runs/b/x", "runs/a/deep/y", "runs/z", "runs/y", "runsz/w"):
        folder.write(name, b"1")
    runs = folder / "runs"
    assert (runs.folders(), runs.files()) == (["a", "b"], ["y", "z"])
    assert ((runs / "no").folders(), (runs / "no").files()) == ([], [])
    assert (runs.exists(), (runs / "no").exists(), (folder / "run").exists()) == (1, 0, 0)
    assert list((runs / "no").entries()) == []


def test_a_file_is_no_folder(folder: Folder) -> None:
    folder.write("x.jpg", b"1")
    file = folder / "x.jpg"
    assert not file.exists()
    assert (file.folders(), file.files(), list(file.entries())) == ([], [], [])


def test_links_that_lead_nowhere_are_entries_without_size_and_circles_end(tmp_path: Path) -> None:
    open_folder(str(tmp_path)).write("a/x.jpg", b"12")
    (tmp_path / "a" / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "a" / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to("a")
    os.mkfifo(tmp_path / "pipe.jpg")
    entries = sorted(open_folder(str(tmp_path)).entries(), key=lambda entry: entry.name)
    status = (tmp_path / "a" / "x.jpg").stat()
    version = f"{status.st_mtime_ns}-{status.st_ctime_ns}-2"
    assert entries == [
        Entry(f"{folder}/{name}.jpg", size, one)
        for folder in "ab"
        for name, size, one in (("broken", None, None), ("itself", None, None), ("x", 2, version))
    ]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="is no regular file"):
        open_folder(str(tmp_path)).read("pipe.jpg")


def test_what_the_console_of_s3_shows_as_a_folder_is_no_file(bucket: str, tmp_path: Path) -> None:
    for key in ("", "Plum/", "Plum/1.jpg", "album.jpg/", "album.jpg/2.jpg"):
        s3().put_object(Bucket=bucket, Key=f"{tmp_path.name}/{key}", Body=b"")
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")
    assert {entry.name for entry in folder.entries()} == {"Plum/1.jpg", "album.jpg/2.jpg"}


def test_keys_that_the_librarys_paths_cannot_hold_are_listed_and_read(
    bucket: str, tmp_path: Path
) -> None:
    names = ["/3.jpg", "a//2.jpg", "a/1.jpg", "b/c%2F5.jpg", "b/c//4.jpg"]
    for name in names:
        s3().put_object(Bucket=bucket, Key=f"{tmp_path.name}/{name}", Body=name.encode())
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")
    for top in (folder, folder / "b"):
        start = len(top.uri) - len(folder.uri)
        found = {entry.name: entry for entry in top.entries()}
        expected = [name[start:] for name in names if not start or name.startswith("b/")]
        assert sorted(found) == expected
        for name in expected:
            assert top.read(name) == names[[one[start:] for one in names].index(name)].encode()
            assert found[name].bytes == len(top.read(name))
            assert str(found[name].version).strip('"')
    assert folder.exists()
    with pytest.raises(FileNotFoundError):
        folder.read("a//nothing.jpg")
    with pytest.raises(FileTooLargeError):
        folder.read("a//2.jpg", limit=3)
    assert folder.read_range("a//2.jpg", 3, 2) == b"2."


def test_errors_of_s3_are_in_its_own_words(s3_endpoint: str, bucket: str) -> None:  # noqa: ARG001
    with pytest.raises(FileNotFoundError) as missing:
        open_folder(f"s3://{bucket}/x").read("nothing.jpg")
    assert str(missing.value) == "NoSuchKey: The specified key does not exist."
    nowhere = open_folder("s3://no-such-bucket/x")
    sentence = "NoSuchBucket: The specified bucket does not exist"
    for refused in (
        nowhere.exists,
        nowhere.files,
        lambda: list(nowhere.entries()),
        lambda: nowhere.write("x", b""),
        lambda: nowhere.read_tagged("x"),
    ):
        with pytest.raises(OSError, match=f"^{sentence}$"):
            refused()


def test_a_refusal_names_what_s3_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(403, "AccessDenied", "User: x is not authorized to perform: s3:GetObject") as at:
        point_to(at.endpoint, monkeypatch)
        with pytest.raises(OSError, match=r"^AccessDenied: User: x is not authorized"):
            open_folder("s3://refused-bucket/x").read("1.jpg")


PROFILE = """
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = secret

[fruit]
aws_access_key_id = AKIAFRUIT
aws_secret_access_key = secret
"""


@pytest.mark.parametrize(
    ("environment", "signed_by"),
    [
        ({"AWS_PROFILE": "fruit"}, "AKIAFRUIT"),
        ({}, "AKIADEFAULT"),
        ({"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "s"}, "AKIAENV"),
    ],
)
def test_requests_are_signed_as_the_aws_command_line_would(
    environment: dict[str, str], signed_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(PROFILE)
    with answering(404, "NoSuchKey", "nothing") as at:
        point_to(at.endpoint, monkeypatch)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_REGION", "eu-north-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(FileNotFoundError):
            open_folder(f"s3://bucket-of-{signed_by.lower()}/x").read("1.jpg")
        [signature] = at.signatures
    assert f"Credential={signed_by}/" in signature
    assert "/eu-north-1/s3/" in signature


@pytest.mark.parametrize(
    ("profile", "reason"), [("appel", r"\(appel\) could not be found"), (None, "get_credentials")]
)
def test_a_configuration_without_credentials_is_told(
    profile: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    point_to("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    if profile is not None:
        monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(UsageError, match=f"gives no credentials .*{reason}.*check AWS_PROFILE"):
        open_folder("s3://bucket-without-credentials/x").exists()


def test_a_buckets_region_is_asked_for_where_nobody_says_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    # boto3 finds the server by AWS_ENDPOINT_URL; without an endpoint it is AWS that is asked.
    assert s3_module._region(bucket, None) == "eu-west-1"
    with pytest.raises(UsageError, match="cannot find the region of the bucket 'no-such-bucket'"):
        s3_module._region("no-such-bucket", None)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-1")
    assert s3_module._region(bucket, None) == "eu-south-1"


def test_s3_uris_are_taken_literally(bucket: str) -> None:
    folder = open_folder(f"s3://{bucket}/a/b%20#c?/")
    assert folder.uri == f"s3://{bucket}/a/b%20#c?"
    assert not folder.is_local
    assert (folder / "d").uri == f"s3://{bucket}/a/b%20#c?/d"
    assert (open_folder(f"s3://{bucket}") / "d").uri == f"s3://{bucket}/d"


def test_a_local_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_folder("photographs/").uri == str(tmp_path / "photographs")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("s3://", "names no bucket; write s3://BUCKET/PREFIX"),
        ("s3:///x", "'s3:///x' names no bucket"),
        ("gs://bucket/x", OTHER),
        ("https://host/x", OTHER),
        ("S3://bucket/x", OTHER),
    ],
)
def test_a_uri_of_another_kind_is_refused(uri: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_folder(uri)


def s3() -> Any:
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take `endpoint` for S3; connections are kept by bucket, so each test has its own bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


class Answering(ThreadingHTTPServer):
    """S3 that gives one answer to all, and keeps how requests were signed."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answer = status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self.signatures: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.server.signatures.append(self.headers["Authorization"])
        status, content = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@contextmanager
def answering(status: int, code: str, message: str) -> Iterator[Answering]:
    with Answering(status, code, message) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
