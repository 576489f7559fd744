"""A small synthetic batch: drawn fruit of ten kinds on various grounds, and a few bad files.

Nothing here is a photograph; it lets the job be seen working without any download.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from demo.drawing.fruits import FRUITS, Fruit
from demo.drawing.scene import photograph

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

PER_LABEL = 28
"""Pictures of each kind of fruit."""

SEED = 1
"""Of all pictures: among those of another one a few more might be odd by chance."""


def make_batch(folder: Path, per_label: int = PER_LABEL) -> None:
    """Draw ``len(FRUITS) * per_label`` images and four bad files into `folder`.

    What is there already is drawn over with the same content: the batch is always the same.
    """
    for place, fruit in enumerate(FRUITS):
        (folder / fruit.label).mkdir(parents=True, exist_ok=True)
        for number in range(per_label):
            file = folder / fruit.label / f"IMG_{1000 + 100 * place + number}.jpg"
            draw(fruit, number).save(file, quality=88)
    _bad_files(folder)


def draw(fruit: Fruit, number: int) -> Image.Image:
    """Draw picture `number` of a fruit, the same each time."""
    return photograph(fruit, np.random.default_rng([SEED, number, *fruit.label.encode()]))


def _bad_files(folder: Path) -> None:
    """Write what a camera, a network and a person do to a batch now and then."""
    jpeg = io.BytesIO()
    draw(FRUITS[2], 9000).save(jpeg, "JPEG")
    (folder / "Banana" / "IMG_1180.jpg").write_bytes(b"")
    (folder / "Cherry" / "IMG_1281.jpg").write_bytes(jpeg.getvalue()[: jpeg.tell() * 2 // 3])
    (folder / "Lemon" / "notes.png").write_text("This is a note, not a photograph.\n")
    header = b"GIF89a" + (60_000).to_bytes(2, "little") * 2 + b"\x00\x00\x00"
    (folder / "Pear" / "pear-turning.gif").write_bytes(
        header + b"," + bytes(4) + (60_000).to_bytes(2, "little") * 2 + b"\x00\x02\x01\x01\x00;"
    )
