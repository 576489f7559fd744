"""``orchard search``: the pictures of published batches that are most like one."""

from pathlib import Path
from typing import Annotated

import typer

from orchard import console
from orchard.options import Json, Output, open_root
from spark_job.errors import UsageError

EXAMPLE = "Example: orchard search photo.jpg --batch monday --output out/fruits"

MOST = 1000
"""Pictures that can be asked for."""


def search(
    photo: Annotated[
        str, typer.Argument(metavar="PHOTO", help="A picture in any format that the job takes.")
    ],
    output: Output = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Search this batch; say it once for each (default: the only one).",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Search all batches whose vectors are of the current model."),
    ] = False,
    number: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST, help="How many pictures to show.")
    ] = 10,
    json: Json = False,
    show: Annotated[
        bool, typer.Option("--open", help="Show them on a page, in the browser.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write that page here.", show_default=False),
    ] = None,
) -> None:
    """Show the pictures that are most like one, the nearest first.

    The picture is seen by the network and the model that the batch's vectors are of; distances are
    Euclidean, in that model's space.
    """
    from orchard import searching  # which loads a network's runtime

    if batch and everything:
        raise UsageError("--all is every batch; say it without --batch")
    content = searching.read_picture(photo)
    root = open_root(output)
    space = searching.find_space(root, batch or (), everything=everything)
    for run in space.left_out:
        console.say(
            f"Left out: batch {run.batch}, whose vectors are of the model {run.model.model} and "
            f"not of {space.model.card.model}"
        )
    vector = searching.embed(space, content, photo)
    found = searching.find_nearest(root, space, vector, number)
    if show or page is not None:
        from orchard.search_page import open_page, write_page  # of no use otherwise

        written = write_page(page, photo, content, found, space.runs)
        console.say(f"The page is {written}")
        if show:
            open_page(written)
    rows = [(one.path, one.label, one.batch, one.distance) for one in found]
    columns = ("path", "label", "batch", "distance")
    if json:
        console.write_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        cells = [(path, label or "", of, f"{apart:.2f}") for path, label, of, apart in rows]
        console.write_table(columns, cells, numbers=("distance",))
    common = searching.most_common_label(found)
    if common is None:
        console.say(f"None of the {len(found)} nearest has a label")
    else:
        console.say(f"{common[1]} of the {len(found)} nearest are labelled {common[0]}")
