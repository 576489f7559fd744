"""Fixtures for every test folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# As the job does, before numpy is imported: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# xdist's processes ignore interrupts, and what a test starts to interrupt it would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


class ByRoom(LoadScopeScheduling):
    """Gives a process whole folders, whose tests share a cloud or templates; the job's by file."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path.startswith("tests/spark_job/") else "/".join(path.split("/")[:2])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByRoom:
    """Instead of what `--dist` says."""
    return ByRoom(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, weights and reference features; skips where it is not given."""
    folder = os.environ.get("ORCHARD_SHARED")
    if not folder:
        pytest.skip("ORCHARD_SHARED does not point to the real images and weights")
    return Path(folder).resolve()
