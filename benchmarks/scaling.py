"""What decoding photographs at a smaller scale does to their features.

A JPEG decoder can leave pixels out in powers of two. Here it does so for each scale that the job
might keep to, and everything after it is the job's own; the orientation of a photograph is left out
of account, for all scales alike.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from spark_job.decode import decode
from spark_job.networks import DEFAULT
from spark_job.networks.extractor import shared_extractor

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMES = (1, 2, 3)
"""How many times the network's input both sides are to keep, at least."""

MAX_PIXELS = 64_000_000


def main() -> None:
    """Compare features of photographs by scale; prints how near they are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=main.__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    folder = parser.parse_args().photographs
    contents = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
    print(json.dumps({"scales": compare(contents)}))


def compare(contents: list[bytes]) -> list[dict[str, float]]:
    """Hold the features of each scale of `TIMES` against those of all pixels."""
    full = _features([without_pixels(content, None)[0] for content in contents])
    compared = []
    for times in TIMES:
        files, smaller = zip(*(without_pixels(content, times) for content in contents), strict=True)
        scaled = _features(list(files))
        cosines = (full * scaled).sum(axis=1)
        compared.append(
            {
                "times": times,
                "scaled": sum(smaller),
                "least": float(cosines.min()),
                "median": float(np.median(cosines)),
                "same_neighbour": float((_nearest(full) == _nearest(scaled)).mean()),
            }
        )
    return compared


def without_pixels(content: bytes, times: int | None) -> tuple[bytes, bool]:
    """Decode a JPEG file at the smallest scale that keeps both sides `times` the network's input.

    Returns
    -------
    tuple
        A file with these pixels, without loss, and whether they are fewer than the original's.
        Other formats come back as they are; so does a JPEG file, in pixels, where `times` is None.
    """
    card = shared_extractor(DEFAULT).card
    image = Image.open(io.BytesIO(content))
    if image.format not in ("JPEG", "MPO"):
        return content, False
    size = image.size
    if times is not None:
        image.draft(image.mode, (times * card.width, times * card.height))
    profile = image.info.get("icc_profile")
    scaled: Image.Image = image
    if image.mode not in ("L", "RGB"):  # PNG has no CMYK; a profile for that fits no RGB
        scaled, profile = image.convert("RGB"), None
    stream = io.BytesIO()
    scaled.save(stream, "PNG", compress_level=0, icc_profile=profile)
    return stream.getvalue(), scaled.size != size


def _features(contents: list[bytes]) -> NDArray[np.float32]:
    """Features [n, d] of files, of length 1."""
    extract = shared_extractor(DEFAULT)
    rows = [
        extract(decode(content, extract.card, max_pixels=MAX_PIXELS).pixels) for content in contents
    ]
    features = np.stack(rows)
    unit: NDArray[np.float32] = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit


def _nearest(features: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which other row is nearest to each of `features` [n, d] of length 1."""
    products = features @ features.T
    np.fill_diagonal(products, -np.inf)
    nearest: NDArray[np.intp] = products.argmax(axis=1)
    return nearest


if __name__ == "__main__":
    main()
