"""What a run's receipt tells of its time and its software."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter

from spark_job import __version__


def versions() -> dict[str, str]:
    """Versions of what a feature or a vector depends on."""
    packages = ("pyspark", "ai-edge-litert", "numpy", "pillow", "pyarrow")
    found = {"orchard": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # Spark's own Python package on a cluster has no metadata
            found[package] = import_module(package).__version__
    return found


class Clock:
    """Seconds per stage and in all."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._lap = perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the clock was started."""
        return perf_counter() - self._started

    def lap(self, stage: str) -> None:
        """Book the seconds since the last call on `stage`."""
        now = perf_counter()
        self.seconds[stage] = round(now - self._lap, 3)
        self._lap = now
