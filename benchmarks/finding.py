"""What looking at a batch costs: beside its inference, and as it grows, on features made up."""

from __future__ import annotations

import argparse
import json
import resource
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import BenchmarkError, measure
from benchmarks.page import Section, Target, gigabytes, table
from spark_job import contract, tables
from spark_job.arrow import spare_pandas
from spark_job.contract import CURRENT, REPORT, RUN, results_folder, run_folder
from spark_job.engines.processes import ProcessEngine
from spark_job.featurize import warm_up
from spark_job.findings.survey import survey
from spark_job.listing import PART_IMAGES
from spark_job.moments import Moments
from spark_job.networks import DEFAULT, load_card
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from benchmarks.subset import Subsets

MOST_SHARE = 0.15
"""Of what inferring the batch once costs."""

MOST_REPORT = 5_000_000
"""Bytes of a report of 20,000 images."""

HEAPS, LATENT = 1_000, 24
"""Things that the made-up pictures are of, and directions in which they differ: features of
pictures vary along far fewer than there are numbers of."""


@dataclass(frozen=True)
class Looked:
    """A batch: its images, seconds of inference in workers and of the findings, and its report."""

    images: int
    infer: float
    findings: float
    slots: int
    recall: float
    report_seconds: float
    report_bytes: int


@dataclass(frozen=True)
class Findings:
    """All that this section measured; `rows` is what this module prints for made-up features."""

    batches: list[Looked]
    rows: list[dict[str, Any]]


def run_findings(given: argparse.Namespace, subsets: Subsets) -> Findings:
    """Run batches of images, and look at features that are made up."""
    with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
        batches = [_run(subsets[size], Path(folder) / str(size)) for size in given.finding_sizes]
        rows = []
        for size in given.finding_rows:
            work = str(Path(folder) / f"rows-{size}")
            named = ("--work", work, "--rows", str(size))
            measure("benchmarks.finding", "write", *named)
            rows.append(json.loads(measure("benchmarks.finding", "look", *named).output))
    return Findings(batches, rows)


def findings_section(found: Findings) -> Section:
    """Tell what findings and report cost."""
    largest = found.batches[-1]
    few, many = found.rows[0], found.rows[-1]
    growth = many["driver_bytes"] / few["driver_bytes"]
    each = many["seconds"] / many["rows"] / (few["seconds"] / few["rows"])
    targets = [
        *(
            Target(
                f"findings of {one.images:,} images over their inference",
                f"≤ {MOST_SHARE:.0%}",
                f"{_share(one):.1%}",
                _share(one) <= MOST_SHARE,
            )
            for one in found.batches
        ),
        Target(
            f"seconds per row at {many['rows']:,} rows over those at {few['rows']:,}",
            "flat (≤ 1.25)",
            f"{each:.2f}",
            each <= 1.25,
        ),
        Target(
            f"driver's memory at {many['rows']:,} rows over that at {few['rows']:,}",
            "flat (≤ 1.25)",
            f"{growth:.2f}",
            growth <= 1.25,
        ),
        Target(
            f"report of {largest.images:,} images",
            f"≤ {MOST_REPORT / 1e6:.0f} MB",
            f"{largest.report_bytes / 1e6:.1f} MB",
            largest.report_bytes <= MOST_REPORT,
        ),
    ]
    blocks = [
        "A batch's findings as they are made in its run, and its report made anew. Inference and "
        "findings are of all slots together: what the workers say of the one, and the wall clock "
        "times the slots of the other.",
        table(
            ("images", "inference, s", "findings, s", "share", "recall", "report, s", "report"),
            [
                (
                    f"{one.images:,}",
                    f"{one.infer:.1f}",
                    f"{one.findings * one.slots:.1f}",
                    f"{_share(one):.1%}",
                    f"{one.recall:.3f}",
                    f"{one.report_seconds:.1f}",
                    f"{one.report_bytes / 1e6:.1f} MB",
                )
                for one in found.batches
            ],
        ),
        "Made-up features of as many numbers as the network's, in heaps of pictures alike: the "
        "passes of the findings alone. Recall is of a sample, against a comparison with all.",
        table(
            ("rows", "seconds", "ms per row and slot", "cells", "recall", "driver", "a worker"),
            [
                (
                    f"{one['rows']:,}",
                    f"{one['seconds']:.1f}",
                    f"{1000 * one['seconds'] * one['slots'] / one['rows']:.2f}",
                    f"{one['cells']:,}",
                    f"{one['recall']:.3f}",
                    gigabytes(one["driver_bytes"]),
                    gigabytes(one["worker_bytes"]),
                )
                for one in found.rows
            ],
        ),
    ]
    return Section("Findings and the report", targets, blocks)


