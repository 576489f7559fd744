"""Rows of synthetic features through moments, fit and projection: whether memory stays flat.

``write`` makes the features table in a process of its own, so that only ``reduce`` is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
from functools import reduce as fold
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import GB, BenchmarkError
from spark_job import contract, pca, tables
from spark_job.arrow import spare_pandas
from spark_job.engines.processes import ProcessEngine
from spark_job.featurize import warm_up
from spark_job.listing import PART_IMAGES
from spark_job.moments import Moments
from spark_job.networks import DEFAULT, load_card
from spark_job.objects import open_folder
from spark_job.passes import (
    JoiningPass,
    MomentsPass,
    ProjectionPass,
    choose_sample,
    group_parts,
    plan_vectors,
)
from spark_job.pipeline import MOST_MOMENTS
from spark_job.receipts import Clock

if TYPE_CHECKING:
    from pathlib import Path

COMPONENTS = 200
IDS = {"extractor": "synthetic", "model": "synthetic"}


def main() -> None:
    """Write features, or reduce them; prints what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=main.__doc__)
    parser.add_argument("act", choices=("write", "reduce"))
    parser.add_argument("--work", required=True, help="a work folder on a disk")
    parser.add_argument("--rows", type=int, required=True)
    arguments = parser.parse_args()
    spare_pandas()
    if arguments.act == "write":
        write_features(arguments.work, arguments.rows)
    else:
        print(json.dumps(reduce_features(arguments.work, arguments.rows)))


def require_space(folder: Path, rows: int) -> None:
    """Refuse a disk that the features, and the vectors twice, do not fit on.

    Raises
    ------
    BenchmarkError
        Where they do not.
    """
    needed = 1.1 * rows * 4 * (load_card().features + 2 * COMPONENTS)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BenchmarkError(
            f"{rows:,} rows take {needed / GB:.1f} GB of disk, and {folder} has {free / GB:.1f} "
            "GB; set TMPDIR to a folder with more, or choose fewer --rows"
        )


def write_features(work: str, rows: int) -> None:
    """Write a features table of seeded random rows, in parts as the job's."""
    width = load_card().features
    schema = tables.features_schema(width)
    random = np.random.default_rng(11)
    for part, size in enumerate(_sizes(rows)):
        features = random.standard_normal((size, width), np.float32)
        paths = [f"label-{row % 131:03d}/{part:05d}-{row:04d}.jpg" for row in range(size)]
        label = [path.partition("/")[0] for path in paths]
        same = [
            [value] * size for value in (20_000, "version", "0" * 64, 0, 50.0, 100, 100, "JPEG")
        ]
        columns = [paths, label, *same, tables.as_lists(features)]
        folder = open_folder(work) / contract.FEATURES
        tables.write_table(folder, tables.part_name(part), schema, columns, IDS)


def reduce_features(work_uri: str, rows: int) -> dict[str, object]:
    """Do what the job does after its features are written."""
    clock = Clock()
    work = open_folder(work_uri)
    features = load_card().features
    sizes = _sizes(rows)

    def names(groups: list[list[int]]) -> list[list[str]]:
        return [[tables.part_name(part) for part in group] for group in groups]

    with ProcessEngine(warm_up(DEFAULT)) as engine:
        grouped = group_parts(sizes, min(MOST_MOMENTS, engine.slots))
        chosen = choose_sample(sizes, grouped)
        moments_pass = MomentsPass(work, names(grouped), features, chosen)
        partial = engine.run("moments", moments_pass, range(len(grouped)))
        read = (Moments.from_bytes(work.read(one.file)) for one in partial)
        moments = fold(Moments.merge, read, Moments.empty(features))
        clock.lap("moments")
        model = pca.fit(moments, components=COMPONENTS)
        clock.lap("fit")
        files, pieces = plan_vectors(rows, model.k, engine.slots)
        groups = names(group_parts(sizes, files * pieces))
        projection = ProjectionPass(work, groups, model, IDS)
        vectors = engine.run("vectors", projection, range(len(groups)))
        if pieces > 1:
            joined = [vectors[start : start + pieces] for start in range(0, len(vectors), pieces)]
            joining = JoiningPass(work, joined, model.k, IDS)
            vectors = engine.run("join vectors", joining, range(len(joined)))
        clock.lap("project")
    if moments.n != rows or sum(one.rows for one in vectors) != rows:
        raise SystemExit(f"{moments.n:,} rows came back of {rows:,}")
    # The workers have ended, and their largest counts.
    return {
        "rows": rows,
        "driver_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "worker_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "seconds": clock.seconds,
    }


def _sizes(rows: int) -> list[int]:
    return [min(PART_IMAGES, rows - start) for start in range(0, rows, PART_IMAGES)]


if __name__ == "__main__":
    main()
