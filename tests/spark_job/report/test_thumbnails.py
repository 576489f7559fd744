"""Thumbnails: the picture that a person would see, small, from any file that the job takes."""

from __future__ import annotations

import io
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from spark_job.errors import RejectedImageError
from spark_job.report.thumbnails import thumbnail
from tests.spark_job import profiles
from tests.spark_job.jobs import REPOSITORY
from tests.spark_job.photographs import encoded, fruit, photograph

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE = 96
GOLDEN = sorted((REPOSITORY / "tests/spark_job/networks/golden").glob("*.*"))
FILES = [path for path in GOLDEN if path.suffix not in (".npy", ".json")]


def opened(content: bytes, side: int = SIDE) -> Image.Image:
    image = Image.open(io.BytesIO(thumbnail(content, side)))
    assert image.format == "WEBP"
    return image


def seen(content: bytes, at: tuple[int, int]) -> list[int]:
    """The colour of a pixel of a thumbnail."""
    pixels = np.asarray(opened(content).convert("RGB"))
    return [int(value) for value in pixels[at[1], at[0]]]


def near(found: list[int], expected: tuple[int, int, int], within: int = 12) -> bool:
    """Whether it is that colour, but for what a lossy format makes of it."""
    return all(abs(one - other) <= within for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_each_format_that_the_job_takes_has_one(file: Path) -> None:
    assert len(FILES) >= 10
    image = opened(file.read_bytes())
    assert max(image.size) <= SIDE
    assert image.mode == "RGB"
    assert not image.getexif(), "where a picture was taken is nobody's business"
    assert "icc_profile" not in image.info


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((400, 300), (96, 72)),
        ((300, 400), (72, 96)),
        ((96, 96), (96, 96)),
        ((40, 30), (40, 30)),
        ((5000, 3), (96, 1)),
        ((1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_its_longer_side_is_what_was_asked_for_and_nothing_is_enlarged(
    size: tuple[int, int], expected: tuple[int, int], kind: str
) -> None:
    content = encoded(Image.new("RGB", size, "red"), kind)
    assert opened(content).size == expected
    assert near(seen(content, (0, 0)), (254, 0, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright(orientation: int) -> None:
    """Whichever way the camera was held: what is stored is turned to the same picture."""
    picture = Image.new("RGB", (400, 200), "white")
    picture.paste("red", (0, 0, 200, 100))
    back: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(back[orientation](picture), "JPEG", quality=95, exif=exif)
    assert opened(content).size == (96, 48)
    for at, colour in (((10, 8), (254, 0, 0)), ((85, 8), (255,) * 3), ((10, 40), (255,) * 3)):
        assert near(seen(content, at), colour), at


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (200, 200), (0, 0, 255, 0))
    image.paste((0, 0, 255, 255), (0, 0, 100, 200))
    content = encoded(image)
    assert near(seen(content, (80, 50)), (255, 255, 255))
    assert near(seen(content, (20, 50)), (0, 0, 255))


@pytest.mark.parametrize("size", [(60, 40), (600, 400)])
def test_its_colours_are_srgb(size: tuple[int, int]) -> None:
    colour = (200, 120, 90)
    wide = encoded(Image.new("RGB", size, colour), icc_profile=profiles.wide_gamut())
    red, green, blue = (round(float(one)) for one in profiles.wide_gamut_to_srgb(colour))
    assert near(seen(wide, (30, 20)), (red, green, blue), within=6)
    assert not near([red, green, blue], colour), "or the test shows nothing"
    inks = Image.new("CMYK", size, (255, 0, 0, 0))
    printed = encoded(inks, "JPEG", quality=95, icc_profile=profiles.inks())
    assert near(seen(printed, (30, 20)), (254, 0, 0), within=20)


@pytest.mark.parametrize("size", [(4000, 3000), (12_000, 1_000)])
def test_of_12_megapixels_a_jpeg_is_decoded_in_part(size: tuple[int, int]) -> None:
    content = photograph(size)

    def fastest(work: Callable[[], Any]) -> float:
        took = []
        for _ in range(3):
            start = process_time()
            work()
            took.append(process_time() - start)
        return min(took)

    whole = fastest(lambda: Image.open(io.BytesIO(content)).load())
    assert fastest(lambda: thumbnail(content, SIDE)) < whole * 0.7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"to do: photograph more lemons", "not-an-image"),
        (encoded(fruit(1, 400))[:2000], "truncated"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "unsupported-format"),
    ],
)
def test_what_is_no_image_is_rejected_as_by_the_job(content: bytes, reason: str) -> None:
    with pytest.raises(RejectedImageError) as rejected:
        thumbnail(content, SIDE)
    assert (rejected.value.stage, rejected.value.reason) == ("decode", reason)


def test_a_larger_image_than_allowed_is_not_decoded() -> None:
    content = encoded(Image.new("1", (10_000, 10_000)))
    with pytest.raises(RejectedImageError, match="too-large"):
        thumbnail(content, SIDE)
    assert opened(encoded(fruit(1, 100))).size == (96, 96)
    with pytest.raises(RejectedImageError, match="too-large"):
        thumbnail(encoded(fruit(1, 100)), SIDE, max_pixels=9_999)
