"""What the network sees of an image file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.networks import load_card

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


def reason(content: bytes, *, max_pixels: int = LIMIT) -> tuple[str, str]:
    with pytest.raises(RejectedImageError) as rejected:
        decode(content, CARD, max_pixels=max_pixels)
    assert rejected.value.detail
    assert "at 0x" not in rejected.value.detail, "no memory address: the tables are reproducible"
    return rejected.value.stage, rejected.value.reason
