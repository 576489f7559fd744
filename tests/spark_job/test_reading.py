"""Reading ahead: in order, within both limits, and each failure in its image's place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from threading import Barrier, Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_job import reading
from spark_job.errors import RejectedImageError
from spark_job.listing import Image, Listing
from spark_job.objects import ENTRIES, Content, Folder, LocalFolder, open_folder
from spark_job.reading import read_ahead, require_readable

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.reading import Read


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "images"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


def test_what_cannot_be_read_is_a_reject_in_its_place(folder: Folder) -> None:
    folder.write("a/1.jpg", b"one")
    folder.write("a/3.jpg", b"three")
    names = ["a/1.jpg", "a/2.jpg", "a", "a/3.jpg", "a/1.jpg/4.jpg", "a/nul\0.jpg"]
    found = list(read_ahead(folder, [Image(name, "a", None, None) for name in names]))
    assert [image.path for image, _ in found] == names
    outcomes = dict(zip(names, (outcome(content) for _, content in found), strict=True))
    assert outcomes["a/1.jpg"] == b"one"
    assert outcomes["a/3.jpg"] == b"three"
    assert outcomes["a/2.jpg"] == ("read", "missing")
    assert {outcomes["a"][0], outcomes["a/1.jpg/4.jpg"][0], outcomes["a/nul\0.jpg"][0]} == {"read"}


def test_a_raw_file_is_not_read(tmp_path: Path) -> None:
    """Nor looked for: there is none."""
    listed = [Image("a/x.DNG", "a", 30_000_000, "1"), Image("a/x.nef", "a", None, None)]
    for image, content in read_ahead(open_folder(str(tmp_path)), listed):
        assert outcome(content) == ("decode", "unsupported-format"), image


def test_images_that_are_tried_tell_their_sizes(folder: Folder) -> None:
    """As a manifest's, which tells none."""
    paths = [f"a/{number}.jpg" for number in range(100)]
    for number, path in enumerate(paths[:60]):
        folder.write(path, bytes(1000 + number % 2))
    nothing = pa.nulls(len(paths))
    found = pa.table([paths, nothing, nothing], names=ENTRIES.names)
    order = np.arange(len(paths), dtype=np.uint32)
    assert 1000 < require_readable(folder, Listing(found, order, Counter())) < 1001
    missing = Listing(found, order[60:], Counter())
    assert require_readable(folder, missing) == 0


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image("caf\\xe9.jpg", None, None, None), "bad-name"),
        (Image("caf\\xe9/1.jpg", "caf\\xe9", None, None), "bad-name"),
        (Image("caf\\xe9.jpg", None, 7, "1"), "missing"),
        (Image("caf\\x41.jpg", None, None, None), "missing"),
        (Image("cafe.jpg", None, None, None), "missing"),
    ],
)
def test_a_listed_name_that_was_not_utf8_is_no_missing_file(
    image: Image, reason: str, tmp_path: Path
) -> None:
    [(_, content)] = read_ahead(open_folder(str(tmp_path)), [image])
    assert outcome(content) == ("read", reason)


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


@dataclass(frozen=True)
class Watched(LocalFolder):
    """A folder that counts the files that were begun."""

    content: bytes = b"x"
    lock: ClassVar[Any] = Lock()
    begun: ClassVar[int] = 0

    def read_once(self, name: str, *, limit: int, version: str | None) -> Content:  # noqa: ARG002
        with self.lock:
            Watched.begun += 1
        return Content(self.content, None)


@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    readers=st.integers(1, 6),
    bundle=st.integers(1, 5),
    bundle_bytes=st.integers(1, 120),
    most=st.integers(4, 200),
    told=st.booleans(),
)
@settings(deadline=None)
def test_reading_ahead_keeps_order_and_both_limits(
    sizes: list[int], readers: int, bundle: int, bundle_bytes: int, most: int, *, told: bool
) -> None:
    listed = [Image(str(n), None, size if told else None, None) for n, size in enumerate(sizes)]
    Watched.begun = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "READERS", readers)
        patch.setattr(reading, "BUNDLE", bundle)
        patch.setattr(reading, "BUNDLE_BYTES", bundle_bytes)
        patch.setattr(reading, "READ_AHEAD_BYTES", most)
        taken = 0
        for image, content in read_ahead(Watched("", ""), listed):
            assert (image.path, content) == (str(taken), Content(b"x", None))
            with Watched.lock:
                waiting = Watched.begun - taken
            assert waiting <= readers * bundle
            if told:
                held = sizes[taken : taken + waiting]
                # The last bundle that was begun may stick out.
                assert sum(held) <= most + max(bundle_bytes, *sizes)
            taken += 1
    assert taken == len(sizes)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 300)), min_size=1, max_size=20),
    st.integers(0, 19),
    st.integers(0, 300),
)
def test_a_bundle_is_of_a_few_small_images_or_one(
    sizes: list[int | None], start: int, unknown: int
) -> None:
    start %= len(sizes)
    listed = [Image(str(n), None, size, None) for n, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BUNDLE_BYTES", 250)
        patch.setattr(reading, "READERS", 4)
        bundle, total = reading._bundle(listed, start, unknown)
        assert bundle == listed[start : start + len(bundle)]
        assert 1 <= len(bundle) <= reading.BUNDLE
        assert total == sum(unknown if one.bytes is None else one.bytes for one in bundle)
        assert total <= 250 or len(bundle) == 1
        following = listed[start + len(bundle) :][:1]
        most = 1 if start < reading.READERS else reading.BUNDLE  # a part begins with single ones
        for one in following if len(bundle) < most else []:
            assert total + (unknown if one.bytes is None else one.bytes) > 250


def test_images_of_unknown_size_are_taken_for_large_until_one_is_known() -> None:
    """A manifest of photographs of 30 MB must not be read 256 at a time."""
    listed = [Image(str(n), None, None, None) for n in range(400)]
    Watched.begun = 0
    contents = read_ahead(Watched("", "", bytes(20_000_000)), listed)
    next(contents)
    assert Watched.begun <= 4
    for _ in range(12):
        next(contents)
        assert Watched.begun <= 13 + 7, "seven of 20 MB are 128 MB"
    assert isinstance(contents, Generator)
    contents.close()


@dataclass(frozen=True)
class Together(LocalFolder):
    """A folder from which a file can be read only while 31 others are."""

    barrier: ClassVar[Barrier] = Barrier(32)

    def read_once(self, name: str, *, limit: int, version: str | None) -> Content:  # noqa: ARG002
        self.barrier.wait(20)
        return Content(name.encode(), None)


def test_large_images_are_read_side_by_side() -> None:
    listed = [Image(str(n), None, reading.BUNDLE_BYTES, None) for n in range(64)]
    contents = [content for _, content in read_ahead(Together("", ""), listed)]
    assert contents == [Content(image.path.encode(), None) for image in listed]


def test_reading_stops_when_the_caller_does() -> None:
    listed = [Image(str(n), None, 1, None) for n in range(10_000)]
    Watched.begun = 0
    contents = read_ahead(Watched("", ""), listed)
    next(contents)
    assert isinstance(contents, Generator)
    contents.close()
    assert Watched.begun <= reading.READERS * reading.BUNDLE


def outcome(read: Read) -> Any:
    if isinstance(read, RejectedImageError):
        assert read.detail
        return read.stage, read.reason
    assert isinstance(read, Content)
    return read.bytes
