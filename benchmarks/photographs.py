"""The job on real photographs, where decoding counts: scaled in the decoder, or in full."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from benchmarks.order import PROCESSES, run_two
from benchmarks.page import Section, at_least, at_least_share, table
from benchmarks.programs import run_ceiling, run_job, run_scaling
from benchmarks.subset import copy_subset, list_paths, spread

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from benchmarks.programs import Run
    from benchmarks.results import TwoSizes

FULL_DECODE = "--full-decode"
"""The job's option to decode every pixel, whatever the network takes."""

LARGE_PIXELS = 4000, 3000
"""Width and height of a photograph as phones take them."""

LARGE_QUALITY = 90

LARGE_KINDS = 24
"""Different large photographs, which take a second each to make."""


class Repeats(dict[int, Path]):
    """Folders of photographs by size, larger than there are photographs: hard links repeat them.

    Parameters
    ----------
    photographs
        A folder on the file system of `into`.
    into
        Where the folders are made, each when it is first asked for.
    """

    def __init__(self, photographs: Path, into: Path) -> None:
        super().__init__()
        self._photographs = photographs
        self._paths = list_paths(str(photographs))
        self._into = into

    def __missing__(self, size: int) -> Path:
        """Link `size` names to the photographs, each as often as any other but for the rest."""
        folder = self._into / f"{self._photographs.name}-{size}"
        whole, rest = divmod(size, len(self._paths))
        for repeat in range(whole + 1):
            for path in self._paths if repeat < whole else spread(self._paths, rest):
                original = self._photographs / path
                link = folder / path
                link = link.with_stem(f"{link.stem}-{repeat:04d}")
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(original, link)
        self[size] = folder
        return folder


class Turn(NamedTuple):
    """The job on photographs, beside the ceiling and beside itself with `FULL_DECODE`.

    Attributes
    ----------
    before, after
        The ceiling, which decodes as the job does; one turn's `after` is the next one's `before`.
    job, full
        Between them.
    """

    before: TwoSizes
    job: TwoSizes
    full: TwoSizes
    after: TwoSizes

    @property
    def ceiling_share(self) -> float:
        """The job's slope over that of the ceilings around it."""
        return self.job.slope / mean([self.before.slope, self.after.slope])


class Large(NamedTuple):
    """The job on large photographs, and beside it with `FULL_DECODE`."""

    job: TwoSizes
    full: TwoSizes


@dataclass(frozen=True)
class Photographs:
    """Everything that was measured on photographs.

    Attributes
    ----------
    turns, large
        On photographs as they are, and on large ones.
    scaling
        What scaling does to the features.
    """

    turns: list[Turn]
    large: list[Large]
    scaling: Run


def run_photographs(given: argparse.Namespace, folder: Path) -> Photographs:
    """Run the job on photographs as they are and on large ones."""
    paths = list_paths(given.photographs)
    originals = copy_subset(given.photographs, paths, len(paths), folder / "photographs")
    repeats = Repeats(originals, folder / "repeated")
    large = Repeats(make_large(originals, folder / "large"), folder / "repeated")
    job = partial(run_job, engine=PROCESSES)

    def full(images: Path | str, size: int) -> Run:
        return run_job(images, size, PROCESSES, FULL_DECODE, how="full decode")

    turns, on_large = [], []
    before = run_two(run_ceiling, repeats, given.photograph_sizes)
    for _ in range(given.rounds):
        scaled = run_two(job, repeats, given.photograph_sizes)
        unscaled = run_two(full, repeats, given.photograph_sizes)
        after = run_two(run_ceiling, repeats, given.photograph_sizes)
        turns.append(Turn(before, scaled, unscaled, after))
        before = after
        on_large.append(
            Large(run_two(job, large, given.large_sizes), run_two(full, large, given.large_sizes))
        )
    return Photographs(turns, on_large, run_scaling(originals, len(paths)))


def make_large(photographs: Path, folder: Path, kinds: int = LARGE_KINDS) -> Path:
    """Make `LARGE_PIXELS` JPEG files of up to `kinds` photographs, spread over them; their folder.

    Enlarged photographs have less detail than a phone's, but as many pixels to decode.
    """
    paths: Sequence[str] = list_paths(str(photographs))
    for path in spread(paths, min(kinds, len(paths))):
        copy = (folder / path).with_suffix(".jpg")
        copy.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(photographs / path) as image:
            large = image.convert("RGB").resize(LARGE_PIXELS)
        large.save(copy, "JPEG", quality=LARGE_QUALITY)
    return folder


def photographs_section(results: Photographs) -> Section:
    """Tell how the job fares on photographs."""
    targets = [
        at_least_share(
            "photographs: slope over the ceiling's",
            0.95,
            median(turn.ceiling_share for turn in results.turns),
        ),
        at_least(
            f"photographs: times the rate with {FULL_DECODE}",
            1.4,
            median(turn.job.slope / turn.full.slope for turn in results.turns),
        ),
        at_least(
            f"12 megapixels: times the rate with {FULL_DECODE}",
            3,
            median(large.job.slope / large.full.slope for large in results.large),
        ),
    ]
    count = results.scaling.images
    blocks = [
        _programs(results),
        f"{count:,} photographs under many names, on processes; as large ones, up to {LARGE_KINDS} "
        f"of them enlarged to {LARGE_PIXELS[0]}x{LARGE_PIXELS[1]} JPEG of quality {LARGE_QUALITY}.",
        "### What scaling in the decoder does to features",
        _scaling(results.scaling),
        "JPEG files decoded at the smallest scale that keeps both sides at least so many times the "
        "network's input, against all of their pixels; cosines over all photographs, and the share "
        "of them whose nearest neighbour is the same one.",
    ]
    return Section("Real photographs", targets, blocks)


def _programs(results: Photographs) -> str:
    rows = [_row("ceiling", results.turns[0].before)]
    for turn in results.turns:
        name = f"{turn.job.large.program} ({turn.ceiling_share:.1%} of the ceilings around it)"
        rows += [_row(name, turn.job), _row(turn.full.large.program, turn.full)]
        rows.append(_row("ceiling", turn.after))
    for large in results.large:
        rows += [_row(f"{pair.large.program}, 12 megapixels", pair) for pair in large]
    return table(("program", "photographs", "seconds", "photographs/s by slope"), rows)


def _row(name: str, pair: TwoSizes) -> tuple[str, ...]:
    return (
        name,
        " / ".join(f"{run.images:,}" for run in pair),
        " / ".join(f"{run.seconds:.1f}" for run in pair),
        f"{pair.slope:.1f}",
    )


def _scaling(scaling: Run) -> str:
    rows = [
        (
            f"at least {scale['times']} x the input",
            f"{scale['scaled']} of {scaling.images}",
            f"{scale['least']:.4f}",
            f"{scale['median']:.5f}",
            f"{scale['same_neighbour']:.1%}",
        )
        for scale in scaling.details["scales"]
    ]
    header = ("decoded", "smaller than in full", "least cosine", "median", "same nearest neighbour")
    return table(header, rows)
