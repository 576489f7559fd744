"""Moving many files at once, with a bar, until all are moved or one cannot be.

Threads of our own, for an interrupt must not wait for a store that does not answer: what a thread
is at when the process ends is a file that is written whole, or not at all.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from threading import Condition, Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from orchard import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

THREADS = 32

IN_FLIGHT = 16_000_000
"""Bytes that are on their way at a time, if several files are and nobody says otherwise."""

LINE_EVERY = 10.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


@dataclass(frozen=True)
class File:
    """A file to be moved: its name in both folders, and its size."""

    name: str
    bytes: int


@dataclass
class Moved:
    """How far it is.

    Attributes
    ----------
    files, bytes
        That were moved.
    there
        Files that were there already.
    """

    files: int = 0
    bytes: int = 0
    there: int = 0

    @property
    def done(self) -> int:
        """Files that need not be moved any more."""
        return self.files + self.there

    def count(self, file: File, *, had_to: bool) -> None:
        """Count a file that was moved, or that did not have to be."""
        if had_to:
            self.files += 1
            self.bytes += file.bytes
        else:
            self.there += 1


def move(
    files: Sequence[File],
    act: Callable[[File], bool],
    *,
    doing: str,
    moved: Moved,
    in_flight: int = IN_FLIGHT,
) -> None:
    """Move files.

    Parameters
    ----------
    files
        Which.
    act
        Moves one of them, in any thread, and returns whether it had to.
    doing
        The word beside the bar.
    moved
        Is told how far it is, and tells it still where an error or an interrupt ends it.
    in_flight
        Bytes that may be on their way at a time, if several files are.

    Raises
    ------
    Exception
        The first that `act` raises.
    """
    pool = _Pool(files, act, moved, in_flight)
    pool.start()
    try:
        for _ in _shown(len(files), doing, moved):
            if pool.wait(0.2):
                break
    finally:
        pool.stop()
    if pool.failure is not None:
        raise pool.failure


class _Pool:
    """The threads that move, and what they share."""

    def __init__(
        self, files: Sequence[File], act: Callable[[File], bool], moved: Moved, most: int
    ) -> None:
        self.failure: BaseException | None = None
        self._left = deque(files)
        self._act = act
        self._moved = moved
        self._most = most
        self._in_flight = 0
        self._changed = Condition()
        self._stop = Event()
        self._threads = [
            Thread(target=self._work, daemon=True) for _ in range(min(THREADS, len(files)))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait a while for the end, and say whether it has come: with all done, or a failure."""
        until = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
            if self._stop.is_set():
                return True
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        while (file := self._take()) is not None:
            try:
                had_to = self._act(file)
            except BaseException as error:
                with self._changed:
                    self.failure = self.failure or error
                self.stop()
                return
            with self._changed:
                self._in_flight -= file.bytes
                self._moved.count(file, had_to=had_to)
                self._changed.notify_all()

    def _take(self) -> File | None:
        """Take the next file once it fits; None where there is none, or all is to end."""
        with self._changed:
            while self._left and not self._stop.is_set():
                if not self._in_flight or self._in_flight + self._left[0].bytes <= self._most:
                    file = self._left.popleft()
                    self._in_flight += file.bytes
                    return file
                self._changed.wait()
        return None


def _shown(total: int, doing: str, moved: Moved) -> Iterator[None]:
    """Show how far it is each time that it is asked for more."""
    if sys.stderr.isatty():
        yield from _bar(total, doing, moved)
    started = said = monotonic()
    while True:
        yield
        if monotonic() - said >= LINE_EVERY:
            said = monotonic()
            rate = moved.done / (said - started)
            left = f"{(total - moved.done) / rate:,.0f} s left" if rate else "none is done yet"
            size = console.in_bytes(moved.bytes)
            console.say(f"{doing}: {moved.done:,} of {total:,} files, {size}, {left}")


def _bar(total: int, doing: str, moved: Moved) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(total=total, unit="file", desc=doing, smoothing=0.1) as bar:
        while True:
            yield
            bar.set_postfix_str(console.in_bytes(moved.bytes), refresh=False)
            bar.update(moved.done - bar.n)
