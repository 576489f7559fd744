"""What is planted in the synthetic batch on purpose, so that a report has something to show.

Copies, labels that were mixed up, pictures that do not belong there, and one in a format that is
not taken: what happens to the folders of a person with a phone.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.drawing.fruits import FRUITS
from demo.synthetic import draw

if TYPE_CHECKING:
    from pathlib import Path

IDENTICAL = {
    "Apple/IMG_1007 (copy).jpg": "Apple/IMG_1007.jpg",
    "Cherry/IMG_1219 (1).jpg": "Cherry/IMG_1219.jpg",
    "Cherry/IMG_1219 (2).jpg": "Cherry/IMG_1219.jpg",
    "Orange/Copy of IMG_1612.jpg": "Orange/IMG_1612.jpg",
    "Pear/IMG_1703-1.jpg": "Pear/IMG_1703.jpg",
}
"""Copies of the same content, and what they are of."""


@dataclass(frozen=True)
class Stored:
    """How a picture is stored anew: of which one, cropped by what on each side, and scaled."""

    original: str
    crop: float = 0.0
    scale: float = 1.0
    quality: int = 80


NEAR = {
    "Banana/IMG_1103-cropped.jpg": Stored("Banana/IMG_1103.jpg", crop=0.03, quality=90),
    "Cherry/IMG_1208.webp": Stored("Cherry/IMG_1208.jpg", quality=70),
    "Grape/IMG_1314_small.jpg": Stored("Grape/IMG_1314.jpg", scale=0.6),
    "Kiwi/IMG-20260714-WA0007.jpg": Stored("Kiwi/IMG_1411.jpg", scale=0.8, quality=65),
    "Lemon/IMG_1502.png": Stored("Lemon/IMG_1502.jpg"),
    "Orange/IMG_1614_web.jpg": Stored("Orange/IMG_1614.jpg", quality=40),
    "Pear/IMG_1709-edited.jpg": Stored("Pear/IMG_1709.jpg", crop=0.02, scale=0.9),
    "Apple/IMG_1018.avif": Stored("Apple/IMG_1018.jpg", quality=60),
    "Strawberry/IMG_1802.png": Stored("Strawberry/IMG_1802.jpg", scale=0.5),
    "Watermelon/IMG_1904_large.jpg": Stored("Watermelon/IMG_1904.jpg", scale=1.5, quality=92),
}
"""Copies that are stored in another way."""

SWAPPED = {
    "Apple/IMG_1041.jpg": "Grape",
    "Cherry/IMG_1242.jpg": "Strawberry",
    "Grape/IMG_1343.jpg": "Kiwi",
    "Lemon/IMG_1544.jpg": "Orange",
    "Pear/IMG_1745.jpg": "Banana",
    "Watermelon/IMG_1946.jpg": "Lemon",
}
"""Pictures in the wrong folder, and of what they are."""

NOISE, GREY = "IMG_1099.jpg", "Pear/IMG_1751_bw.jpg"
PAGE, CHART = "Scan_0003.png", "Screenshot_20260714-101512.png"
OUTLIERS = (NOISE, GREY, PAGE, CHART)
"""A picture of a broken camera, one without colour, and two things that are no fruit at all."""

UNSUPPORTED = "Strawberry/IMG_1852.HEIC"
"""A phone's picture in a format that is not taken."""


def plant(folder: Path) -> None:
    """Plant all of it in a batch that `make_batch` drew, the same each time."""
    for copy, original in IDENTICAL.items():
        shutil.copyfile(folder / original, folder / copy)
    for copy, stored in NEAR.items():
        _store_anew(folder / stored.original, stored, folder / copy)
    fruits = {fruit.label: fruit for fruit in FRUITS}
    for number, (path, label) in enumerate(SWAPPED.items(), 500):
        draw(fruits[label], number).save(folder / path, quality=88)
    _noise().save(folder / NOISE, quality=90)
    draw(fruits["Pear"], 600).convert("L").save(folder / GREY, quality=88)
    _page().save(folder / PAGE)
    _chart().save(folder / CHART)
    brands = b"ftypheic" + bytes(4) + b"mif1heic"
    (folder / UNSUPPORTED).write_bytes((len(brands) + 4).to_bytes(4, "big") + brands + bytes(2000))


def _store_anew(file: Path, stored: Stored, copy: Path) -> None:
    with Image.open(file) as image:
        image.load()
    width, height = image.size
    left, top = round(stored.crop * width), round(stored.crop * height)
    cropped = image.crop((left, top, width - left, height - top))
    size = (round(stored.scale * cropped.width), round(stored.scale * cropped.height))
    if size != cropped.size:
        cropped = cropped.resize(size, Image.Resampling.LANCZOS)
    # AVIF's encoder writes other bytes where it has other threads; JPEG's has one.
    cropped.save(copy, quality=stored.quality, max_threads=1)


def _noise() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (150, 200, 3), np.uint8)
    return Image.fromarray(pixels)


def _page() -> Image.Image:
    """A delivery note."""
    page = Image.new("RGB", (170, 240), (250, 249, 245))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(8)
    pen.text((14, 12), "Delivery note 0418", fill=(20, 20, 24), font=ImageFont.load_default(13))
    lines = [f"{fruit.label:<12} {7 * place + 5} kg" for place, fruit in enumerate(FRUITS)]
    for place, line in enumerate(["To the fruit stall, Market 3", "", *lines, "", "Thank you!"]):
        pen.text((14, 36 + 13 * place), line, fill=(40, 40, 46), font=font)
    return page


def _chart() -> Image.Image:
    """Bars, and a line over them."""
    chart = Image.new("RGB", (240, 160), "white")
    pen, font = ImageDraw.Draw(chart), ImageFont.load_default(9)
    pen.text((70, 6), "kg sold per day", fill=(60, 60, 60), font=font)
    for level in range(5):
        pen.line((26, 30 + 26 * level, 232, 30 + 26 * level), fill=(220, 220, 220))
    heights = (34, 52, 47, 71, 88, 104, 60)
    for place, (height, day) in enumerate(zip(heights, "MTWTFSS", strict=True)):
        left = 34 + 28 * place
        pen.rectangle((left, 134 - height, left + 18, 134), fill=(70, 130, 200))
        pen.text((left + 6, 139), day, fill=(60, 60, 60), font=font)
    tops = [(43 + 28 * place, 122 - height) for place, height in enumerate(heights)]
    pen.line(tops, fill=(220, 90, 40), width=2)
    return chart
