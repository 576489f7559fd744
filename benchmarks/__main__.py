"""``python -m benchmarks``: measure the job against its ceiling and its rivals, in one run."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import programs
from benchmarks.machine import describe_machine, describe_versions, is_busy
from benchmarks.measure import BenchmarkError
from benchmarks.report import Context, render
from benchmarks.results import SCRIPT_RUNS, Results, TwoSizes
from benchmarks.subset import copy_subset, list_paths
from spark_job.errors import JobError
from spark_job.networks import load_provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.programs import Run

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
            results = _Benchmark(arguments, paths, Path(folder)).run()
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


class _Benchmark:
    """The order of the runs: what is compared runs in turn, so that drift hits both."""

    def __init__(self, arguments: argparse.Namespace, paths: list[str], folder: Path) -> None:
        self._arguments = arguments
        given = (*arguments.sizes, *arguments.script_sizes, *arguments.notebook_sizes)
        self._subsets = {
            size: copy_subset(arguments.images, paths, size, folder) for size in {2, *given}
        }

    def run(self) -> Results:
        given = self._arguments
        fixed_costs = [self._fixed_cost() for _ in range(given.pairs)]
        ceilings = [self._two(programs.run_ceiling, given.sizes)]
        jobs = []
        slow_reads = []
        for number in range(given.rounds):
            job, slow = self._job_and_slow_reads(slow_first=number % 2 == 1)
            jobs.append(job)
            slow_reads.append(slow)
            ceilings.append(self._two(programs.run_ceiling, given.sizes))
        script = partial(programs.run_single_machine, weights=given.weights)
        notebook = partial(programs.run_notebook, weights=given.weights)
        return Results(
            ceilings=ceilings,
            jobs=jobs,
            fixed_costs=fixed_costs,
            slow_reads=slow_reads,
            script=self._fastest(script, given.script_sizes),
            notebook=self._two(notebook, given.notebook_sizes),
        )

    def _fixed_cost(self) -> tuple[Run, Run]:
        return self._one(programs.run_job, 2), _told(programs.run_empty_job())

    def _job_and_slow_reads(self, *, slow_first: bool) -> tuple[TwoSizes, Run]:
        sizes = self._arguments.sizes
        if slow_first:
            slow = self._one(programs.run_slow_reads, sizes[1])
            return self._two(programs.run_job, sizes), slow
        job = self._two(programs.run_job, sizes)
        return job, self._one(programs.run_slow_reads, sizes[1])

    def _two(self, program: Callable[[Path, int], Run], sizes: list[int]) -> TwoSizes:
        small, large = sizes
        return TwoSizes(self._one(program, small), self._one(program, large))

    def _fastest(self, program: Callable[[Path, int], Run], sizes: list[int]) -> TwoSizes:
        runs = [self._two(program, sizes) for _ in range(SCRIPT_RUNS)]
        seconds = attrgetter("seconds")
        small = min((run.small for run in runs), key=seconds)
        return TwoSizes(small, min((run.large for run in runs), key=seconds))

    def _one(self, program: Callable[[Path, int], Run], size: int) -> Run:
        return _told(program(self._subsets[size], size))


def _told(run: Run) -> Run:
    LOGGER.info("%-21s %6d images %7.1f s", run.program, run.images, run.seconds)
    return run


def _check(arguments: argparse.Namespace, available: int) -> None:
    """Find what would otherwise fail after minutes."""
    for sizes in (arguments.sizes, arguments.script_sizes, arguments.notebook_sizes):
        if not 2 <= sizes[0] < sizes[1] <= available:
            raise BenchmarkError(
                f"sizes {sizes[0]} and {sizes[1]} are not a smaller and a larger number of images "
                f"from 2 to the {available:,} in {arguments.images}"
            )
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
    number = partial(parser.add_argument, type=int, metavar="N")
    number("--rounds", default=2, help="how often job and ceiling take turns")
    number("--pairs", default=4, help="how often the job on 2 images and the empty job take turns")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/RESULTS.md"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
