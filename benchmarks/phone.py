"""The exported file on one core, and what an app's own preprocessing does to vectors."""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.page import Section, Target, at_most, table
from benchmarks.programs import run_phone
from benchmarks.subset import list_paths
from orchard.phone.checking import TOLERANCE
from orchard.phone.export import MOST_BYTES, export_model
from orchard.phone.fuse import VECTOR
from orchard.phone.running import PhoneModel
from spark_job.decode import decode
from spark_job.networks import load_card
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.programs import Run

MAX_PIXELS = 64_000_000

WARM_UP = 10
TIMED = 200
"""Calls of the file, after some that are not timed."""


def run_on_phone(given: argparse.Namespace) -> Run:
    """Publish the photographs, export the model with a head, and measure the file."""
    return run_phone(given.photographs, len(list_paths(given.photographs)))


def main() -> None:
    """Export a published model and try the file; prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phone", description=main.__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--output", required=True, help="where the job published them")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
        target = Path(folder) / "phone.tflite"
        card = export_model(open_folder(given.output), target, classify=True)
        run = PhoneModel(target.read_bytes())
    paths = list_paths(str(given.photographs))
    contents = [(given.photographs / path).read_bytes() for path in paths]
    tried = {"milliseconds": time_file(run), "moves": compare(contents, run)}
    print(json.dumps({"card": asdict(card), **tried}))


def time_file(run: PhoneModel) -> list[float]:
    """Milliseconds of each of `TIMED` calls, pixels in and vector out."""
    card = load_card()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (card.height, card.width, 3), dtype=np.uint8)
    seconds = []
    for call in range(WARM_UP + TIMED):
        started = perf_counter()
        run(pixels)
        if call >= WARM_UP:
            seconds.append(1_000 * (perf_counter() - started))
    return seconds


def compare(contents: list[bytes], run: PhoneModel) -> list[dict[str, Any]]:
    """Hold vectors of each other preprocessing against those of the job's."""
    card = load_card()
    expected = _vectors([decode(one, card, max_pixels=MAX_PIXELS).pixels for one in contents], run)
    upright = [_upright(content) for content in contents]
    size = card.width, card.height
    noise = np.random.default_rng(0)

    def noisy(content: bytes) -> NDArray[np.uint8]:
        pixels = decode(content, card, max_pixels=MAX_PIXELS).pixels.astype(np.int16)
        moved = pixels + noise.integers(-1, 2, pixels.shape)
        return moved.clip(0, 255).astype(np.uint8)

    def resized(how: Image.Resampling) -> list[NDArray[np.uint8]]:
        return [np.asarray(image.resize(size, how)) for image in upright]

    variants = {
        "every pixel of a JPEG decoded": [
            decode(one, card.in_full(), max_pixels=MAX_PIXELS).pixels for one in contents
        ],
        "and the colour profile ignored": resized(Image.Resampling.BICUBIC),
        "bilinear, antialiased": resized(Image.Resampling.BILINEAR),
        "bilinear of four pixels": [plain_bilinear(image, *size) for image in upright],
        "cropped to a square": [
            np.asarray(ImageOps.fit(image, size, Image.Resampling.BICUBIC)) for image in upright
        ],
        "the job's pixels, each a level off": [noisy(content) for content in contents],
    }
    return [
        {"how": how, **_moved(_vectors(pixels, run), expected)} for how, pixels in variants.items()
    ]


