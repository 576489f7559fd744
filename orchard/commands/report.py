"""``orchard report``: the page that shows what is in a batch, made anew."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchard import console
from orchard.collection import find_receipt
from orchard.commands.batches import Run
from orchard.options import Batch, Json, Output, Stack, open_root
from spark_job import contract
from spark_job.errors import JobError
from spark_job.objects import Folder

EXAMPLE = "Example: orchard report monday --to monday.html --output out/fruits"


def report(
    batch: Batch,
    output: Output = None,
    stack: Stack = None,
    run: Run = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE.html",
            help="Write the page here (default: into the run's folder).",
            show_default=False,
        ),
    ] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Read no pictures, and show none.")
    ] = False,
    json: Json = False,
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Make the report of a batch anew, from what is stored.

    It shows what the run found: rejects, doubtful labels, copies, outliers, labels, and a map.
    Pictures are read from where the run read them; those that are gone are left out.
    """
    from spark_job.report.making import write_report  # of no use otherwise

    root = open_root(output, stack)
    wanted = find_receipt(root, batch, run).run
    try:
        made = write_report(root, batch, wanted, pictures=not no_pictures, to=to)
    except JobError as error:
        remedy = "check --to and --output" if no_pictures else "try --no-pictures, or --to FILE"
        raise JobError(f"the report could not be made: {error}; {remedy}") from error
    if json:
        console.write_json(asdict(made))
    else:
        console.write(made.where)
    if made.missing:
        there = console.counted(made.pictures, "picture is", "pictures are")
        console.say(f"{there} on it; {made.missing:,} are no longer where the run read them")
    if show:
        from orchard.search_page import open_page

        open_page(to or _local_copy(root, batch, wanted))


def _local_copy(root: Folder, batch: str, run: str) -> Path:
    """Find the page of a run on this machine, or bring it here."""
    folder = root / contract.run_folder(batch, run)
    if folder.is_local:
        return Path(folder.uri, contract.REPORT)
    copy = Path(tempfile.mkdtemp(prefix="orchard-")) / contract.REPORT
    copy.write_bytes(folder.read(contract.REPORT))
    return copy
