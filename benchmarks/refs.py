"""Ten million references, listed, planned and read back part by part: the driver's memory.

``write`` makes the manifest in a process of its own, so that only ``read`` is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

import spark_job.pipeline  # noqa: F401  its imports are part of what the driver holds
from spark_job.listing import list_images, plan_parts, read_manifest, read_part, write_listing
from spark_job.objects import Entry, LocalFolder, open_folder
from spark_job.receipts import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = 131
"""As many as Fruits-360 has."""

SLOTS = 64
"""Of a large cluster: the more, the more small parts there are at the end."""

BLOCK = 1_000_000
"""References that are written at a time."""


def main() -> None:
    """Write a manifest, or list, plan and read back; prints what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refs", description=main.__doc__)
    parser.add_argument("act", choices=("write", "manifest", "folder"))
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--refs", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.act == "write":
        write_manifest(arguments.manifest, arguments.refs)
    else:
        print(json.dumps(list_and_read_back(arguments.act, arguments.manifest, arguments.refs)))


def write_manifest(manifest: Path, refs: int) -> None:
    """Write a manifest of so many paths, which are not in order."""
    schema = pa.schema([("path", pa.string())])
    with parquet.ParquetWriter(manifest, schema) as writer:
        for start in range(0, refs, BLOCK):
            paths = [_path(number) for number in range(start, min(start + BLOCK, refs))]
            writer.write_table(pa.table([paths], schema=schema))


def list_and_read_back(source: str, manifest: Path, refs: int) -> dict[str, object]:
    """Do with the references what the job's driver does, and what its workers do after it."""
    clock = Clock()
    images: LocalFolder = _Bucket("/images", "/images", refs)
    is_listed = source == "folder"
    listing = list_images(images) if is_listed else read_manifest(str(manifest), images)
    clock.lap("list")
    parts = plan_parts(len(listing), SLOTS, listing.mean_bytes)
    clock.lap("plan")
    with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
        work = open_folder(folder)
        write_listing(work, listing, parts)
        clock.lap("write")
        # Workers read the parts back, and their memory is their own.
        peak = _peak()
        del listing
        read = sum(len(read_part(work, part)) for part in range(len(parts)))
        clock.lap("read back")
    if read != refs:
        sys.exit(f"{read:,} references were read back of {refs:,}")
    return {
        "refs": refs,
        "parts": len(parts),
        "peak_bytes": peak,
        "peak_bytes_with_reading": _peak(),
        "seconds": clock.seconds,
    }


@dataclass(frozen=True)
class _Bucket(LocalFolder):
    """A folder that names files without having them: sizes, and versions as S3 gives them."""

    refs: int

    def entries(self) -> Iterator[Entry]:
        """Name every file, in no particular order."""
        for number in range(self.refs):
            yield Entry(_path(number), 20_000 + number % 9_999, f'"{number:032x}"')


def _path(number: int) -> str:
    """Name image so-and-so: labels take turns, so that the names are not in order."""
    return f"label-{number % LABELS:03d}/photograph-{number * 7_919 % 1_000_003:07d}-{number}.jpg"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
