"""The supervised processes: what a worker, a part and a parent can suffer."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from spark_job.engines.processes import ProcessEngine
from spark_job.errors import JobError
from spark_job.objects import open_folder
from spark_job.progress import Progress
from tests.spark_job.engines import works
from tests.spark_job.jobs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def engine() -> Iterator[ProcessEngine]:
    with ProcessEngine(works.nothing) as running:
        yield running


def test_results_come_by_number_from_one_process_per_core(engine: ProcessEngine) -> None:
    results = engine.run("test", works.Square(), range(20))
    assert [square for square, _ in results] == [number * number for number in range(20)]
    assert engine.slots == len(os.sched_getaffinity(0))
    assert len({process for _, process in results}) <= engine.slots
    assert os.getpid() not in {process for _, process in results}
    assert engine.receipt().name == "processes"


def test_no_parts_are_no_work(engine: ProcessEngine) -> None:
    assert engine.run("test", works.Square(), range(0)) == []


@pytest.mark.parametrize("how", ["kill", "exit", "raise", "odd"])
def test_a_part_that_fails_three_times_is_done_the_fourth_time(
    engine: ProcessEngine, how: str, tmp_path: Path
) -> None:
    assert engine.run("test", works.Fail(tmp_path, 3, how), range(4)) == [0, 1, 2, 3]
    assert engine.run("test", works.Square(), range(3))[2][0] == 4, "the engine goes on"


@pytest.mark.parametrize(
    ("how", "kind", "sentence"),
    [
        ("kill", JobError, "part 1 of fruit was killed by SIGKILL 4 times over, most likely for"),
        ("exit", JobError, "part 1 of fruit ended with code 7 4 times over"),
        ("raise", ValueError, "no such luck"),
        ("odd", RuntimeError, "OddError: with"),
    ],
)
def test_a_part_that_fails_four_times_fails_the_run(
    engine: ProcessEngine, how: str, kind: type[Exception], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=sentence):
        engine.run("fruit", works.Fail(tmp_path, 99, how), range(3))
    assert (tmp_path / "tries").read_text() == "xxxx"


@pytest.mark.parametrize(("how", "kind"), [("sentence", JobError), ("full", OSError)])
def test_what_no_second_attempt_mends_is_not_tried_again(
    engine: ProcessEngine, how: str, kind: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(kind):
        engine.run("test", works.Fail(tmp_path, 99, how), range(3))
    assert (tmp_path / "tries").read_text() == "x"


def test_a_round_that_failed_leaves_nothing_to_the_next(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    """Its other parts may still be at work when the next round begins."""
    for attempt in range(3):
        with pytest.raises(JobError):
            engine.run(
                "test", works.Fail(folder(tmp_path, attempt), 99, "sentence", pause=0.3), range(8)
            )
        squares = engine.run("test", works.Square(), range(8))
        assert [square for square, _ in squares] == [number * number for number in range(8)]


def test_an_error_says_where_it_was_raised(engine: ProcessEngine, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such luck") as raised:
        engine.run("test", works.Fail(tmp_path, 99, "raise"), range(2))
    assert "works.py" in raised.value.__notes__[0]


def test_progress_moves_within_a_part(engine: ProcessEngine, tmp_path: Path) -> None:
    images = 40
    with Progress([images] * 2, open_folder(str(tmp_path))) as progress:
        seen: set[int] = set()
        report = progress.report

        def watch(part: int, done: int) -> None:
            report(part, done)
            seen.add(progress.done)

        progress.report = watch  # type: ignore[method-assign]
        engine.run("test", works.Count(images, 0.05), range(2), progress)
        assert progress.done == 2 * images
    assert len([done for done in seen if 0 < done < 2 * images]) > 2


def test_a_worker_that_cannot_warm_up_says_so_in_its_own_words() -> None:
    with (
        pytest.raises(JobError, match="the card does not fit its network"),
        ProcessEngine(works.unfit) as engine,
    ):
        engine.run("test", works.Square(), range(3))


def test_workers_that_do_not_start_are_given_up() -> None:
    with (
        pytest.raises(JobError, match="worker processes do not start: the last one ended with"),
        ProcessEngine(works.stillborn) as engine,
    ):
        engine.run("test", works.Square(), range(3))


def test_no_process_outlives_the_engine() -> None:
    before = set(psutil.Process().children())
    with ProcessEngine(works.nothing) as engine:
        engine.run("test", works.Square(), range(2))
        workers = set(psutil.Process().children()) - before
        assert len(workers) == engine.slots
    _, alive = psutil.wait_procs(list(workers), timeout=5)
    assert alive == []


@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, *, busy: bool) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.spark_job.engines import works;"
        "from spark_job.engines.processes import ProcessEngine;"
        f"ProcessEngine(works.nothing).run('t', works.Hang(Path(sys.argv[1]), {busy}), range(2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY)
    deadline = monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and monotonic() < deadline:
        sleep(0.05)
    workers = [psutil.Process(int(path.name)) for path in tmp_path.iterdir()]
    assert workers
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_spark_is_imported_by_its_engine_alone() -> None:
    package = REPOSITORY / "spark_job"
    importers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if "pyspark" in _imported(node)
    }
    assert importers == {"engines/spark.py"}


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {name.name.partition(".")[0] for name in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


def test_the_default_engine_needs_neither_spark_nor_java(few: Path, tmp_path: Path) -> None:
    """Shown where importing pyspark fails, and where no Java is to be found."""
    (tmp_path / "pyspark.py").write_text("raise ImportError('not installed')")
    environment: dict[str, Any] = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PATH": "/nowhere",
        "JAVA_HOME": "/nowhere",
    }
    command = [sys.executable, "-m", "spark_job", "--batch", "b", "--images", str(few)]
    ended = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    refused = subprocess.run(
        [*command, "--output", str(tmp_path / "out"), "--engine", "spark"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "--engine spark needs pyspark, which is not installed" in refused.stderr
    assert "Traceback" not in refused.stderr


def folder(parent: Path, number: int) -> Path:
    path = parent / str(number)
    path.mkdir()
    return path
