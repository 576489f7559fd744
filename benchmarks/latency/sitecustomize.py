"""Python imports this at start-up where this folder is on PYTHONPATH: reads then take longer.

Only in the engines' workers, each read of a folder first waits for ORCHARD_READ_LATENCY seconds, as
it would for an object store. The job knows nothing of it.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

MODULE = "spark_job.objects"
FOLDERS = ("LocalFolder",)
WORKERS = {"pyspark.daemon", "spark_job.engines.worker"}
"""What Python is started with ``-m`` for a worker."""


class SlowModuleFinder(MetaPathFinder):
    """Slows `MODULE` when it is imported, so that a worker imports nothing that it would not."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find `MODULE` as Python does; None for any other."""
        spec = PathFinder.find_spec(name, path, target) if name == MODULE else None
        if spec is not None and spec.loader is not None:
            spec.loader = SlowModuleLoader(spec.loader, self._seconds)
        return spec


class SlowModuleLoader(Loader):
    """Loads as `loader` does, then wraps its folders' ``read``."""

    def __init__(self, loader: Loader, seconds: float) -> None:
        self._loader = loader
        self._seconds = seconds

    def exec_module(self, module: ModuleType) -> None:
        """Execute `module` and wrap its reads."""
        self._loader.exec_module(module)
        for name in FOLDERS:
            folder = getattr(module, name)
            folder.read = _slow(folder.read, self._seconds)


def _slow(read: Callable[..., bytes], seconds: float) -> Callable[..., bytes]:
    def slow_read(*arguments: Any, **options: Any) -> bytes:
        time.sleep(seconds)
        return read(*arguments, **options)

    return slow_read


if "ORCHARD_READ_LATENCY" in os.environ and WORKERS & set(sys.orig_argv):
    sys.meta_path.insert(0, SlowModuleFinder(float(os.environ["ORCHARD_READ_LATENCY"])))
