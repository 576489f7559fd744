"""What was found of the job on both engines, and without images: the runs, and their ratios."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.page import Target, at_least_share, at_most

if TYPE_CHECKING:
    from benchmarks.programs import Run

SCRIPT_RUNS = 5
"""Runs of the single-machine script at each size, of which the fastest counts.

TensorFlow's threads work side by side in some runs and wait for each other in others, at the same
CPU time: 36 or 54 s on the same images, and the job is held against its rival's best.
"""


class TwoSizes(NamedTuple):
    """A program on a small and on a large subset, one right after the other."""

    small: Run
    large: Run

    @property
    def slope(self) -> float:
        """Images per second between the two sizes, so without start-up; NaN where there is none."""
        seconds = self.large.seconds - self.small.seconds
        return (self.large.images - self.small.images) / seconds if seconds > 0 else float("nan")

    @property
    def cpu_per_image(self) -> float:
        """CPU seconds per image between the two sizes, so without start-up."""
        seconds = self.large.cpu_seconds - self.small.cpu_seconds
        return seconds / (self.large.images - self.small.images)

    def seconds_for(self, images: int) -> float:
        """Time for `images` on the line through both sizes."""
        return self.large.seconds + (images - self.large.images) / self.slope


class Turn(NamedTuple):
    """The job on one engine, beside the ceiling.

    Attributes
    ----------
    before, after
        The ceiling; one turn's `after` is the next one's `before`.
    job
        Between them.
    """

    before: TwoSizes
    job: TwoSizes
    after: TwoSizes

    @property
    def ceiling_share(self) -> float:
        """The job's slope over that of the ceilings around it."""
        return self.job.slope / mean([self.before.slope, self.after.slope])


class Pair(NamedTuple):
    """The job beside another program on as many images."""

    job: Run
    other: Run

    @property
    def ratio(self) -> float:
        """The job's time over the other's."""
        return self.job.seconds / self.other.seconds


@dataclass(frozen=True)
class EngineResults:
    """The job on one engine.

    Attributes
    ----------
    engine
        ``processes`` or ``spark``.
    pairs
        Small batches: beside the ceiling on as many images, or beside an empty Spark job.
    turns
        At two sizes, beside the ceiling.
    """

    engine: str
    pairs: list[Pair]
    turns: list[Turn]

    @property
    def jobs(self) -> list[Run]:
        """Every run of the job."""
        turns = [run for turn in self.turns for run in turn.job]
        return [pair.job for pair in self.pairs] + turns

    @property
    def largest(self) -> int:
        """Images of the larger size."""
        return self.turns[0].job.large.images

    def whole_ratio(self, rival: TwoSizes) -> float:
        """How many times longer than the whole job the whole rival takes on the job's images."""
        return rival.seconds_for(self.largest) / median(
            turn.job.large.seconds for turn in self.turns
        )

    def slope_ratio(self, rival: TwoSizes) -> float:
        """How many times the rival's rate the job reaches, start-up aside."""
        return median(turn.job.slope for turn in self.turns) / rival.slope


@dataclass(frozen=True)
class Scale:
    """What does not need images.

    Attributes
    ----------
    refs
        References listed, planned and read back: of a folder, and of a manifest.
    rows
        Rows reduced, few and many.
    settling
        A run of many parts settled.
    """

    refs: list[Run]
    rows: TwoSizes
    settling: Run

    def growth(self, who: str) -> float:
        """Peak memory at the many rows over that at the few, of the ``driver`` or a ``worker``."""
        few, many = (float(run.details[f"{who}_bytes"]) for run in self.rows)
        return many / few


