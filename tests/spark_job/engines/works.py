"""What the engines' tests let workers do; workers import it by this name."""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING

from spark_job.errors import JobError

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.engines import Attempt


def nothing() -> None:
    """A warm-up."""


def unfit() -> None:
    raise JobError("the card does not fit its network")


def stillborn() -> None:
    os._exit(3)


@dataclass(frozen=True)
class Square:
    """Squares its number, the small ones last."""

    def __call__(self, part: int, attempt: Attempt) -> tuple[int, int]:
        sleep(0.05 / (1 + part))
        return part * part, os.getpid()


@dataclass(frozen=True)
class Fail:
    """Fails at part 1 as often as `times` says, as `how` says; pauses at the others."""

    folder: Path
    times: int
    how: str
    pause: float = 0.0

    def __call__(self, part: int, attempt: Attempt) -> int:
        if part == 1:
            tries = self.folder / "tries"
            with tries.open("a") as file:
                file.write("x")
            if len(tries.read_text()) <= self.times:
                self._fail()
        sleep(self.pause)
        return part

    def _fail(self) -> None:
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            sys.exit(7)
        if self.how == "raise":
            raise ValueError("no such luck")
        if self.how == "sentence":
            raise JobError("a sentence")
        if self.how == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.how == "odd":
            raise OddError("with", "three", "arguments")


class OddError(Exception):
    """Cannot be pickled and read again."""

    def __init__(self, one: str, two: str, three: str) -> None:
        super().__init__(one)


@dataclass(frozen=True)
class Count:
    """Reports each of so many images, slowly."""

    images: int
    seconds: float

    def __call__(self, part: int, attempt: Attempt) -> int:
        for done in range(self.images):
            attempt.report(done)
            sleep(self.seconds)
        return part


@dataclass(frozen=True)
class Hang:
    """Says its process's number in a file, and never ends; with the interpreter busy or not."""

    folder: Path
    busy: bool

    def __call__(self, part: int, attempt: Attempt) -> None:
        (self.folder / str(os.getpid())).touch()
        while True:
            if not self.busy:
                sleep(1)
