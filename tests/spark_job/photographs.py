"""Small fruit-like photographs for the tests, made with Pillow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {
    "Apple Red 1": 14,
    "Lemon": 11,
    "caf\u00e9": 5,
    "cafe\u0301": 5,
    "リンゴ": 5,
    "100%_a#b?": 5,
}
"""How many photographs of each label are in the batch that most tests share."""

BAD = {
    "Lemon/empty.jpg": ("decode", "empty"),
    "Lemon/half.jpg": ("decode", "truncated"),
    "Lemon/notes.jpg": ("decode", "not-an-image"),
    "Lemon/100 megapixels.png": ("decode", "too-large"),
    "リンゴ/unreadable.jpg": ("read", "unreadable"),
}
"""The files among them that cannot be used, and what they are to be rejected with."""


def fruit(seed: int, side: int = 64) -> Image.Image:
    """A shaded, speckled ellipse on white; another one for each seed."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    colour = random.integers(0, 220, 3)
    margin = random.integers(2, side // 4, 4)
    for step in range(8):
        inset = step * side // 48
        box = [
            margin[0] + inset,
            margin[1] + inset,
            side - margin[2] - inset,
            side - margin[3] - inset,
        ]
        shade = tuple(int(value) for value in np.minimum(colour + 4 * step, 255))
        draw.ellipse([int(value) for value in box], fill=shade)
    for x, y in random.integers(side // 4, 3 * side // 4, (12, 2)):
        draw.point(
            [(int(x), int(y))], fill=tuple(int(value) for value in random.integers(0, 255, 3))
        )
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The file of `image` in the format `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(size: tuple[int, int], seed: int = 1, **options: Any) -> bytes:
    """A JPEG of smooth colours under noise, which no two scales give the same pixels of."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    noise = Image.fromarray(random.integers(0, 256, (100, 100, 3), np.uint8)).resize(
        size, Image.Resampling.NEAREST
    )
    return encoded(Image.blend(image, noise, 0.2), "JPEG", quality=85, **options)


def plant(folder: Path, labels: dict[str, int], *, seed: int = 0) -> None:
    """Save so many fruits per label below `folder`, as JPEG."""
    for label, count in labels.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            content = encoded(fruit(seed), "JPEG", quality=90)
            (folder / label / f"{label}_{number:03d}.jpg").write_bytes(content)
            seed += 1
