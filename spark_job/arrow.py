"""Arrow without pandas, which it imports by itself."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def spare_pandas() -> None:
    """Keep pyarrow from importing pandas where it is installed.

    It does so at a process's first array, to know a pandas Series if it met one, and that takes
    longer than all else that a worker imports. It tries once only, so it is let try here, where
    there is no pandas; whoever imports pandas later has it, and pyarrow converts to it.
    """
    if "pandas" in sys.modules:
        return
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(finder)


class _WithoutPandas(MetaPathFinder):
    """Finds that there is no pandas."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse `name` if it is pandas, and leave any other to the finders that follow."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not wanted here", name=name)
        return None