def plain_bilinear(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Resize by four pixels around each point, as graphics libraries do without antialiasing.

    Returns
    -------
    NDArray
        [height, width, 3].
    """
    pixels = np.asarray(image, np.float32)
    top, below, down = _neighbours(pixels.shape[0], height)
    left, right, across = _neighbours(pixels.shape[1], width)
    down, across = down[:, None, None], across[None, :, None]
    above = pixels[top][:, left] * (1 - across) + pixels[top][:, right] * across
    under = pixels[below][:, left] * (1 - across) + pixels[below][:, right] * across
    return np.rint(above * (1 - down) + under * down).astype(np.uint8)


def _neighbours(
    size: int, target: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each pixel of the target the two of the source around it, and how near the second is."""
    at = ((np.arange(target) + 0.5) * size / target - 0.5).clip(0, size - 1)
    first = at.astype(np.intp)
    return first, np.minimum(first + 1, size - 1), (at - first).astype(np.float32)


def _upright(content: bytes) -> Image.Image:
    """Decode all pixels of a file to RGB, upright and on white; its colour profile is ignored."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return image.convert("RGB")


def _vectors(pixels: list[NDArray[np.uint8]], run: PhoneModel) -> NDArray[np.float32]:
    return np.stack([run(one)[VECTOR] for one in pixels])


def _moved(found: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float]:
    """How far vectors [n, k] are from the expected ones, and whether neighbours are the same."""
    cosines = (_unit(found) * _unit(expected)).sum(axis=1)
    return {
        "moved": float((np.abs(found - expected).max(axis=1) > 1e-4).mean()),
        "component": float(np.abs(found - expected).max()),
        "least": float(cosines.min()),
        "median": float(np.median(cosines)),
        "same_neighbour": float((_nearest(found, expected) == _nearest(expected, expected)).mean()),
    }


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _nearest(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which other picture's vector is nearest to each, by cosine."""
    cosines = _unit(vectors) @ _unit(others).T
    np.fill_diagonal(cosines, -np.inf)
    nearest: NDArray[np.intp] = cosines.argmax(axis=1)
    return nearest


def phone_section(run: Run) -> Section:
    """Tell how the exported file fares."""
    card, times = run.details["card"], run.details["milliseconds"]
    checked, head = card["checked"], card["head"]
    distance = checked["largest_distance"]
    targets = [
        Target(
            "vectors from the published ones, on the same pixels",
            "≤ 1e-4",
            f"{distance:.1e}",
            distance <= TOLERANCE,
        ),
        at_most("size of the file", MOST_BYTES / 1e6, card["size"] / 1e6, "MB"),
        at_most("a picture on one core, median", 50, median(times), "ms"),
    ]
    blocks = [
        f"{card['network']} and a model of {card['k']} components with a head of "
        f"{len(head['labels'])} labels, of {run.images:,} photographs; LiteRT with XNNPACK on one "
        f"thread of this machine, pixels in and vector out, {len(times)} calls: 5% take less than "
        f"{np.quantile(times, 0.05):.1f} ms and 5% more than {np.quantile(times, 0.95):.1f} ms. "
        f"Components of the {checked['pictures']} pictures that were held against published "
        f"vectors reach {checked['largest_component']:.0f}.",
        "### What an app's own preprocessing does to vectors",
        _moves(run.details["moves"]),
        "Against the vectors of the job's own pixels: photographs of which any component moves by "
        "more than 1e-4, the largest move of a component, cosines, and the share whose nearest "
        "published neighbour is the same one. All but the last row decode every pixel of a JPEG; "
        "those between the first and the last ignore colour profiles.",
        "### The head on held-out photographs",
        _accuracy(head["of"]),
    ]
    return Section("On a phone", targets, blocks)


def _moves(moves: list[dict[str, Any]]) -> str:
    rows = [
        (
            move["how"],
            f"{move['moved']:.0%}",
            f"{move['component']:.2f}",
            f"{move['least']:.3f}",
            f"{move['median']:.5f}",
            f"{move['same_neighbour']:.1%}",
        )
        for move in moves
    ]
    header = ("preprocessing", "moved", "largest move", "least cosine", "median", "same neighbour")
    return table(header, rows)


def _accuracy(labels: list[dict[str, Any]]) -> str:
    rows = [
        (
            one["label"],
            str(one["pictures"]),
            str(one["groups"]),
            str(one["held_out"]),
            "" if one["accuracy"] is None else f"{one['accuracy']:.0%}",
        )
        for one in labels
    ]
    return table(("label", "photographs", "groups", "held out", "right"), rows)


if __name__ == "__main__":
    main()
