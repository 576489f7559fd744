"""An exported file, held against published vectors before anybody relies on it."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Final

import numpy as np

from orchard.phone.card import Checked
from orchard.phone.fuse import VECTOR
from orchard.phone.running import PhoneModel
from spark_job import contract, tables
from spark_job.decode import decode
from spark_job.errors import JobError, RejectedImageError
from spark_job.networks import load_network
from spark_job.networks.export import random_images
from spark_job.networks.extractor import Extractor
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from orchard.phone.sources import Published, Source
    from spark_job.networks import Card
    from spark_job.objects import Folder

TOLERANCE: Final = 1e-4
"""Largest absolute distance of a component from the published one."""

PICTURES: Final = 12
"""That are tried, of each batch at most."""

Tried = tuple["NDArray[np.uint8]", "NDArray[np.float32]"]
"""Pixels, and the vector that is right for them."""


def check(content: bytes, source: Source, batches: Sequence[Published]) -> Checked:
    """Hold a file against published vectors of pictures that can still be read.

    Where there are none, against the job's own code on made-up pictures.

    Parameters
    ----------
    content
        The file.
    source
        What was fused.
    batches
        Published runs of the model.

    Raises
    ------
    JobError
        Where it is further away than `TOLERANCE`.
    """
    run = PhoneModel(content)
    tried = [one for batch in batches for one in _published(batch, source.card)]
    published = bool(tried)
    if not published:
        tried = list(_made_up(source))
    distances = [np.abs(run(pixels)[VECTOR] - vector).max() for pixels, vector in tried]
    checked = Checked(
        pictures=len(tried),
        published=published,
        largest_distance=float(np.max(distances)),
        largest_component=float(max(np.abs(vector).max() for _, vector in tried)),
    )
    if not checked.largest_distance <= TOLERANCE:
        raise JobError(
            f"the fused file gives vectors up to {checked.largest_distance:.2g} from "
            f"{'the published' if published else 'the job’s own'} ones, with components up to "
            f"{checked.largest_component:.3g}; {TOLERANCE:g} is allowed, and nothing was written. "
            + (
                "Features of another kind of processor may do that: run the batch anew here"
                if published
                else "Components so large say more of scaling than of fruit: use a model of more "
                "images"
            )
        )
    return checked


def _published(batch: Published, card: Card) -> Iterator[Tried]:
    """Give pictures of a published run, as far as they can be read and are what they were."""
    images = open_folder(batch.receipt.images)
    features, vectors = batch.folder / contract.FEATURES, batch.folder / contract.VECTORS
    first = vectors.files()[0]
    table = tables.read_table(vectors, first, ["path", "vector"])
    wanted = [number * len(table) // PICTURES for number in range(PICTURES)]
    chosen = dict(
        zip(
            table["path"].take(wanted).to_pylist(),
            tables.as_matrix(table["vector"])[wanted],
            strict=True,
        )
    )
    for name in features.files():
        rows = tables.read_table(features, name, ["path", "sha256"])
        for path, sha256 in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            if path in chosen and (pixels := _pixels(images, path, sha256, card)) is not None:
                yield pixels, chosen.pop(path)


def _pixels(images: Folder, path: str, sha256: str, card: Card) -> NDArray[np.uint8] | None:
    """Pixels of a picture; None where it is gone, is another one by now, or may not be read."""
    try:
        content = images.read(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            return None
        return decode(content, card, max_pixels=sys.maxsize).pixels
    except (OSError, RejectedImageError):
        return None


def _made_up(source: Source) -> Iterator[Tried]:
    card = source.card
    extract = Extractor(card, load_network(card))
    for pixels in random_images(PICTURES, card.height, card.width):
        yield pixels, source.model.pca.project(extract(pixels)[np.newaxis])[0]
