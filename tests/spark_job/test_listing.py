"""What a batch holds: listed from a folder or named by a manifest, written and read by parts."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import boto3
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from spark_job import contract
from spark_job import listing as listings
from spark_job import s3 as s3_module
from spark_job.errors import RejectedImageError, UsageError
from spark_job.listing import (
    PART_IMAGES,
    SCHEMA,
    Image,
    Listing,
    label_of,
    list_images,
    listing_digest,
    plan_parts,
    read_manifest,
    read_part,
    require_folder,
    spread,
    write_listing,
)
from spark_job.objects import Entry, Folder, LocalFolder, open_folder
from spark_job.reading import read_ahead
from tests.spark_job.jobs import files_below

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    "a%2Fb/x%2Fy.jpg",
    "tilde/~x.jpg",
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
    table = all_rows(listing)
    assert listing.mean_bytes == (len(AWKWARD) - 1) / 2
    assert len(listing) == len(AWKWARD)
    assert table.schema == SCHEMA
    assert table["path"].to_pylist() == sorted(AWKWARD)
    labels = dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert labels["Apple Red 1/a photo.jpg"] == "Apple Red 1"
    assert labels["lemon/deeper/still/x.jpg"] == "still"
    assert labels["on top.jpg"] is None
    assert labels["cafe\u0301/decomposed e\u0301.jpg"] == "cafe\u0301"
    sizes = dict(zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True))
    assert sizes == {name: size for size, name in enumerate(AWKWARD)}
    versions = dict(zip(table["path"].to_pylist(), table["version"].to_pylist(), strict=True))
    for name in AWKWARD:
        assert versions[name] == version_of(folder, name)


def test_a_listed_name_leads_back_to_the_file(folder: Folder) -> None:
    for name in AWKWARD:
        folder.write(name, name.encode())
    for image, content in contents(folder, images(list_images(folder))):
        assert content == image.path.encode()


def test_other_files_are_counted_by_extension_and_hidden_ones_passed_over(folder: Folder) -> None:
    extensions = ["jpg", "JPEG", "Png", "webp", "AVIF", "bmp", "gif", "tif", "TIFF"]
    others = ["notes.txt", "x.jp2", "README", "list.csv", "list2.CSV"]
    hidden = [".DS_Store", "a/._x.jpg", ".thumbnails/x.jpg"]
    for name in [*(f"a/x.{extension}" for extension in extensions), *others, *hidden]:
        folder.write(name, b"1")
    listing = list_images(folder)
    assert len(listing) == len(extensions)
    assert listing.ignored == Counter({"csv": 2, "txt": 1, "jp2": 1, "": 1})


def test_a_changed_file_has_another_version(folder: Folder) -> None:
    folder.write("a/x.jpg", b"1")
    before = all_rows(list_images(folder))
    assert all_rows(list_images(folder)).equals(before)
    folder.write("a/x.jpg", b"2")
    assert all_rows(list_images(folder))["version"] != before["version"]


def test_on_a_disk_a_version_is_times_and_size(tmp_path: Path) -> None:
    open_folder(str(tmp_path)).write("a/x.jpg", b"12")
    os.utime(tmp_path / "a/x.jpg", ns=(1, 10**18 + 1))
    changed = (tmp_path / "a/x.jpg").stat().st_ctime_ns
    [image] = images(list_images(open_folder(str(tmp_path))))
    assert image == Image("a/x.jpg", "a", 2, f"1000000000000000001-{changed}-2")


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    open_folder(str(tmp_path)).write("album.jpg/x.jpg", b"1")
    assert paths(list_images(open_folder(str(tmp_path)))) == ["album.jpg/x.jpg"]


def test_an_empty_folder_has_no_images(tmp_path: Path) -> None:
    assert len(list_images(open_folder(str(tmp_path)))) == 0


def test_a_stray_key_with_an_empty_component_doubles_nothing(bucket: str, tmp_path: Path) -> None:
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for name in ("a/1.jpg", "a//2.jpg", "/3.jpg", "b/4.jpg"):
        client.put_object(Bucket=bucket, Key=f"{tmp_path.name}/{name}", Body=b"1")
    listing = list_images(folder)
    assert paths(listing) == ["/3.jpg", "a//2.jpg", "a/1.jpg", "b/4.jpg"]
    assert [image.label for image in images(listing)] == [None, None, "a", "b"]
    assert [content for _, content in contents(folder, images(listing))] == [b"1"] * 4


def test_a_missing_folder_and_a_file_are_refused(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere; check --images"):
        require_folder(folder / "nowhere")
    folder.write("x.jpg", b"1")
    with pytest.raises(UsageError, match=r"x\.jpg is a file; --images takes the folder"):
        require_folder(folder / "x.jpg")


def test_a_missing_bucket_is_refused(s3_endpoint: str) -> None:  # noqa: ARG001
    with pytest.raises(UsageError, match="s3://no-such-bucket"):
        require_folder(open_folder("s3://no-such-bucket/images"))


def test_a_name_that_is_not_utf8_rejects_its_file_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "Plum").mkdir(parents=True)
    (folder / os.fsdecode(b"\xe9t\xe9")).mkdir()
    for odd in (
        b"Plum/\xff\xfe.jpg",
        b"Plum/caf\xe9 1.JPG",
        b"Plum/notes.\xff",
        b"\xe9t\xe9/2.jpg",
    ):
        (folder / os.fsdecode(odd)).write_bytes(b"1")
    for name in ("Plum/3.jpg", "Plum/\\xff is no escape.jpg", "Plum/é.jpg"):
        (folder / name).write_bytes(b"1")
    listing = list_images(open_folder(str(folder)))
    assert {image.path: image.label for image in images(listing)} == {
        "Plum/3.jpg": "Plum",
        "Plum/\\xff is no escape.jpg": "Plum",
        "Plum/\\xff\\xfe.jpg": "Plum",
        "Plum/caf\\xe9 1.JPG": "Plum",
        "Plum/é.jpg": "Plum",
        "\\xe9t\\xe9/2.jpg": "\\xe9t\\xe9",
    }
    assert listing.ignored == Counter({"\\xff": 1}), "which a receipt can be written of"
    work = open_folder(str(tmp_path / "work"))
    write_listing(work, listing, [len(listing)])
    rejects = {}
    for image, content in contents(open_folder(str(folder)), read_part(work, 0)):
        if isinstance(content, RejectedImageError):
            assert (image.bytes, image.version) == (None, None)
            assert "not UTF-8" in content.detail
            assert "rename it" in content.detail
            rejects[image.path] = (content.stage, content.reason)
        else:
            assert content == b"1"
    assert rejects == dict.fromkeys(
        ("Plum/\\xff\\xfe.jpg", "Plum/caf\\xe9 1.JPG", "\\xe9t\\xe9/2.jpg"), ("read", "bad-name")
    )


def test_phones_pictures_and_raw_files_are_listed(folder: Folder) -> None:
    names = [f"a/x.{extension}" for extension in (*contract.HEIF, *contract.RAW)]
    for name in [*names, "b/IMG_1.HEIC", "b/IMG_2.Dng", "b/IMG_3.NEF", "b/c.nef", "b/dng"]:
        folder.write(name, b"1")
    listing = list_images(folder)
    assert len(listing) == len(names) + 4
    assert listing.ignored == Counter({"": 1})
    assert listing.raw == Counter(contract.RAW) + Counter({"dng": 1, "nef": 2})


def test_raw_files_of_a_manifest_are_counted_too(tmp_path: Path) -> None:
    names = ["a/1.DNG", "a/2.dng", "a/line\nbreak.cr2", "a/3.dng.jpg", "a.dng/4", "5.jpg"]
    manifest = write_manifest(tmp_path / "m.parquet", names)
    listing = read_manifest(manifest, open_folder(str(tmp_path)))
    assert listing.raw == Counter({"dng": 2, "cr2": 1})
    nothing = read_manifest(write_manifest(tmp_path / "n.csv", []), open_folder(str(tmp_path)))
    assert nothing.raw == Counter()


@pytest.mark.parametrize("kind", ["csv", "parquet", "CSV"])
def test_a_manifest_names_the_images(folder: Folder, tmp_path: Path, kind: str) -> None:
    manifest = write_manifest(tmp_path / f"manifest.{kind}", AWKWARD)
    listing = read_manifest(manifest, folder)
    table = all_rows(listing)
    assert listing.mean_bytes == 0
    assert table.schema == SCHEMA
    assert table["path"].to_pylist() == sorted(AWKWARD)
    assert table["bytes"].null_count == table["version"].null_count == len(AWKWARD)
    for name in AWKWARD:
        folder.write(name, name.encode())
    for image, content in contents(folder, images(listing)):
        assert content == image.path.encode()


def test_a_manifest_may_be_in_s3_and_give_whole_uris_and_other_columns(bucket: str) -> None:
    folder = open_folder(f"s3://{bucket}/manifest/images")
    lines = ["label,path", "x,b/1.jpg", f"y,{folder.uri}/a/2.jpg", "", '"z","c/with, comma.jpg"']
    open_folder(f"s3://{bucket}/manifest").write("m.csv", "\n".join(lines).encode("utf-8-sig"))
    table = all_rows(read_manifest(f"s3://{bucket}/manifest/m.csv", folder))
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


def test_a_manifest_without_rows_names_no_images(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\n")
    assert len(read_manifest(str(tmp_path / "m.csv"), open_folder(str(tmp_path)))) == 0


def test_a_manifest_lies_in_the_working_folder_where_it_names_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path / "m.csv", ["a/x.jpg"])
    monkeypatch.chdir(tmp_path)
    assert paths(read_manifest("m.csv", open_folder("photographs"))) == ["a/x.jpg"]


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


def test_sizes_and_versions_do_not_depend_on_how_folders_nest(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    for name in ("b/1.jpg", "a/2.jpg", "a.jpg", "a b/3.jpg", "a/b/4.jpg"):
        folder.write(name, b"1")
    found = paths(list_images(folder))
    assert len(found) == 5
    assert all(first < second for first, second in pairwise(found))


def test_links_are_followed_and_broken_ones_become_rejects(tmp_path: Path) -> None:
    """So that what a user sees in the folder is accounted for."""
    open_folder(str(tmp_path)).write("a/x.jpg", b"12")
    (tmp_path / "a" / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "a" / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "a" / "notes").symlink_to("nowhere")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to("a")
    folder = open_folder(str(tmp_path))
    listing = list_images(folder)
    assert paths(listing) == [
        f"{at}/{name}.jpg" for at in "ab" for name in ("broken", "itself", "x")
    ]
    assert listing.ignored == Counter({"": 2})
    assert listing.mean_bytes == 2
    for image, content in contents(folder, images(listing)):
        if image.path.endswith("x.jpg"):
            assert content == b"12"
        else:
            assert (image.bytes, image.version) == (None, None)
            assert isinstance(content, RejectedImageError)
            reason = "missing" if "broken" in image.path else "unreadable"
            assert (content.stage, content.reason) == ("read", reason)


def test_a_name_with_a_line_break_is_one_name(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    folder.write("a\nb/x\n.jpg", b"1")
    folder.write("a\nb/x.jp\ng", b"1")
    listing = list_images(folder)
    assert images(listing)[0].label == "a\nb"
    assert paths(listing) == ["a\nb/x\n.jpg"]
    assert [content for _, content in contents(folder, images(listing))] == [b"1"]


@pytest.mark.parametrize(
    ("path", "label"),
    [("x.jpg", None), ("/x.jpg", None), ("a/x.jpg", "a"), ("a/b/x.jpg", "b"), ("a//x.jpg", None)],
)
def test_a_label_is_the_name_of_the_folder_right_above(path: str, label: str | None) -> None:
    assert label_of(path) == label


@dataclass(frozen=True)
class Given(LocalFolder):
    """A folder that is listed as told."""

    names: tuple[str, ...] = ()

    def entries(self) -> Iterator[Entry]:
        return (Entry(name, len(name), f"v{name}") for name in self.names)


KEYS = st.lists(st.text("aé/\U0001f34e", max_size=3).map(lambda text: f"{text}.jpg"), max_size=25)


@given(KEYS, st.integers(1, 9))
@settings(deadline=None)
def test_whatever_a_store_lists_comes_once_and_in_the_order_of_paths(
    names: list[str], block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "BLOCK", block)
        listing = list_images(Given("x", "/x", tuple(names)))
    expected = sorted({name for name in names if "/." not in f"/{name}"})
    assert images(listing) == [
        Image(name, label_of(name), len(name), f"v{name}") for name in expected
    ]
    assert len(listing) == len(expected)
    assert sum(listing.ignored.values()) == 0


@given(st.integers(0, 30), st.integers(1, 4), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_rows_are_cut_out_anywhere(count: int, size: int, block: int, random: Any) -> None:
    names = [f"a/{number:02d}.jpg" for number in range(count)]
    shuffled = random.sample(names, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "BLOCK", block)
        listing = list_images(Given("x", "/x", tuple(shuffled)))
    cut = [listing.rows(start, size)["path"].to_pylist() for start in range(0, count, size)]
    assert [name for rows in cut for name in rows] == names


@pytest.mark.parametrize("per_file", [1, 2, 3, 1000])
def test_a_written_listing_is_read_part_by_part(
    folder: Folder, per_file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "FILE_PARTS", per_file)
    names = tuple(f"{label}/{number}.jpg" for label in ("b", "a") for number in range(5))
    listing = list_images(Given("x", "/x", names))
    parts = [4, 3, 1, 1, 1]
    work = folder / "work"
    digest = write_listing(work, listing, parts)
    found = [read_part(work, part) for part in (0, 4, 1, 3, 2)]
    assert [len(part) for part in found] == [4, 1, 3, 1, 1]
    in_order = [image for number in (0, 2, 4, 3, 1) for image in found[number]]
    assert in_order == images(listing)
    assert len((work / "listing").files()) == -(-len(parts) // per_file)
    assert digest == listing_digest((image.path, image.version) for image in reversed(in_order))


def test_a_written_listing_is_a_table_for_anyone(tmp_path: Path) -> None:
    listing = list_images(Given("x", "/x", ("a/2.jpg", "1.jpg", "a/3.jpg")))
    write_listing(open_folder(str(tmp_path)), listing, [2, 1])
    assert files_below(tmp_path) == {"listing/00000.parquet"}
    assert parquet.read_table(tmp_path / "listing").equals(all_rows(listing))


def test_a_listings_digest_tells_paths_and_versions_apart() -> None:
    rows: list[list[tuple[str, str | None]]] = [
        [],
        [("a", "1")],
        [("a", "2")],
        [("a", None)],
        [("b", "1")],
        [("a1", "")],
        [("a", "1"), ("a", "1")],
        [("a", "2"), ("b", "1")],
        [("a", "1"), ("b", "2")],
    ]
    assert len({listing_digest(one) for one in rows}) == len(rows)
    assert listing_digest([("a", "1"), ("b", "2")]) == listing_digest([("b", "2"), ("a", "1")])


@given(st.integers(1, 200_000), st.integers(1, 512))
def test_parts_hold_all_images_and_keep_every_slot_busy_to_the_end(count: int, slots: int) -> None:
    parts = plan_parts(count, slots)
    assert sum(parts) == count
    assert all(1 <= size <= PART_IMAGES for size in parts)
    assert parts == sorted(parts, reverse=True), "the large ones first"
    assert len(parts) >= min(slots, count / 64), "no slot is idle while images wait"
    # The slots end together: the last round is of small parts.
    assert parts[-1] <= max(64, -(-count // slots))
    # Few tasks: each costs a start and a file.
    assert len(parts) <= count / PART_IMAGES + slots * 12 + 1


def test_parts_of_large_photographs_are_short() -> None:
    parts = plan_parts(2_000, 2, 3_500_000)
    assert sum(parts) == 2_000
    assert parts[0] == 73
    assert set(plan_parts(5, 2, 1e9)) == {1}


@pytest.mark.parametrize(
    ("mean_bytes", "seconds", "largest"),
    [(4_000, 0.010, 768), (4_000, 0.1, 99), (3_500_000, 0.010, 68), (0, 0.02, 500), (0, 60, 1)],
)
def test_a_part_takes_ten_seconds_whatever_the_network(
    mean_bytes: float, seconds: float, largest: int
) -> None:
    parts = plan_parts(20_000, 2, mean_bytes, seconds)
    assert (sum(parts), parts[0]) == (20_000, largest)
    assert all(size * (mean_bytes / 25.6e6 + seconds) <= 10 for size in parts if size > 1)


def all_rows(listing: Listing) -> pa.Table:
    return listing.rows(0, len(listing))


def paths(listing: Listing) -> list[str]:
    found: list[str] = all_rows(listing)["path"].to_pylist()
    return found


def images(listing: Listing) -> list[Image]:
    return [Image(**row) for row in all_rows(listing).to_pylist()]


def version_of(folder: Folder, name: str) -> str:
    """The version by the store's own account."""
    if isinstance(folder, LocalFolder):
        status = os.stat(f"{folder.path}/{name}")  # noqa: PTH116
        return f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_size}"
    bucket, _, prefix = folder.uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    return str(client.head_object(Bucket=bucket, Key=f"{prefix}/{name}")["ETag"])


