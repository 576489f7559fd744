"""``orchard logs``: what a run's cluster wrote, fetched and unpacked, and the lines that matter."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from orchard import console
from orchard.cloud import executions
from orchard.cloud.executions import Execution
from orchard.cloud.logs import (
    DELIVERED_EVERY,
    Kind,
    LogFile,
    clusters_of,
    find_logs,
    pick,
    read_lines,
    wanted,
)
from orchard.cloud.stack import Stack, find_stack
from orchard.options import Json, TheStack
from spark_job.errors import JobError

EXAMPLE = "Example: orchard logs july.1 --driver"


def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name.", show_default=False)],
    stack: TheStack = "Orchard",
    driver: Annotated[bool, typer.Option("--driver", help="The job's own.")] = False,
    executor: Annotated[bool, typer.Option("--executor", help="Those of its workers.")] = False,
    step: Annotated[bool, typer.Option("--step", help="That of spark-submit.")] = False,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="What nodes installed before.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every line.")] = False,
    json: Json = False,
) -> None:
    """Show the lines that matter of a run's logs: the job's own, the last traceback, errors.

    EMR delivers a living cluster's logs every five minutes. Without a choice these are all but the
    workers'.
    """
    found = find_stack(stack)
    execution = executions.find(found, run)
    chosen = {
        Kind.DRIVER: driver,
        Kind.EXECUTOR: executor,
        Kind.STEP: step,
        Kind.BOOTSTRAP: bootstrap,
    }
    kinds = [kind for kind, said in chosen.items() if said]
    there = _find(found, execution)
    files = wanted(there, kinds)
    if not files:
        others = ", ".join(dict.fromkeys(one.kind for one in there))
        lacking = " and ".join(f"--{kind}" for kind in kinds)
        raise JobError(
            f"the run {execution.run} has no logs for {lacking}, but for {others}"
            f"{_when(execution) or '; leave it out to see those'}"
        )
    shown: list[dict[str, Any]] = []
    for file in files:
        lines = read_lines(found, file)
        picked = list(lines) if everything else pick(lines)
        if json:
            shown.append(
                {"cluster": file.cluster, "kind": file.kind, "name": file.name, "lines": picked}
            )
        elif picked:
            console.write(f"==> {file.cluster}/{file.name} ({file.kind}) <==")
            console.write("\n".join(picked))
            console.write("")
            shown.append({})
    if json:
        console.write_json(shown)
    elif not shown:
        again = found.again(f"logs {execution.run} --all")
        console.say(f"No line of {len(files)} logs matters; {again} shows all of them")
    if execution.is_running:
        console.say(f"The run goes on: EMR delivers logs every {DELIVERED_EVERY} minutes")


def _find(stack: Stack, execution: Execution) -> list[LogFile]:
    """Find a run's logs, or say why there are none."""
    made = clusters_of(stack, execution)
    if not made:
        why = f": {execution.cause.rstrip('.')}" if execution.cause else ""
        raise JobError(
            f"the run {execution.run} has no cluster, and so no logs{why}; "
            f"{stack.again(f'follow {execution.run}')} shows how it stands"
        )
    files = [file for cluster in made for file in find_logs(stack, cluster)]
    if files:
        return files
    when = _when(execution) or (
        ": they expire after the deployment's log_retention_days; start the batch again to have "
        "new ones"
    )
    raise JobError(f"there are no logs of {', '.join(made)} in {stack.logs.uri}{when}")


def _when(execution: Execution) -> str:
    """Say that logs are still to come, if they may be."""
    late = datetime.now(UTC) - timedelta(minutes=2 * DELIVERED_EVERY)
    if execution.ended is not None and execution.ended < late:
        return ""
    return f": EMR delivers them every {DELIVERED_EVERY} minutes; try again then"
