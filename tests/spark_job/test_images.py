from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from pyarrow.fs import LocalFileSystem

from spark_job import reading
from spark_job.errors import RejectedImageError, UsageError
from spark_job.listing import SCHEMA, list_images, read_manifest, require_folder
from spark_job.objects import Folder, open_folder
from spark_job.reading import Image, read_ahead, to_images

if TYPE_CHECKING:
    from pathlib import Path

AWKWARD = [
    "Apple Red 1/a photo.jpg",
    "caf\u00e9/composed \u00e9.jpg",
    "cafe\u0301/decomposed e\u0301.jpg",
    "リンゴ/リンゴ 01.jpg",
    "100%/a%20b#c?.jpg",
    "a#b/x.jpg",
    "what?/x.jpg",
    'it\'s/"quoted", comma.jpg',
    "lemon/deeper/still/x.jpg",
    "on top.jpg",
]


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "images"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


def test_every_image_is_listed_once_with_label_size_and_version(folder: Folder) -> None:
    for size, name in enumerate(AWKWARD):
        folder.write(name, bytes(size))
    listing = list_images(folder)
    table = listing.table
    assert listing.mean_bytes == (len(AWKWARD) - 1) / 2
    assert table["path"].to_pylist() == sorted(AWKWARD)
    labels = dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert labels["Apple Red 1/a photo.jpg"] == "Apple Red 1"
    assert labels["lemon/deeper/still/x.jpg"] == "still"
    assert labels["on top.jpg"] is None
    assert labels["cafe\u0301/decomposed e\u0301.jpg"] == "cafe\u0301"
    sizes = dict(zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True))
    assert sizes == {name: size for size, name in enumerate(AWKWARD)}
    assert all(
        version.startswith("20") and version.endswith("Z")
        for version in table["version"].to_pylist()
    )


def test_a_listed_name_leads_back_to_the_file(folder: Folder) -> None:
    for name in AWKWARD:
        folder.write(name, name.encode())
    for image, content in read_ahead(folder, to_images(list_images(folder).table)):
        assert content == image.path.encode()


def test_other_files_are_counted_by_extension_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    extensions = ["jpg", "JPEG", "Png", "webp", "bmp", "gif", "tif", "TIFF"]
    others = ["notes.txt", "x.avif", "README", "list.csv", "list2.CSV"]
    hidden = [".DS_Store", "a/._x.jpg", ".thumbnails/x.jpg"]
    for name in [*(f"a/x.{extension}" for extension in extensions), *others, *hidden]:
        folder.write(name, b"1")
    listing = list_images(folder)
    assert listing.table.num_rows == len(extensions)
    assert listing.ignored == Counter({"csv": 2, "txt": 1, "avif": 1, "": 1})


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    folder.write("a/x.jpg", b"1")
    before = list_images(folder).table
    assert list_images(folder).table == before
    os.utime(tmp_path / "a/x.jpg", ns=(10**18, 10**18 + 1))
    assert list_images(folder).table["version"] != before["version"]


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    open_folder(str(tmp_path)).write("album.jpg/x.jpg", b"1")
    assert list_images(open_folder(str(tmp_path))).table["path"].to_pylist() == ["album.jpg/x.jpg"]


def test_an_empty_folder_has_no_images(tmp_path: Path) -> None:
    assert list_images(open_folder(str(tmp_path))).table.num_rows == 0


def test_a_stray_key_with_an_empty_component_doubles_nothing(bucket: str, tmp_path: Path) -> None:
    """Such a key cannot be read through a file system; it must not hide among folders either."""
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for name in ("a/1.jpg", "a//2.jpg", "/3.jpg", "b/4.jpg"):
        client.put_object(Bucket=bucket, Key=f"{tmp_path.name}/{name}", Body=b"1")
    paths = list_images(folder).table["path"].to_pylist()
    assert paths == ["/3.jpg", "a//2.jpg", "a/1.jpg", "b/4.jpg"]


