"""Results as a Markdown page that is also read on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.results import GB, SCRIPT_RUNS, featurize_rate, targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.programs import Run
    from benchmarks.results import Results, TwoSizes


@dataclass(frozen=True)
class Context:
    """What the results hold for."""

    date: str
    minutes: float
    available: int
    machine: dict[str, str]
    versions: dict[str, str]


def render(results: Results, context: Context) -> str:
    """Render the whole page."""
    slope, whole = results.possible_ratios(results.script)
    passes = results.notebook.large.details["inferred"] / results.notebook.large.images
    sections = [
        "# Benchmark results",
        f"Measured on {context.date} in {context.minutes:.0f} minutes, from {context.available:,} "
        "images. Reproduce with `make benchmark IMAGES=path/to/images WEIGHTS=path/to/no_top.h5`. "
        "Machines differ, so compare ratios within one run and not rates between runs.",
        _table(("", "machine"), context.machine.items()),
        "## Targets",
        _targets(results),
        "By slope: rates between two sizes, so without start-up. Whole: time of the rival, on the "
        "line through its two sizes, over the job's time at the job's larger size. No job on Spark "
        f"could pass {slope:.2f} times the single-machine script by slope and {whole:.2f} whole "
        "here: that is the ceiling's rate, without and after an empty Spark job's time.",
        "## Whole programs",
        _programs(results),
        "Each row is one program in fresh processes, timed from interpreter start to exit, at two "
        "sizes; memory is the sum over all its processes. The ceiling reads, decodes and infers "
        f"with the job's own code in a plain process per core. The notebook ran its network "
        f"{passes:.1f} times on each image, because each pass over uncached features does. Of the "
        f"single-machine script's {SCRIPT_RUNS} runs at each size the fastest counts.",
        "## The job by stage, in seconds",
        _stages(results),
        "Start and exit is what lies outside the receipt: imports before it, Spark's stop after "
        "it. The lower half adds up over the workers, which run side by side.",
        "## Fixed cost, pair by pair",
        _fixed_costs(results),
        "## 50 ms more for each read, pair by pair",
        _slow_reads(results),
        "## Versions",
        ", ".join(f"{name} {number}" for name, number in context.versions.items()),
    ]
    return "\n\n".join(sections) + "\n"


def _targets(results: Results) -> str:
    rows = [
        (target.name, target.wanted, target.reached, "met" if target.met else "**not met**")
        for target in targets(results)
    ]
    return _table(("target", "wanted", "reached", ""), rows)


def _programs(results: Results) -> str:
    rows = []
    for number, ceiling in enumerate(results.ceilings):
        rows.append(_program("ceiling", ceiling))
        if number < len(results.jobs):
            name = f"job ({results.ceiling_shares[number]:.1%} of the ceilings around it)"
            rows.append(_program(name, results.jobs[number]))
    rows.append(_program("single-machine script", results.script))
    rows.append(_program("notebook shape", results.notebook))
    return _table(("program", "images", "seconds", "images/s by slope", "peak memory"), rows)


def _program(name: str, pair: TwoSizes) -> tuple[str, ...]:
    return (
        name,
        " / ".join(f"{run.images:,}" for run in pair),
        " / ".join(f"{run.seconds:.1f}" for run in pair),
        f"{pair.slope:.1f}",
        " / ".join(f"{run.peak_bytes / GB:.2f} GB" for run in pair),
    )


def _stages(results: Results) -> str:
    columns = [
        [job for job, _ in results.fixed_costs],
        [job.small for job in results.jobs],
        [job.large for job in results.jobs],
    ]
    stages = [stage for stage in columns[0][0].details["seconds"] if stage != "total"]
    in_workers = columns[-1][-1].details["seconds_in_workers"]
    rows = [(stage, *_medians(columns, "seconds", stage)) for stage in stages]
    outside = [_median(map(_outside_receipt, column)) for column in columns]
    rows.append(("start and exit", *outside))
    rows.append(("**whole**", *(_median(run.seconds for run in column) for column in columns)))
    rows += [
        (f"workers: {part}", *_medians(columns, "seconds_in_workers", part)) for part in in_workers
    ]
    return _table(("stage", *(f"{column[0].images:,} images" for column in columns)), rows)


def _medians(columns: list[list[Run]], key: str, name: str) -> list[str]:
    return [_median(run.details[key].get(name, 0.0) for run in column) for column in columns]


def _outside_receipt(job: Run) -> float:
    return float(job.seconds - job.details["seconds"]["total"])


def _median(values: Iterable[float]) -> str:
    return f"{median(values):.2f}"


def _fixed_costs(results: Results) -> str:
    rows = [
        (f"{job.seconds:.2f}", f"{empty.seconds:.2f}", f"{ratio:.2f}")
        for (job, empty), ratio in zip(results.fixed_costs, results.fixed_cost_ratios, strict=True)
    ]
    return _table(("job on 2 images, s", "empty Spark job, s", "ratio"), rows)


def _slow_reads(results: Results) -> str:
    rows = []
    pairs = zip(results.slow_reads, results.jobs, strict=True)
    for (slow, job), share in zip(pairs, results.slow_read_shares, strict=True):
        rates = (f"{featurize_rate(slow):.1f}", f"{featurize_rate(job.large):.1f}")
        rows.append((f"{slow.images:,}", *rates, f"{share:.1%}"))
    return _table(("images", "featurize with slow reads, images/s", "without", "share"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns also line up as plain text."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)
