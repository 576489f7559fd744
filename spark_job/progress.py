"""Showing how far a run is while it works."""

from __future__ import annotations

import logging
import sys
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable

LOGGER = logging.getLogger("orchard")
LINE_EVERY = 10.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


class Progress:
    """Images done of all, images/s and time left, while the block runs.

    Parameters
    ----------
    total
        Images in all.
    done
        Tells how many images are done; called from a thread.
    """

    def __init__(self, total: int, done: Callable[[], int]) -> None:
        self._total = total
        self._done = done
        self._started = monotonic()
        self._stop = Event()
        bar = sys.stderr.isatty()
        self._thread = Thread(target=self._bar if bar else self._lines, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _bar(self) -> None:
        with tqdm(total=self._total, unit="image", desc="featurize", smoothing=0.1) as bar:
            running = True
            while running:
                running = not self._stop.wait(0.2)
                bar.update(min(self._done(), self._total) - bar.n)

    def _lines(self) -> None:
        while not self._stop.wait(LINE_EVERY):
            done = min(self._done(), self._total)
            rate = done / (monotonic() - self._started)
            left = f"{(self._total - done) / rate:,.0f} s left" if rate else "none finished yet"
            counts = f"{done:,} of {self._total:,} images"
            LOGGER.info("%s, %.0f images/s, %s", counts, rate, left)
