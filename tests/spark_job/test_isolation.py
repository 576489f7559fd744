"""An image that crashes, hangs or exhausts its decoder: found, rejected, and no other's loss."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spark_job import isolation
from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.isolation import IsolatedDecoder, time_limit
from spark_job.networks import load_card
from tests.spark_job.jobs import REPOSITORY, run_job
from tests.spark_job.photographs import encoded, fruit
from tests.spark_job.poison import KINDS, poison, poisonous

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IsolatedDecoder]:
    path = poisonous(tmp_path / "poison")["PYTHONPATH"]
    monkeypatch.setattr(sys, "path", [path, *sys.path])  # what a child is given
    with IsolatedDecoder(load_card(), 10**6) as decoder:
        yield decoder


def test_it_decodes_as_this_process_does(isolated: IsolatedDecoder) -> None:
    for form in ("JPEG", "PNG"):
        content = encoded(fruit(1).resize((300, 200)), form)
        ours, theirs = decode(content, load_card(), max_pixels=10**6), isolated(content)
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert np.array_equal(np.asarray(ours.small), np.asarray(theirs.small))
        assert (ours.width, ours.height, ours.format) == (
            theirs.width,
            theirs.height,
            theirs.format,
        )


def test_it_rejects_as_this_process_does(isolated: IsolatedDecoder) -> None:
    with pytest.raises(RejectedImageError) as error:
        isolated(b"no image")
    assert (error.value.stage, error.value.reason) == ("decode", "not-an-image")
    assert error.value.detail


def test_what_ends_it_is_told_and_it_goes_on(
    isolated: IsolatedDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "USUAL_PIXELS", 64_000_000)
    good = encoded(fruit(1))
    told = {}
    for kind in ("abort", "allocate"):
        image = tmp_path / "x.jpg"
        image.write_bytes(good)
        poison(image, kind)
        with pytest.raises(RejectedImageError) as error:
            isolated(image.read_bytes())
        told[error.value.reason] = error.value.detail
        assert isolated(good).width == 64
    assert told == {
        "crashed": "its decoder crashed (SIGABRT)",
        "out-of-memory": "decoding it takes more memory than 1.0 GB",
    }


def test_an_image_is_not_blamed_for_the_end_of_a_child_that_did_others(
    isolated: IsolatedDecoder,
) -> None:
    good = encoded(fruit(1))
    assert isolated(good).width == 64
    isolated._process.kill()  # as a machine short of memory does
    assert isolated(good).width == 64


def test_no_image_is_blamed_where_no_child_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="does not start: it ended with code 1"):
        IsolatedDecoder(load_card(), 10**6)


def test_a_limit_of_the_system_that_is_lower_is_kept() -> None:
    code = (
        "import resource; from spark_job.isolation import _limit\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))\n"
        "_limit(resource.RLIMIT_AS, 4_000_000_000); _limit(resource.RLIMIT_CORE, 0)\n"
        "print(resource.getrlimit(resource.RLIMIT_AS)[0])"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    assert ended.stdout == b"3000000000\n"


def test_a_time_limit_ends_a_process_that_holds_the_interpreters_lock() -> None:
    code = (
        "import ctypes; from spark_job.isolation import time_limit\n"
        "with time_limit(0.3): pass\n"
        "print('in time', flush=True)\n"
        "with time_limit(0.3): ctypes.PyDLL(None).sleep(100)"
    )
    start = monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert (ended.stdout, ended.returncode) == (b"in time\n", -14)
    assert monotonic() - start < 30


def test_a_time_limit_ends_with_its_block() -> None:
    with pytest.raises(ValueError, match="as ever"), time_limit(60):
        raise ValueError("as ever")
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_larger_images_may_take_longer() -> None:
    assert isolation.image_seconds(1_000) == isolation.image_seconds(64_000_000) == 10
    assert isolation.image_seconds(640_000_000) == 100


@pytest.mark.job
@pytest.mark.parametrize("engine", ["processes", pytest.param("spark", marks=pytest.mark.spark)])
def test_three_such_images_among_a_thousand_cost_themselves_alone(
    engine: str, few: Path, tmp_path: Path
) -> None:
    sound = sorted(few.rglob("*.jpg"))
    images = tmp_path / "images"
    for number in range(1_000):
        target = images / f"label{number % 7}" / f"{number:04}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sound[number % len(sound)], target)
    poisoned = dict(zip(sorted(images.rglob("*.jpg"))[100::300], KINDS, strict=False))
    for image, kind in poisoned.items():
        poison(image, kind)
    paths = os.pathsep.join([str(REPOSITORY), poisonous(tmp_path / "poison")["PYTHONPATH"]])
    job = run_job(images, tmp_path / "out", "--engine", engine, environment={"PYTHONPATH": paths})
    assert job.exit_code == 0, job.err
    rejects = {path: why for path, why in job.outcomes().items() if why != "featurized"}
    assert rejects == {
        str(image.relative_to(images)): ("decode", KINDS[kind]) for image, kind in poisoned.items()
    }
    assert job.receipt["counts"]["computed"] == 997
    assert job.seconds < 90
