"""A batch of two kinds of fruit, run by the job and published."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from spark_job.objects import open_folder
from tests.spark_job.jobs import Job, run_job
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.objects import Folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty fruits of two labels, and one without a label."""
    folder = tmp_path_factory.mktemp("images")
    plant(folder, {"Kiwi": 10, "Plum": 10}, seed=300)
    shutil.copy(folder / "Kiwi" / "Kiwi_000.jpg", folder / "on top.jpg")
    return folder


@pytest.fixture(scope="session")
def job(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The job on `images`, with all components that there are."""
    ended = run_job(images, tmp_path_factory.mktemp("output"), "--components", "1280")
    assert ended.exit_code == 0, ended.err
    return ended


@pytest.fixture
def output(job: Job, tmp_path: Path) -> Folder:
    """A copy of what the job wrote, to be changed."""
    copy = tmp_path / "output"
    shutil.copytree(job.output, copy)
    return open_folder(str(copy))
