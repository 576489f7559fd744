"""``orchard upload``: a folder of pictures into the deployed stack, only what is new."""

from typing import Annotated, Any

import typer

from orchard import console
from orchard.cloud import uploading
from orchard.cloud.stack import find_stack
from orchard.cloud.starting import read_given
from orchard.cloud.uploading import Survey, Uploaded
from orchard.commands.start import begin
from orchard.options import Json, TheStack, expand
from spark_job import contract
from spark_job.accounting import in_words, with_dots
from spark_job.settings import name_batch

EXAMPLE = "Example: orchard upload photographs/july july --start --follow"


def upload(
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="The batch's photographs, in folders named by label.",
            show_default=False,
        ),
    ],
    batch: Annotated[
        str | None,
        typer.Argument(
            metavar="BATCH", help="The batch's name (default: its folder's).", show_default=False
        ),
    ] = None,
    stack: TheStack = "Orchard",
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace pictures of the same names and other content."),
    ] = False,
    start: Annotated[
        bool, typer.Option("--start", help="Start the batch when all of it is there.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Start it, and follow the run until its end.")
    ] = False,
    json: Json = False,
) -> None:
    """Upload a folder of photographs as a batch.

    Only what is new goes up, whoever uploaded the rest; broken off, the same command goes on where
    it was. Nothing is sent if a picture would replace another one, unless you say so. Each file is
    sent with its checksum, which S3 holds it against.
    """
    place = expand(directory)
    name = name_batch(place) if batch is None else batch
    found = find_stack(stack)
    given = read_given(name, {}, found)  # whose name is refused before anything is uploaded
    surveyed = uploading.survey(place)
    _say_what_stays(surveyed)
    folder = found.root / f"{contract.IMAGES}/{name}"
    try:
        uploaded = uploading.upload(place, surveyed, folder, replace=replace)
    except KeyboardInterrupt:
        console.say("What is uploaded stays; the same command goes on where it was")
        raise
    console.say(_told(uploaded))
    if not start and not follow:
        if json:
            console.write_json(_record(name, folder.uri, surveyed, uploaded))
        else:
            console.write(folder.uri)
        console.say(f"{found.again(f'start {name} --follow')} runs the batch")
        return
    begin(found, given, follow=follow, json=json)


def _say_what_stays(found: Survey) -> None:
    """Say which files are not uploaded."""
    if found.ignored:
        count = console.counted(sum(found.ignored.values()), "other file")
        console.say(f"Left here: {count} ({in_words(with_dots(found.ignored))})")
    if found.unsupported:
        count = console.counted(sum(found.unsupported.values()), "picture")
        console.say(
            f"Left here: {count} in formats that are not taken "
            f"({in_words(with_dots(found.unsupported))}): convert them to JPEG"
        )
    if found.unnamed:
        console.say(
            f"Left here: {console.counted(found.unnamed, 'picture')} whose names are not UTF-8, or "
            "that are links to nowhere: rename them"
        )


def _told(uploaded: Uploaded) -> str:
    replaced = f", {uploaded.replaced:,} replaced" if uploaded.replaced else ""
    there = f", {uploaded.there:,} were there already" if uploaded.there else ""
    size = console.in_bytes(uploaded.bytes)
    return f"{console.counted(uploaded.new, 'picture')} uploaded{replaced} ({size}){there}"


def _record(batch: str, where: str, found: Survey, uploaded: Uploaded) -> dict[str, Any]:
    return {
        "batch": batch,
        "images": where,
        "uploaded": uploaded.new,
        "replaced": uploaded.replaced,
        "bytes": uploaded.bytes,
        "there": uploaded.there,
        "ignored": dict(found.ignored),
        "unsupported": dict(found.unsupported),
        "unnamed": found.unnamed,
    }