def test_a_missing_folder_and_a_file_are_refused(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere; check --images"):
        require_folder(folder / "nowhere")
    folder.write("x.jpg", b"1")
    with pytest.raises(UsageError, match=r"x\.jpg is a file; --images takes the folder"):
        require_folder(folder / "x.jpg")


def test_a_missing_bucket_is_refused(s3_endpoint: str) -> None:  # noqa: ARG001
    with pytest.raises(UsageError, match="s3://no-such-bucket"):
        require_folder(open_folder("s3://no-such-bucket/images"))


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with open(os.fsencode(tmp_path) + b"/a/\xff\xfe.jpg", "wb"):  # noqa: PTH123
        pass
    with pytest.raises(UsageError, match="whose name is not UTF-8"):
        list_images(open_folder(str(tmp_path)))


@pytest.mark.parametrize("kind", ["csv", "parquet", "CSV"])
def test_a_manifest_names_the_images(folder: Folder, tmp_path: Path, kind: str) -> None:
    manifest = write_manifest(tmp_path / f"manifest.{kind}", AWKWARD)
    listing = read_manifest(manifest, folder)
    table = listing.table
    assert listing.mean_bytes == 0
    assert table.schema == SCHEMA
    assert table["path"].to_pylist() == sorted(AWKWARD)
    assert table["bytes"].null_count == table["version"].null_count == len(AWKWARD)
    for name in AWKWARD:
        folder.write(name, name.encode())
    for image, content in read_ahead(folder, to_images(table)):
        assert content == image.path.encode()


def test_a_manifest_may_be_in_s3_and_give_whole_uris_and_other_columns(bucket: str) -> None:
    folder = open_folder(f"s3://{bucket}/manifest/images")
    lines = ["label,path", "x,b/1.jpg", f"y,{folder.uri}/a/2.jpg", "", '"z","c/with, comma.jpg"']
    open_folder(f"s3://{bucket}/manifest").write("m.csv", "\n".join(lines).encode("utf-8-sig"))
    table = read_manifest(f"s3://{bucket}/manifest/m.csv", folder).table
    assert table["path"].to_pylist() == ["a/2.jpg", "b/1.jpg", "c/with, comma.jpg"]
    assert table["label"].to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/x.jpg",
        "../x.jpg",
        "a/../../x.jpg",
        "s3://other/x.jpg",
        "",
        "a//x.jpg",
        "./a/x.jpg",
        "a/./x.jpg",
    ],
)
def test_a_manifest_stays_in_its_folder_and_has_one_name_per_file(
    tmp_path: Path, path: str
) -> None:
    manifest = write_manifest(tmp_path / "m.parquet", ["a/x.jpg", path])
    with pytest.raises(UsageError, match=r"m\.parquet names .*paths are relative to --images"):
        read_manifest(manifest, open_folder(str(tmp_path)))


def test_a_manifest_names_nothing_twice(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", ["a/x.jpg", "a/y.jpg", "a/x.jpg"])
    with pytest.raises(UsageError, match=r"names 'a/x\.jpg' more than once"):
        read_manifest(manifest, open_folder(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("m.csv", None, "there is no manifest at"),
        ("m.csv", b"", "cannot read the manifest"),
        ("m.csv", b"file,label\nx.jpg,a\n", "with a column `path`"),
        ("m.csv", b"path\n\xff\xfe.jpg\n", "cannot read the manifest"),
        ("m.csv", b"path,label\nx.jpg\n", "cannot read the manifest"),
        ("m.parquet", b"path\nx.jpg\n", "cannot read the manifest"),
    ],
)
def test_a_manifest_that_cannot_be_used(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        read_manifest(str(tmp_path / name), open_folder(str(tmp_path)))


def test_what_cannot_be_read_is_a_reject_in_its_place(folder: Folder) -> None:
    folder.write("a/1.jpg", b"one")
    folder.write("a/3.jpg", b"three")
    names = ["a/1.jpg", "a/2.jpg", "a", "a/3.jpg", "a//1.jpg", "a/nul\0.jpg"]
    found = list(read_ahead(folder, [Image(name, "a", None, None) for name in names]))
    assert [image.path for image, _ in found] == names
    outcomes = dict(zip(names, (outcome(content) for _, content in found), strict=True))
    assert outcomes["a/1.jpg"] == b"one"
    assert outcomes["a/3.jpg"] == b"three"
    assert outcomes["a/2.jpg"] == ("read", "missing")
    assert outcomes["a/nul\0.jpg"][0] == "read"


def test_an_unreadable_file_is_a_reject(tmp_path: Path) -> None:
    """A file that opens and whose reading fails, whoever asks: address 0 of this process."""
    (tmp_path / "x.jpg").symlink_to("/proc/self/mem")
    [(_, content)] = read_ahead(open_folder(str(tmp_path)), [Image("x.jpg", None, None, None)])
    assert outcome(content) == ("read", "unreadable")


def test_a_huge_file_is_a_reject_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(reading.MAX_BYTES + 1)  # sparse: it takes no space
    [(_, content)] = read_ahead(open_folder(str(tmp_path)), [Image("x.jpg", None, None, None)])
    assert outcome(content) == ("read", "too-large")


class Watched(Folder):
    """A folder that counts how much was read and not yet taken."""

    lock = Lock()
    begun = 0
    content = b"x"

    def read(self, name: str, *, limit: int | None = None) -> bytes:  # noqa: ARG002
        with self.lock:
            Watched.begun += 1
        return self.content


@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    ahead=st.integers(2, 16),
    most=st.integers(1, 120),
    told=st.booleans(),
)
def test_reading_ahead_keeps_order_and_both_limits(
    sizes: list[int], ahead: int, most: int, *, told: bool
) -> None:
    listed = [Image(str(n), None, size if told else None, None) for n, size in enumerate(sizes)]
    Watched.begun = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "READ_AHEAD", ahead)
        patch.setattr(reading, "READ_AHEAD_BYTES", most)
        taken = 0
        for image, _ in read_ahead(Watched(None, "", ""), listed):
            assert image.path == str(taken)
            with Watched.lock:
                waiting = Watched.begun - taken
            assert waiting <= ahead + 1
            if told:
                held = sizes[taken : taken + waiting]
                # One image may always be read, and the last one that fitted may stick out.
                assert sum(held[:-1]) <= most + (held[0] if held else 0)
            taken += 1
    assert taken == len(sizes)


