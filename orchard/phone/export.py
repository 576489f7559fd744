"""A model and its network, exported to one file for a phone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orchard.phone.card import ExportCard, card_of
from orchard.phone.checking import check
from orchard.phone.fuse import fuse
from orchard.phone.head import fit_head
from orchard.phone.sources import find_source, read_batch, read_pictures
from spark_job.errors import UsageError
from spark_job.networks import load_network
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchard.phone.head import Head
    from orchard.phone.sources import Published, Source
    from spark_job.objects import Folder

SUFFIX: Final = ".tflite"

MOST_BYTES: Final = 16_000_000
"""That a file should have: what an app downloads."""


def export_model(
    output: Folder,
    target: Path,
    *,
    network: str | None = None,
    model: str | None = None,
    classify: bool = False,
    batches: Sequence[str] = (),
    group_by: str | None = None,
) -> ExportCard:
    """Write a model and its network as one LiteRT file, and its card beside it.

    The card is also in the file's metadata. Nothing is written where the file does not give the
    published vectors.

    Parameters
    ----------
    output
        Where the job wrote: its models, its published runs.
    target
        The file, ``….tflite``; the card is ``….json``.
    network, model
        Which model; see `sources.find_source`.
    classify
        Add a head that gives probabilities of the labels.
    batches
        On whose published vectors the head is fitted, and the file is checked; by default the
        batches that the model was fitted on.
    group_by
        A pattern of names by which pictures are of one fruit; see `groups.group`.

    Returns
    -------
    ExportCard
        As written beside the file.

    Raises
    ------
    UsageError
        Where there is no such model, network or batch, or fewer labels than two.
    JobError
        Where the file would not give the published vectors, or scikit-learn is missing.
    """
    if target.suffix != SUFFIX:
        raise UsageError(f"the file is to be called ...{SUFFIX}, not {target.name!r}")
    source = find_source(output, network=network, model=model)
    published = _batches(output, source, batches, required=classify)
    head = _head(published, group_by) if classify else None
    card = card_of(source, head)
    content = _content(source, card, head)
    checked = check(content, source, published)
    card = replace(
        card,
        file=target.name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        checked=checked,
        warnings=card.warnings + _too_large(content),
    )
    folder = open_folder(str(target.parent))
    folder.write(target.name, content)
    folder.write(target.with_suffix(".json").name, card.to_json())
    return card


def _batches(
    output: Folder, source: Source, named: Sequence[str], *, required: bool
) -> list[Published]:
    """Published runs of the batches that are named, or that the model was fitted on.

    A batch that nobody named may have been published with another model since then: without a head
    the file is checked on the others.
    """
    found = []
    model = source.model.card
    for batch in dict.fromkeys(named or [one["batch"] for one in model.batches]):
        try:
            found.append(read_batch(output, batch, model.model))
        except UsageError:
            if named or required:
                raise
    return found


def _head(batches: list[Published], group_by: str | None) -> Head:
    pictures = read_pictures(batches)
    told = [
        {
            "batch": one.receipt.batch,
            "run": one.receipt.run,
            "pictures": sum(
                name.startswith(f"{one.receipt.batch}/") for name in pictures.names.tolist()
            ),
        }
        for one in batches
    ]
    return fit_head(pictures, told, group_by=group_by)


def _content(source: Source, card: ExportCard, head: Head | None) -> bytes:
    """Make the file; where it would be too large, its head is stored in half the bytes."""
    network = load_network(source.card)
    weights = None if head is None else head.weights
    about = card.to_json()
    content = fuse(network, source.card, source.model.pca, about, weights)
    if weights is not None and len(content) > MOST_BYTES:
        content = fuse(network, source.card, source.model.pca, about, weights, half=True)
    return content


def _too_large(content: bytes) -> list[str]:
    if len(content) <= MOST_BYTES:
        return []
    return [
        f"the file has {len(content) / 1e6:.1f} MB, more than the {MOST_BYTES / 1e6:.0f} MB that a "
        "phone's app should carry; fit a model of fewer --components, or take a smaller network"
    ]