def write_manifest(path: Path, names: list[str]) -> str:
    table = pa.table({"label": ["x"] * len(names), "path": names})
    if path.suffix.lower() == ".parquet":
        parquet.write_table(table, path)
    else:
        from pyarrow import csv

        csv.write_csv(table, path)
    return str(path)


def test_the_marker_that_starts_a_batch_is_no_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "Plum").mkdir()
    for name in ("_READY", "notes", "Plum/_READY", "Plum/1.jpg"):
        (tmp_path / name).write_bytes(b"")
    listing = list_images(open_folder(str(tmp_path)))
    assert paths(listing) == ["Plum/1.jpg"]
    assert listing.ignored == Counter({"": 2}), "only the batch's own marker is passed over"


def test_what_follows_an_odd_key_is_listed_once(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "LIST_AT_ONCE", 4)
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}")
    for number in range(10):
        folder.write(f"a/{number:02}.nef", b"1")
        folder.write(f"a/{number:02}.txt", b"1")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket=bucket, Key=f"{tmp_path.name}/a/09z//odd.jpg", Body=b"1")
    listing = list_images(folder)
    assert (len(listing), listing.raw, listing.ignored) == (11, {"nef": 10}, {"txt": 10})


@given(st.integers(0, 400), st.integers(1, 40))
def test_parts_that_run_together_lie_far_apart(number: int, slots: int) -> None:
    planned = list(range(1, number + 1))  # sizes by which they are known again
    sizes, order = spread(planned, slots)
    assert [sizes[part] for part in order] == planned, "they run in the planned order of sizes"
    assert sorted(order) == list(range(number))
    for start in range(0, number, slots):
        together = sorted(order[start : start + slots])
        assert all(later - part >= number // slots for part, later in pairwise(together))


def contents(folder: Folder, listed: list[Image]) -> Iterator[tuple[Image, bytes | Exception]]:
    """Read images: their bytes, or why there are none."""
    for image, read in read_ahead(folder, listed):
        yield image, read if isinstance(read, Exception) else read.bytes
