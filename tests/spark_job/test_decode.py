"""Pixels of images that each test makes, so that what must come out is known."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.networks import load_card
from tests.spark_job.photographs import encoded, fruit

ORIENTATION = 0x0112
CARD = load_card("mobilenet_v2")
SIDE = 224
LIMIT = 64_000_000


def pixels_of(content: bytes) -> np.ndarray[Any, Any]:
    return decode(content, CARD, max_pixels=LIMIT).pixels.astype(int)


def plain(colour: Any, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new(mode, size, colour)


def assert_plain(content: bytes, colour: tuple[int, int, int], *, within: int = 0) -> None:
    apart = np.abs(pixels_of(content) - np.array(colour))
    assert apart.max() <= within, f"{apart.max()} from {colour}"


def quarters() -> Image.Image:
    """Red, green / blue, white: every orientation looks different."""
    image = Image.new("RGB", (64, 64), "white")
    image.paste("red", (0, 0, 32, 32))
    image.paste((0, 255, 0), (32, 0, 64, 32))
    image.paste("blue", (0, 32, 32, 64))
    return image


def assert_quarters(content: bytes, *, within: int = 0) -> None:
    pixels = pixels_of(content)
    middles = [pixels[56, 56], pixels[56, 168], pixels[168, 56], pixels[168, 168]]
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    assert np.abs(np.array(middles) - np.array(expected)).max() <= within, middles


# How a camera stores a picture that is to be shown upright, by EXIF orientation.
STORED = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


def turned(orientation: int) -> Image.Image:
    image = quarters()
    for method in STORED[orientation]:
        image = image.transpose(method)
    return image


def test_an_rgb_image_of_the_right_size_is_untouched() -> None:
    image = fruit(3, SIDE)
    assert np.array_equal(pixels_of(encoded(image)), np.asarray(image))


@pytest.mark.parametrize("size", [(100, 100), (640, 480), (33, 500), (1, 1), (1, 3000)])
def test_any_size_becomes_224_by_pillows_default_without_cropping(size: tuple[int, int]) -> None:
    image = fruit(1, 300).resize(size)
    decoded = decode(encoded(image), CARD, max_pixels=LIMIT)
    assert np.array_equal(decoded.pixels, np.asarray(image.resize((SIDE, SIDE))))
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height) == size


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
    ],
)
def test_lossless_formats_give_the_same_pixels(kind: str, options: dict[str, Any]) -> None:
    assert_quarters(encoded(quarters(), kind, **options))


@pytest.mark.parametrize("options", [{"quality": 95}, {"quality": 95, "progressive": True}])
def test_jpeg(options: dict[str, Any]) -> None:
    assert_quarters(encoded(quarters(), "JPEG", **options), within=3)


def test_greyscale_gives_three_equal_channels() -> None:
    for kind, within in (("PNG", 0), ("JPEG", 1)):
        assert_plain(encoded(plain(77, "L"), kind), (77, 77, 77), within=within)


def test_bilevel_is_black_and_white() -> None:
    assert_plain(encoded(plain(1, "1")), (255, 255, 255))
    assert_plain(encoded(plain(0, "1"), "TIFF"), (0, 0, 0))


def test_a_palette_is_looked_up() -> None:
    assert_quarters(encoded(quarters().convert("P", palette=Image.Palette.ADAPTIVE)))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str) -> None:
    inks = plain((0, 255, 255, 0), "CMYK")
    assert_plain(encoded(inks, kind, quality=95), (255, 0, 0), within=3)
    assert_plain(encoded(plain((0, 0, 0, 0), "CMYK"), kind), (255, 255, 255), within=1)
    assert_plain(encoded(plain((0, 0, 0, 255), "CMYK"), kind), (0, 0, 0), within=1)


def test_ycbcr_and_lab_tiff_become_rgb() -> None:
    assert_plain(encoded(plain((200, 30, 60)).convert("YCbCr"), "TIFF"), (200, 30, 60), within=3)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(plain((200, 30, 60)), *profiles, outputMode="LAB")
    assert lab is not None
    assert_plain(encoded(lab, "TIFF"), (200, 30, 60), within=6)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (257 * 100, 100), (30_000, 117), (65535, 255)]
)
def test_16_bit_greyscale_is_scaled_and_not_clipped(kind: str, value: int, expected: int) -> None:
    image = Image.fromarray(np.full((30, 40), value, np.uint16))
    assert_plain(encoded(image, kind), (expected,) * 3)


def test_big_endian_16_bit_greyscale() -> None:
    image = Image.frombytes("I;16B", (2, 2), struct.pack(">4H", *[257 * 9] * 4))
    assert_plain(encoded(image, "TIFF"), (9, 9, 9))


def test_16_bit_rgb_png_is_scaled() -> None:
    row = b"\0" + struct.pack(">3H", 257 * 10, 257 * 20, 257 * 30) * 2
    content = png(2, 2, 16, 2, row * 2)
    assert_plain(content, (10, 20, 30))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_greyscale_has_no_agreed_range(mode: str) -> None:
    assert reason(encoded(plain(7, mode), "TIFF")) == ("decode", "unsupported-pixels")


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (200, 100, 0, 255), (200, 100, 0)),
        ("RGBA", (200, 100, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 102), (153, 153, 153)),
        ("LA", (0, 51), (204, 204, 204)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_on_white(
    mode: str, colour: Any, expected: tuple[int, int, int], kind: str
) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert_plain(encoded(plain(colour, mode), kind, **options), expected, within=1)


@pytest.mark.parametrize("size", [(1500, 1501), (2_000_000, 1), (3, 700_000)])
def test_large_images_are_treated_like_small_ones(size: tuple[int, int]) -> None:
    """What is done piece by piece to save memory equals what Pillow does to the whole."""
    random = np.random.default_rng(4)
    small = random.integers(0, 256, (5, 7, 4), np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)
    white = Image.new("RGBA", size, "white")
    expected = Image.alpha_composite(white, image).convert("RGB").resize((SIDE, SIDE))
    assert np.array_equal(pixels_of(encoded(image, compress_level=1)), np.asarray(expected))
    wide = np.asarray(image.getchannel("A"), np.uint16) * 257
    grey = image.getchannel("A").convert("RGB").resize((SIDE, SIDE))
    found = pixels_of(encoded(Image.fromarray(wide), compress_level=1))
    assert np.array_equal(found, np.asarray(grey))


def test_a_transparent_palette_entry_or_colour_key_is_white() -> None:
    palette = quarters().convert("P", palette=Image.Palette.ADAPTIVE)
    blue = palette.getpixel((10, 50))
    for kind in ("PNG", "GIF"):
        pixels = pixels_of(encoded(palette, kind, transparency=blue))
        assert (pixels[168, 56] == 255).all(), "what was blue shows the background"
        assert tuple(pixels[56, 56]) == (255, 0, 0)
    assert_plain(encoded(plain((1, 2, 3)), transparency=(1, 2, 3)), (255, 255, 255))
    assert_plain(encoded(plain(9, "L"), transparency=9), (255, 255, 255))


def test_the_first_frame_of_an_animation_counts() -> None:
    others = [plain("blue"), plain("white")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(plain("red"), kind, save_all=True, append_images=others, **options)
        assert_plain(content, (255, 0, 0))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    assert_quarters(encoded(turned(orientation), kind, exif=exif, **options), within=3)


def test_width_and_height_are_those_of_the_upright_image() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encoded(plain("red", size=(40, 30)), "JPEG", exif=exif)
    decoded = decode(content, CARD, max_pixels=LIMIT)
    assert (decoded.width, decoded.height) == (30, 40)
    assert decoded.format == "JPEG", "turning it has not lost that"


def test_a_network_has_the_size_and_proportions_that_its_card_says() -> None:
    wide = replace(CARD, width=320, height=96)
    image = fruit(1, 300)
    pixels = decode(encoded(image), wide, max_pixels=LIMIT).pixels
    assert pixels.shape == (96, 320, 3)
    assert np.array_equal(pixels, np.asarray(image.resize((320, 96))))


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_pixels_are_rgb_whatever_the_network_takes(channels: str) -> None:
    content = encoded(plain((200, 100, 0)))
    pixels = decode(content, replace(CARD, channels=channels), max_pixels=LIMIT).pixels
    assert tuple(pixels[0, 0]) == (200, 100, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_the_format_is_what_the_file_is(kind: str) -> None:
    assert decode(encoded(fruit(1), kind), CARD, max_pixels=LIMIT).format == kind


def test_a_jpeg_of_several_pictures_is_its_first() -> None:
    content = encoded(plain("red"), "MPO", save_all=True, append_images=[plain("blue")])
    assert content.startswith(b"\xff\xd8\xff"), "a JPEG to everybody else"
    assert_plain(content, (255, 0, 0), within=3)
    assert decode(content, CARD, max_pixels=LIMIT).format == "MPO"


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert_quarters(encoded(quarters(), "JPEG", quality=95, exif=exif), within=3)


def test_orientation_counts_although_another_tag_is_broken() -> None:
    """A tag that can be read and not be written again says nothing about the orientation."""
    description_as_a_number = struct.pack("<HHII", 0x010E, 12, 1, 38)
    tags = description_as_a_number + struct.pack("<HHII", ORIENTATION, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4) + struct.pack("<d", 1.5)
    assert_quarters(encoded(turned(6), "JPEG", quality=95, exif=exif), within=3)


def test_exif_that_is_no_exif_is_ignored() -> None:
    for rubbish in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(range(200))):
        assert_quarters(encoded(quarters(), "JPEG", quality=95, exif=rubbish), within=3)


def test_a_colour_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_quarters(encoded(quarters(), icc_profile=profile))
    assert_quarters(encoded(quarters(), icc_profile=b"no profile"))


def test_zero_bytes() -> None:
    assert reason(b"") == ("decode", "empty")


@pytest.mark.parametrize(
    "content", [b"x", b"<html>", bytes(1000), b"\xff\xd8\xff", "りんご".encode() * 50, b"GIF89a"]
)
def test_what_is_not_an_image(content: bytes) -> None:
    assert reason(content) in {
        ("decode", "not-an-image"),
        ("decode", "corrupt"),
        ("decode", "truncated"),
    }


def test_text_is_not_called_a_corrupt_image() -> None:
    assert reason(b"path,label\na.jpg,a\n") == ("decode", "not-an-image")


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF", "ICO", "PPM", "TGA"])
def test_an_image_of_another_format_is_named(kind: str) -> None:
    content = encoded(fruit(1), kind)
    with pytest.raises(RejectedImageError) as rejected:
        decode(content, CARD, max_pixels=LIMIT)
    assert rejected.value.reason == "unsupported-format"
    assert kind in rejected.value.detail


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_rejected_and_never_half_an_image(kind: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (80, 80, 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    stage, why = reason(content[: int(len(content) * share)])
    assert stage == "decode"
    assert why in {"truncated", "corrupt", "not-an-image"}
    if kind in {"JPEG", "PNG", "BMP"}:
        assert why == "truncated"


def test_flipped_bits_never_do_more_than_reject() -> None:
    random = np.random.default_rng(2)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        content = encoded(fruit(5), kind)
        for _ in range(60):
            broken = bytearray(content)
            for position in random.integers(0, len(broken), 6):
                broken[position] ^= 1 << int(random.integers(8))
            with suppress(RejectedImageError):
                assert decode(bytes(broken), CARD, max_pixels=1_000_000).pixels.shape == (
                    SIDE,
                    SIDE,
                    3,
                )


def test_trailing_bytes_are_ignored() -> None:
    assert_quarters(encoded(quarters()) + bytes(4096))


def test_the_pixel_limit_counts_before_decoding() -> None:
    image = encoded(plain("red", size=(100, 50)))
    assert decode(image, CARD, max_pixels=5000).width == 100
    assert reason(image, max_pixels=4999) == ("decode", "too-large")


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_a_bomb_costs_nothing(side: int) -> None:
    """A few hundred bytes that claim gigabytes of pixels."""
    content = png(side, side, 8, 2, bytes(100))
    assert reason(content) == ("decode", "too-large")


def test_a_bomb_in_a_gif_frame_larger_than_its_screen() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    assert reason(screen + frame) == ("decode", "too-large")


def reason(content: bytes, *, max_pixels: int = LIMIT) -> tuple[str, str]:
    with pytest.raises(RejectedImageError) as rejected:
        decode(content, CARD, max_pixels=max_pixels)
    assert rejected.value.detail
    assert "at 0x" not in rejected.value.detail, "no memory address: the tables are reproducible"
    return rejected.value.stage, rejected.value.reason


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file by hand, of any claimed size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return file.getvalue() + b"".join(chunk(name, body) for name, body in chunks)
