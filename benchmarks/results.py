"""What a benchmark found: the runs, and the numbers that the targets are about."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.programs import Run

GB = 1e9

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

    def seconds_for(self, images: int) -> float:
        """Time for `images` on the line through both sizes."""
        return self.large.seconds + (images - self.large.images) / self.slope


@dataclass(frozen=True)
class Results:
    """All runs of one benchmark.

    Attributes
    ----------
    ceilings, jobs
        In turn: ``ceilings[i]`` before and ``ceilings[i + 1]`` after ``jobs[i]``.
    fixed_costs
        The job on two images and an empty Spark job, pair by pair.
    slow_reads
        ``slow_reads[i]``, beside ``jobs[i].large``: the same with latency added to each read.
    notebook, script
        The rivals; the script at its best of `SCRIPT_RUNS`.
    """

    ceilings: list[TwoSizes]
    jobs: list[TwoSizes]
    fixed_costs: list[tuple[Run, Run]]
    slow_reads: list[Run]
    notebook: TwoSizes
    script: TwoSizes

    @property
    def ceiling_shares(self) -> list[float]:
        """Each job's slope over that of the ceilings around it."""
        around = zip(self.ceilings, self.ceilings[1:], strict=False)
        return [
            job.slope / mean([before.slope, after.slope])
            for job, (before, after) in zip(self.jobs, around, strict=True)
        ]

    @property
    def fixed_cost_ratios(self) -> list[float]:
        """The job's time on two images over the empty job's."""
        return [job.seconds / empty.seconds for job, empty in self.fixed_costs]

    @property
    def slow_read_shares(self) -> list[float]:
        """The featurize stage's rate with slow reads over its rate without."""
        pairs = zip(self.slow_reads, self.jobs, strict=True)
        return [featurize_rate(slow) / featurize_rate(job.large) for slow, job in pairs]

    @property
    def job_runs(self) -> list[Run]:
        """Every run of the job."""
        at_two_sizes = [run for job in self.jobs for run in job]
        return [job for job, _ in self.fixed_costs] + at_two_sizes + self.slow_reads

    def possible_ratios(self, rival: TwoSizes) -> tuple[float, float]:
        """Bounds of `slope_ratio` and `whole_ratio`: the ceiling, after an empty Spark job."""
        ceiling = median(pair.slope for pair in self.ceilings)
        start = median(empty.seconds for _, empty in self.fixed_costs)
        largest = self.jobs[0].large.images
        return ceiling / rival.slope, rival.seconds_for(largest) / (start + largest / ceiling)

    def slope_ratio(self, rival: TwoSizes) -> float:
        """How many times the rival's rate the job reaches, start-up aside."""
        return median(job.slope for job in self.jobs) / rival.slope

    def whole_ratio(self, rival: TwoSizes) -> float:
        """How many times longer than the whole job the whole rival takes on the job's images."""
        largest = self.jobs[0].large.images
        return rival.seconds_for(largest) / median(job.large.seconds for job in self.jobs)


@dataclass(frozen=True)
class Target:
    """A number to reach, and the one that was reached."""

    name: str
    wanted: str
    reached: str
    met: bool


def targets(results: Results) -> list[Target]:
    """Hold the results against what the job is to reach on two cores."""
    slope = median(results.ceiling_shares)
    fixed = median(results.fixed_cost_ratios)
    latency = median(results.slow_read_shares)
    pca = median(pca_share(job.large) for job in results.jobs)
    peak = max(run.peak_bytes for run in results.job_runs) / GB
    return [
        _rival_target(results, "the notebook shape", results.notebook, 15),
        _rival_target(results, "the single-machine script", results.script, 2.5),
        Target("the job's slope over the ceiling's", "≥ 95%", f"{slope:.1%}", slope >= 0.95),
        Target("the job on 2 images over an empty job", "≤ 1.5", f"{fixed:.2f}", fixed <= 1.5),
        Target("featurize's rate with 50 ms per read", "≥ 95%", f"{latency:.1%}", latency >= 0.95),
        Target("moments, fit and projection in the job", "< 5%", f"{pca:.1%}", pca < 0.05),
        Target("driver and workers resident, any size", "< 4 GB", f"{peak:.2f} GB", peak < 4),
    ]


def _rival_target(results: Results, name: str, rival: TwoSizes, wanted: float) -> Target:
    slope, whole = results.slope_ratio(rival), results.whole_ratio(rival)
    reached = f"{slope:.1f} by slope, {whole:.1f} whole"
    return Target(f"times {name}", f"≥ {wanted:g}", reached, min(slope, whole) >= wanted)


def featurize_rate(job: Run) -> float:
    """Images per second of the featurize stage alone."""
    return float(job.images / job.details["seconds"]["featurize"])


def pca_share(job: Run) -> float:
    """Moments, fit and projection as a share of the time in the job's receipt."""
    seconds = job.details["seconds"]
    return float((seconds["moments"] + seconds["fit"] + seconds["project"]) / seconds["total"])
