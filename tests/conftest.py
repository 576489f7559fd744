"""Fixtures for every test folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# As the job does, before numpy is imported: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, weights and reference features; skips where it is not given."""
    folder = os.environ.get("ORCHARD_SHARED")
    if not folder:
        pytest.skip("ORCHARD_SHARED does not point to the real images and weights")
    return Path(folder).resolve()
