"""Numbered parts on Spark's workers."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING
from zipimport import zipimporter

import pytest

from spark_job.engines.spark import run_parts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
def test_receipts_come_by_number_and_the_weights_add_up(spark: SparkSession) -> None:
    done = spark.sparkContext.accumulator(0)
    receipts = run_parts(spark, "test", lambda part: bytes(part), [3, 5, 7], done)
    assert receipts == [b"", b"\0", b"\0\0"]
    assert done.value == 15


@pytest.mark.spark
def test_a_workers_later_tasks_need_not_read_zips_or_search_what_is_loaded(
    spark: SparkSession,
) -> None:
    def found(part: int) -> bytes:
        zips = [path for path, at in sys.path_importer_cache.items() if isinstance(at, zipimporter)]
        return f"part {part}: {len(zips)} zips, frozen {gc.get_freeze_count() > 0}".encode()

    _, *later = run_parts(spark, "test", found, [1, 1, 1])
    assert later == [f"part {part}: 0 zips, frozen True".encode() for part in (1, 2)]
