"""An engine without workers, for tests that look at what the driver does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from spark_job.engines import Attempt
from spark_job.receipts import EngineReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spark_job.progress import Progress


class InlineEngine:
    """Runs each part in this process, one after the other.

    Attributes
    ----------
    after
        Called after each round of parts with its description and what ran, as a late worker of that
        round would go on.
    """

    slots = 2

    def __init__(self, after: Callable[[str, Any], None] | None = None) -> None:
        self._after = after

    def receipt(self) -> EngineReceipt:
        return EngineReceipt("processes", self.slots)

    def run(
        self,
        description: str,
        work: Any,
        parts: Sequence[int],
        progress: Progress | None = None,
        check: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        results = {}
        for part in parts:
            results[part] = work(part, Attempt(0, lambda _: None))
            if progress is not None:
                progress.finish(part)
            if check is not None:
                check(results[part])
        if self._after is not None:
            self._after(description, work)
        return [results[part] for part in sorted(parts)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
