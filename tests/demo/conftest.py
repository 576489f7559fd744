"""What the tests of the demonstration share: one run of it on the batch that it draws."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from subprocess import CompletedProcess

REPOSITORY = Path(__file__).parents[2]


class Demonstration(NamedTuple):
    """A run of ``python -m demo`` in a folder of its own."""

    folder: Path
    done: CompletedProcess[str]


@pytest.fixture(scope="package")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    folder = tmp_path_factory.mktemp("demonstration")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "demo"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return Demonstration(folder, done)
