from __future__ import annotations

import pickle
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from spark_job.errors import UsageError
from spark_job.objects import FileTooLargeError, Folder, open_folder
from tests.spark_job.jobs import files_below

if TYPE_CHECKING:
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
]


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder of either kind, with a name that URIs would quote."""
    if request.param == "local":
        return open_folder(str(tmp_path / "a folder#1?"))
    bucket = request.getfixturevalue("bucket")
    return open_folder(f"s3://{bucket}/{tmp_path.name}/a folder#1?")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_under_any_name(folder: Folder, name: str) -> None:
    folder.write(f"below/{name}", b"content")
    assert folder.read(f"below/{name}") == b"content"
    assert (folder / "below").read(name) == b"content"


def test_names_that_differ_in_normalization_only_are_two_files(folder: Folder) -> None:
    folder.write(NAMES[2], b"composed")
    folder.write(NAMES[3], b"decomposed")
    assert (folder.read(NAMES[2]), folder.read(NAMES[3])) == (b"composed", b"decomposed")


def test_a_file_that_is_not_there_is_none_or_an_error(folder: Folder) -> None:
    assert folder.read_or_none("nothing.json") is None
    with pytest.raises(FileNotFoundError):
        folder.read("nothing.json")


def test_writing_replaces(folder: Folder) -> None:
    folder.write("current.json", b"a longer first version")
    folder.write("current.json", b"second")
    assert folder.read("current.json") == b"second"


def test_a_file_above_the_limit_is_not_read(folder: Folder) -> None:
    folder.write("large", bytes(1001))
    assert len(folder.read("large", limit=1001)) == 1001
    with pytest.raises(FileTooLargeError) as error:
        folder.read("large", limit=1000)
    assert error.value.args == (1001,)


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


def test_a_file_appears_when_it_is_complete_and_not_if_writing_fails(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with suppress(RuntimeError), folder.create("table/part-0.parquet") as stream:
        stream.write(b"half")
        assert folder.read_or_none("table/part-0.parquet") is None
        raise RuntimeError
    assert files_below(tmp_path) == set()
    with folder.create("table/part-0.parquet") as stream:
        stream.write(b"whole")
    assert files_below(tmp_path) == {"table/part-0.parquet"}


def test_what_a_killed_worker_leaves_is_hidden_from_readers(tmp_path: Path) -> None:
    """Spark, pandas and pyarrow pass over names that begin with a dot, and over no others."""
    with open_folder(str(tmp_path)).create("table/part-0.parquet") as stream:
        stream.write(b"half")
        assert [name for name in files_below(tmp_path) if "/." not in f"/{name}"] == []


def test_s3_uris_are_taken_literally(bucket: str) -> None:
    folder = open_folder(f"s3://{bucket}/a/b%20#c?/")
    assert folder.uri == f"s3://{bucket}/a/b%20#c?"
    assert not folder.is_local


def test_a_local_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_folder("photographs/").uri == str(tmp_path / "photographs")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("s3://", "names no bucket; write s3://BUCKET/PREFIX"),
        ("gs://bucket/x", "neither a local path nor an s3:// URI"),
        ("https://host/x", "neither a local path nor an s3:// URI"),
    ],
)
def test_a_uri_of_another_kind_is_refused(uri: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_folder(uri)
