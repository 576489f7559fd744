"""``orchard stop``: ends a run, and waits until no cluster of it is left."""

import time
from typing import Annotated

import typer

from orchard import console
from orchard.cloud import clusters, executions
from orchard.cloud.clusters import TERMINATING, Cluster
from orchard.cloud.executions import Execution
from orchard.cloud.journal import CREATE_CLUSTER, Journal
from orchard.cloud.stack import Stack, find_stack
from orchard.options import Json, TheStack
from spark_job.errors import JobError

EXAMPLE = "Example: orchard stop july.1 --yes"

POLL = 5.0
"""Seconds between two looks."""

JANITOR = 120.0
"""Seconds that the stack's janitor has to end a cluster, before this command does."""

APPEARS = 90.0
"""Seconds within which a cluster may appear that EMR was only just asked for."""

PATIENCE = 1800.0
"""Seconds that a cluster may take to end."""


def stop(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name.", show_default=False)],
    stack: TheStack = "Orchard",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Stop it without a question.")] = False,
    json: Json = False,
) -> None:
    """Stop a run, and wait until no cluster of it is left.

    It publishes nothing then; started again, the batch goes on where it was.
    """
    found = find_stack(stack)
    execution = executions.find(found, run)
    stopped = execution.is_running
    journal = Journal(found, execution.run)
    if stopped:
        if not yes and not console.ask(_question(execution)):
            console.say("Nothing was stopped")
            return
        journal.update()
        executions.stop(found, execution.run, "by orchard stop")
        console.say(f"Stopped the run {execution.run}; its cluster is ended by the janitor")
    try:
        ended = _wait(found, execution.run, being_made=journal.state == CREATE_CLUSTER)
    except KeyboardInterrupt:
        again = found.again(f"stop {execution.run}")
        console.say(f"The cluster ends all the same; {again} waits for that again")
        raise
    if json:
        console.write_json(
            {"run": execution.run, "stopped": stopped, "clusters": [one.id for one in ended]}
        )
    elif not stopped:
        console.say(f"The run {execution.run} had ended before ({execution.status.lower()})")
    console.say(f"No cluster of the run {execution.run} is left")


def _question(execution: Execution) -> str:
    since = f"{execution.started.astimezone():%Y-%m-%d %H:%M}"
    return f"Stop the run {execution.run} of batch {execution.batch}, at work since {since}?"


def _wait(stack: Stack, run: str, *, being_made: bool) -> list[Cluster]:
    """Wait until no cluster of a run lives; end those that nobody ends. Those that were there."""
    begun = time.monotonic()
    seen: dict[str, Cluster] = {}
    helped = False
    while True:
        alive = [one for one in clusters.clusters(stack) if one.run == run]
        waited = time.monotonic() - begun
        for one in alive:
            if one.id not in seen or seen[one.id].state != one.state:
                console.say(f"The cluster {one.id} is {one.state}")
            seen[one.id] = one
        if not alive and (seen or not being_made or waited > APPEARS):
            return list(seen.values())
        left = [one for one in alive if one.state != TERMINATING]
        if left and waited > JANITOR and not helped:
            clusters.terminate(left)
            helped = True
        if waited > PATIENCE:
            names = ", ".join(one.id for one in alive)
            raise JobError(
                f"the cluster {names} is still there after {PATIENCE / 60:.0f} minutes; look at it "
                "in EMR's console, or ask the support of AWS"
            )
        time.sleep(POLL)
