"""The pictures of published batches that are nearest to one, in the space of their vectors.

A picture becomes a vector by the network and the model that those vectors are of, here and without
an engine. Vectors are read file by file and block by block, of which no more than the nearest stay.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from spark_job import contract, lineage
from spark_job.decode import decode
from spark_job.errors import RejectedImageError, UsageError
from spark_job.formats import UNSUPPORTED, unsupported_by_name
from spark_job.models import require_model
from spark_job.networks import find_card, load_network
from spark_job.networks.extractor import Extractor
from spark_job.objects import BusyError, FileTooLargeError, read_file
from spark_job.pointers import ModelPointer, read_pointer
from spark_job.reading import MAX_BYTES
from spark_job.settings import JobSettings
from spark_job.tables import as_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from spark_job.models import StoredModel
    from spark_job.networks import Card
    from spark_job.objects import Folder
    from spark_job.receipts import RunReceipt

BLOCK_BYTES: Final = 8_000_000
"""Bytes of vectors that are held against a picture at a time."""

BLOCK_ROWS: Final = 65_536

MOST_NAMED: Final = 8
"""Batches that a sentence names."""


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes
    ----------
    runs
        Receipts of the published runs whose vectors are looked at, all of one model.
    left_out
        Those of other batches, whose vectors do not compare with them.
    card
        Of the network that gave their features.
    model
        That made vectors of these.
    """

    runs: list[RunReceipt]
    left_out: list[RunReceipt]
    card: Card
    model: StoredModel


@dataclass(frozen=True, order=True)
class Neighbour:
    """A picture of a batch, and how far it is: Euclidean, in the model's space."""

    distance: float
    batch: str
    path: str
    label: str | None


def find_space(output: Folder, batches: Sequence[str] = (), *, everything: bool = False) -> Space:
    """Find what is to be searched.

    Parameters
    ----------
    output
        The root of all batches.
    batches
        Names; where there are none, the only batch.
    everything
        All batches whose vectors are of the current model, instead.

    Raises
    ------
    UsageError
        Where there is no such batch, several could be meant or do not compare, or their network is
        not here.
    """
    left_out: list[RunReceipt] = []
    if batches:
        named = list(dict.fromkeys(batches))
        runs = list(lineage.require_published(output, named).values())
        _require_comparable(runs)
    else:
        runs = list(lineage.published_receipts(output).values())
        if not runs:
            raise UsageError(f"{output.uri} has no published batch; run one first")
        if everything:
            runs, left_out = _of_current_models(output, runs)
        elif len(runs) > 1:
            names = _some([run.batch for run in runs])
            raise UsageError(f"there are {len(runs)} batches ({names}); say --batch NAME or --all")
    extractor = runs[0].extractor
    try:
        card = find_card(extractor)
    except UsageError as reason:
        raise UsageError(
            f"the vectors of batch {runs[0].batch!r} are of features of {extractor}, and {reason}; "
            "install that network, or run the batch again"
        ) from reason
    return Space(runs, left_out, card, require_model(output, extractor, runs[0].model.model))


def read_picture(uri: str) -> bytes:
    """Read the picture that is searched for: a local file or one in S3.

    Raises
    ------
    UsageError
        Where it cannot be read, or is of a kind that its name tells is not taken.
    """
    unsupported = unsupported_by_name(uri)
    if unsupported is not None:
        raise _refusal(uri, unsupported)
    try:
        return read_file(uri, limit=MAX_BYTES)
    except FileNotFoundError:
        raise UsageError(f"there is no picture at {uri}; check its name") from None
    except FileTooLargeError as error:
        raise UsageError(
            f"{uri} has {error.args[0]:,} bytes, more than the {MAX_BYTES:,} of the largest "
            "picture that is read; save it smaller"
        ) from error
    except BusyError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {uri}: {error}; name one picture") from error


def embed(space: Space, content: bytes, name: str) -> NDArray[np.float32]:
    """Make the vector [k] of a picture's bytes, as a run of the job would.

    Raises
    ------
    UsageError
        Where they are none that the job takes.
    """
    try:
        decoded = decode(content, space.card, max_pixels=JobSettings.max_pixels)
    except RejectedImageError as reject:
        raise _refusal(name, reject) from reject
    features = Extractor(space.card, load_network(space.card))(decoded.pixels)
    vector: NDArray[np.float32] = space.model.pca.project(features[np.newaxis])[0]
    return vector


