"""The job on images in a real S3 server: what a read costs, and what a slow or busy S3 does."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import s3_server
from benchmarks.measure import BenchmarkError
from benchmarks.order import PROCESSES, SPARK, run_two
from benchmarks.page import Section, Target, at_least_share, at_most, table
from benchmarks.programs import run_job, run_reading
from benchmarks.results import named
from rehearsal.aws.gate import Effect, Gate, Rule

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from benchmarks.programs import Run
    from benchmarks.results import TwoSizes
    from benchmarks.subset import Subsets

DELAY_SECONDS = 0.05
"""Added to every request, as an S3 that is far away or slow would."""

REFUSED_EVERY = 10
"""Of how many GETs one is answered 503."""

WITHOUT_READING = {"list and start", "moments", "fit", "project", "settle", "total"}
"""Stages of a receipt in which no image is read."""

TITLE = "From S3"


class Beside(NamedTuple):
    """The job on processes, at two sizes, on a disk and in S3."""

    disk: TwoSizes
    s3: TwoSizes

    @property
    def cpu_microseconds(self) -> float:
        """CPU time of the job's processes per image, S3 less disk."""
        return 1e6 * (self.s3.cpu_per_image - self.disk.cpu_per_image)


class Reading(NamedTuple):
    """Reading alone, on a disk and in S3."""

    disk: Run
    s3: Run

    @property
    def cpu_microseconds(self) -> float:
        """CPU time per image, S3 less disk."""
        disk, s3 = (run.details["cpu"] / run.details["images"] for run in self)
        return float(1e6 * (s3 - disk))


class Disturbed(NamedTuple):
    """The job on one engine, through the gate.

    Attributes
    ----------
    before, after
        Undisturbed; one turn's `after` is the next one's `before`.
    delayed, refused
        With `DELAY_SECONDS` added to each request; with one GET of `REFUSED_EVERY` answered 503.
    """

    before: Run
    delayed: Run
    refused: Run
    after: Run

    @property
    def rate(self) -> float:
        """Images per second, undisturbed."""
        return mean([reading_rate(self.before), reading_rate(self.after)])

    @property
    def delayed_share(self) -> float:
        """The rate with the delay, over that without."""
        return reading_rate(self.delayed) / self.rate

    @property
    def refused_share(self) -> float:
        """The rate with refused GETs, over that without."""
        return reading_rate(self.refused) / self.rate


@dataclass(frozen=True)
class FromS3:
    """Everything that was measured from S3.

    Attributes
    ----------
    reading
        Pairs of disk and S3, in which images are read and nothing else is done.
    beside
        Pairs of the whole job.
    disturbed
        Turns at the gate, by engine.
    """

    reading: list[Reading]
    beside: list[Beside]
    disturbed: dict[str, list[Disturbed]]


def run_from_s3(given: argparse.Namespace, subsets: Subsets, folder: Path) -> FromS3:
    """Run the job on images on a disk, in S3, and in S3 behind the gate.

    Raises
    ------
    NoServerError
        Where there is no S3 server, and no Go to build it with.
    BenchmarkError
        Where a disturbance was not felt, or cost images.
    """
    with ExitStack() as stack:
        server = stack.enter_context(s3_server.serve(folder / "s3"))
        uris = {size: server.upload(subsets[size]) for size in given.s3_sizes}
        size, environment = max(given.s3_sizes), s3_server.environment_for(server.url)
        reading = [
            Reading(
                run_reading(subsets[size], size, "disk"),
                run_reading(uris[size], size, "S3", environment),
            )
            for _ in range(given.pairs)
        ]
        beside = [
            _beside(given, subsets, uris, server.url, s3_first=number % 2 == 1)
            for number in range(given.pairs)
        ]
        gate = stack.enter_context(Gate(server.url))
        return FromS3(
            reading,
            beside,
            {
                engine: disturb(gate, uris[size], size, engine, given.rounds)
                for engine in (PROCESSES, SPARK)
            },
        )


def _beside(
    given: argparse.Namespace,
    subsets: Subsets,
    uris: dict[int, str],
    url: str,
    *,
    s3_first: bool,
) -> Beside:
    disk = partial(run_job, engine=PROCESSES)
    s3 = partial(disk, how="from S3", environment=s3_server.environment_for(url))
    if s3_first:
        from_s3 = run_two(s3, uris, given.s3_sizes)
        return Beside(run_two(disk, subsets, given.s3_sizes), from_s3)
    from_disk = run_two(disk, subsets, given.s3_sizes)
    return Beside(from_disk, run_two(s3, uris, given.s3_sizes))


