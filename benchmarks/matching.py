"""Ten million images that are all known: what matching them takes, and what the driver holds.

The features are four numbers instead of 1,280, since what is measured is the keys.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections import Counter
from dataclasses import replace
from functools import partial
from hashlib import sha256
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from spark_job import contract, tables
from spark_job.engines.processes import ProcessEngine
from spark_job.known import CarryingPass, KnownPart
from spark_job.listing import Listing, write_listing
from spark_job.networks import load_card
from spark_job.objects import ENTRIES, open_folder
from spark_job.receipts import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.engines import Attempt
    from spark_job.objects import Folder

FEATURES = 4

PART = 1_024


def main() -> None:
    """Write what an earlier run knew, and carry all of it over; prints what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=main.__doc__)
    parser.add_argument("--images", type=int, required=True)
    images = parser.parse_args().images
    with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
        print(json.dumps(match(open_folder(folder), images)))


def match(root: Folder, images: int) -> dict[str, float]:
    """Match so many images below `root` against the parts of one earlier run."""
    clock = Clock()
    before, work = root / "before", root / contract.WORK
    parts = -(-images // PART)
    with ProcessEngine(partial(int, 0)) as engine:
        engine.run("features", partial(_write_known, before, images), range(parts))
        clock.lap("write what is known")
        listing = _listing(images)
        sizes = [min(PART, images - start) for start in range(0, images, PART)]
        write_listing(work, listing, sizes)
        clock.lap("list")
        held = _peak()
        known = [_known(before, part, images) for part in range(parts)]
        card = replace(load_card(), features=FEATURES)
        carrying = CarryingPass(work, card, 10**9, "images", known)
        found = engine.run("carry over", carrying, range(parts))
        left = sum(int(one.unknown(size).sum()) for one, size in zip(found, sizes, strict=True))
        clock.lap("carry over")
    return {
        "images": images,
        "left": left,
        "slots": engine.slots,
        "seconds": clock.seconds["carry over"],
        "listing_bytes": held,
        "driver_bytes": _peak(),
    }


def _paths(start: int, end: int) -> list[str]:
    return [f"{number // 100_000:05d}/{number:09d}.jpg" for number in range(start, end)]


def _write_known(folder: Folder, images: int, part: int, _attempt: Attempt) -> None:
    start, end = part * PART, min(images, (part + 1) * PART)
    paths = _paths(start, end)
    n = len(paths)
    contents = [sha256(path.encode()).hexdigest() for path in paths]
    same = [[value] * n for value in (0, 50.0, 9, 9, "J")]
    columns = [paths, ["l"] * n, [9] * n, ["v"] * n, contents, *same]
    features = tables.as_lists(np.zeros((n, FEATURES), np.float32))
    schema = tables.features_schema(FEATURES)
    name = tables.part_name(part)
    tables.write_table(folder / contract.FEATURES, name, schema, [*columns, features], {})


def _known(folder: Folder, part: int, images: int) -> KnownPart:
    first, last = part * PART, min(images, (part + 1) * PART) - 1
    ends = _paths(first, first + 1)[0], _paths(last, last + 1)[0]
    return KnownPart(folder, tables.part_name(part), None, *ends, None, "any")


def _listing(images: int) -> Listing:
    found = pa.Table.from_batches(_blocks(images), ENTRIES)
    return Listing(found, np.arange(images, dtype=np.uint32), Counter())


def _blocks(images: int) -> Iterator[pa.RecordBatch]:
    block = 500_000
    for start in range(0, images, block):
        paths = _paths(start, min(images, start + block))
        columns = [paths, [9] * len(paths), ["v"] * len(paths)]
        yield pa.record_batch(columns, schema=ENTRIES)


def _peak() -> int:
    """Most bytes that this process, without its workers, has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    from benchmarks.matching import main as named  # whose functions workers find by name

    named()