@dataclass(frozen=True)
class Engines:
    """The job on both engines, and what it is held against.

    Attributes
    ----------
    processes, spark
        The job on either engine.
    script, notebook
        The rivals: the script at its best of `SCRIPT_RUNS`; the notebook None where it was not
        asked for.
    """

    processes: EngineResults
    spark: EngineResults
    script: TwoSizes
    notebook: TwoSizes | None

    @property
    def turns(self) -> list[Turn]:
        """Those of both engines, in the order in which they were taken."""
        both = zip(self.processes.turns, self.spark.turns, strict=True)
        return [turn for pair in both for turn in pair]

    @property
    def ceilings(self) -> list[TwoSizes]:
        """Each run of the ceiling at two sizes, once."""
        return [self.turns[0].before, *(turn.after for turn in self.turns)]

    @property
    def ceiling_whole_ratio(self) -> float:
        """How many times longer than the whole ceiling the whole script takes."""
        seconds = median(ceiling.large.seconds for ceiling in self.ceilings)
        return self.script.seconds_for(self.processes.largest) / seconds


def engine_targets(results: Engines) -> list[Target]:
    """Hold the engines against what the job is to reach on two cores."""
    processes, spark = results.processes, results.spark
    images = processes.pairs[0].job.images
    found = [
        at_most(
            f"processes on {images:,} images over the ceiling, whole programs",
            2.2,
            median(pair.ratio for pair in processes.pairs),
        ),
        at_least_share("processes: slope over the ceiling's", 0.97, _ceiling_share(processes)),
        _script_target(results),
        at_least_share("Spark: slope over the ceiling's", 0.95, _ceiling_share(spark)),
        at_most("Spark on 2 images over an empty job", 1.1, median(p.ratio for p in spark.pairs)),
        _pca_target(spark),
    ]
    for engine in (processes, spark):
        peak = max(run.peak_bytes for run in engine.jobs) / 1e9
        name = f"{named(engine.engine)}: driver and workers resident, any size"
        found.append(Target(name, "< 4 GB", f"{peak:.2f} GB", peak < 4))
    if results.notebook is not None:
        slope = processes.slope_ratio(results.notebook)
        whole = processes.whole_ratio(results.notebook)
        reached = f"{slope:.1f} by slope, {whole:.1f} whole"
        met = min(slope, whole) >= 15
        found.append(Target("processes: times the notebook shape", "≥ 15", reached, met))
    return found


def scale_targets(scale: Scale) -> list[Target]:
    """Hold what does not need images against memory and time."""
    refs = max(float(run.details["peak_bytes"]) for run in scale.refs) / 1e9
    listed = f"driver resident, {scale.refs[0].images:,} references"
    few, many = (f"{run.images:,}" for run in scale.rows)
    seconds = scale.settling.details["seconds"]["total"]
    name = f"settling {scale.settling.images:,} parts on a disk"
    return [
        Target(listed, "< 1.5 GB", f"{refs:.2f} GB", refs < 1.5),
        *(
            at_most(f"{who}'s memory at {many} rows over that at {few}", 1.15, scale.growth(who))
            for who in ("driver", "worker")
        ),
        Target(name, "< 60 s", f"{seconds:.1f} s", seconds < 60),
    ]


def _ceiling_share(engine: EngineResults) -> float:
    return median(turn.ceiling_share for turn in engine.turns)


def _script_target(results: Engines) -> Target:
    """Hold the job against the script; where the ceiling hardly passes it, against the ceiling."""
    reached, possible = results.processes.whole_ratio(results.script), results.ceiling_whole_ratio
    name = "processes: times the single-machine script, whole"
    if possible >= 2.6:
        return Target(name, "≥ 2.5", f"{reached:.2f}", reached >= 2.5)
    wanted = f"≥ 96% of the ceiling's {possible:.2f}"
    share = reached / possible
    return Target(name, wanted, f"{reached:.2f}, {share:.1%}", share >= 0.96)


def _pca_target(engine: EngineResults) -> Target:
    share = median(pca_share(turn.job.large) for turn in engine.turns)
    name = f"{named(engine.engine)}: moments, fit and projection"
    return Target(name, "< 5%", f"{share:.1%}", share < 0.05)


def named(engine: str) -> str:
    """Name an engine as a person does."""
    return {"processes": "processes", "spark": "Spark"}[engine]


def pca_share(job: Run) -> float:
    """Moments, fit and projection as a share of the time in the job's receipt."""
    seconds = job.details["seconds"]
    return float((seconds["moments"] + seconds["fit"] + seconds["project"]) / seconds["total"])
