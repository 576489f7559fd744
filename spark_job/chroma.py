"""How colourful a picture is: the mean chroma of its pixels, on a small copy of it.

The chroma of a pixel is the difference between its largest and its least channel, in HSV and HSL
alike (G. H. Joblove, D. Greenberg, "Color Spaces for Computer Graphics", SIGGRAPH 1978).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32
"""Pixels that the shorter side of the copy has at least: fewer average colours away."""


def mean_chroma(image: Image.Image) -> float:
    """Mean chroma of an RGB image: 0 where all of it is grey, 255 where it is one pure colour."""
    small = image.reduce(max(1, min(image.size) // SIDE))
    pixels = np.asarray(small)
    return float(np.mean(pixels.max(axis=2) - pixels.min(axis=2)))
