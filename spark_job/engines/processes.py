"""The engine of one machine: a supervised process per core, with one thread and one pipe each.

No pool of the standard library will do: in one a dead worker breaks it for good, in the other it
hangs it, and in both workers outlive a parent that was killed.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from spark_job.engines import ATTEMPTS, Task
from spark_job.errors import JobError
from spark_job.objects import BusyError
from spark_job.receipts import EngineReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spark_job.engines import Result, Work
    from spark_job.progress import Progress

LOGGER = logging.getLogger("orchard")

NOT_RETRIED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Errors of the file system that no second attempt mends."""


ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""What keeps a worker's matrix products to its own core, whichever library NumPy is built with."""


class _Worker:
    """A process, its pipe, and the part that it works on."""

    def __init__(self, warm_up: Callable[[], object]) -> None:
        package = str(Path(__file__).resolve().parents[2])
        paths = filter(None, [package, os.environ.get("PYTHONPATH")])
        self.pipe, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "spark_job.engines.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # out of reach of a terminal's Ctrl-C
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            )
        self.task: Task | None = None
        self.ready = False
        self.pipe.send(warm_up)

    def end(self) -> None:
        """Kill it: no file of a worker counts before its receipt is accepted."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()

    def cause_of_death(self) -> str:
        """Say how its process ended."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "closed its pipe"
        if code == -signal.SIGALRM:
            return "took too long over one image and was ended"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with code {code}"


class ProcessEngine:
    """Processes of this machine; see `Engine`.

    Parameters
    ----------
    warm_up
        What each worker does before its first part.
    """

    def __init__(self, warm_up: Callable[[], object]) -> None:
        self._warm_up = warm_up
        self._workers = [_Worker(warm_up) for _ in range(cores())]
        self._failed_starts = 0
        self._rounds = 0

    @property
    def slots(self) -> int:
        """One per core that this process may use."""
        return len(self._workers)

    def receipt(self) -> EngineReceipt:
        """Say what it was."""
        return EngineReceipt("processes", self.slots)

    def run(
        self,
        description: str,
        work: Work[Result],
        parts: Sequence[int],
        progress: Progress | None = None,
        check: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Give `work` each part; see `Engine`.

        Raises
        ------
        JobError
            Where a part's worker died `ATTEMPTS` times.
        Exception
            What `work` raised at its last attempt, or at once where another would not help; what
            `check` raised.
        """
        self._rounds += 1
        waiting = deque(Task(self._rounds, part) for part in parts)
        results: dict[int, Result] = {}
        for worker in self._workers:
            self._send(worker, work)
        while len(results) < len(parts):
            for worker in self._workers:
                if worker.task is None and waiting:
                    worker.task = waiting.popleft()
                    self._send(worker, worker.task)
            for worker in self._workers_with_messages():
                try:
                    task, kind, content = worker.pipe.recv()
                except (EOFError, OSError):
                    task, kind, content = worker.task, "died", self._replace(worker, work)
                if kind == "ready":
                    worker.ready = True
                    continue
                if kind == "failed" and task is None:
                    raise content  # it cannot even warm up
                if kind != "report":
                    worker.task = None
                if task is None or task.round != self._rounds:
                    continue  # of a round that failed
                if kind == "report":
                    if progress is not None:
                        progress.report(task.part, content)
                elif kind == "done":
                    results[task.part] = content
                    if progress is not None:
                        progress.finish(task.part)
                    if check is not None:
                        check(content)
                else:
                    again = replace(task, attempt=task.attempt + 1)
                    _require_retry(description, again, kind, content)
                    waiting.appendleft(again)
        return [results[part] for part in sorted(parts)]

    def _workers_with_messages(self) -> list[_Worker]:
        by_pipe = {worker.pipe: worker for worker in self._workers}
        return [by_pipe[pipe] for pipe in wait(list(by_pipe)) if isinstance(pipe, Connection)]

    def _send(self, worker: _Worker, message: Any) -> None:
        with suppress(OSError):  # it died, and its pipe will say so
            worker.pipe.send(message)

    def _replace(self, worker: _Worker, work: Any) -> str:
        cause = worker.cause_of_death()
        self._failed_starts = 0 if worker.ready else self._failed_starts + 1
        if self._failed_starts == ATTEMPTS:
            raise JobError(f"worker processes do not start: the last one {cause}; see above")
        worker.end()
        fresh = _Worker(self._warm_up)
        self._workers[self._workers.index(worker)] = fresh
        self._send(fresh, work)
        return cause

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.end()


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require_retry(description: str, again: Task, kind: str, content: Any) -> None:
    """Warn of a part that failed, or raise where no other attempt is left or would help."""
    if kind == "died":
        if again.attempt == ATTEMPTS:
            raise JobError(
                f"part {again.part} of {description} {content} {ATTEMPTS} times over, most likely "
                "for want of memory; nothing was published. Run it again with fewer cores "
                "(taskset) or more memory"
            )
        LOGGER.warning("a worker %s; its part is tried again", content)
        return
    final = isinstance(content, JobError | BusyError) or (
        isinstance(content, OSError) and content.errno in NOT_RETRIED
    )
    if final or again.attempt == ATTEMPTS:
        raise content
    LOGGER.warning("%s: %s; its part is tried again", type(content).__name__, content)
