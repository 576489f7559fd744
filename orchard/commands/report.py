"""``orchard report``: the page that shows what is in a batch, made anew."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orchard import console
from orchard.options import Output, open_root
from spark_job import contract, runs
from spark_job.errors import JobError, UsageError
from spark_job.objects import Folder

EXAMPLE = "Example: orchard report monday --to monday.html --output out/fruits"

MOST_NAMED = 8
"""Runs or batches that a sentence names."""


def report(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="A batch by its name.")],
    output: Output = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="One of its runs (default: the published one).",
            show_default=False,
        ),
    ] = None,
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
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Make the report of a batch anew, from what is stored.

    It shows what the run found: rejects, doubtful labels, copies, outliers, labels, and a map.
    Pictures are read from where the run read them; those that are gone are left out.
    """
    from spark_job.report.making import write_report  # of no use otherwise

    root = open_root(output)
    wanted = _find_run(root, batch, run)
    try:
        made = write_report(root, batch, wanted, pictures=not no_pictures, to=to)
    except JobError as error:
        remedy = "check --to and --output" if no_pictures else "try --no-pictures"
        raise JobError(f"the report could not be made: {error}; {remedy}") from error
    console.write(made.where)
    if made.missing:
        there = console.counted(made.pictures, "picture is", "pictures are")
        console.say(f"{there} on it; {made.missing:,} are no longer where the run read them")
    if show:
        from orchard.search_page import open_page

        open_page(to or _local_copy(root, batch, wanted))


def _find_run(root: Folder, batch: str, run: str | None) -> str:
    """Find the run that is meant: a finished one.

    Raises
    ------
    UsageError
        Where there is no such batch, or no such run.
    """
    batches = (root / contract.RESULTS).folders()
    if batch not in batches:
        there = f"there are {_some(batches)}" if batches else "it has none; run one first"
        raise UsageError(f"{root.uri} has no batch {batch!r}; {there}")
    folder = root / contract.results_folder(batch) / contract.RUNS
    finished = [name for name in folder.folders() if contract.RUN in (folder / name).files()]
    if not finished:
        raise UsageError(f"batch {batch!r} has no finished run; run it first")
    if run is None:
        pointer = runs.read_published(root, batch)
        if pointer is None:
            raise UsageError(
                f"no run of batch {batch!r} is published; say --run with one of {_some(finished)}"
            )
        run = pointer.run
    if run not in finished:
        raise UsageError(
            f"batch {batch!r} has no finished run {run!r}; say --run with one of {_some(finished)}"
        )
    return run


def _local_copy(root: Folder, batch: str, run: str) -> Path:
    """Find the page of a run on this machine, or bring it here."""
    folder = root / contract.run_folder(batch, run)
    if folder.is_local:
        return Path(folder.uri, contract.REPORT)
    copy = Path(tempfile.mkdtemp(prefix="orchard-")) / contract.REPORT
    copy.write_bytes(folder.read(contract.REPORT))
    return copy


def _some(names: list[str]) -> str:
    """Name the last of some names, of runs the latest."""
    more = f" and {len(names) - MOST_NAMED:,} others" if len(names) > MOST_NAMED else ""
    return ", ".join(names[-MOST_NAMED:]) + more
