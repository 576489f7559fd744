"""Image bytes to the pixels that a network sees, by the decode rules of its card.

Version 1 of the rules, in this order:

1. EXIF (or XMP) orientation is applied; broken metadata is ignored.
2. The first frame of an animation is the image.
3. 16-bit greyscale is scaled to 8 bits (value / 257, also where a camera used fewer bits); 32-bit
   integer and float greyscale have no agreed range and are rejected.
4. Transparency (alpha channel, palette or colour key) is composited on white.
5. CMYK, YCbCr, LAB, HSV, palette, greyscale and bilevel become RGB as Pillow converts them; colour
   profiles are not applied.
6. Resize to the size of the network's input with Pillow's bicubic filter, without cropping.

Reasons for a reject at stage ``decode``: ``empty``, ``not-an-image``, ``unsupported-format``,
``too-large``, ``truncated``, ``corrupt``, ``unsupported-pixels``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image

from spark_job.errors import RejectedImageError
from spark_job.formats import describe, open_image, rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from spark_job.networks import Card

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation (Exif 2.3, tag 0x0112) upright."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC}
"""Pillow's filters by their names in a card's decode rules."""


@dataclass(frozen=True)
class Decoded:
    """An image as the network sees it, and its size as a viewer would show it.

    Attributes
    ----------
    pixels
        uint8 [height of the network's input, width, 3], RGB whatever order the network takes.
    width, height
        Pixels of the original, after its orientation is applied.
    format
        Pillow's name of what the bytes are: one of `formats.FORMATS`, or ``MPO``, a JPEG file with
        several pictures in it, as some cameras write.
    small
        The RGB image itself, or its resized form where that is smaller.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    small: Image.Image


def decode(content: bytes, card: Card, *, max_pixels: int) -> Decoded:
    """Decode one image file's bytes for the network of `card`.

    Raises
    ------
    RejectedImageError
        Where there is no usable image in `content`; see the module for the reasons.
    """
    if not content:
        raise rejected("empty", "the file has zero bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which is ignored here
        image = open_image(content)
        if image.width * image.height > max_pixels:
            raise rejected(
                "too-large",
                f"{image.width}x{image.height} pixels, more than the limit of {max_pixels:,}",
            )
        return _to_pixels(image, card)


def _to_pixels(image: Image.Image, card: Card) -> Decoded:
    kind = str(image.format)  # which a transposed copy has lost
    try:
        image.load()
        image = _upright(image)
        upright = _to_rgb(image)
        resized = upright.resize((card.width, card.height), FILTERS[card.decode.resize])
        pixels = np.asarray(resized)
    except RejectedImageError:
        raise
    except Exception as error:  # as above
        detail = describe(error)
        truncated = "truncated" in detail.lower() or isinstance(error, EOFError)
        raise rejected("truncated" if truncated else "corrupt", detail) from error
    small = min(upright, resized, key=lambda one: one.width * one.height)
    return Decoded(pixels, image.width, image.height, kind, small)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # unreadable metadata says nothing about the pixels
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise rejected("unsupported-pixels", f"32-bit greyscale (mode {image.mode})")
    if image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        for strip in _strips(image):
            white = Image.new("RGBA", (image.width, strip[3] - strip[1]), "white")
            image.paste(Image.alpha_composite(white, image.crop(strip)), strip)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    narrow = Image.new("L", image.size)
    key = image.info.get("transparency")  # the value that stands for nothing, drawn white
    for strip in _strips(image):
        wide = np.array(image.crop(strip), dtype=np.uint32)
        if key is not None:
            wide[wide == key] = 65535
        narrow.paste(Image.fromarray(((wide + 128) // 257).astype(np.uint8)), strip)
    return narrow


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Cut an image into boxes of a million pixels, so that copies of it stay small."""
    rows = max(1, 1_000_000 // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)