def find_nearest(
    output: Folder, space: Space, vector: NDArray[np.float32], number: int
) -> list[Neighbour]:
    """Find the pictures nearest to a vector [k], the nearest first; of equally near ones by name.

    Raises
    ------
    UsageError
        Where a table of vectors is damaged.
    """
    best: list[Neighbour] = []
    for run in space.runs:
        folder = output / contract.run_folder(run.batch, run.run) / contract.VECTORS
        for name in folder.files():
            try:
                for block in _blocks(folder, name, len(vector)):
                    found = _nearest_of(block, vector, number, run.batch)
                    best = heapq.nsmallest(number, [*best, *found])
            except (pa.ArrowException, KeyError, ValueError) as error:
                raise UsageError(
                    f"the vectors {folder.uri}/{name} are damaged ({error}); run batch "
                    f"{run.batch!r} again"
                ) from error
    return best


def most_common_label(neighbours: Sequence[Neighbour]) -> tuple[str, int] | None:
    """The label that most of them have, and how many do; of several the nearest one's.

    None where none has a label.
    """
    counts = Counter(one.label for one in neighbours if one.label is not None)
    return counts.most_common(1)[0] if counts else None


def _refusal(name: str, reject: RejectedImageError) -> UsageError:
    """Say why a picture is refused; of a kind that is not taken, that says what to do, too."""
    remedy = "" if reject.reason == UNSUPPORTED else "; choose another picture"
    return UsageError(f"{name} is no picture to search by: {reject.detail}{remedy}")


def _require_comparable(runs: list[RunReceipt]) -> None:
    first_of: dict[tuple[str, str], str] = {}
    for run in runs:
        first_of.setdefault((run.extractor, run.model.model), run.batch)
    if len(first_of) == 1:
        return
    told = ", ".join(f"{batch} of {model} of {of}" for (of, model), batch in first_of.items())
    remedy = ""
    if len({extractor for extractor, _ in first_of}) == 1:
        names = ",".join(run.batch for run in runs)
        remedy = f", or make them so with `orchard models reproject --batches {names}`"
    raise UsageError(
        f"vectors of different models do not compare ({told}); name batches of one model{remedy}"
    )


def _of_current_models(
    output: Folder, runs: list[RunReceipt]
) -> tuple[list[RunReceipt], list[RunReceipt]]:
    """Divide runs into those of the current model and others."""
    models = output / contract.MODELS
    pointers = {name: read_pointer(models / name, ModelPointer) for name in models.folders()}
    current = {name: pointer.model for name, pointer in pointers.items() if pointer is not None}
    chosen = [run for run in runs if current.get(run.extractor) == run.model.model]
    if not chosen:
        raise UsageError(
            f"no batch has vectors of a current model ({_some([run.batch for run in runs])} are of "
            "others); name batches of one model with --batch"
        )
    extractors = sorted({run.extractor for run in chosen})
    if len(extractors) > 1:
        raise UsageError(
            f"batches are of several networks ({', '.join(extractors)}), whose vectors do not "
            "compare; name batches of one with --batch"
        )
    return chosen, [run for run in runs if run not in chosen]


def _blocks(folder: Folder, name: str, k: int) -> Iterator[pa.Table]:
    """Read a file of vectors in blocks."""
    source = f"{folder.uri}/{name}" if folder.is_local else pa.BufferReader(folder.read(name))
    rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * k)))
    with parquet.ParquetFile(source) as file:
        for batch in file.iter_batches(rows, columns=["path", "label", "vector"]):
            yield pa.Table.from_batches([batch])


def _nearest_of(
    block: pa.Table, vector: NDArray[np.float32], number: int, batch: str
) -> list[Neighbour]:
    apart = as_matrix(block["vector"]) - vector
    squares = np.einsum("nk,nk->n", apart, apart)
    # With all that are as far as the last one, among whom names decide.
    last = np.partition(squares, number - 1)[number - 1] if number < len(squares) else np.inf
    rows = np.flatnonzero(squares <= last)
    named = block.select(["path", "label"]).take(pa.array(rows))
    columns = zip(np.sqrt(squares[rows]).tolist(), *named.to_pydict().values(), strict=True)
    return [Neighbour(distance, batch, path, label) for distance, path, label in columns]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
