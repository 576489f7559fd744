"""A mark makes an image poisonous where the benchmark wants it, and only there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from time import sleep
from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import REPOSITORY
from benchmarks.poison import (
    ENVIRONMENT,
    POISONS,
    Poisoned,
    Turn,
    marked,
    poison_section,
    run_turn,
)
from benchmarks.programs import Run
from tests.spark_job.photographs import encoded, fruit, plant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DECODE = """
import sys
from pathlib import Path
from threading import Thread
from time import sleep
from spark_job.decode import decode
from spark_job.networks import load_card

def tick():
    while True:
        print("tick", flush=True)
        sleep(0.05)

Thread(target=tick, daemon=True).start()
print("decoding", flush=True)
decode(Path(sys.argv[1]).read_bytes(), load_card(), max_pixels=1_000_000)
print("decoded", flush=True)
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "plum.jpg"
    path.write_bytes(encoded(fruit(1), "JPEG"))
    return path


@contextmanager
def decoding(image: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun to decode."""
    with subprocess.Popen(
        [sys.executable, "-c", DECODE, str(image)],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            # Two threads print, and may do so within one line.
            while "decoding" not in (line := process.stdout.readline()):
                assert line, "it ended before it decoded"
            yield process
        finally:
            process.kill()


def test_an_image_without_a_mark_is_none_of_its_business(image: Path) -> None:
    with decoding(image, ENVIRONMENT) as process:
        assert "decoded" in process.communicate(timeout=60)[0]
        assert process.returncode == 0


def test_an_image_that_aborts_ends_the_process_where_the_folder_is_on_its_path(image: Path) -> None:
    with marked(image, POISONS["aborts"]):
        with decoding(image, ENVIRONMENT) as process:
            assert process.wait(60) == -signal.SIGABRT
        with decoding(image, {}) as process:
            assert process.wait(60) == 0


def test_an_image_that_hangs_holds_the_interpreters_lock(image: Path) -> None:
    with marked(image, POISONS["hangs"]), decoding(image, ENVIRONMENT) as process:
        sleep(2)
        assert process.poll() is None
        process.kill()
        # The other thread would have said 40 times more.
        assert process.communicate()[0].count("tick") <= 2


def test_a_mark_is_taken_off_again(image: Path) -> None:
    content = image.read_bytes()
    with marked(image, b"mark"):
        assert image.read_bytes() == content + b"mark"
    assert image.read_bytes() == content


@pytest.mark.job
def test_a_run_that_does_not_bear_the_image_is_not_met(tmp_path: Path) -> None:
    plant(tmp_path, {"Plum": 3})
    turn = run_turn(tmp_path, 3, "processes", limit=10)
    # One reject among three is too many for any run.
    assert [one.run for one in turn.poisoned] == [None, None]
    assert {target.met for target in poison_section([turn]).targets} == {False}


def test_what_an_image_costs_is_over_the_runs_around() -> None:
    poisoned = [
        Poisoned("hangs", Run("job", 5_000, 69.0, 1), ""),
        Poisoned("aborts", Run("job", 5_000, 61.5, 1), ""),
        Poisoned("aborts", None, "orchard: error: it crashed"),
    ]
    before, after = Run("job, processes", 5_000, 38.0, 1), Run("job, processes", 5_000, 40.0, 1)
    section = poison_section([Turn("processes", before, poisoned, after)])
    assert [(target.reached, target.met) for target in section.targets] == [
        ("30.0 s", False),
        ("22.5 s", True),
        ("the run failed", False),
    ]
    assert section.targets[0].name == "processes: one image of 5,000 that hangs"
    assert "failed: orchard: error: it crashed" in section.blocks[-1]
