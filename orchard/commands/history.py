"""``orchard history``: Spark's own history server over a run's event logs, on this machine."""

import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from orchard import console, spark_history
from orchard.cloud import executions
from orchard.cloud.executions import Execution
from orchard.cloud.following import outcome
from orchard.cloud.logs import clusters_of, find_logs
from orchard.cloud.stack import Stack, find_stack
from orchard.options import Json, TheStack
from spark_job.errors import JobError

EXAMPLE = "Example: orchard history july.1 --port 18081"


def history(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="The run's name (default: all that is kept).", show_default=False
        ),
    ] = None,
    stack: TheStack = "Orchard",
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65535, help="Where to serve it.")
    ] = spark_history.PORT,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    json: Json = False,
) -> None:
    """Open Spark's history of a run on this machine, until Ctrl-C.

    It needs the extra `spark`, which brings the server and a Java for it.
    """
    spark_history.require_spark()
    found = find_stack(stack)
    execution = None if run is None else executions.find(found, run)
    applications = None if execution is None else _applications(found, execution)
    with tempfile.TemporaryDirectory(prefix="orchard-history-") as scratch:
        files = spark_history.fetch(found.logs, Path(scratch), applications)
        if not files:
            whose = "any run" if execution is None else f"the run {execution.run}"
            raise JobError(
                f"there are no event logs of {whose} in {found.logs.uri}; Spark writes them while "
                "the job runs, and they expire with the other logs"
            )
        url = f"http://localhost:{port}"
        if json:
            console.write_json({"url": url, "files": files})
        else:
            console.write(url)
        console.say("Spark's history is served there in some seconds, until Ctrl-C")
        if show:
            webbrowser.open(url)
        with suppress(KeyboardInterrupt):
            spark_history.serve(Path(scratch), port)


def _applications(stack: Stack, execution: Execution) -> set[str]:
    """Find the ids of a run's Spark applications: in its receipt, or by its cluster's logs."""
    try:
        receipt = outcome(stack, execution).receipt if not execution.is_running else None
    except JobError:  # it failed, and left logs
        receipt = None
    if receipt is not None and receipt.engine.application is not None:
        return {receipt.engine.application}
    names = [
        file.name.split("/")
        for cluster in clusters_of(stack, execution)
        for file in find_logs(stack, cluster)
    ]
    return {parts[1] for parts in names if parts[0] == "containers"}