def test_reading_stops_when_the_caller_does(tmp_path: Path) -> None:
    listed = [Image(str(n), None, None, None) for n in range(10_000)]
    Watched.begun = 0
    contents = read_ahead(Watched(None, "", ""), listed)
    next(contents)
    assert isinstance(contents, Generator)
    contents.close()
    assert Watched.begun <= reading.READ_AHEAD + 1
    assert tmp_path.exists()


def test_sizes_and_versions_do_not_depend_on_how_folders_nest(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    for name in ("b/1.jpg", "a/2.jpg", "a.jpg", "a b/3.jpg", "a/b/4.jpg"):
        folder.write(name, b"1")
    paths = list_images(folder).table["path"].to_pylist()
    assert all(first < second for first, second in pairwise(paths))


def outcome(content: bytes | RejectedImageError) -> Any:
    if isinstance(content, RejectedImageError):
        assert content.detail
        return content.stage, content.reason
    return content


def write_manifest(path: Path, names: list[str]) -> str:
    table = pa.table({"label": ["x"] * len(names), "path": names})
    if path.suffix.lower() == ".parquet":
        parquet.write_table(table, path)
    else:
        from pyarrow import csv

        csv.write_csv(table, path)
    return str(path)


class Unsteady(Folder):
    """S3 that fails for a while, as it does when it is asked for too much."""

    failures: ClassVar[list[str]] = []

    @property
    def is_local(self) -> bool:
        return False

    def read(self, name: str, *, limit: int | None = None) -> bytes:  # noqa: ARG002
        if self.failures:
            raise OSError(self.failures.pop())
        return name.encode()


@pytest.mark.parametrize(
    ("failures", "outcome"),
    [
        (["AWS Error SLOW_DOWN"] * 3, b"a.jpg"),
        (["AWS Error SLOW_DOWN"] * 4, "unreadable"),
        (["AWS Error ACCESS_DENIED"], "unreadable"),
    ],
)
def test_a_passing_failure_of_s3_is_waited_out(
    failures: list[str], outcome: bytes | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_AGAIN_AFTER", (0.0, 0.01, 0.02))
    monkeypatch.setattr(Unsteady, "failures", list(failures))
    folder = Unsteady(LocalFileSystem(), "/nowhere", "s3://nowhere")
    ((_, content),) = read_ahead(folder, [Image("a.jpg", None, 1, None)])
    found = content.reason if isinstance(content, RejectedImageError) else content
    assert found == outcome
    assert Unsteady.failures == [], "what will not pass is not asked for again"


def test_the_marker_that_starts_a_batch_is_no_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "Plum").mkdir()
    for name in ("_READY", "notes", "Plum/_READY", "Plum/1.jpg"):
        (tmp_path / name).write_bytes(b"")
    listing = list_images(open_folder(str(tmp_path)))
    assert listing.table["path"].to_pylist() == ["Plum/1.jpg"]
    assert listing.ignored == Counter({"": 2}), "only the batch's own marker is passed over"
