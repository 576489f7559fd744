"""Telling how a run goes while it goes: states, cluster, nodes, images, and its end.

It asks as seldom as it says something new: Step Functions and S3 every few seconds, EMR, which
throttles soonest, twice a minute. Nothing that happens here has any effect on the run.
"""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.status import Status

from orchard import console
from orchard.cloud import clusters, executions
from orchard.cloud.journal import Journal
from orchard.cloud.session import ExpiredCredentialsError, MissingError, OutOfReachError
from spark_job import contract
from spark_job.errors import JobError, NoImagesError, UsageError
from spark_job.objects import BusyError, ExpiredError
from spark_job.receipts import RunReceipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchard.cloud.executions import Execution
    from orchard.cloud.stack import Stack

POLL = 5.0
"""Seconds between two looks: the job writes its progress as often."""

NODES_EVERY = 30.0
"""Seconds between two looks at a cluster's nodes."""

LINE_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""

PATIENCE = 300.0
"""Seconds for which AWS may be out of reach before nobody follows any more."""

APPEARS = 60.0
"""Seconds within which Step Functions tells of a run that was only just started."""

STATES: Final[Mapping[str, str]] = {
    "CheckInput": "what it was started with is checked",
    "CheckImages": "it looks for pictures",
    "WaitToBeListed": "it asks whether it is its turn",
    "WaitForTurn": "it waits for its turn: as many batches as may have clusters have one",
    "CreateCluster": "EMR is asked for a cluster",
    "WaitForNodes": "the cluster starts",
    "UseOtherTypes": "there are too few such nodes: it asks for others",
    "RunJob": "the job runs",
    "DescribeFailure": "something failed: it finds out what",
    "TerminateCluster": "the cluster is ended",
    "TerminateFailedCluster": "the cluster is ended",
    "NotifySuccess": "the batch is published",
    "NotifyFailure": "the failure is told",
}
"""States of the machine that are worth a line, in words."""

ADMITTED: Final = "WaitToBeListed"
"""The first state after all that is checked before anything is paid for."""

JOB: Final = "RunJob"

REFUSALS: Final[Mapping[str, type[JobError]]] = {
    "InputRefused": UsageError,
    "NoImages": NoImagesError,
    "NoTurn": OutOfReachError,
    "NoCapacity": OutOfReachError,
}
"""Errors of the state machine whose exit code is not 1: OutOfReachError's means later."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its execution and, if it is complete, its receipt."""

    execution: Execution
    receipt: RunReceipt | None
    report: str | None


class Follower:
    """Follows a run.

    Parameters
    ----------
    stack, execution
        Whose.
    """

    def __init__(self, stack: Stack, execution: Execution) -> None:
        self._stack = stack
        self._execution = execution
        self._journal = Journal(stack, execution.run)
        self._said: set[str] = set()
        self._nodes = ""
        self._nodes_at = -math.inf
        self._line = ""
        self._line_at = 0.0
        self._status = Status("", console=console.ERR) if sys.stderr.isatty() else None

    def follow(self) -> Ended:
        """Tell all until the run has ended.

        Raises
        ------
        UnavailableError
            Where the credentials expire, or AWS is out of reach for long; the run goes on.
        MissingError
            Where Step Functions does not know the run, after a while still.
        """
        silent_since: float | None = None
        begun = time.monotonic()
        if self._status is not None:
            self._status.start()
        try:
            while True:
                try:
                    ended = self._look()
                    silent_since = None
                except ExpiredCredentialsError as error:
                    raise ExpiredCredentialsError(self._goes_on(str(error))) from error
                except ExpiredError as error:
                    told = f"the AWS credentials expired ({error}); sign in (aws sso login)"
                    raise ExpiredCredentialsError(self._goes_on(told)) from error
                except (OutOfReachError, BusyError) as error:
                    now = time.monotonic()
                    if silent_since is None:
                        silent_since = now
                        console.say(f"AWS is out of reach, and is asked again ({error})")
                    if now - silent_since > PATIENCE:
                        raise OutOfReachError(self._goes_on(str(error))) from error
                    ended = None
                except MissingError:
                    if time.monotonic() - begun > APPEARS:
                        raise
                    ended = None
                if ended is not None:
                    return ended
                time.sleep(POLL)
        finally:
            if self._status is not None:
                self._status.stop()

    def _goes_on(self, told: str) -> str:
        back = self._stack.again(f"follow {self._execution.run}")
        return f"{told.rstrip('.')}. The run {self._execution.run} goes on: {back} comes back to it"

    def _look(self) -> Ended | None:
        """Tell what is new; how the run ended, if it has."""
        found = executions.describe(self._stack, self._execution.run)
        self._execution = found or self._execution
        for entered in self._journal.update():
            words = STATES.get(entered.name)
            if words is not None and entered.name not in self._said:
                self._said.add(entered.name)
                console.say(f"{entered.at.astimezone():%H:%M:%S}  {words}")
        if not self._execution.is_running:
            return outcome(self._stack, self._execution)
        self._tell_now()
        return None

    def _tell_now(self) -> None:
        """Tell how far it is: on a terminal in one line that changes."""
        parts = [self._tell_cluster(), self._progress() if self._journal.state == JOB else ""]
        line = "; ".join(filter(None, parts))
        if self._status is not None:
            self._status.update(line or STATES.get(self._journal.state or "", "it goes on"))
        elif line and line != self._line and time.monotonic() - self._line_at >= LINE_EVERY:
            console.say(f"          {line}")
            self._line, self._line_at = line, time.monotonic()

    def _tell_cluster(self) -> str:
        if not self._journal.clusters:
            return ""
        cluster = self._journal.clusters[-1]
        if cluster not in self._said:
            self._said.add(cluster)
            console.say(f"          the cluster is {cluster}")
        if time.monotonic() - self._nodes_at >= NODES_EVERY:
            self._nodes_at = time.monotonic()
            try:
                self._nodes = str(clusters.nodes_of(cluster))
            except ExpiredCredentialsError:
                raise
            except JobError:  # EMR throttles soonest; the run has nothing to do with it
                pass
        return self._nodes

    def _progress(self) -> str:
        batch = self._execution.batch
        if batch is None:
            return ""
        told = progress(self._stack, batch, self._execution.run)
        return told or "Spark starts, or results are settled"


