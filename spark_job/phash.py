"""A perceptual hash: 64 bits that stay much the same when a picture is encoded or scaled anew.

C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2:
the signs, about their median, of the lowest frequencies of the brightness's cosine transform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Resampling

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32
BITS = 8

_POSITIONS = np.pi / SIDE * (np.arange(SIDE) + 0.5)
_COSINES = np.cos(np.outer(np.arange(BITS), _POSITIONS)).astype(np.float32)
_MEDIAN = BITS * BITS // 2 - 1


def perceptual_hash(image: Image.Image) -> int:
    """Hash of an RGB image, as a signed 64-bit integer; compare two by their differing bits."""
    # Not by boxes: Pillow counts a pixel on the border of two as one's, which moves edges about.
    small = image.convert("L").resize((SIDE, SIDE), Resampling.HAMMING)
    grey = np.asarray(small, np.float32)
    frequencies = (_COSINES @ grey @ _COSINES.T).ravel()
    # The first is the mean brightness, which says nothing of the shape.
    median = np.partition(frequencies[1:], _MEDIAN)[_MEDIAN]
    return int.from_bytes(np.packbits(frequencies > median).tobytes(), "big", signed=True)