def main() -> None:
    """Write made-up features, or look at them; prints what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finding", description=main.__doc__)
    parser.add_argument("act", choices=("write", "look"))
    parser.add_argument("--work", required=True, help="a work folder on a disk")
    parser.add_argument("--rows", type=int, required=True)
    arguments = parser.parse_args()
    spare_pandas()
    if arguments.act == "write":
        write_heaps(arguments.work, arguments.rows)
    else:
        print(json.dumps(look(arguments.work, arguments.rows)))


def write_heaps(work: str, rows: int) -> None:
    """Write a features table of heaps of like pictures, and its moments."""
    width = load_card().features
    random = np.random.default_rng(11)
    heaps = random.standard_normal((HEAPS, LATENT), np.float32)
    mixed = random.standard_normal((LATENT, width), np.float32) / np.sqrt(LATENT)
    schema = tables.features_schema(width)
    moments = Moments.empty(width)
    folder = open_folder(work)
    for part, size in enumerate(_sizes(rows)):
        heap = random.integers(0, HEAPS, size)
        latent = heaps[heap] + 0.4 * random.standard_normal((size, LATENT), np.float32)
        noise = random.standard_normal((size, width), np.float32)
        features = np.maximum(latent @ mixed + 0.1 * noise + 0.3, 0)
        moments = moments.merge(Moments.of(features))
        paths = [f"heap-{one:04d}/{part:05d}-{row:04d}.jpg" for row, one in enumerate(heap)]
        labels = [path.partition("/")[0] for path in paths]
        contents = [f"{part:032x}{row:032x}" for row in range(size)]
        hashes = random.integers(-(2**63), 2**63, size)
        like = [[value] * size for value in (50.0, 100, 100, "JPEG")]
        columns = [paths, labels, [20_000] * size, ["v"] * size, contents, hashes, *like]
        table_of = [*columns, tables.as_lists(features)]
        name = tables.part_name(part)
        tables.write_table(folder / contract.FEATURES, name, schema, table_of, {})
    folder.write(contract.MOMENTS_FILE, moments.to_bytes())


def look(work: str, rows: int) -> dict[str, Any]:
    """Look at what `write_heaps` wrote."""
    folder = open_folder(work)
    moments = Moments.from_bytes(folder.read(contract.MOMENTS_FILE))
    sizes = _sizes(rows)
    names = [tables.part_name(part) for part in range(len(sizes))]
    with ProcessEngine(warm_up(DEFAULT)) as engine:
        engine.run("start", _nothing, range(engine.slots))
        clock = perf_counter()
        found = survey(engine, folder, names, sizes, moments)
        seconds = perf_counter() - clock
        slots = engine.slots
    # The workers have ended, and their largest counts.
    return {
        "rows": rows,
        "slots": slots,
        "seconds": seconds,
        "cells": found.card.cells,
        "recall": found.card.recall,
        "driver_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "worker_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def _nothing(_part: int, _attempt: object) -> None:
    """Wait for the workers' start."""


def _run(images: Path, output: Path) -> Looked:
    named = ("--images", str(images), "--output", str(output), "--batch", "batch")
    measure("spark_job", *named)
    run = json.loads((output / results_folder("batch") / CURRENT).read_bytes())["run"]
    folder = output / run_folder("batch", run)
    receipt = json.loads((folder / RUN).read_bytes())
    if not (folder / REPORT).exists():
        raise BenchmarkError(f"the job left no {REPORT} in {folder}")
    again = measure("spark_job.report.making", str(output), "batch", run, "pictures", "")
    return Looked(
        images=receipt["counts"]["computed"],
        infer=receipt["seconds_in_workers"]["infer"],
        findings=receipt["seconds"]["findings"],
        slots=receipt["engine"]["slots"],
        recall=receipt["findings"]["recall"],
        report_seconds=again.seconds,
        report_bytes=(folder / REPORT).stat().st_size,
    )


def _share(one: Looked) -> float:
    return one.findings * one.slots / one.infer


def _sizes(rows: int) -> list[int]:
    return [min(PART_IMAGES, rows - start) for start in range(0, rows, PART_IMAGES)]


if __name__ == "__main__":
    from benchmarks.finding import main as named  # whose functions workers find by name

    named()
