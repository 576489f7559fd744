"""Colours by an image's ICC profile (ICC.1, "Image technology colour management") to sRGB.

A profile is used where it is sound and of the image's own colours: RGB, grey or CMYK. Any other is
ignored, as the pixels beside it are whole. Of a matrix or a table alike Little CMS takes the
perceptual intent, which is what profiles of cameras and screens are made for.
"""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Convert = Callable[[Image.Image], Image.Image]

SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""ICC's names of the colours of Pillow's modes."""

NOTICED = 1
"""A profile that moves no colour by more of 255 than this is sRGB itself, but for rounding."""

CONTRAST = 128
"""White comes out lighter than black by this of 255 at least, or a profile is garbage."""

STEPS = {"RGB": 9, "L": 256, "CMYK": 5}
"""Values of each channel whose combinations are looked at."""


@lru_cache(maxsize=16)
def to_srgb(profile: bytes, mode: str) -> Convert | None:
    """Make what converts images to sRGB; None where `profile` is none for them, or sRGB already.

    Parameters
    ----------
    profile
        An ICC profile, as a file holds it. Most photographs share a few.
    mode
        Pillow's mode of the images: one of `SPACES`, or a profile is of no use. What comes out is
        RGB.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != SPACES.get(mode):
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        given = _colours(mode)
        found = np.asarray(transform.apply(given), np.int16)[:, 0]
    except MemoryError:
        raise
    except Exception:  # a parser of hostile bytes; nothing of a profile makes its pixels unusable
        return None
    light, dark = (found[0], found[-1]) if mode == "CMYK" else (found[-1], found[0])
    if (light - dark).min() < CONTRAST:
        return None
    if mode != "CMYK" and np.abs(found - np.asarray(given.convert("RGB"))[:, 0]).max() <= NOTICED:
        return None
    return transform.apply


def _colours(mode: str) -> Image.Image:
    """Draw every combination of a few values of each channel, one pixel wide: 0 first, 255 last."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.linspace(0, 255, STEPS[mode]).round().astype(np.uint8)
    every: NDArray[np.uint8] = np.array(list(product(values, repeat=channels)), np.uint8)
    return Image.frombytes(mode, (1, len(every)), every.tobytes())
