"""``orchard doctor``: what this machine has of what Orchard needs, and what to do about it."""

from dataclasses import asdict
from typing import Annotated

import typer

from orchard import console
from orchard.options import RESULTS_HERE, Json, NewOutput, expand
from spark_job.errors import JobError
from spark_job.objects import open_folder

EXAMPLE = "Example: orchard doctor"


def doctor(
    output: NewOutput = None,
    stack: Annotated[
        str,
        typer.Option(metavar="NAME", envvar="ORCHARD_STACK", help="The deployed stack's name."),
    ] = "Orchard",
    json: Json = False,
) -> None:
    """Look whether batches can be run here, and in the cloud.

    It ends with 0 where all is there that this machine needs to run batches, and with 1 otherwise;
    Spark, Java, Node and AWS are not among it.
    """
    from orchard.health import examine  # which loads a network's runtime

    place = expand(output or RESULTS_HERE)
    findings = list(examine(None if "://" in place else open_folder(place), stack))
    if json:
        console.write_json([asdict(one) for one in findings])
    else:
        console.write_table(
            ("what", "good", "found", "what to do"),
            [(one.what, "yes" if one.good else "no", one.found, one.remedy) for one in findings],
        )
    lacking = [one.what for one in findings if one.needed and not one.good]
    if lacking:
        console.say(f"orchard: batches cannot be run here: see {', '.join(lacking)}")
        raise typer.Exit(JobError.exit_code)
    console.say("Batches can be run here")
