"""Asking a busy store again: exponential pauses with full jitter.

The pauses are those of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
drawn evenly from nothing to a bound that doubles, so that those who were turned away together do
not come back together.
"""

from __future__ import annotations

from itertools import count
from random import SystemRandom
from threading import Event
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from spark_job.objects import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable

    Result = TypeVar("Result")

PATIENCE = 60.0
"""Seconds for which a request is repeated; see `lose_patience`."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds: bounds of the first pause, and of any."""

WITHOUT_HOPE = 3
"""Attempts at what waiting will hardly help: credentials may be renewed at this very moment."""


_RANDOM = SystemRandom()
_WITHOUT_PATIENCE = Event()


def pause(attempt: int) -> float:
    """Seconds to wait after attempt number `attempt`, from 0."""
    return _RANDOM.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 20)))


def lose_patience() -> None:
    """Repeat no request any more: the run has failed for want of answers."""
    _WITHOUT_PATIENCE.set()


def patiently(request: Callable[[], Result]) -> Result:
    """Do what `request` does, again for `PATIENCE` seconds while it raises a `BusyError`."""
    end = monotonic() + (0.0 if _WITHOUT_PATIENCE.is_set() else PATIENCE)
    for attempt in count():
        try:
            return request()
        except BusyError as error:
            if monotonic() > end or not (error.passes or attempt + 1 < WITHOUT_HOPE):
                raise
        sleep(pause(attempt))
    raise AssertionError("it returns or raises")
