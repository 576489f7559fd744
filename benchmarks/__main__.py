"""``python -m benchmarks``: measure the job against its ceiling and its rivals, in one run."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from time import perf_counter

from benchmarks.machine import describe_machine, describe_versions, is_busy
from benchmarks.measure import BenchmarkError
from benchmarks.order import Benchmark, sizes_of
from benchmarks.report import Context, render
from benchmarks.rows import require_space
from benchmarks.subset import list_paths
from spark_job.errors import JobError
from spark_job.networks import load_provenance

LOGGER = logging.getLogger("benchmarks")


def main() -> int:
    """Run all programs, print the page and write it."""
    arguments = _parser().parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    try:
        paths = list_paths(arguments.images)
        _check(arguments, len(paths))
        machine = describe_machine()
        if is_busy():
            LOGGER.warning("this machine is busy already, which distorts the ratios")
        started = perf_counter()
        with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
            results = Benchmark(arguments, paths, Path(folder)).run()
        minutes = (perf_counter() - started) / 60
    except (BenchmarkError, JobError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; nothing was written", file=sys.stderr)
        return 130
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    page = render(results, Context(date, minutes, len(paths), machine, describe_versions()))
    print(page)
    arguments.output.write_text(page, "utf-8")
    return 0


def _check(arguments: argparse.Namespace, available: int) -> None:
    """Find what would otherwise fail after minutes."""
    for sizes in sizes_of(arguments):
        if not 2 <= sizes[0] < sizes[1] <= available:
            raise BenchmarkError(
                f"sizes {sizes[0]} and {sizes[1]} are not a smaller and a larger number of images "
                f"from 2 to the {available:,} in {arguments.images}"
            )
    if not 2 <= arguments.small <= available:
        raise BenchmarkError(
            f"--small {arguments.small} is not a number of images from 2 to the {available:,} in "
            f"{arguments.images}"
        )
    require_space(Path(gettempdir()), max(arguments.rows))
    if not arguments.output.parent.is_dir():
        raise BenchmarkError(f"there is no folder {arguments.output.parent} to write to")
    try:
        found = hashlib.sha256(Path(arguments.weights).read_bytes()).hexdigest()
    except OSError as error:
        raise BenchmarkError(f"cannot read the weights {arguments.weights}: {error}") from error
    weights = load_provenance()["weights"]
    if found != weights["sha256"]:
        raise BenchmarkError(
            f"{arguments.weights} are not the weights of the job's network; take Keras' "
            f"{weights['file']}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--images", required=True, help="folder of labelled JPEG images")
    parser.add_argument(
        "--weights", required=True, help="Keras' MobileNetV2 weights without classifier, .h5"
    )
    sizes = partial(parser.add_argument, nargs=2, type=int, metavar=("SMALL", "LARGE"))
    sizes("--sizes", default=[2_000, 20_000], help="images for the ceiling and the job")
    sizes("--script-sizes", default=[1_024, 4_096], help="images for the single-machine script")
    sizes("--notebook-sizes", default=[512, 2_048], help="images for the notebook shape")
    parser.add_argument("--notebook", action="store_true", help="also the notebook shape: 9 min")
    sizes("--rows", default=[100_000, 1_000_000], help="synthetic rows to reduce")
    number = partial(parser.add_argument, type=int, metavar="N")
    number("--small", default=300, help="images of the small batch on processes")
    number(
        "--rounds", default=2, help="how often the job on each engine and the ceiling take turns"
    )
    number("--pairs", default=5, help="how often small batches and what they are held against do")
    number("--refs", default=10_000_000, help="references to list")
    number("--parts", default=10_000, help="parts to settle")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/RESULTS.md"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
