"""Pixels of images that each test makes, so that what must come out is known."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.formats import FORMATS
from tests.spark_job.files import png, tiff
from tests.spark_job.photographs import encoded, fruit, photograph
from tests.spark_job.pixels import CARD, LIMIT, SIDE, assert_plain, pixels_of, plain, reason

if TYPE_CHECKING:
    from spark_job.networks import Card

ORIENTATION = 0x0112


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


KINDS_OF_16_BITS = {
    "grey": (0, 1, 1),
    "RGB": (2, 3, 2),
    "grey with alpha": (4, 2, 1),
    "RGBA": (6, 4, 2),
}
"""PNG's number for each kind of pixel, its channels, and TIFF's photometric interpretation."""


def noise16(channels: int) -> np.ndarray[Any, Any]:
    """Values all over 16 bits, half of them black or white: uint16 [30, 40, channels]."""
    random = np.random.default_rng(channels)
    values = random.integers(0, 65536, (30, 40, channels), np.uint16)
    values[::2] = random.choice(
        np.array([0, 255, 256, 65279, 65280, 65535], np.uint16), (15, 40, channels)
    )
    return values


class Test16Bits:
    @pytest.mark.parametrize("kind", KINDS_OF_16_BITS)
    def test_of_a_png_are_their_upper_eight(self, kind: str) -> None:
        number, channels, _ = KINDS_OF_16_BITS[kind]
        values = noise16(channels)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        narrow = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in values >> 8)
        found, expected = (
            pixels_of(png(40, 30, depth, number, data)) for depth, data in ((16, rows), (8, narrow))
        )
        assert np.array_equal(found, expected)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("kind", ["grey", "RGB", "RGBA"])
    def test_of_a_tiff_are_their_upper_eight(self, kind: str, order: str) -> None:
        _, channels, colours = KINDS_OF_16_BITS[kind]
        values = noise16(channels)
        found, expected = (
            pixels_of(tiff(data, colours, order))
            for data in (values, (values >> 8).astype(np.uint8))
        )
        assert np.array_equal(found, expected)

    def test_a_png_and_a_tiff_of_the_same_are_the_same(self) -> None:
        values = noise16(4)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        assert np.array_equal(pixels_of(png(40, 30, 16, 6, rows)), pixels_of(tiff(values, 2)))

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
    def test_of_a_compressed_tiff(self, compression: str) -> None:
        values = noise16(1)[..., 0]
        content = encoded(Image.fromarray(values), "TIFF", compression=compression)
        assert np.array_equal(pixels_of(content), pixels_of(encoded(Image.fromarray(values))))

    def test_of_a_negative(self) -> None:
        values = noise16(1)
        assert np.array_equal(pixels_of(tiff(values, 0)), pixels_of(tiff(65535 - values, 1)))
        assert np.array_equal(
            pixels_of(tiff((values >> 8).astype(np.uint8), 0)), pixels_of(tiff(values, 0))
        )

    def test_of_12_bits_are_the_upper_eight_of_these(self) -> None:
        values = noise16(1) >> 4
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").tobytes()
        rows = b"".join(packed[at + 1 : at + 4] for at in range(0, len(packed), 4))
        expected = pixels_of(tiff((values >> 4).astype(np.uint8), 1))
        assert np.array_equal(pixels_of(tiff(values, 1, bits=12, rows=rows)), expected)

    def test_a_colour_key_is_white(self) -> None:
        rows = (b"\0" + struct.pack(">4H", 0, 0x1200, 0x1234, 0xFFFF)) * 4
        key = (b"tRNS", struct.pack(">H", 0x1234))
        expected = (b"\0" + bytes([0, 0x12, 0xFF, 0xFF])) * 4
        found = pixels_of(png(4, 4, 16, 0, rows, key))
        assert np.array_equal(found, pixels_of(png(4, 4, 8, 0, expected)))


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


@pytest.mark.parametrize(("channels", "bits"), [(2, 8), (4, 8), (4, 16)])
@pytest.mark.parametrize(("alpha", "expected"), [(0, 100), (1, 227), (2, 177)])
def test_alpha_of_a_tiff_may_be_multiplied_already_or_none(
    alpha: int, expected: int, channels: int, bits: int
) -> None:
    """Extra samples (TIFF 6.0, section 18): of no meaning, associated or unassociated alpha."""
    values = np.full((4, 4, channels), 100, np.uint8)
    values[..., -1] = 128
    content = tiff(
        values if bits == 8 else values.astype(np.uint16) * 256, channels // 2, more={338: [alpha]}
    )
    assert_plain(content, (expected,) * 3, within=1)


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


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GIF", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 95}),
        ("TIFF", {}),
        ("MPO", {"quality": 95}),
    ],
)
def test_the_first_of_several_frames_counts(kind: str, options: dict[str, Any]) -> None:
    others = [plain("blue"), plain("white", size=(70, 70) if kind in ("TIFF", "MPO") else (40, 30))]
    content = encoded(plain("red"), kind, save_all=True, append_images=others, **options)
    assert_plain(content, (255, 0, 0), within=4 if kind in ("AVIF", "MPO") else 0)
    decoded = decode(content, CARD, max_pixels=LIMIT)
    assert (decoded.width, decoded.height, decoded.format) == (40, 30, kind)


@pytest.mark.parametrize(("kind", "frames"), [("GIF", 10_000), ("PNG", 2_000), ("WEBP", 2_000)])
def test_thousands_of_frames_cost_no_more_than_one(kind: str, frames: int) -> None:
    def seconds(content: bytes) -> float:
        def once() -> float:
            started = perf_counter()
            assert_plain(content, (200, 200, 200))
            return perf_counter() - started

        return min(once() for _ in range(5))

    first, *others = [plain(200 if n == 0 else n % 2, "L", (16, 16)) for n in range(frames)]
    options = {"lossless": True, "method": 0} if kind == "WEBP" else {}
    many = encoded(first, kind, save_all=True, append_images=others, **options)
    assert seconds(many) < seconds(encoded(first, kind, **options)) + 0.01


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    assert_quarters(encoded(turned(orientation), kind, exif=exif, **options), within=4)


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


@pytest.mark.parametrize("kind", FORMATS)
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


def reference(content: bytes, scale: int, card: Card = CARD) -> np.ndarray[Any, Any]:
    """A JPEG of libjpeg's `scale`, as the network sees it."""
    with Image.open(io.BytesIO(content)) as image:
        size = image.size
        image.draft(None, (size[0] // scale, size[1] // scale))
        assert image.size == (-(-size[0] // scale), -(-size[1] // scale))
        return np.asarray(ImageOps.exif_transpose(image).resize((card.width, card.height)))


class TestAJpegIsDecodedNoLargerThanItHasToBe:
    @pytest.mark.parametrize(
        ("size", "scale"),
        [
            ((100, 100), 1),
            ((448, 448), 1),
            ((895, 2000), 1),
            ((896, 896), 2),
            ((1791, 2000), 2),
            ((1792, 1800), 4),
            ((3600, 3584), 8),
            ((1, 5000), 1),
            ((5000, 1), 1),
            ((3, 20_000), 1),
            ((20_000, 449), 1),
        ],
    )
    def test_of_at_least_twice_the_networks_input(self, size: tuple[int, int], scale: int) -> None:
        content = photograph(size)
        decoded = decode(content, CARD, max_pixels=10**8)
        assert np.array_equal(decoded.pixels, reference(content, scale))
        assert (decoded.width, decoded.height) == size, "those of the original"
        if scale > 1:
            assert not np.array_equal(decoded.pixels, reference(content, scale // 2))
            in_full = decode(content, CARD.in_full(), max_pixels=10**8).pixels
            assert np.array_equal(in_full, reference(content, 1))
            assert np.abs(in_full.astype(int) - decoded.pixels).mean() < 1, "much the same"

    @pytest.mark.parametrize("orientation", STORED)
    def test_that_is_turned(self, orientation: int) -> None:
        """Upright it is 640x192 or more, as the card has it; as stored, perhaps 192x640."""
        wide = replace(CARD, width=320, height=96)
        sideways = orientation in (5, 6, 7, 8)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        for size, scale in (((1280, 384), 2), ((1279, 384), 1), ((1280, 383), 1)):
            content = photograph(size[::-1] if sideways else size, exif=exif)
            decoded = decode(content, wide, max_pixels=LIMIT)
            assert np.array_equal(decoded.pixels, reference(content, scale, wide))
            assert (decoded.width, decoded.height) == size

    @pytest.mark.parametrize(
        "options", [{"progressive": True}, {"subsampling": 0}, {"optimize": True}]
    )
    def test_however_it_is_coded(self, options: dict[str, Any]) -> None:
        content = photograph((1800, 1800), **options)
        assert np.array_equal(pixels_of(content), reference(content, 4))

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_of_other_colours(self, mode: str) -> None:
        image = Image.open(io.BytesIO(photograph((900, 900)))).convert(mode)
        content = encoded(image, "JPEG")
        scaled = pixels_of(content)
        in_full = decode(content, CARD.in_full(), max_pixels=LIMIT).pixels
        assert 0 < np.abs(scaled - in_full).mean() < 1

    def test_of_several_pictures(self) -> None:
        first, second = (Image.open(io.BytesIO(photograph((900, 900), seed))) for seed in (1, 2))
        content = encoded(first, "MPO", save_all=True, append_images=[second])
        decoded = decode(content, CARD, max_pixels=LIMIT)
        assert decoded.format == "MPO"
        assert np.array_equal(decoded.pixels, reference(content, 2))

    def test_and_no_other_format_is(self) -> None:
        image = Image.open(io.BytesIO(photograph((900, 900))))
        for kind in ("PNG", "BMP", "TIFF"):
            expected = np.asarray(image.resize((SIDE, SIDE)))
            assert np.array_equal(pixels_of(encoded(image, kind)), expected)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
    def test_nor_taken_where_half_of_it_is_missing(self, share: float) -> None:
        content = photograph((1800, 1800))
        assert reason(content[: int(len(content) * share)]) == ("decode", "truncated")

    def test_its_hash_is_of_what_the_network_sees(self) -> None:
        small = decode(photograph((1800, 1000)), CARD, max_pixels=LIMIT).small
        assert small.size == (SIDE, SIDE)


def test_zero_bytes() -> None:
    assert reason(b"") == ("decode", "empty")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_rejected_and_never_half_an_image(kind: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (80, 80, 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    stage, why = reason(content[: int(len(content) * share)])
    assert stage == "decode"
    # Of AVIF's boxes one that ends too soon is as one that is damaged.
    assert why in ({"truncated", "corrupt"} if kind == "AVIF" else {"truncated"})


def test_flipped_bits_never_do_more_than_reject() -> None:
    random = np.random.default_rng(2)
    for kind in FORMATS:
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
