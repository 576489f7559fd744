"""Image bytes to the pixels that a network sees, by the decode rules of its card.

Version 2 of the rules, in this order:

1. A JPEG is decoded at the smallest scale, of 1/1, 1/2, 1/4 and 1/8, that keeps both of its sides
   at least twice those of the network's input: what is thrown away is not decoded first. One that
   is smaller, or thin, is decoded in full, as every image of another format is. A card may ask for
   all in full (``--full-decode``).
2. The first frame of an animation is the image, as is the first picture of a file of several (GIF,
   PNG, WebP, AVIF, TIFF, MPO); the others are not decoded.
3. EXIF (or XMP) orientation is applied; broken metadata is ignored.
4. Of 16 bits per channel the upper eight are taken, in grey, RGB and with alpha alike (of a TIFF of
   12 bits, the upper eight of these). TIFFs of floats, of 32-bit or of signed integers have no
   agreed range and are rejected, as are the rarer kinds that Pillow cannot read, such as grey with
   alpha in 16 bits.
5. Transparency (alpha channel, palette or colour key) is composited on white.
6. YCbCr, LAB, HSV, palette and bilevel become RGB or grey as Pillow converts them, and so does CMYK
   without a colour profile.
7. Resize to the size of the network's input with Pillow's bicubic filter, without cropping, however
   tall or thin the image is.
8. Colours become sRGB by the image's ICC profile; :mod:`spark_job.colour` says which are of use.
   What a file tells of its colours in another way (PNG's gAMA and cICP, EXIF's colour space) is
   ignored.

Reasons for a reject at stage ``decode``: ``empty``, ``not-an-image``, ``unsupported-format``
(HEIC, raw files and other images that are not taken: such pictures count as unsupported, not as
rejected), ``too-large``, ``truncated``, ``corrupt``, ``unsupported-pixels``.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from spark_job.colour import to_srgb
from spark_job.errors import RejectedImageError
from spark_job.formats import SAVE_IT_ANEW, broken, open_image, rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from spark_job.colour import Convert
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

SIDEWAYS = (5, 6, 7, 8)
"""Those of them that exchange width and height."""

WHITE_IS_ZERO = 0
"""TIFF's photometric interpretation of negatives; Pillow inverts those of up to 8 bits itself."""

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
    MemoryError
        Where there was too little of it, which says nothing about the image.
    """
    with _opened(content, max_pixels) as image:
        return _to_pixels(image, card)


def decode_within(content: bytes, side: int, *, max_pixels: int) -> Image.Image:
    """Decode one image file's bytes for a person: whole, by the same rules, and in RGB.

    Neither side is longer than `side`, and a smaller image is not enlarged. A JPEG is decoded at
    the smallest scale that keeps twice what is wanted.

    Raises
    ------
    RejectedImageError, MemoryError
        See `decode`.
    """
    with _opened(content, max_pixels) as image:
        return _shrunk(image, side)


@contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
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
        yield image


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(image.size))
    width, height = (max(1, round(scale * length)) for length in image.size)
    try:
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (2 * width, 2 * height))
        if _orientation(image) in SIDEWAYS:
            width, height = height, width
        flat, convert = _load_flat(image)
        resized = flat.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        return _in_srgb(resized, convert)
    except RejectedImageError:
        raise
    except Exception as error:  # a decoder may raise anything on hostile bytes
        raise broken(error) from error


def _to_pixels(image: Image.Image, card: Card) -> Decoded:
    kind = str(image.format)  # which a transposed copy has lost
    try:
        size = _scale_down(image, card) if kind in ("JPEG", "MPO") else None
        flat, convert = _load_flat(image)
        resized = flat.resize((card.width, card.height), FILTERS[card.decode.resize])
        seen = _in_srgb(resized, convert)
        # What is seen, or the image itself where that is smaller.
        enlarged = flat.width * flat.height <= resized.width * resized.height
        small = _in_srgb(flat, convert) if enlarged else seen
        pixels = np.asarray(seen)
    except RejectedImageError:
        raise
    except Exception as error:  # a decoder may raise anything on hostile bytes
        raise broken(error) from error
    return Decoded(pixels, *(size or flat.size), kind, small)


def _load_flat(image: Image.Image) -> tuple[Image.Image, Convert | None]:
    """Decode an image upright and opaque, and find what makes its colours sRGB."""
    image.load()
    image = _upright(image)
    flat = _flatten(image)
    profile = image.info.get("icc_profile")
    convert = to_srgb(profile, flat.mode) if isinstance(profile, bytes) else None
    if flat.mode == "CMYK" and convert is None:
        flat = flat.convert("RGB")
    return flat, convert


def _scale_down(image: Image.Image, card: Card) -> tuple[int, int]:
    """Let a JPEG be decoded no larger than it has to be; its own size, upright."""
    sideways = _orientation(image) in SIDEWAYS
    size = image.size
    if card.decode.draft is not None:
        width, height = card.decode.draft * card.width, card.decode.draft * card.height
        image.draft(None, (height, width) if sideways else (width, height))
    return (size[1], size[0]) if sideways else size


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1, which is upright, where there is none."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # unreadable metadata says nothing about the pixels
        return 1
    return found if isinstance(found, int) else 1


def _upright(image: Image.Image) -> Image.Image:
    turn = UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _flatten(image: Image.Image) -> Image.Image:
    """Make an image opaque, with 8 bits per channel: RGB, grey (mode L) or CMYK."""
    if image.mode in ("I", "F"):
        kind = "floats" if image.mode == "F" else "integers of 32 bits or with a sign"
        raise rejected("unsupported-pixels", f"{kind} have no agreed range; {SAVE_IT_ANEW}")
    if image.mode == "La":  # multiplied by its alpha, of which Pillow makes nothing else
        image = image.convert("LA")
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
    if image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        for strip in _strips(image):
            white = Image.new("RGBA", (image.width, strip[3] - strip[1]), "white")
            image.paste(Image.alpha_composite(white, image.crop(strip)), strip)
    if image.mode == "CMYK":
        return image
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Take the upper eight bits of 16-bit greyscale."""
    narrow = Image.new("L", image.size)
    key = image.info.get("transparency")  # the value that stands for nothing, drawn white
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = 12 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 16
    for strip in _strips(image):
        wide = np.array(image.crop(strip), dtype=np.uint16)
        if key is not None:
            wide[wide == key] = 65535
        upper = (wide >> (bits - 8)).astype(np.uint8)
        if tags.get(ExifTags.Base.PhotometricInterpretation) == WHITE_IS_ZERO:
            upper = 255 - upper
        narrow.paste(Image.fromarray(upper), strip)
    return narrow


def _in_srgb(image: Image.Image, convert: Convert | None) -> Image.Image:
    if convert is not None:
        return convert(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Cut an image into boxes of a million pixels, so that copies of it stay small."""
    rows = max(1, 1_000_000 // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)
