"""Decoding in a child process, so that an image that ends its decoder ends nothing else.

Reasons for a reject at stage ``decode``: ``crashed``, ``timed-out``, ``out-of-memory``.

A part is decoded so from its second attempt on. What the first attempt died of is not known then;
the child finds it out for each image.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Self

from spark_job.decode import decode
from spark_job.errors import RejectedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.decode import Decoded
    from spark_job.networks import Card

IMAGE_SECONDS = 10.0
"""For decoding one image: several times what 64 megapixels of PNG take on a busy core."""

USUAL_PIXELS = 64_000_000
"""Of the largest images to which `IMAGE_SECONDS` is the limit; larger ones may take longer."""

CHILD_BYTES = 1_000_000_000
"""Memory of the child beside the images' pixels."""

BYTES_PER_PIXEL = 16
"""Memory of the child per pixel of the largest image: four copies of RGBA."""

DOUBTFUL = ("crashed", "out-of-memory")
"""Reasons that may be the fault of an image before, or of a machine short of memory.

An image is rejected for them only by a child that has decoded no other.
"""


UNSURE = ("crashed", "timed-out", "out-of-memory")
"""Reasons that another try, on another machine or with other versions, may not find again."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process (SIGALRM) where the block takes longer, whatever it does.

    The kernel does it: a decoder that holds the interpreter's lock holds up any thread of ours.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def image_seconds(max_pixels: int) -> float:
    """Seconds that one image may take where images may have so many pixels."""
    return IMAGE_SECONDS * max(1.0, max_pixels / USUAL_PIXELS)


@dataclass(frozen=True)
class _Limits:
    """What a child needs to know before its first image."""

    card: Card
    max_pixels: int


class IsolatedDecoder:
    """Decodes as `decode` does, in a child process that is replaced when an image ends it.

    Parameters
    ----------
    card, max_pixels
        See `decode`.
    """

    _pipe: Connection
    _process: subprocess.Popen[bytes]
    _used: bool

    def __init__(self, card: Card, max_pixels: int) -> None:
        self._limits = _Limits(card, max_pixels)
        self._start()

    def __call__(self, content: bytes) -> Decoded:
        """Decode one image file's bytes.

        Raises
        ------
        RejectedImageError
            As `decode` does, and where the child did not survive the image.
        RuntimeError
            Where no child starts.
        """
        used = self._used
        outcome = self._ask(content)
        if used and isinstance(outcome, RejectedImageError) and outcome.reason in DOUBTFUL:
            outcome = self._ask(content)
        if isinstance(outcome, RejectedImageError):
            raise outcome
        return outcome

    def _ask(self, content: bytes) -> Decoded | RejectedImageError:
        try:
            self._pipe.send(content)
            outcome: Decoded | RejectedImageError = self._pipe.recv()
        except (EOFError, OSError):
            code = self._end()
            self._start()
            return _reject(code, image_seconds(self._limits.max_pixels))
        self._used = True
        if isinstance(outcome, RejectedImageError) and outcome.reason in DOUBTFUL:
            self._process.kill()
            self._end()
            self._start()
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self._process.kill()
        self._end()

    def _start(self) -> None:
        self._used = False
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "spark_job.isolation", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # On a cluster this package lies in a zip that only this process has on its path.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        try:
            self._pipe.send(self._limits)
            self._pipe.recv()
        except (EOFError, OSError):  # which says nothing about any image
            told = f"a process to decode in does not start: it ended with code {self._end()}"
            raise RuntimeError(told) from None

    def _end(self) -> int:
        code = self._process.wait()
        self._pipe.close()
        return code


def _reject(code: int, seconds: float) -> RejectedImageError:
    """Say what ended the child, from its exit code: minus the signal, if it was one."""
    if code == -signal.SIGALRM:
        told = f"decoding it took longer than {seconds:g} s"
        return RejectedImageError("decode", "timed-out", told)
    if code == -signal.SIGKILL:
        told = "the system ended its decoder (SIGKILL), most likely for want of memory"
        return RejectedImageError("decode", "out-of-memory", told)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return RejectedImageError("decode", "crashed", f"its decoder crashed ({how})")


def main() -> None:
    """Decode what comes through the pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parents' business
    pipe = Connection(int(sys.argv[1]))
    limits: _Limits = pipe.recv()
    _limit(resource.RLIMIT_AS, CHILD_BYTES + BYTES_PER_PIXEL * limits.max_pixels)
    _limit(resource.RLIMIT_CORE, 0)
    seconds = image_seconds(limits.max_pixels)
    pipe.send("ready")
    while True:
        try:
            content = pipe.recv()
            with time_limit(seconds):
                outcome = _decode(content, limits)
            pipe.send(outcome)
        except EOFError:
            return
        except MemoryError:
            told = f"decoding it takes more memory than {_gigabytes()} GB"
            pipe.send(RejectedImageError("decode", "out-of-memory", told))


def _limit(which: int, most: int) -> None:
    """Set a limit, no higher than the system allows; some systems know none of memory."""
    _, hard = resource.getrlimit(which)
    with suppress(ValueError, OSError):
        resource.setrlimit(
            which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )


def _decode(content: bytes, limits: _Limits) -> Decoded | RejectedImageError:
    try:
        decoded = decode(content, limits.card, max_pixels=limits.max_pixels)
    except RejectedImageError as reject:
        return reject
    # A copy, for a file's image cannot be pickled.
    return replace(decoded, small=decoded.small.copy())


def _gigabytes() -> str:
    return f"{resource.getrlimit(resource.RLIMIT_AS)[0] / 1e9:.1f}"


if __name__ == "__main__":
    main()
