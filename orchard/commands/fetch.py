"""``orchard fetch``: a batch's run from the deployed stack onto this machine, checked."""

from pathlib import Path
from typing import Annotated

import typer

from orchard import console
from orchard.cloud import fetching
from orchard.cloud.stack import find_stack
from orchard.commands.batches import Run
from orchard.options import Batch, Json, TheStack, expand
from spark_job import contract
from spark_job.objects import open_folder

EXAMPLE = "Example: orchard fetch july here"


def fetch(
    batch: Batch,
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="A folder of this machine, which becomes a root of batches as any other.",
            show_default=False,
        ),
    ],
    stack: TheStack = "Orchard",
    run: Run = None,
    json: Json = False,
) -> None:
    """Fetch the published run of a batch: its tables, its report and its model.

    Rows are held against the counts of the run's receipt, and features against its digest. Broken
    off, the same command goes on where it was.
    """
    found = find_stack(stack)
    to = open_folder(expand(directory))
    try:
        fetched = fetching.fetch(found.root, batch, to, run)
    except KeyboardInterrupt:
        console.say("What was fetched stays; the same command goes on where it was")
        raise
    receipt, moved = fetched.receipt, fetched.moved
    folder = Path(to.uri, contract.run_folder(batch, receipt.run))
    report = folder / contract.REPORT
    if json:
        console.write_json(
            {
                "batch": batch,
                "run": receipt.run,
                "published": fetched.published,
                "results": str(folder),
                "report": str(report) if report.is_file() else None,
                "files": fetched.files,
                "fetched": moved.files,
                "bytes": moved.bytes,
            }
        )
    else:
        console.write(str(folder))
    there = f", {moved.there:,} were here" if moved.there else ""
    console.say(
        f"{console.counted(moved.files, 'file')} fetched ({console.in_bytes(moved.bytes)}){there}; "
        "rows and features are those of the run's receipt"
    )
    if fetched.published == receipt.run:
        console.say(f"`orchard show {batch} --output {directory}` shows it")
    else:
        other = f"; {fetched.published} stays the batch's there" if fetched.published else ""
        look = f"orchard show {batch} --run {receipt.run} --output {directory}"
        console.say(f"`{look}` shows it{other}")
