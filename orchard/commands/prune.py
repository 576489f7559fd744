"""``orchard prune``: remove what nobody needs any more, after saying what and how much."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from orchard import console, pruning
from orchard.options import Json, Output, open_root
from orchard.pruning import Leftover, Survey
from spark_job.objects import Folder

EXAMPLE = "Example: orchard prune --keep 1 --yes --output out/fruits"


def prune(
    output: Output = None,
    keep: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Keep the latest N superseded runs of each batch.",
        ),
    ] = 1,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this batch; say it once for each.", show_default=False
        ),
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Also models that no pointer and no run names.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without a question.")] = False,
    json: Json = False,
) -> None:
    """Remove superseded runs, and what runs that died left.

    Nothing published goes, nor a run at work, nor one that may still be published, nor one of
    which the current model is updated. What a run that died had done is not there for the next
    one any more.
    """
    root = open_root(output)
    found = pruning.survey(root, keep=keep, batches=batch or ())
    leftovers = [*found.runs, *(found.models if models else ())]
    _say_what_stays(found, models=models)
    if not leftovers:
        console.say("There is nothing to remove")
    elif not json:
        console.write_table(
            ("what", "of", "name", "files", "bytes"),
            [
                (one.kind.value, one.owner, one.name, f"{one.files}", f"{one.bytes}")
                for one in leftovers
            ],
            numbers=("files", "bytes"),
        )
    removed = _remove(root, leftovers, yes=yes) if leftovers else []
    if json:
        console.write_json([_as_record(one, removed=one in removed) for one in leftovers])


def _remove(root: Folder, leftovers: Sequence[Leftover], *, yes: bool) -> list[Leftover]:
    """Remove what a person agrees to, and give what was removed."""
    if not yes and not console.ask(f"Remove {_amount(leftovers)}?"):
        console.say("Nothing was removed")
        return []
    removed = [one for one in leftovers if pruning.remove(root, one)]
    console.say(f"Removed {_amount(removed)}")
    for one in leftovers:
        if one not in removed:
            console.say(f"Left alone: {one.name} of {one.owner}, which is in use by now")
    return removed


def _as_record(one: Leftover, *, removed: bool) -> dict[str, Any]:
    found = {"what": one.kind.value, "of": one.owner, "name": one.name}
    return found | {"files": one.files, "bytes": one.bytes, "removed": removed}


def _say_what_stays(found: Survey, *, models: bool) -> None:
    for name, run in found.at_work:
        console.say(f"Run {run} of batch {name} is at work, and is left alone")
    for name, run in found.unpublished:
        console.say(
            f"Run {run} of batch {name} is complete and may still be published (the job with "
            f"--run {run} does), and is left alone"
        )
    for name, run, model in found.made_from:
        console.say(
            f"Run {run} of batch {name} is the one of which the current model {model} is updated, "
            "and is left alone"
        )
    if found.models and not models:
        console.say(
            f"{console.counted(len(found.models), 'model')} that no pointer and no run names "
            f"({console.in_bytes(sum(one.bytes for one in found.models))}) stay; --models removes "
            "them too"
        )


def _amount(leftovers: Sequence[Leftover]) -> str:
    """Say how much they are: of each kind, files, bytes."""
    kinds = [one.kind for one in leftovers]
    told = {
        pruning.Kind.SUPERSEDED: ("superseded run", "superseded runs"),
        pruning.Kind.DEAD: ("run that died", "runs that died"),
        pruning.Kind.MODEL: ("model", "models"),
    }
    counts = [
        console.counted(kinds.count(kind), *words) for kind, words in told.items() if kind in kinds
    ]
    files = console.counted(sum(one.files for one in leftovers), "file")
    size = console.in_bytes(sum(one.bytes for one in leftovers))
    return f"{', '.join(counts) or 'nothing'} ({files}, {size})"
