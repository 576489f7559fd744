"""``orchard follow``: how a run goes, while it goes, and how it ended."""

from dataclasses import asdict
from typing import Annotated

import typer

from orchard import console
from orchard.cloud import executions
from orchard.cloud.executions import Execution
from orchard.cloud.following import Ended, Follower
from orchard.cloud.stack import Stack, find_stack
from orchard.options import Json, TheStack
from spark_job.summary import summarize

EXAMPLE = "Example: orchard follow july"

INTERRUPTED = 130

Named = Annotated[
    str | None,
    typer.Argument(
        metavar="BATCH|RUN",
        help="A run, or a batch whose latest is meant (default: the only one that goes on).",
        show_default=False,
    ),
]


def follow(named: Named = None, stack: TheStack = "Orchard", json: Json = False) -> None:
    """Follow a run until its end: states, cluster, nodes, images; then how it went.

    Ctrl-C ends the following, and not the run.
    """
    found = find_stack(stack)
    follow_run(found, executions.find(found, named), json=json)


def follow_run(stack: Stack, execution: Execution, *, json: bool) -> None:
    """Follow a run, and write its summary.

    Raises
    ------
    JobError
        Where it failed.
    typer.Exit
        At an interrupt.
    """
    run = execution.run
    try:
        ended = Follower(stack, execution).follow()
    except KeyboardInterrupt:
        console.say(
            f"The run {run} goes on: {stack.again(f'follow {run}')} comes back to it, and "
            f"{stack.again(f'stop {run}')} ends it"
        )
        raise typer.Exit(INTERRUPTED) from None
    _tell(stack, ended, json=json)


def _tell(stack: Stack, ended: Ended, *, json: bool) -> None:
    receipt, execution = ended.receipt, ended.execution
    if json:
        told = {} if receipt is None else asdict(receipt)
        console.write_json(
            {"batch": execution.batch, "run": execution.run, "report": ended.report} | told
        )
    elif receipt is None:
        console.write(f"The run {execution.run} succeeded; its receipt is not there any more")
    else:
        console.write(summarize(receipt, ended.report))
    if receipt is not None:
        batch = receipt.batch
        console.say(
            f"{stack.looking(f'show {batch}')} shows more, and {stack.again(f'fetch {batch} DIR')} "
            "brings tables and report here"
        )
