"""``orchard run``: the job on this machine, with good defaults."""

import tempfile
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from orchard import console
from orchard.job_options import read_settings, take_job_options
from orchard.options import RESULTS_HERE, Json, NewOutput, expand, reach
from spark_job import contract
from spark_job.__main__ import execute, report
from spark_job.errors import UsageError
from spark_job.listing import require_folder
from spark_job.objects import open_folder
from spark_job.receipts import Failure, RunReceipt
from spark_job.settings import name_batch
from spark_job.summary import summarize

EXAMPLE = "Example: orchard run photographs/july --csv"


@take_job_options
def run(
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="The batch's photographs, in folders named by label; local or s3://.",
            show_default=False,
        ),
    ],
    output: NewOutput = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The batch's name (default: its folder's).", show_default=False
        ),
    ] = None,
    open_report: Annotated[
        bool, typer.Option("--open", help="Open the report when it is done.")
    ] = False,
    json: Json = False,
    **options: Any,
) -> None:
    """Turn a folder of photographs into features and vectors.

    Batches in one output share its model, so that they compare. Run again, a batch computes only
    what is new.
    """
    images = expand(directory)
    required = {
        "images": images,
        "output": expand(output or RESULTS_HERE),
        "batch": name_batch(images) if batch is None else batch,
    }
    settings = read_settings(required, options)
    try:
        reach(required["output"])
        require_folder(reach(images))  # before a failed run is noted anywhere
    except UsageError as error:
        raise UsageError(_without_option(str(error))) from error
    outcome = execute(settings)
    if isinstance(outcome, Failure):
        console.say(f"orchard: error: {_without_option(outcome.message)}")
        raise typer.Exit(outcome.exit_code)
    if outcome is None:  # it was interrupted when all was published
        return
    where = report(outcome)
    if json:
        console.write_json(asdict(outcome))
    else:
        console.write(summarize(outcome, where))
    if open_report:
        _open_report(outcome)


def _without_option(sentence: str) -> str:
    """Call the images' folder what this command calls it."""
    return sentence.replace("--images", "DIR")


def _open_report(receipt: RunReceipt) -> None:
    """Show a run's report in the browser, if it has one and there is one."""
    results = open_folder(receipt.results)
    content = results.read_or_none(contract.REPORT)
    if content is None:
        console.say(f"{receipt.results} has no {contract.REPORT} to open")
        return
    path = Path(receipt.results, contract.REPORT)
    if not results.is_local:
        path = Path(tempfile.mkdtemp(prefix="orchard-"), contract.REPORT)
        path.write_bytes(content)
    if not webbrowser.open(path.as_uri()):
        console.say(f"No browser is there to open {path}")
