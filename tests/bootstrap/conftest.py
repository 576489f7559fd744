"""The wheelhouse of this machine's architecture, built once and kept in the build folder."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from bootstrap import wheelhouse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def architecture() -> str:
    return "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


@pytest.fixture(scope="session")
def built(architecture: str) -> Path:
    return wheelhouse.build(architecture)
