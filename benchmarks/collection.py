"""What a batch costs that was run before: unchanged, grown, with another rule, in one model."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.measure import BenchmarkError, measure
from benchmarks.page import Section, Target, gigabytes, table
from spark_job.contract import CURRENT, RUN, results_folder, run_folder

if TYPE_CHECKING:
    import argparse

    from benchmarks.subset import Subsets

BATCHES = 10
"""Into which the images are dealt for one model of several batches."""


UPDATING = ("moments", "fit", "calibrate", "project")
"""Stages of a run that it takes to update a model, whatever became of its images before."""

STAGES = ("list and start", "carry over", "featurize", *UPDATING, "settle")


@dataclass(frozen=True)
class Timed:
    """A whole program: what it did, its seconds, and the images that it computed and knew.

    `stages` are the seconds of each stage, by its own account.
    """

    what: str
    seconds: float
    computed: int
    known: int
    stages: dict[str, float]

    @property
    def updating(self) -> float:
        """Seconds of what it takes to update a model."""
        return sum(self.stages.get(stage, 0.0) for stage in UPDATING)


@dataclass(frozen=True)
class Collected:
    """All that this section measured; `matched` is what `benchmarks.matching` prints."""

    images: int
    few: Timed
    runs: list[Timed]
    batches: list[Timed]
    build: float
    matched: list[dict[str, Any]]


def run_collection(given: argparse.Namespace, subsets: Subsets) -> Collected:
    """Run a batch again and again, as it changes; then ten batches in one model."""
    images = given.collection_images
    with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
        batch = Path(folder) / "batch"
        shutil.copytree(subsets[images], batch, copy_function=os.link)
        output = Path(folder) / "out"
        few = _job("32 images", subsets[32], Path(folder) / "few")
        runs = [_job("the first run", batch, output), _job("unchanged", batch, output)]
        grown = _grow(batch, images // 100)
        runs.append(_job(f"{grown:,} more", batch, output))
        rule = ("--pca", "fit", "--components", "50")
        runs.append(_job("another number of components", batch, output, *rule))
        batches = []
        for number, part in enumerate(_deal(subsets[images], Path(folder) / "dealt")):
            name = f"batch-{number}"
            arguments = ("--batch", name, "--pca", "update")
            batches.append(_job(name, part, Path(folder) / "ten", *arguments))
        last = Path(folder) / "dealt" / "0"
        again = ("--batch", "batch-0", "--pca", "reuse")
        batches.append(_job("batch-0 again, with their model", last, Path(folder) / "ten", *again))
        named = ",".join(f"batch-{number}" for number in range(BATCHES))
        root = str(Path(folder) / "ten")
        build = measure(
            *("orchard", "models", "build", "--batches", named, "--output", root),
            *("--components", "50"),
        )
    matched = [
        json.loads(measure("benchmarks.matching", "--images", str(size)).output)
        for size in given.match_images
    ]
    return Collected(images, few, runs, batches, build.seconds, matched)


def collection_section(found: Collected) -> Section:
    """Tell what carrying over saves."""
    first, unchanged, grown, rule = found.runs
    fixed = found.few.seconds
    most = fixed + 0.1 * first.seconds
    share = (grown.seconds - unchanged.seconds) / (first.seconds - fixed)
    large = found.matched[-1]
    small = found.matched[0]
    growth = (large["driver_bytes"] - large["listing_bytes"]) - (
        small["driver_bytes"] - small["listing_bytes"]
    )
    targets = [
        Target(
            f"{found.images:,} unchanged images, again",
            f"≤ {most:.1f} s (fixed cost and 10% of the first run)",
            f"{unchanged.seconds:.1f} s",
            unchanged.seconds <= most,
        ),
        Target(
            "1% more images, over unchanged, of the first run without its fixed cost",
            "about 1%",
            f"{share:.1%}",
            None if share <= 0 else share <= 0.02,
        ),
        Target(
            "another number of components",
            f"< {fixed + 5:.1f} s (fixed cost and 5 s)",
            f"{rule.seconds:.1f} s",
            rule.seconds < fixed + 5,
        ),
        Target(
            f"driver's memory for matching {large['images']:,} images, over that for "
            f"{small['images']:,}",
            "flat",
            gigabytes(growth),
            growth < 0.1e9,
        ),
    ]
    first_update, last_update = found.batches[0], found.batches[BATCHES - 1]
    blocks = [
        table(
            ("run", "seconds", "images computed", "known"),
            [
                *(
                    (one.what, f"{one.seconds:.1f}", f"{one.computed:,}", f"{one.known:,}")
                    for one in (found.few, *found.runs, *found.batches)
                ),
                (f"of {last_update.what}, updating", f"{last_update.updating:.1f}", "", ""),
            ],
        ),
        "Wall-clock times of whole runs, interpreter start to exit; the fixed cost is that of a "
        "run of 32 images, which computes them too. Each of the ten batches updates the model with "
        "the moments of those before it; updating is moments, fit, calibration and projection, "
        "without what became of the images before.",
        table(
            ("seconds of", *STAGES),
            [
                (one.what, *(f"{one.stages.get(stage, 0.0):.1f}" for stage in STAGES))
                for one in (unchanged, grown, rule, first_update, last_update)
            ],
        ),
        f"`orchard models build` of the ten, from their moments and samples: {found.build:.1f} s.",
        table(
            ("images matched", "left", "seconds", "slots", "driver after listing", "at most"),
            [
                (
                    f"{one['images']:,}",
                    f"{one['left']:,}",
                    f"{one['seconds']:.1f}",
                    f"{one['slots']}",
                    gigabytes(one["listing_bytes"]),
                    gigabytes(one["driver_bytes"]),
                )
                for one in found.matched
            ],
        ),
        "Rows of four features instead of 1,280: what is measured is the keys. The driver holds "
        "the listing, as for any run, and of the matching a bit per image.",
    ]
    return Section("Batches that were run before", targets, blocks)


def _job(what: str, images: Path, output: Path, *arguments: str) -> Timed:
    named = () if "--batch" in arguments else ("--batch", "batch")
    run = measure(
        *("spark_job", "--images", str(images), "--output", str(output), *named, *arguments)
    )
    batch = arguments[arguments.index("--batch") + 1] if "--batch" in arguments else "batch"
    current = json.loads((output / results_folder(batch) / CURRENT).read_bytes())["run"]
    told = json.loads((output / run_folder(batch, current) / RUN).read_bytes())
    counts = told["counts"]
    return Timed(what, run.seconds, counts["computed"], counts["carried_over"], told["seconds"])


def _grow(batch: Path, more: int) -> int:
    """Add images of new content to a batch: bytes after a JPEG's end change no pixel."""
    paths = sorted(path for path in batch.rglob("*") if path.is_file())
    chosen = [paths[number * len(paths) // more] for number in range(more)]
    for number, path in enumerate(chosen):
        new = path.with_name(f"new-{number}{path.suffix}")
        new.write_bytes(path.read_bytes() + b"%d" % number)
    if len(set(chosen)) != more:
        raise BenchmarkError(f"{more} of {len(paths)} images cannot be doubled")
    return more


def _deal(images: Path, into: Path) -> list[Path]:
    """Deal images out to batches by links, each label to all of them."""
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    for number, path in enumerate(paths):
        target = into / str(number % BATCHES) / path.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(path)
    return [into / str(number) for number in range(BATCHES)]
