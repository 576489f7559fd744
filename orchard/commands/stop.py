"""``orchard stop``: ends a run, and waits until no cluster of it is left."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from orchard import console
from orchard.cloud import clusters, executions
from orchard.cloud.clusters import TERMINATING, Cluster
from orchard.cloud.executions import Execution
from orchard.cloud.journal import CREATE_CLUSTER, Journal
from orchard.cloud.stack import Stack, find_stack
from orchard.options import Json, TheStack
from spark_job.errors import JobError, UsageError

EXAMPLE = "Example: orchard stop july.1 --yes"

POLL = 5.0
"""Seconds between two looks."""

JANITOR = 120.0
"""Seconds that the stack's janitor has to end a cluster, before this command does."""

APPEARS = 90.0
"""Seconds after a run's end within which EMR lists a cluster that it was only just asked for."""

PATIENCE = 1800.0
"""Seconds that a cluster may take to end."""


def stop(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name.", show_default=False)],
    stack: TheStack = "Orchard",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Stop it without a question.")] = False,
    json: Json = False,
) -> None:
    """Stop a run, and wait until no cluster of it is left.

    It publishes nothing then; started again, the batch goes on where it was. A cluster whose run
    Step Functions does not know any more is ended, too.
    """
    found = find_stack(stack)
    try:
        execution = executions.find(found, run)
    except UsageError:
        left = _alive(found, run)
        if not left:
            raise
        _end_strays(found, run, left, yes=yes, json=json)
        return
    stopped = execution.is_running
    if stopped:
        if not yes and not console.ask(_question(execution)):
            console.say("Nothing was stopped")
            return
        executions.stop(found, execution.run, "by orchard stop")
        console.say(f"Stopped the run {execution.run}; its cluster is ended by the janitor")
    journal = Journal(found, execution.run)
    journal.update()
    ended = _wait(found, execution.run, journal, _may_appear(execution))
    if json:
        console.write_json(_record(execution.run, ended, stopped=stopped))
    elif not stopped:
        console.say(f"The run {execution.run} had ended before ({execution.status.lower()})")
    console.say(f"No cluster of the run {execution.run} is left")


def _end_strays(stack: Stack, run: str, left: list[Cluster], *, yes: bool, json: bool) -> None:
    """End the clusters of a run that Step Functions does not know, and so no janitor sees to."""
    names = ", ".join(one.id for one in left)
    asked = f"Step Functions knows no run {run}. End its cluster {names}?"
    if not yes and not console.ask(asked):
        console.say("Nothing was ended")
        return
    clusters.terminate(left)
    ended = _wait(stack, run, None, 0.0)
    if json:
        console.write_json(_record(run, [*left, *ended], stopped=False))
    console.say(f"No cluster of the run {run} is left")


def _record(run: str, ended: list[Cluster], *, stopped: bool) -> dict[str, Any]:
    ids = list(dict.fromkeys(one.id for one in ended))
    return {"run": run, "stopped": stopped, "clusters": ids}


def _question(execution: Execution) -> str:
    since = f"{execution.started.astimezone():%Y-%m-%d %H:%M}"
    return f"Stop the run {execution.run} of batch {execution.batch}, at work since {since}?"


def _alive(stack: Stack, run: str) -> list[Cluster]:
    return [one for one in clusters.clusters(stack) if one.run == run]


def _may_appear(execution: Execution) -> float:
    """Seconds within which a cluster of a run may appear that is not listed yet."""
    if execution.ended is None:  # it was stopped just now
        return APPEARS
    return APPEARS - max(0.0, (datetime.now(UTC) - execution.ended).total_seconds())


def _wait(stack: Stack, run: str, journal: Journal | None, appears: float) -> list[Cluster]:
    """Wait until no cluster of a run lives; end those that nobody ends. Those that were there."""
    try:
        return _wait_for_end(stack, run, journal, appears)
    except KeyboardInterrupt:
        console.say(
            f"The cluster ends all the same; {stack.again(f'stop {run}')} waits for that again"
        )
        raise


def _wait_for_end(stack: Stack, run: str, journal: Journal | None, appears: float) -> list[Cluster]:
    begun = time.monotonic()
    seen: dict[str, Cluster] = {}
    helped: set[str] = set()
    said = False
    while True:
        alive = _alive(stack, run)
        waited = time.monotonic() - begun
        for one in alive:
            if one.id not in seen or seen[one.id].state != one.state:
                console.say(f"The cluster {one.id} is {one.state}")
            seen[one.id] = one
        if not alive:
            if waited >= appears or _are_all(journal, seen):
                return list(seen.values())
            if not said:
                console.say(f"EMR may be making its cluster: {appears:.0f} s show whether it is")
                said = True
        left = [one for one in alive if one.state != TERMINATING and one.id not in helped]
        if left and waited > JANITOR:
            clusters.terminate(left)
            helped.update(one.id for one in left)
        if waited > PATIENCE:
            names = ", ".join(one.id for one in alive)
            raise JobError(
                f"the cluster {names} is still there after {PATIENCE / 60:.0f} minutes; look at it "
                "in EMR's console, or ask the support of AWS"
            )
        time.sleep(POLL)


def _are_all(journal: Journal | None, seen: Mapping[str, Cluster]) -> bool:
    """Whether all clusters were seen that a run asked for."""
    if journal is None:
        return True
    made = set(journal.clusters)
    if journal.state == CREATE_CLUSTER:  # whose answer nobody waited for
        return bool(seen.keys() - made)
    return bool(made) and made <= seen.keys()
