"""What reading costs by itself: the job's own reading of a batch, without decoding or inferring.

An image costs the job some 12 ms of CPU, which differ by a tenth from run to run; what S3 adds to
that is two hundredths, and is only seen where nothing else is done.
"""

from __future__ import annotations

import argparse
import json
from resource import RUSAGE_SELF, getrusage
from time import monotonic

from benchmarks.measure import BenchmarkError
from spark_job.arrow import spare_pandas
from spark_job.listing import Image, list_images
from spark_job.objects import Content, Folder, open_folder
from spark_job.reading import read_ahead

WARM_UP = 100
"""Images that are read before it counts: connections are open then, and code is loaded."""


def main() -> None:
    """Read a batch, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=main.__doc__)
    parser.add_argument("--images", required=True)
    given = parser.parse_args()
    spare_pandas()
    print(json.dumps(read(given.images)))


def read(uri: str) -> dict[str, float]:
    """Read every image of a folder, and return how many counted, their CPU and wall seconds.

    Raises
    ------
    BenchmarkError
        Where an image could not be read.
    """
    folder = open_folder(uri)
    listing = list_images(folder)
    images = [Image(**row) for row in listing.rows(0, len(listing)).to_pylist()]
    _read(folder, images[:WARM_UP])
    cpu, wall = _cpu(), monotonic()
    _read(folder, images[WARM_UP:])
    return {
        "images": len(images) - WARM_UP,
        "cpu": _cpu() - cpu,
        "seconds": monotonic() - wall,
    }


def _read(folder: Folder, images: list[Image]) -> None:
    for image, found in read_ahead(folder, images):
        if not isinstance(found, Content):
            raise BenchmarkError(f"{image.path} could not be read: {found!r}")


def _cpu() -> float:
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