def progress(stack: Stack, batch: str, run: str) -> str | None:
    """Say how many images of a run are done; None where the job does not say, before and after."""
    work = stack.root / contract.work_folder(batch, run)
    with suppress(ValueError, KeyError, TypeError):
        told = json.loads(work.read_or_none(contract.PROGRESS) or b"null")
        done, images, rate = told["done"], told["images"], told["images_per_second"]
        if done >= images:
            return f"all of {images:,} images are done; model, vectors and findings follow"
        left = f", {(images - done) / rate:,.0f} s left" if rate else ""
        return f"{done:,} of {images:,} images, {rate:,.0f} a second{left}"
    return None


def wait_until_admitted(stack: Stack, run: str, seconds: float = 30.0) -> Execution | None:
    """Wait until a run that was just started is past all checks, or has ended; how it stands.

    None where neither could be seen in time.
    """
    journal, until = Journal(stack, run), time.monotonic() + seconds
    while time.monotonic() < until:
        found = executions.describe(stack, run)
        with suppress(MissingError):  # not told of yet
            journal.update()
        entered = {each.name for each in journal.states}
        if found is not None and (not found.is_running or ADMITTED in entered):
            return found
        time.sleep(min(1.0, POLL))
    return None


def outcome(stack: Stack, execution: Execution) -> Ended:
    """Say how a run ended: read its receipt, or raise why there is none.

    Raises
    ------
    JobError
        Why it failed, in a sentence with the next step; with the job's own exit code, if it has
        one.
    """
    run, batch = execution.run, execution.batch
    if execution.status != executions.SUCCEEDED:
        raise _failure(stack, execution)
    if batch is None:
        return Ended(execution, None, None)
    folder = stack.root / contract.run_folder(batch, run)
    content = folder.read_or_none(contract.RUN)
    if content is None:
        return Ended(execution, None, None)
    report = f"{folder.uri}/{contract.REPORT}" if contract.REPORT in folder.files() else None
    return Ended(execution, RunReceipt.from_json(content, folder.uri), report)


def _failure(stack: Stack, execution: Execution) -> JobError:
    run = execution.run
    look = f"{stack.again(f'logs {run}')} shows the logs"
    start = stack.again(f"start {execution.batch or 'BATCH'}")
    if execution.status == "ABORTED":
        why = f" ({execution.cause})" if execution.cause else ""
        return JobError(f"the run {run} was stopped{why}; {start} goes on where it was")
    if execution.status == "TIMED_OUT":
        return JobError(f"the run {run} took longer than it may; {look}, and {start} goes on")
    told = f"run {run}: {execution.cause.rstrip('.') or execution.error}"
    kind = REFUSALS.get(execution.error)
    if kind is not None:
        return kind(told)
    error = JobError(f"{told}. {look}")
    error.exit_code = _exit_code(stack, execution)
    return error


def _exit_code(stack: Stack, execution: Execution) -> int:
    """Read the job's own exit code; 1 where it left none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        work = stack.root / contract.work_folder(execution.batch or "", execution.run)
        told: dict[str, Any] = json.loads(work.read_or_none(contract.FAILURE) or b"null")
        return int(told["exit_code"])
    return JobError.exit_code
