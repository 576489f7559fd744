"""A small synthetic batch: drawn fruit on white, several labels, and a few bad files.

Nothing here is a photograph; it lets the job be seen working without any download.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 100
SUPERSAMPLE = 3
BROWN = (92, 64, 40)


@dataclass(frozen=True)
class Fruit:
    """How to draw one label: colours, width over height, and how rough the skin is."""

    label: str
    colour: tuple[int, int, int]
    blush: tuple[int, int, int]
    aspect: float
    roughness: float
    pair: bool = False


FRUITS = (
    Fruit("Apple Red", (190, 30, 40), (230, 120, 60), 1.0, 5),
    Fruit("Apple Green", (130, 180, 50), (190, 210, 90), 1.0, 5),
    Fruit("Banana", (240, 210, 70), (250, 235, 150), 2.6, 4),
    Fruit("Cherry", (120, 10, 25), (190, 40, 50), 1.0, 2, pair=True),
    Fruit("Lemon", (245, 215, 50), (255, 240, 130), 1.4, 10),
    Fruit("Orange", (240, 140, 30), (250, 180, 80), 1.0, 14),
    Fruit("Plum", (70, 35, 90), (120, 80, 140), 0.9, 6),
    Fruit("Watermelon", (50, 110, 50), (140, 180, 110), 1.2, 20),
)


def make_batch(folder: Path, per_label: int = 36) -> None:
    """Draw ``len(FRUITS) * per_label`` images and four bad files into `folder`.

    What is there already is drawn over with the same content: the batch is always the same.
    """
    for fruit in FRUITS:
        (folder / fruit.label).mkdir(parents=True, exist_ok=True)
        for number in range(per_label):
            seed = [number, *fruit.label.encode()]
            image = draw(fruit, np.random.default_rng(seed))
            image.save(folder / fruit.label / f"synthetic_{number:03d}.jpg", quality=92)
    _bad_files(folder)


def draw(fruit: Fruit, random: np.random.Generator) -> Image.Image:
    """Draw one fruit, [100, 100] RGB: turned, lit from one side, with a rough skin and a stem."""
    side = SIDE * SUPERSAMPLE
    canvas = Image.new("RGB", (side, side), "white")
    centres = [(0.36, 0.6), (0.64, 0.6)] if fruit.pair else [(0.5, 0.54)]
    for x, y in centres:
        height = side * random.uniform(0.5, 0.62) * (0.55 if fruit.pair else 1) / fruit.aspect**0.4
        skin, mask = _body(fruit, int(height * fruit.aspect**0.8), int(height), random)
        angle = random.uniform(-180, 180) if fruit.aspect > 1.1 else random.uniform(-20, 20)
        skin, mask = skin.rotate(angle, expand=True), mask.rotate(angle, expand=True)
        corner = (int(side * x - skin.width / 2), int(side * y - skin.height / 2))
        stem = [(side * x, corner[1] + skin.height * 0.1), (side * 0.5, side * 0.08)]
        ImageDraw.Draw(canvas).line(stem, fill=BROWN, width=SUPERSAMPLE * 2)
        canvas.paste(skin, corner, mask)
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _body(
    fruit: Fruit, width: int, height: int, random: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Skin and mask of an ellipse lit from a random side."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light_x, light_y = random.uniform(-0.6, 0.6), random.uniform(-0.6, -0.1)
    light = np.exp(-((x - light_x) ** 2 + (y - light_y) ** 2) / 0.5)[..., None]
    shade = np.clip(1.15 - 0.55 * (x**2 + y**2), 0.3, 1.0)[..., None]
    noise = random.normal(0, fruit.roughness, (height, width, 1))
    pixels = (np.array(fruit.colour) * (1 - light) + np.array(fruit.blush) * light) * shade + noise
    skin = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    mask = Image.fromarray(((x**2 + y**2 < 0.98) * 255).astype(np.uint8))
    return skin.filter(ImageFilter.GaussianBlur(1)), mask.filter(ImageFilter.GaussianBlur(1))


def _bad_files(folder: Path) -> None:
    """Write what a camera, a network and a person do to a batch now and then."""
    jpeg = io.BytesIO()
    draw(FRUITS[0], np.random.default_rng(0)).save(jpeg, "JPEG")
    (folder / "Banana" / "bad_empty.jpg").write_bytes(b"")
    (folder / "Cherry" / "bad_truncated.jpg").write_bytes(jpeg.getvalue()[: jpeg.tell() // 2])
    (folder / "Lemon" / "bad_text.png").write_text("This is a note, not a photograph.\n")
    header = b"GIF89a" + (60_000).to_bytes(2, "little") * 2 + b"\x00\x00\x00"
    (folder / "Plum" / "bad_bomb.gif").write_bytes(
        header + b"," + bytes(4) + (60_000).to_bytes(2, "little") * 2 + b"\x00\x02\x01\x01\x00;"
    )
