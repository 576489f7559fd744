"""Executions of the deployed state machine: which there are, starting one, stopping one.

An execution's name is its run's. Those that the trigger or `orchard start` start are named by
`deployed.run_name`, after their batch; of others the input says it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from orchard.cloud.session import MissingError, client, in_sentences
from spark_job import contract
from spark_job.deployed import run_name
from spark_job.errors import JobError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from orchard.cloud.stack import Stack

RUNNING, SUCCEEDED = "RUNNING", "SUCCEEDED"

LOOK_BACK = 1_000
"""Executions among which a batch's are looked for, the latest first."""

MOST_NAMED = 8
"""Runs that a sentence names."""

TRIES = 20
"""Names that are tried for a new run, while others take them at the same moment."""


@dataclass(frozen=True)
class Execution:
    """An execution.

    Attributes
    ----------
    arn, run
        Which; the run's name is the execution's.
    status
        Step Functions' word.
    started, ended
        When; it may not have ended.
    batch
        Whose; None where only a description would tell.
    given
        What it was started with; empty where it was not described.
    error, cause
        Why it failed: a word and a sentence; empty otherwise.
    """

    arn: str
    run: str
    status: str
    started: datetime
    ended: datetime | None
    batch: str | None
    given: Mapping[str, Any]
    error: str = ""
    cause: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self.status == RUNNING

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Read an execution as Step Functions lists or describes it."""
        given: dict[str, Any] = {}
        try:
            read = json.loads(answer.get("input") or "{}")
            given = read if isinstance(read, dict) else {}
        except ValueError:  # whatever somebody started it with
            pass
        batch = given.get("batch")
        return cls(
            arn=answer["executionArn"],
            run=answer["name"],
            status=answer["status"],
            started=answer["startDate"],
            ended=answer.get("stopDate"),
            batch=batch if isinstance(batch, str) else _batch_of(answer["name"]),
            given=given,
            error=answer.get("error") or "",
            cause=answer.get("cause") or "",
        )


def executions(stack: Stack, status: str | None = None) -> Iterator[Execution]:
    """List executions, the latest first, as far as Step Functions knows them (90 days)."""
    states = client("stepfunctions")
    asked: dict[str, Any] = {"stateMachineArn": stack.state_machine}
    if status is not None:
        asked["statusFilter"] = status
    while True:
        with in_sentences("list the runs"):
            page = states.list_executions(**asked)
        yield from map(Execution.of, page["executions"])
        if not page.get("nextToken"):
            return
        asked["nextToken"] = page["nextToken"]


def describe(stack: Stack, run: str) -> Execution | None:
    """Describe the execution of a run; None where there is none."""
    states = client("stepfunctions")
    try:
        with in_sentences(f"look at the run {run}"):
            return Execution.of(states.describe_execution(executionArn=stack.execution(run)))
    except MissingError:
        return None


def find(stack: Stack, named: str | None) -> Execution:
    """Find what is meant: a run, the latest run of a batch, or the only one that goes on.

    Raises
    ------
    UsageError
        Where there is none, or where several could be meant.
    """
    if named is None:
        return _only_running(stack)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", named) and len(named) <= 80:
        found = describe(stack, named)
        if found is not None:
            return found
        for each in islice(executions(stack), LOOK_BACK):
            if each.batch == named or (
                each.batch is None
                and (described := describe(stack, each.run)) is not None
                and described.batch == named
            ):
                return describe(stack, each.run) or each
    known = dict.fromkeys(each.run for each in islice(executions(stack), MOST_NAMED))
    there = f"the latest runs are {', '.join(known)}" if known else "nothing was run there yet"
    raise UsageError(
        f"the stack {stack.name} has neither a run nor a run of a batch {named!r}; {there}"
    )


def running_of(stack: Stack, batch: str) -> Execution | None:
    """Find the run of a batch that goes on, if there is one."""
    for each in executions(stack, RUNNING):
        found = each if each.batch is not None else describe(stack, each.run)
        if found is not None and found.batch == batch:
            return found
    return None


def going_on(stack: Stack, execution: Execution) -> UsageError:
    """Say that a run of the batch goes on, beside which none is started."""
    run = execution.run
    return UsageError(
        f"the run {run} of batch {execution.batch} goes on; {stack.again(f'follow {run}')} "
        f"shows it, and {stack.again(f'stop {run}')} ends it"
    )


def start(stack: Stack, given: Mapping[str, Any]) -> Execution:
    """Start a run of a batch under the next name.

    Step Functions may need some seconds before it describes it: its answer is all that is told.

    Parameters
    ----------
    stack
        Where.
    given
        The input, its batch in it.

    Raises
    ------
    UsageError
        Where somebody started a run of the batch at the same moment.
    JobError
        Where others took one name after the other.
    """
    batch, states = given["batch"], client("stepfunctions")
    number = _last_number(stack, batch)
    for _ in range(TRIES):
        number += 1
        run = run_name(batch, number)
        try:
            with in_sentences(f"start a run of {batch}"):
                started = states.start_execution(
                    stateMachineArn=stack.state_machine, name=run, input=json.dumps(given)
                )
        except JobError as error:
            if "ExecutionAlreadyExists" not in str(error):
                raise
            # Somebody else's, started a moment ago, or one whose name is kept after its end.
            other = describe(stack, run)
            if other is not None and other.is_running and other.batch == batch:
                raise going_on(stack, other) from error
            continue
        return Execution(
            arn=started["executionArn"],
            run=run,
            status=RUNNING,
            started=started["startDate"],
            ended=None,
            batch=batch,
            given=given,
        )
    raise JobError(f"{TRIES} names of runs of {batch} were taken one after the other; try again")


def stop(stack: Stack, run: str, why: str) -> None:
    """End an execution, which does not end its cluster."""
    with in_sentences(f"stop the run {run}"):
        client("stepfunctions").stop_execution(
            executionArn=stack.execution(run), error="Stopped", cause=why
        )


def _only_running(stack: Stack) -> Execution:
    found = list(executions(stack, RUNNING))
    if len(found) == 1:
        return describe(stack, found[0].run) or found[0]
    if found:
        names = ", ".join(each.run for each in found[:MOST_NAMED])
        raise UsageError(f"several runs go on; name one of {names}")
    raise UsageError(
        f"no run goes on in the stack {stack.name}; name a run or a batch, or look with "
        f"{stack.again('status')}"
    )


def _batch_of(run: str) -> str | None:
    """Tell a run's batch by its name; None where it is named otherwise."""
    batch, dot, number = run.rpartition(".")
    return batch if dot and batch and number.isdecimal() else None


def _last_number(stack: Stack, batch: str) -> int:
    """Find the number of a batch's last run: of those that are remembered, and of those settled."""
    settled = (stack.root / contract.results_folder(batch) / contract.RUNS).folders()
    remembered = (each.run for each in islice(executions(stack), LOOK_BACK))
    taken = [
        int(number)
        for name in (*settled, *remembered)
        for before, _, number in [name.rpartition(".")]
        if before == batch and number.isdecimal()
    ]
    return max(taken, default=0)
