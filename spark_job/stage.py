"""Running a function over numbered parts on Spark."""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import TYPE_CHECKING
from zipimport import zipimporter

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyspark.accumulators import Accumulator
    from pyspark.sql import SparkSession


def run_parts(
    spark: SparkSession,
    description: str,
    work: Callable[[int], bytes],
    weights: list[int],
    done: Accumulator[int] | None = None,
) -> list[bytes]:
    """Give `work` each number from 0 to ``len(weights) - 1``, one Spark task each.

    Parameters
    ----------
    description
        What the Spark UI shows.
    work
        Picklable; runs in a Python worker.
    weights
        What each part adds to `done` when its task ends.
    done
        Shows the progress while tasks run.

    Returns
    -------
    list of bytes
        What `work` returned, by number.
    """
    spark.sparkContext.setJobDescription(description)
    parts = len(weights)
    numbers = spark.range(0, parts, 1, numPartitions=parts)
    task = partial(_apply, work, weights, done)
    rows = numbers.mapInArrow(task, "part bigint, receipt binary").collect()
    return [bytes(row.receipt) for row in sorted(rows, key=lambda row: row.part)]


def _apply(
    work: Callable[[int], bytes],
    weights: list[int],
    done: Accumulator[int] | None,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for part in batch.column(0).to_pylist():
            receipt = work(part)
            if done is not None:
                done += weights[part]
            yield pa.RecordBatch.from_pydict({"part": [part], "receipt": [receipt]})
    _shorten_the_pause()


def _shorten_the_pause() -> None:
    """Spare this worker most of what pyspark does between two tasks, 110 ms on a slow machine."""
    # It collects garbage: what is loaded after the first task is none, and need not be searched.
    if not gc.get_freeze_count():
        gc.freeze()
    # It invalidates the import caches, on which each zip on the path (pyspark, py4j, a jar) is
    # read again at once. Without its finder that waits for an import that looks there.
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[path]
