"""What the page says of the job on both engines, and of what needs no images."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.page import Section, gigabytes, table
from benchmarks.results import SCRIPT_RUNS, engine_targets, scale_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.programs import Run
    from benchmarks.results import EngineResults, Engines, Scale, TwoSizes


def engines_section(results: Engines) -> Section:
    """Tell how the job fares on either engine."""
    processes, spark = results.processes, results.spark
    blocks = [
        "A rival's time is taken from the line through its two sizes. The ceiling is "
        f"{results.ceiling_whole_ratio:.2f} times as fast as the single-machine script."
        + _on_the_notebook(results),
        "### Whole programs",
        _programs(results),
        "Each row is one program in fresh processes, timed from interpreter start to exit, at two "
        "sizes; memory is the sum over all its processes. Job and ceiling take turns; a job's "
        f"share is of the ceilings around it. Of the single-machine script's {SCRIPT_RUNS} runs at "
        "each size the fastest counts.",
        "### The job on processes by stage, in seconds",
        _stages(processes),
        "### The job on Spark by stage, in seconds",
        _stages(spark),
        "Start and exit is what lies outside the receipt: imports before it, the engine's stop "
        "after it. The lower half adds up over the workers, which run side by side.",
        "### Small batches, pair by pair",
        _pairs(processes, "ceiling"),
        _pairs(spark, "empty Spark job"),
    ]
    return Section("The job on both engines", engine_targets(results), blocks)


def scale_section(scale: Scale) -> Section:
    """Tell what many references, rows and parts take."""
    blocks = [
        _scale(scale),
        "References are listed from a folder, with sizes and versions as S3 gives them, and from a "
        "Parquet manifest; then planned, written and read back part by part, all in one process. "
        "The rows are random features in parts of 1,024, reduced by the job's own passes on "
        "processes; peaks are of the driver and of the largest worker. Settling copies, writes "
        "the receipts, publishes and cleans up.",
    ]
    return Section("Without images", scale_targets(scale), blocks)


def _on_the_notebook(results: Engines) -> str:
    if results.notebook is None:
        return (
            " The notebook shape, which takes nine minutes, was not measured "
            "(`ARGS=--notebook` measures it)."
        )
    passes = results.notebook.large.details["inferred"] / results.notebook.large.images
    return (
        f" The notebook ran its network {passes:.1f} times on each image, because each pass over "
        "uncached features does."
    )


def _programs(results: Engines) -> str:
    rows = [_program("ceiling", results.ceilings[0])]
    for turn in results.turns:
        name = f"{turn.job.large.program} ({turn.ceiling_share:.1%} of the ceilings around it)"
        rows += [_program(name, turn.job), _program("ceiling", turn.after)]
    rows.append(_program("single-machine script", results.script))
    if results.notebook is not None:
        rows.append(_program("notebook shape", results.notebook))
    return table(("program", "images", "seconds", "images/s by slope", "peak memory"), rows)


def _program(name: str, pair: TwoSizes) -> tuple[str, ...]:
    return (
        name,
        " / ".join(f"{run.images:,}" for run in pair),
        " / ".join(f"{run.seconds:.1f}" for run in pair),
        f"{pair.slope:.1f}",
        " / ".join(gigabytes(run.peak_bytes) for run in pair),
    )


def _stages(engine: EngineResults) -> str:
    columns = [
        [pair.job for pair in engine.pairs],
        [turn.job.small for turn in engine.turns],
        [turn.job.large for turn in engine.turns],
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
    return table(("stage", *(f"{column[0].images:,} images" for column in columns)), rows)


def _medians(columns: list[list[Run]], key: str, name: str) -> list[str]:
    return [_median(run.details[key].get(name, 0.0) for run in column) for column in columns]


def _outside_receipt(job: Run) -> float:
    return float(job.seconds - job.details["seconds"]["total"])


def _median(values: Iterable[float]) -> str:
    return f"{median(values):.2f}"


def _pairs(engine: EngineResults, other: str) -> str:
    job = engine.pairs[0].job
    rows = [
        (f"{pair.job.seconds:.2f}", f"{pair.other.seconds:.2f}", f"{pair.ratio:.2f}")
        for pair in engine.pairs
    ]
    return table((f"{job.program}, {job.images:,} images, s", f"{other}, s", "ratio"), rows)


def _scale(scale: Scale) -> str:
    rows: list[Sequence[str]] = [
        (run.program, f"{run.images:,}", gigabytes(run.details["peak_bytes"]), "", _steps(run))
        for run in scale.refs
    ]
    for run in scale.rows:
        peaks = (gigabytes(run.details[f"{who}_bytes"]) for who in ("driver", "worker"))
        rows.append((run.program, f"{run.images:,}", *peaks, _steps(run)))
    settling = scale.settling
    rows.append((settling.program, f"{settling.images:,}", "", "", _steps(settling)))
    return table(("what", "how many", "driver's peak", "a worker's", "seconds"), rows)


def _steps(run: Run) -> str:
    return ", ".join(f"{step} {value:.1f}" for step, value in run.details["seconds"].items())