def disturb(gate: Gate, uri: str, size: int, engine: str, rounds: int) -> list[Disturbed]:
    """Run the job on one engine through the gate, which does nothing, delays, or refuses.

    Raises
    ------
    BenchmarkError
        See `run_from_s3`.
    """
    turns = []
    before = _through(gate, uri, size, engine, "through the gate")
    for _ in range(rounds):
        gate.delay = DELAY_SECONDS
        delayed = _through(gate, uri, size, engine, "50 ms more per request")
        gate.delay = 0
        refusal = Rule(Effect.SLOW_DOWN, every=REFUSED_EVERY)
        gate.rules = [refusal]
        refused = _through(gate, uri, size, engine, "a tenth answered 503")
        gate.rules = []
        if refusal.met < size // REFUSED_EVERY:
            raise BenchmarkError(f"only {refusal.met} reads of {size:,} images were answered 503")
        after = _through(gate, uri, size, engine, "through the gate")
        for run in (delayed, refused):
            _require_as_many(run, before)
        turns.append(Disturbed(before, delayed, refused, after))
        before = after
    return turns


def _through(gate: Gate, uri: str, size: int, engine: str, how: str) -> Run:
    read = gate.requests["GET"]
    run = run_job(uri, size, engine, how=how, environment=s3_server.environment_for(gate.url))
    if gate.requests["GET"] < read + size:
        raise BenchmarkError(f"{run.program}: not every image was read through the gate")
    return run


def _require_as_many(disturbed: Run, undisturbed: Run) -> None:
    """Refuse a rate that was reached by giving images up."""
    lost, before = (run.details["counts"]["rejected"] for run in (disturbed, undisturbed))
    if lost != before:
        raise BenchmarkError(f"{disturbed.program}: {lost} images were rejected, and not {before}")


def reading_rate(job: Run) -> float:
    """Images per second of the stages that read images: featurize, and what it asks again."""
    seconds = job.details["seconds"]
    return float(job.images / sum(seconds[stage] for stage in seconds.keys() - WITHOUT_READING))


def from_s3_section(results: FromS3) -> Section:
    """Tell how the job fares from S3."""
    cost = median(pair.cpu_microseconds for pair in results.reading)
    targets = [at_most("reading: CPU per image, S3 less disk", 250, cost, "µs")]
    for engine, turns in results.disturbed.items():
        delayed = median(turn.delayed_share for turn in turns)
        refused = median(turn.refused_share for turn in turns)
        targets += [
            at_least_share(f"{named(engine)}: rate with 50 ms more per request", 0.95, delayed),
            at_least_share(
                f"{named(engine)}: rate with a tenth of GETs answered 503", 0.9, refused
            ),
        ]
    blocks = [
        f"The server is versitygw {s3_server.VERSION} on the same cores, so rates from it are "
        "lower than from S3 itself. CPU is user and system time; the server's is not in it. First "
        "the job's own reading by itself, in one process:",
        _reading_table(results.reading),
        "Then the whole job on processes, by slope. Inferring and decoding take some 12 ms of CPU "
        "per image, which differ by more from run to run than S3 adds.",
        _beside_table(results.beside),
        "Through a gate in front of the server, which passes requests on as they are, adds 50 ms "
        "to each, or answers every tenth GET of an image 503; images per second of the stages that "
        "read images. Shares are of the undisturbed runs before and after.",
        _disturbed_table(results.disturbed),
    ]
    return Section(TITLE, targets, blocks)


def skipped_section(why: str) -> Section:
    """Tell that there is no S3 server to measure with."""
    wanted = {
        "reading: CPU per image, S3 less disk": "≤ 250 µs",
        "rate with 50 ms more per request": "≥ 95%",
        "rate with a tenth of GETs answered 503": "≥ 90%",
    }
    targets = [Target(name, limit, f"skipped: {why}", None) for name, limit in wanted.items()]
    return Section(TITLE, targets, [])


def _reading_table(reading: list[Reading]) -> str:
    rows = [
        (
            f"{pair.disk.details['images']:,}",
            *(f"{1e6 * run.details['cpu'] / run.details['images']:.0f}" for run in pair),
            f"{pair.cpu_microseconds:.0f}",
            *(f"{run.details['images'] / run.details['seconds']:.0f}" for run in pair),
        )
        for pair in reading
    ]
    header = (
        *("images", "CPU per image, disk, µs", "S3, µs", "S3 less disk, µs"),
        *("images/s, disk", "S3"),
    )
    return table(header, rows)


def _beside_table(beside: list[Beside]) -> str:
    rows = [
        (
            " / ".join(f"{run.images:,}" for run in pair.s3),
            *(f"{1e3 * each.cpu_per_image:.2f}" for each in pair),
            f"{pair.cpu_microseconds:.0f}",
            *(f"{each.slope:.1f}" for each in pair),
        )
        for pair in beside
    ]
    header = (
        *("images", "CPU per image, disk, ms", "S3, ms", "S3 less disk, µs"),
        *("images/s by slope, disk", "S3"),
    )
    return table(header, rows)


def _disturbed_table(disturbed: dict[str, list[Disturbed]]) -> str:
    rows = [
        (
            turn.before.program.partition(", through")[0],
            f"{turn.before.images:,}",
            f"{turn.rate:.1f}",
            f"{reading_rate(turn.delayed):.1f} ({turn.delayed_share:.1%})",
            f"{reading_rate(turn.refused):.1f} ({turn.refused_share:.1%})",
        )
        for turns in disturbed.values()
        for turn in turns
    ]
    header = ("program", "images", "undisturbed, images/s", "50 ms more", "a tenth answered 503")
    return table(header, rows)
