"""The limit: a plain process per core that reads, decodes and infers, and does nothing else."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from pathlib import Path

from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.networks import DEFAULT
from spark_job.networks.extractor import shared_extractor


def main() -> None:
    """Featurize every image of a folder and forget the features."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceiling", description=main.__doc__)
    parser.add_argument("--images", required=True)
    images = Path(parser.parse_args().images)
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    processes = len(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")
    started = [
        spawn.Process(target=featurize, args=(paths[share::processes],))
        for share in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise SystemExit("a process of the ceiling failed")


def featurize(paths: list[Path]) -> None:
    """Read, decode and infer with the job's own code."""
    extract = shared_extractor(DEFAULT)
    for path in paths:
        try:
            decoded = decode(path.read_bytes(), extract.card, max_pixels=64_000_000)
        except RejectedImageError:
            continue
        extract(decoded.pixels)


if __name__ == "__main__":
    main()
