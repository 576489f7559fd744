"""Numbered parts on Spark's workers."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any
from zipimport import zipimporter

import pytest

from spark_job.engines import spark as engine_module
from spark_job.engines.spark import SparkEngine
from spark_job.objects import LocalFolder, ThrottledError, open_folder
from spark_job.progress import Progress
from tests.spark_job.engines import works

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


@pytest.fixture
def engine(spark: SparkSession) -> SparkEngine:
    """On the session that these tests share; nobody stops it here."""
    running = SparkEngine(str(spark.sparkContext.master), "tests", works.nothing)
    assert running.spark is spark
    return running


def test_results_come_by_number(engine: SparkEngine) -> None:
    results = engine.run("test", works.Square(), range(5))
    assert [square for square, _ in results] == [0, 1, 4, 9, 16]
    assert engine.slots == 1
    told = engine.receipt()
    assert (told.name, told.slots) == ("spark", 1)
    assert told.application == engine.spark.sparkContext.applicationId


def test_progress_moves_within_a_part_and_ends_with_it(
    engine: SparkEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SIGNAL_EVERY", 0.2)  # the driver's half of it
    seen: set[int] = set()
    images = 60
    with Progress([images] * 2, open_folder(str(tmp_path))) as progress:
        report = progress.report

        def watch(part: int, done: int) -> None:
            report(part, done)
            seen.add(progress.done)

        progress.report = watch  # type: ignore[method-assign]
        engine.run("test", works.Count(images, 0.15), range(2), progress)
        assert progress.done == 2 * images
    assert [done for done in seen if 0 < done < images], "within the first part"


def test_a_store_that_is_busy_is_told_how_far_a_part_is_once_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SIGNAL_EVERY", -1.0)
    asked = []

    class Busy(LocalFolder):
        def write(self, name: str, content: bytes) -> None:
            asked.append((name, content))
            raise ThrottledError("SlowDown")

    signals = engine_module._Signals(Busy(str(tmp_path), str(tmp_path)), 7)
    for done in range(5):
        signals(done)
    assert asked == [("7", b"0")]


def test_a_workers_later_tasks_need_not_read_zips_or_search_what_is_loaded(
    engine: SparkEngine,
) -> None:
    def found(part: int, _: Any) -> str:
        zips = [path for path, at in sys.path_importer_cache.items() if isinstance(at, zipimporter)]
        return f"part {part}: {len(zips)} zips, frozen {gc.get_freeze_count() > 0}"

    _, *later = engine.run("test", found, range(3))
    assert later == [f"part {part}: 0 zips, frozen True" for part in (1, 2)]
