"""Showing how far a run is while it works: here, and from afar in ``progress.json``."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Self

from spark_job import contract
from spark_job.receipts import to_json

if TYPE_CHECKING:
    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")

LINE_EVERY = 10.0
"""Seconds between two lines where there is no terminal to draw a bar on."""

FILE_EVERY = 5.0
"""Seconds between two writings of ``progress.json``."""


class Progress:
    """Images done of all, images/s and time left, while the block runs.

    Parameters
    ----------
    sizes
        Images of each part.
    work
        The run's work folder, which gets ``progress.json``.
    before
        Images of the batch that were done before.
    """

    def __init__(self, sizes: list[int], work: Folder, before: int = 0) -> None:
        self.work = work
        self._sizes = sizes
        self._total = sum(sizes)
        self._before = before
        self._finished: set[int] = set()
        self._done = 0
        self._partial: dict[int, int] = {}
        self._lock = Lock()
        self._started = monotonic()
        self._stop = Event()
        show = self._bar if sys.stderr.isatty() else self._lines
        self._threads = [Thread(target=each, daemon=True) for each in (show, self._files)]

    @property
    def done(self) -> int:
        """Images done, those of unfinished parts among them."""
        with self._lock:
            return min(self._done + sum(self._partial.values()), self._total)

    def report(self, part: int, done: int) -> None:
        """Take note that so many images of a part are done."""
        with self._lock:
            if part not in self._finished:
                self._partial[part] = done

    def finish(self, part: int) -> None:
        """Take note that a part is done."""
        with self._lock:
            if part not in self._finished:
                self._finished.add(part)
                self._done += self._sizes[part]
            self._partial.pop(part, None)

    def is_finished(self, part: int) -> bool:
        """Whether a part is done."""
        return part in self._finished

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _bar(self) -> None:
        from tqdm import tqdm  # which takes a tenth of a second, for a terminal alone

        with tqdm(total=self._total, unit="image", desc="featurize", smoothing=0.1) as bar:
            running = True
            while running:
                running = not self._stop.wait(0.2)
                bar.update(self.done - bar.n)
                bar.refresh()  # which an update is not followed by where a part began again

    def _lines(self) -> None:
        while not self._stop.wait(LINE_EVERY):
            done = self.done
            rate = done / (monotonic() - self._started)
            left = f"{(self._total - done) / rate:,.0f} s left" if rate else "none finished yet"
            counts = f"{done:,} of {self._total:,} images"
            LOGGER.info("%s, %.0f images/s, %s", counts, rate, left)

    def _files(self) -> None:
        running = True
        while running:
            running = not self._stop.wait(FILE_EVERY)
            done = self.done
            seconds = monotonic() - self._started
            content = {
                "contract": contract.CONTRACT,
                "images": self._before + self._total,
                "done": self._before + done,
                "parts": len(self._sizes),
                "parts_done": len(self._finished),
                "seconds": round(seconds, 1),
                "images_per_second": round(done / seconds, 1),
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            try:
                self.work.write(contract.PROGRESS, to_json(content))
            except OSError as error:
                LOGGER.debug("progress could not be written: %s", error)
