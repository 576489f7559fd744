"""The order in which programs run: what is compared runs in turn, so that drift hits both."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from benchmarks import programs
from benchmarks.results import SCRIPT_RUNS, EngineResults, Engines, Pair, Scale, Turn, TwoSizes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.programs import Images, Run
    from benchmarks.subset import Subsets

    Program = Callable[[Images, int], Run]

PROCESSES = "processes"
SPARK = "spark"


def run_engines(given: argparse.Namespace, subsets: Subsets) -> Engines:
    """Run the job on both engines beside the ceiling and its rivals."""
    pairs = {PROCESSES: _beside_ceiling(given, subsets), SPARK: _beside_empty_job(given, subsets)}
    turns = _turns(given, subsets)
    script = partial(programs.run_single_machine, weights=given.weights)
    notebook = partial(programs.run_notebook, weights=given.weights)
    return Engines(
        processes=EngineResults(PROCESSES, pairs[PROCESSES], turns[PROCESSES]),
        spark=EngineResults(SPARK, pairs[SPARK], turns[SPARK]),
        script=_fastest(script, subsets, given.script_sizes),
        notebook=run_two(notebook, subsets, given.notebook_sizes) if given.notebook else None,
    )


def run_scale(given: argparse.Namespace) -> Scale:
    """Run what does not need images."""
    few, many = given.rows
    return Scale(
        refs=[programs.run_refs(given.refs, source) for source in ("folder", "manifest")],
        rows=TwoSizes(programs.run_rows(few), programs.run_rows(many)),
        settling=programs.run_settling(given.parts),
    )


def run_two(program: Program, where: Mapping[int, Images], sizes: Sequence[int]) -> TwoSizes:
    """Run a program on a small and a large number of images, which lie at ``where[size]``."""
    small, large = sizes
    return TwoSizes(program(where[small], small), program(where[large], large))


def _beside_ceiling(given: argparse.Namespace, subsets: Subsets) -> list[Pair]:
    size = given.small
    pairs = []
    for _ in range(given.pairs):
        ceiling = programs.run_ceiling(subsets[size], size)
        pairs.append(Pair(programs.run_job(subsets[size], size, PROCESSES), ceiling))
    return pairs


def _beside_empty_job(given: argparse.Namespace, subsets: Subsets) -> list[Pair]:
    return [
        Pair(programs.run_job(subsets[2], 2, SPARK), programs.run_empty_job())
        for _ in range(given.pairs)
    ]


def _turns(given: argparse.Namespace, subsets: Subsets) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {PROCESSES: [], SPARK: []}
    before = run_two(programs.run_ceiling, subsets, given.sizes)
    for _ in range(given.rounds):
        for engine in turns:
            job = run_two(partial(programs.run_job, engine=engine), subsets, given.sizes)
            after = run_two(programs.run_ceiling, subsets, given.sizes)
            turns[engine].append(Turn(before, job, after))
            before = after
    return turns


def _fastest(program: Program, subsets: Subsets, sizes: Sequence[int]) -> TwoSizes:
    runs = [run_two(program, subsets, sizes) for _ in range(SCRIPT_RUNS)]
    seconds = attrgetter("seconds")
    small = min((run.small for run in runs), key=seconds)
    return TwoSizes(small, min((run.large for run in runs), key=seconds))


def sizes_of(given: argparse.Namespace) -> list[list[int]]:
    """Every pair of sizes in images that is measured on both engines."""
    sizes = [given.sizes, given.script_sizes]
    return [*sizes, given.notebook_sizes] if given.notebook else sizes
