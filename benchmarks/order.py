"""The order in which the programs of one benchmark run."""

from __future__ import annotations

import logging
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from benchmarks import programs
from benchmarks.results import SCRIPT_RUNS, EngineResults, Pair, Results, Scale, Turn, TwoSizes
from benchmarks.subset import copy_subset

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.programs import Run

LOGGER = logging.getLogger("benchmarks")

PROCESSES = "processes"
SPARK = "spark"


class Benchmark:
    """The order of the runs: what is compared runs in turn, so that drift hits both."""

    def __init__(self, arguments: argparse.Namespace, paths: list[str], folder: Path) -> None:
        self._arguments = arguments
        sizes = {2, arguments.small, *(size for pair in sizes_of(arguments) for size in pair)}
        self._subsets = {size: copy_subset(arguments.images, paths, size, folder) for size in sizes}

    def run(self) -> Results:
        """Run everything that was asked for."""
        given = self._arguments
        pairs = {PROCESSES: self._beside_ceiling(), SPARK: self._beside_empty_job()}
        turns = self._turns()
        script = partial(programs.run_single_machine, weights=given.weights)
        notebook = partial(programs.run_notebook, weights=given.weights)
        return Results(
            processes=EngineResults(PROCESSES, pairs[PROCESSES], turns[PROCESSES]),
            spark=EngineResults(SPARK, pairs[SPARK], turns[SPARK]),
            script=self._fastest(script, given.script_sizes),
            notebook=self._two(notebook, given.notebook_sizes) if given.notebook else None,
            scale=self._scale(),
        )

    def _beside_ceiling(self) -> list[Pair]:
        size = self._arguments.small
        job = partial(programs.run_job, engine=PROCESSES)
        pairs = []
        for _ in range(self._arguments.pairs):
            ceiling = self._one(programs.run_ceiling, size)
            pairs.append(Pair(self._one(job, size), ceiling))
        return pairs

    def _beside_empty_job(self) -> list[Pair]:
        job = partial(programs.run_job, engine=SPARK)
        return [
            Pair(self._one(job, 2), _told(programs.run_empty_job()))
            for _ in range(self._arguments.pairs)
        ]

    def _turns(self) -> dict[str, list[Turn]]:
        turns: dict[str, list[Turn]] = {PROCESSES: [], SPARK: []}
        before = self._two(programs.run_ceiling, self._arguments.sizes)
        for number in range(self._arguments.rounds):
            for engine in turns:
                job, slow = self._job_and_slow_reads(engine, slow_first=number % 2 == 1)
                after = self._two(programs.run_ceiling, self._arguments.sizes)
                turns[engine].append(Turn(before, job, slow, after))
                before = after
        return turns

    def _job_and_slow_reads(self, engine: str, *, slow_first: bool) -> tuple[TwoSizes, Run]:
        sizes = self._arguments.sizes
        job = partial(programs.run_job, engine=engine)
        slow_reads = partial(programs.run_slow_reads, engine=engine)
        if slow_first:
            slow = self._one(slow_reads, sizes[1])
            return self._two(job, sizes), slow
        normal = self._two(job, sizes)
        return normal, self._one(slow_reads, sizes[1])

    def _scale(self) -> Scale:
        given = self._arguments
        few, many = given.rows
        refs = [_told(programs.run_refs(given.refs, source)) for source in ("folder", "manifest")]
        return Scale(
            refs=refs,
            rows=TwoSizes(_told(programs.run_rows(few)), _told(programs.run_rows(many))),
            settling=_told(programs.run_settling(given.parts)),
        )

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
    LOGGER.info("%-27s %10d %7.1f s", run.program, run.images, run.seconds)
    return run


def sizes_of(arguments: argparse.Namespace) -> list[list[int]]:
    """Every pair of sizes in images that is measured."""
    sizes = [arguments.sizes, arguments.script_sizes]
    return [*sizes, arguments.notebook_sizes] if arguments.notebook else sizes
