"""``orchard export``: a model and its network as one file for a phone."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchard import console
from orchard.options import Json, Output, open_root, split_names

EXAMPLE = "Example: orchard export --to fruit.tflite --output out/fruits"


def export(
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE.tflite", help="The file; its card lies beside it.")
    ],
    output: Output = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Which model, by its id or its first digits (default: the current one).",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose model, where there are several.", show_default=False
        ),
    ] = None,
    classify: Annotated[
        bool, typer.Option("--classify", help="Add probabilities of the labels (scikit-learn).")
    ] = False,
    batches: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Batches for the labels and the check (default: the model's own).",
            show_default=False,
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What the names of one fruit's pictures share: they never lie on both sides.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model and its network as one LiteRT file: a photograph in, its vector out.

    Nothing is written where the file does not give the published vectors. docs/phone.md says what
    an app does with it.
    """
    from orchard.phone.export import export_model  # which loads a network's runtime

    card = export_model(
        open_root(output),
        to,
        network=network,
        model=model,
        classify=classify,
        batches=split_names(batches) if batches else (),
        group_by=group_by,
    )
    for warning in card.warnings:
        console.say(warning)
    if json:
        console.write_json(asdict(card))
        return
    console.write(str(to))
    size = (card.size or 0) / 1e6
    console.say(f"{size:.1f} MB: model {card.model} of {card.network}, {card.k} components")
