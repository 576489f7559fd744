"""``orchard plan``: how long and how much, here and on a cluster, before anything is run."""

from dataclasses import asdict
from typing import Annotated

import typer

from orchard import console
from orchard.options import Json, expand, reach
from orchard.planning import (
    PER_IMAGE,
    READY,
    SPARK_SHARE,
    SPARK_START,
    Cluster,
    Measured,
    Plan,
    measure,
    plan,
)
from spark_job import prices
from spark_job.dollars import SHUT_DOWN_SECONDS
from spark_job.errors import JobError

EXAMPLE = "Example: orchard plan photographs/july --on m6i.xlarge --nodes 4"


def make_plan(
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="The batch's photographs, local or s3://.", show_default=False
        ),
    ],
    on: Annotated[
        str, typer.Option("--on", metavar="TYPE", help="Nodes of this type on a cluster.")
    ] = "m5.xlarge",
    nodes: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many, beside the primary one.")
    ] = 2,
    price: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            min=0,
            help="What an hour of a node costs, EMR's part included, where the list does not know.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Measure so many pictures (default: 32 to 192, by their size and the cores).",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The network, as for `run`.", show_default=False),
    ] = None,
    full_decode: Annotated[
        bool, typer.Option("--full-decode", help="Decode every pixel, as for `run`.")
    ] = False,
    json: Json = False,
) -> None:
    """Say how long a batch takes here and on a cluster, and whether one is worth it.

    Some of the very pictures are read, decoded and inferred first, by the job itself.
    """
    cluster = Cluster.of(on, nodes, price)
    settings = {"full_decode": full_decode} | ({} if network is None else {"network": network})
    try:
        reach(directory)
        measured = measure(expand(directory), sample=sample, settings=settings)
    except JobError as error:
        raise type(error)(str(error).replace("--images", "DIR")) from error
    found = plan(measured, cluster)
    if json:
        console.write_json(asdict(found) | {"advice": _advise(found), "assumed": _assumed(found)})
        return
    console.write_table(("", "here", "there"), _compare(found), numbers=("here", "there"))
    console.write("")
    told = [("measured", text) for text in _measured(measured)]
    told += [("assumed", text) for text in _assumed(found)]
    console.write_table(("by", "what"), told)
    console.write("")
    console.write(_advise(found))


def in_time(seconds: float) -> str:
    """Write a time as a person says it: two units at most."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def _compare(found: Plan) -> list[tuple[str, str, str]]:
    measured, cluster = found.measured, found.cluster
    work = found.there - READY - SPARK_START
    dollars = "unknown" if found.dollars is None else f"{found.dollars:.2f}"
    return [
        (
            "on",
            f"{measured.cores} cores",
            f"{cluster.nodes} {cluster.instance_type}, {cluster.cores} cores",
        ),
        (
            "images a second",
            f"{measured.cores / measured.core_seconds:,.0f}",
            f"{measured.images / work:,.0f}",
        ),
        ("time", in_time(found.here), in_time(found.there)),
        ("dollars", "0.00", dollars),
    ]


def _measured(measured: Measured) -> list[str]:
    stages = ", ".join(
        f"{stage} {1000 * seconds:.1f} ms" for stage, seconds in measured.per_image.items()
    )
    size = f" of {console.in_bytes(measured.bytes)}" if measured.bytes else ""
    return [
        f"{measured.images:,} pictures{size}, listed in {measured.listing:.1f} s",
        f"{measured.featurized:,} of {measured.sample:,} that were tried can be used",
        f"{1000 * measured.core_seconds:.1f} ms of a core for each ({stages}), on "
        f"{measured.cores} at once of {measured.processor}",
        f"{measured.start:.1f} s of any run here",
    ]


def _assumed(found: Plan) -> list[str]:
    """Say what the plan takes for true."""
    cluster = found.cluster
    told = [
        "the others take as long as those that were tried, and none is known from an earlier run",
        f"{1000 * PER_IMAGE:.1f} ms of a core for each picture's rows, moments and vector",
        f"there: a virtual core is as fast as one here, and Spark reaches {SPARK_SHARE:.0%} of it",
        f"there: {in_time(READY)} until the cluster is ready, {in_time(SPARK_START)} for Spark's "
        f"start, {in_time(SHUT_DOWN_SECONDS)} to its end",
    ]
    if cluster.per_hour is None:
        known = ", ".join(prices.priced_types(cluster.region))
        told.append(
            f"there: no price, for the list has none of {cluster.instance_type}; --price says what "
            f"an hour of a node costs (it has {known})"
        )
    else:
        told.append(
            f"there: {cluster.per_hour:.2f} dollars an hour for all nodes, on demand, by the list "
            f"of {cluster.region} of {prices.as_of()}"
        )
    told.append("not counted: putting pictures that are here into S3")
    return told


def _round(number: int) -> int:
    """Round to two digits: there is no more to know."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return round(number / unit) * unit


def _advise(found: Plan) -> str:
    """Say what to do, in a sentence."""
    cost = "an unknown price" if found.dollars is None else f"about {found.dollars:.2f} dollars"
    if found.worth_it:
        return f"A cluster is worth it: it saves {in_time(found.here - found.there)}, for {cost}"
    if found.there >= found.here:
        from_there = found.break_even
        more = (
            "it is faster from no number of such pictures on"
            if from_there is None
            else f"it is faster from about {_round(from_there):,} such pictures on"
        )
        return f"Run it here: a cluster would not be faster; {more}"
    return f"Run it here: a cluster would save {in_time(found.here - found.there)}, for {cost}"
