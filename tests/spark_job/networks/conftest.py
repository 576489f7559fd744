"""A second network, made for the tests: another input scaling, other features, random weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.spark_job.jobs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SECOND = "efficientnet_v2_b0"
SECOND_CLASS = "EfficientNetV2B0"
SECOND_SEED = 7


@pytest.fixture(scope="session")
def checkout_with_second_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of ``spark_job/``, in which EfficientNetV2B0 is installed as well.

    Start Python there to use it. Whatever test uses this is to be marked ``keras``.
    """
    folder = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "spark_job", folder / "spark_job", ignore=ignore)
    options = ["--weights", "random", "--seed", str(SECOND_SEED)]
    ended = subprocess.run(
        [sys.executable, "-m", "spark_job.networks.export", SECOND_CLASS, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert f"spark_job/networks/{SECOND}: " in ended.stdout
    return folder
