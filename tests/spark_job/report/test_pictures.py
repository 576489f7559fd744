"""The pictures of a page: made in order, within limits of time and size, and no more than once."""

from __future__ import annotations

import base64
import io
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from spark_job.errors import RejectedImageError
from spark_job.objects import LocalFolder, open_folder
from spark_job.report import pictures as room
from spark_job.report.pictures import READERS, Wanted, make_gallery
from spark_job.report.thumbnails import thumbnail
from tests.spark_job.photographs import encoded, fruit, photograph

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.objects import Folder

AT_ONCE = 4 * READERS
"""Pictures between two looks at the limits."""


@pytest.fixture
def images(tmp_path: Path) -> Folder:
    for number in range(100):
        (tmp_path / f"{number:03d}.jpg").write_bytes(encoded(fruit(number, 200), "JPEG"))
    return open_folder(str(tmp_path))


def names(number: int) -> list[str]:
    return [f"{at:03d}.jpg" for at in range(number)]


def opened(uri: str) -> Image.Image:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_each_is_made_once_as_large_as_it_was_wanted_first(images: Folder) -> None:
    wanted = [Wanted("001.jpg", 160), Wanted("002.jpg"), Wanted("001.jpg"), Wanted("002.jpg", 160)]
    gallery = make_gallery(images, wanted)
    sizes = {path: max(opened(uri).size) for path, uri in gallery.uris.items()}
    assert sizes == {"001.jpg": 160, "002.jpg": 96}
    assert (gallery.missing, gallery.left) == (0, 0)


def test_they_are_in_the_order_in_which_they_were_wanted(images: Folder) -> None:
    wanted = names(100)[::-1]
    assert list(make_gallery(images, map(Wanted, wanted)).uris) == wanted


def test_where_there_is_no_more_room_the_first_ones_are_there(images: Folder) -> None:
    every = make_gallery(images, map(Wanted, names(100)))
    sizes = [len(uri) for uri in every.uris.values()]
    limit = sum(sizes[:50])
    some = make_gallery(images, map(Wanted, names(100)), most_bytes=limit)
    assert list(some.uris)[:50] == names(50)
    assert sum(map(len, some.uris.values())) <= limit
    assert len(some.uris) + some.left == 100


def test_one_that_is_too_large_does_not_keep_out_a_smaller_one(
    images: Folder, tmp_path: Path
) -> None:
    (tmp_path / "big.jpg").write_bytes(photograph((2000, 2000)))
    small = make_gallery(images, [Wanted("000.jpg")])
    limit = len(small.uris["000.jpg"]) + 10
    gallery = make_gallery(images, [Wanted("big.jpg", 1000), Wanted("000.jpg")], most_bytes=limit)
    assert list(gallery.uris) == ["000.jpg"]
    assert gallery.left == 1


def test_when_the_time_is_up_no_more_are_begun(
    images: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LocalFolder.read

    def slow(self: LocalFolder, name: str, *, limit: int | None = None) -> bytes:
        sleep(0.1)
        return read(self, name, limit=limit)

    monkeypatch.setattr(LocalFolder, "read", slow)
    started = monotonic()
    gallery = make_gallery(images, map(Wanted, names(100)), seconds=0.2)
    assert monotonic() - started < 3
    assert list(gallery.uris) == names(AT_ONCE)
    assert gallery.left == 100 - AT_ONCE


def test_what_is_gone_or_cannot_be_decoded_is_counted_and_passed_over(
    images: Folder, tmp_path: Path
) -> None:
    (tmp_path / "notes.jpg").write_text("to do: photograph more lemons")
    (tmp_path / "huge.png").write_bytes(encoded(Image.new("1", (10_000, 10_000))))
    wanted = [Wanted(name) for name in ("gone.jpg", "notes.jpg", "huge.png", "000.jpg")]
    wanted.append(Wanted("gone too.jpg", expected=False))
    gallery = make_gallery(images, wanted)
    assert list(gallery.uris) == ["000.jpg"]
    assert (gallery.missing, gallery.left) == (3, 0)


def test_of_a_file_that_ends_too_soon_its_beginning_is_shown(
    images: Folder, tmp_path: Path
) -> None:
    content = photograph((400, 400))
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    gallery = make_gallery(images, [Wanted("half.jpg")])
    pixels = opened(gallery.uris["half.jpg"]).convert("L")
    assert len(set(pixels.crop((0, 0, 96, 30)).tobytes())) > 20
    with pytest.raises(RejectedImageError, match="truncated"):
        thumbnail(content[: len(content) // 2], 96)  # elsewhere it is none, now as before


def test_of_one_that_was_too_large_a_smaller_scale_is_shown(
    images: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wanted, "max_pixels", 1_000_000)
    (tmp_path / "large.jpg").write_bytes(photograph((2000, 1000)))
    assert make_gallery(images, [Wanted("large.jpg")]).missing == 0
    refused = make_gallery(images, [Wanted("large.jpg", max_pixels=1_000_000)])
    shown = make_gallery(images, [Wanted("large.jpg", max_pixels=room.MOST_PIXELS)])
    assert (refused.missing, list(shown.uris)) == (1, ["large.jpg"])
