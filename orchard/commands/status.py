"""``orchard status``: what runs and what ran, what it cost, and clusters that should not be."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import typer

from orchard import console
from orchard.cloud import clusters, executions
from orchard.cloud.clusters import TERMINATING, Cluster
from orchard.cloud.costs import Costs, costs
from orchard.cloud.executions import Execution
from orchard.cloud.following import STATES, progress
from orchard.cloud.journal import Journal
from orchard.cloud.stack import Stack, find_stack
from orchard.options import Json, TheStack

EXAMPLE = "Example: orchard status"

JANITOR = timedelta(minutes=5)
"""Within which the stack's janitor has looked for the clusters of a run that ended."""


def status(
    stack: TheStack = "Orchard",
    number: Annotated[
        int, typer.Option(metavar="N", min=1, help="Show so many of the runs that ended.")
    ] = 10,
    json: Json = False,
) -> None:
    """Show what runs, what ran lately, what this month cost, and clusters that should not be.

    Costs are the estimates of the runs' receipts and, where it may be read, what the deployment's
    budget says that AWS has billed.
    """
    found = find_stack(stack)
    # The runs first: one that ends meanwhile is not taken for the owner of a stray cluster.
    going = list(executions.executions(found, executions.RUNNING))
    alive = clusters.clusters(found)
    running = [_Running.of(found, each, alive) for each in going]
    ended = (each for each in executions.executions(found) if not each.is_running)
    recent = [_described(found, each) for each in islice(ended, number)]
    names = {one.run for one in running}
    others = [one for one in alive if one.run not in names]
    strays = [one for one in others if _is_stray(found, one)]
    month = costs(found)
    if json:
        console.write_json(_record(found, running, recent, strays, month))
    else:
        _write(running, recent, month)
    for one in others:
        if one not in strays:
            console.say(f"The cluster {one.id} of the run {one.run} is about to end")
            continue
        console.say(
            f"The cluster {one.id} of the run {one.run} lives since {_moment(one.since)}, and the "
            f"run does not: {found.again(f'stop {one.run}')} ends it"
        )


def _is_stray(stack: Stack, cluster: Cluster) -> bool:
    """Whether a cluster lives on although its run, and the janitor's time, are over."""
    if cluster.state == TERMINATING:
        return False
    execution = executions.describe(stack, cluster.run)
    if execution is None or execution.ended is None:
        return execution is None
    return datetime.now(UTC) - execution.ended > JANITOR


@dataclass(frozen=True)
class _Running:
    """A run that goes on."""

    run: str
    batch: str | None
    since: datetime
    state: str
    images: str | None
    clusters: tuple[str, ...]

    @classmethod
    def of(cls, stack: Stack, execution: Execution, alive: list[Cluster]) -> "_Running":
        """Look at how it goes."""
        described = executions.describe(stack, execution.run) or execution
        journal = Journal(stack, execution.run)
        journal.update()
        words = [STATES[each.name] for each in journal.states if each.name in STATES]
        batch = described.batch
        return cls(
            run=execution.run,
            batch=batch,
            since=execution.started,
            state=words[-1] if words else "it begins",
            images=None if batch is None else progress(stack, batch, execution.run),
            clusters=tuple(one.id for one in alive if one.run == execution.run),
        )


def _described(stack: Stack, execution: Execution) -> Execution:
    """Ask why a run failed, and of one that is not named after its batch, whose it was."""
    if execution.status == executions.SUCCEEDED and execution.batch is not None:
        return execution
    return executions.describe(stack, execution.run) or execution


def _write(running: list[_Running], recent: list[Execution], month: Costs) -> None:
    console.write_table(
        ("run", "batch", "since", "state", "images", "cluster"),
        [
            (
                one.run,
                one.batch or "",
                _moment(one.since),
                one.state,
                one.images or "",
                ", ".join(one.clusters),
            )
            for one in running
        ],
    )
    console.write("")
    console.write_table(
        ("run", "batch", "ended", "how", "why"),
        [
            (each.run, each.batch or "", _moment(each.ended), each.status.lower(), _why(each))
            for each in recent
        ],
    )
    console.write("")
    console.write_table(("this month", "dollars", "of"), _costs(month), numbers=("dollars",))


def _costs(month: Costs) -> list[tuple[str, str, str]]:
    unknown = f", and {month.unknown} more that have none" if month.unknown else ""
    billed = "unknown" if month.billed is None else f"{month.billed:.2f}"
    budget = "unknown" if month.budget is None else f"{month.budget:.2f}"
    return [
        ("estimated", f"{month.estimated:.2f}", f"{month.runs} runs with an estimate{unknown}"),
        ("billed", billed, month.why_not or "what AWS has counted so far"),
        ("budget", budget, "a month"),
    ]


def _record(
    stack: Stack,
    running: list[_Running],
    recent: list[Execution],
    strays: list[Cluster],
    month: Costs,
) -> dict[str, Any]:
    return {
        "stack": stack.name,
        "region": stack.region,
        "version": stack.version,
        "running": [asdict(one) | {"since": _iso(one.since)} for one in running],
        "recent": [
            {
                "run": each.run,
                "batch": each.batch,
                "started": _iso(each.started),
                "ended": _iso(each.ended),
                "status": each.status,
                "error": each.error,
                "cause": each.cause,
            }
            for each in recent
        ],
        "costs": asdict(month),
        "strays": [asdict(one) | {"since": _iso(one.since)} for one in strays],
    }


def _why(execution: Execution) -> str:
    return ": ".join(filter(None, (execution.error, execution.cause)))


def _moment(when: datetime | None) -> str:
    return "" if when is None else f"{when.astimezone():%Y-%m-%d %H:%M}"


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat(timespec="seconds")
