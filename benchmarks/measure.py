"""Whole programs: their time and memory, each in a fresh process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import IO, TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).resolve().parents[1]

GB = 1e9

SAMPLE_SECONDS = 0.25
"""Between two looks at the memory: often enough for a stage, and not felt in the times."""


class BenchmarkError(Exception):
    """A program that was to be measured failed; the message says which and how."""


@dataclass(frozen=True)
class Measurement:
    """One run of a whole program, interpreter start to exit.

    Attributes
    ----------
    seconds
        Wall-clock time.
    peak_bytes
        Most memory resident at a time in the program and all its descendants. Pages that
        processes share count once for each, so this is an upper bound.
    cpu_seconds
        User and system time of the program and of every descendant that was waited for.
    output
        What it printed.
    """

    seconds: float
    peak_bytes: int
    cpu_seconds: float
    output: str


def measure(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    limit_seconds: float | None = None,
) -> Measurement:
    """Run ``python -m module arguments`` with `environment` added to this process's.

    A person's own AWS settings are left out: what is measured talks to a server of this machine.

    Raises
    ------
    BenchmarkError
        Where the program exits with another code than 0, or not within `limit_seconds`.
    """
    command = [sys.executable, "-m", module, *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        cpu_before = _cpu_of_children()
        started = perf_counter()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env={**inherited, **(environment or {})},
            cwd=REPOSITORY,
        )
        try:
            with _ended_with_this_block(process), _memory_of(process) as peak:
                code = process.wait(limit_seconds)
                seconds = perf_counter() - started
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{module} did not end within {limit_seconds:,.0f} s") from error
        if code:
            raise BenchmarkError(f"{module} failed with code {code}:\n{_tail(errors)}")
        output.seek(0)
        cpu = _cpu_of_children() - cpu_before
        return Measurement(seconds, peak[0], cpu, output.read().decode())


def _cpu_of_children() -> float:
    """Add up the time of all descendants that have ended; a server beside them has not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _memory_of(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Keep the most bytes seen so far in the one element of the list."""
    peak = [0]
    ended = Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(map(_resident, _tree(process.pid))))

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()


@contextmanager
def _ended_with_this_block(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind when the benchmark is interrupted."""
    try:
        yield
    except BaseException:
        for one in _tree(process.pid):
            one.kill()
        process.wait()
        raise


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _tail(stream: IO[bytes]) -> str:
    stream.seek(0)
    return "\n".join(stream.read().decode(errors="replace").splitlines()[-30:])
