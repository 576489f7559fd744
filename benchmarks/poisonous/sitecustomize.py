"""Python imports this at start-up where this folder is on PYTHONPATH: some images are then poison.

A file that ends in one of the marks below hangs or ends whatever process opens it with Pillow, as a
defect in a native decoder would. The job knows nothing of it.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

MODULE = "PIL.Image"
HANGS = b"orchard-hang"
ABORTS = b"orchard-abort"


class PoisonFinder(MetaPathFinder):
    """Changes `MODULE` when it is imported, so that no process imports what it would not."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find `MODULE` as Python does; None for any other."""
        spec = PathFinder.find_spec(name, path, target) if name == MODULE else None
        if spec is not None and spec.loader is not None:
            spec.loader = PoisonLoader(spec.loader)
        return spec


class PoisonLoader(Loader):
    """Loads as `loader` does, then wraps the module's ``open``."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as `loader` does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute `module` and wrap its ``open``."""
        self._loader.exec_module(module)
        names = vars(module)
        names["open"] = _poisonous(names["open"])


def _poisonous(opens: Callable[..., Any]) -> Callable[..., Any]:
    def open_image(file: Any, *arguments: Any, **options: Any) -> Any:
        end = bytes(file.getbuffer()[-16:]) if isinstance(file, io.BytesIO) else b""
        if end.endswith(HANGS):
            ctypes.PyDLL(None).sleep(10_000)  # unlike CDLL, it keeps the interpreter's lock
        if end.endswith(ABORTS):
            os.abort()
        return opens(file, *arguments, **options)

    return open_image


if __name__ == "sitecustomize":  # and not where a program imports the marks
    sys.meta_path.insert(0, PoisonFinder())
