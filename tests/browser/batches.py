"""Batches with something of everything in them, and the reports that the job makes of them."""

from __future__ import annotations

import random
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from demo.synthetic import make_batch
from tests.spark_job.jobs import run_job
from tests.spark_job.photographs import encoded

if TYPE_CHECKING:
    from pathlib import Path

    from tests.spark_job.jobs import Job

SCRIPT_LABEL = "<script>alert(1)<"
SCRIPT_PATH = f"{SCRIPT_LABEL}/script>.jpg"
"""Reads ``<script>alert(1)</script>.jpg``, as near as a file system allows to a script."""

IMAGE_LABEL = '"><img src=x onerror=alert(1)>'
IMAGE_PATH = f"{IMAGE_LABEL}/{IMAGE_LABEL}.jpg"

LONG_LABEL, LONG_NAME = "Strawberry" * 8, f"{'IMG' * 40}.jpg"
"""Words that nothing can break between letters."""

HOSTILE_BAD = f"{IMAGE_LABEL}/<b onmouseover=alert(1)>, {{{{ 7*7 }}}}.jpg"

SEED = 31


@dataclass(frozen=True)
class Reported:
    """A batch that the job ran on, and what was planted in it.

    Attributes
    ----------
    images
        The batch's folder.
    job
        That ran.
    copies
        Names of identical copies, and of what they are copies of.
    swapped
        Names of pictures in the folder of another label, and their own label.
    strange
        Pictures that are like nothing else.
    """

    images: Path
    job: Job
    copies: dict[str, str]
    swapped: dict[str, str]
    strange: list[str]

    @property
    def page(self) -> Path:
        """The report."""
        return self.job.run / "report.html"


def make_synthetic(folder: Path) -> Reported:
    """Run the job on drawn fruit, some of it under names that are HTML."""
    images = folder / "images"
    make_batch(images, per_label=9)
    drawn = {
        label: sorted((images / label).glob("*.jpg")) for label in ("Banana", "Lemon", "Cherry")
    }
    drawn["Banana"][1].rename(images / "Pear" / "IMG_1.jpg")
    drawn["Banana"][2].rename(images / "Watermelon" / "IMG_2.jpg")
    swapped = {"Pear/IMG_1.jpg": "Banana", "Watermelon/IMG_2.jpg": "Banana"}
    lemon, cherry = drawn["Lemon"][0], drawn["Cherry"][0]
    (images / "Strawberry").rename(images / LONG_LABEL)
    for file in (images / LONG_LABEL).glob("*0.jpg"):
        file.rename(file.with_name(LONG_NAME))
    (images / "on top.jpg").write_bytes(cherry.read_bytes())
    copies = {"on top.jpg": f"Cherry/{cherry.name}"}
    for label, path in ((SCRIPT_LABEL, SCRIPT_PATH), (IMAGE_LABEL, IMAGE_PATH)):
        (images / label).mkdir()
        (images / path).write_bytes(lemon.read_bytes())
        copies[path] = f"Lemon/{lemon.name}"
    (images / HOSTILE_BAD).write_bytes(b"")
    (images / "Lemon" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1")
    (images / "Lemon" / "leaflet.txt").write_text("not an image, by its name")
    strange = _strange(images, Image.open(lemon), "Orange")
    return Reported(images, _run(images, folder), copies, swapped, strange)


def make_photographs(archive: Path, folder: Path) -> Reported:
    """Run the job on photographs with copies, swapped labels, noise and a grey one among them."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    images = folder / "photographs"
    drawn = random.Random(SEED)
    names = sorted(
        str(path.relative_to(images)) for path in images.rglob("*.*") if "mixed" not in path.parts
    )
    chosen = drawn.sample(names, 12)
    copies, swapped = {}, {}
    for number, name in enumerate(chosen[:6]):
        copies[f"{name.partition('/')[0]}/copy {number}.jpg"] = name
    for copy, name in copies.items():
        (images / copy).write_bytes((images / name).read_bytes())
    for name in chosen[6:]:
        label, _, file = name.partition("/")
        other = drawn.choice(sorted({"apple", "banana", "orange"} - {label}))
        (images / name).rename(images / other / file)
        swapped[f"{other}/{file}"] = label
    whole = (images / next(name for name in names if name not in chosen)).read_bytes()
    (images / "apple" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    strange = _strange(images, Image.open(images / next(iter(copies))), "orange")
    return Reported(images, _run(images, folder), copies, swapped, strange)


def _strange(images: Path, picture: Image.Image, label: str) -> list[str]:
    noise = np.random.default_rng(SEED).integers(0, 256, (300, 400, 3), np.uint8)
    (images / label / "noise.jpg").write_bytes(encoded(Image.fromarray(noise), "JPEG"))
    grey = picture.convert("L").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    (images / label / "grey.jpg").write_bytes(encoded(grey, "JPEG"))
    return [f"{label}/noise.jpg", f"{label}/grey.jpg"]


def _run(images: Path, folder: Path) -> Job:
    return run_job(images, folder / "out", "--max-reject-rate=0.5", batch="harvest")
