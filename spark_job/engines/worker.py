"""One worker of `ProcessEngine`: ``python -m spark_job.engines.worker DESCRIPTOR``.

It takes parts from its pipe, one at a time, and ends when the pipe does: whatever ended the parent,
the kernel closes its end.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

from spark_job.arrow import spare_pandas
from spark_job.engines import Attempt, Task

REPORT_EVERY = 0.5
"""Seconds between two reports of how far a part is."""


def main() -> None:
    """Work until there is no parent left to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    pipe = _Pipe(int(sys.argv[1]))
    messages: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_listen, args=(pipe, messages), daemon=True).start()
    warm_up = messages.get()
    spare_pandas()
    try:
        warm_up()
    except Exception as error:
        pipe.send((None, "failed", _with_traceback(error)))
        return
    # What is loaded by now lives as long as the process: collections need not search it.
    gc.freeze()
    pipe.send((None, "ready", None))
    work: Any = None
    while True:
        message = messages.get()
        if isinstance(message, Task):
            pipe.send((message, *_run(work, message, pipe)))
        else:
            work = message


class _Pipe(Connection):
    """Ends this process, and not in a traceback, where nobody listens any more."""

    def send(self, obj: Any) -> None:
        try:
            super().send(obj)
        except BrokenPipeError:
            os._exit(0)


def _listen(pipe: Connection, messages: SimpleQueue[Any]) -> None:
    """Pass on what the parent says, and end this process, busy or not, when it is gone."""
    try:
        while True:
            messages.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # a message that cannot be unpickled: nobody else would hear of it
        traceback.print_exc()
        os._exit(1)


def _run(work: Any, task: Task, pipe: Connection) -> tuple[str, Any]:
    last = monotonic()

    def report(done: int) -> None:
        nonlocal last
        if monotonic() - last > REPORT_EVERY:
            last = monotonic()
            pipe.send((task, "report", done))

    try:
        return "done", work(task.part, Attempt(task.attempt, report))
    except Exception as error:
        return "failed", _with_traceback(error)


def _with_traceback(error: Exception) -> Exception:
    """Give an error that the parent can read, and where it was raised."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
