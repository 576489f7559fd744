"""What is exported: a stored model, the network whose features it takes, published vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from spark_job import contract, networks, tables
from spark_job.errors import UsageError
from spark_job.models import DAMAGED, StoredModel, find_model, read_model, stored_models
from spark_job.objects import BusyError
from spark_job.pointers import ModelPointer, read_pointer
from spark_job.receipts import RunReceipt
from spark_job.runs import read_published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spark_job.networks import Card
    from spark_job.objects import Folder


@dataclass(frozen=True)
class Source:
    """A model, and the card of the network whose features it takes."""

    model: StoredModel
    card: Card


@dataclass(frozen=True)
class Published:
    """The published run of one batch.

    Attributes
    ----------
    receipt
        The run's.
    folder
        Where it is settled.
    """

    receipt: RunReceipt
    folder: Folder


@dataclass(frozen=True)
class Pictures:
    """The pictures of published runs that have a label.

    Attributes
    ----------
    names
        [n], ``<batch>/<path>``, in order.
    labels
        [n].
    features
        [n, d].
    vectors
        [n, k].
    """

    names: NDArray[np.str_]
    labels: NDArray[np.str_]
    features: NDArray[np.float32]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        """How many they are."""
        return len(self.names)


def find_source(output: Folder, *, network: str | None = None, model: str | None = None) -> Source:
    """Find the model that is meant, and its network among those that are installed.

    Parameters
    ----------
    output
        Where the job wrote.
    network
        Only models of its features; by default of any network.
    model
        Its id, or its first digits; by default the one that ``--pca auto`` reuses.

    Raises
    ------
    UsageError
        Where there is none, more than one is meant, it cannot be read, or its network is not here.
    """
    if network is not None:
        networks.load_card(network)
    extractor, chosen = (
        _in_use(output, network) if model is None else find_model(output, model, network)
    )
    card = _card_of(extractor, chosen)
    folder = output / contract.models_folder(extractor)
    try:
        return Source(read_model(folder, chosen), card)
    except BusyError:
        raise
    except (OSError, *DAMAGED) as error:
        raise UsageError(f"cannot read the model {chosen} in {folder.uri}: {error}") from error


def read_batch(output: Folder, batch: str, model: str) -> Published:
    """Find the published run of a batch.

    Raises
    ------
    UsageError
        Where there is none, or its vectors are of another model than `model`.
    """
    pointer = read_published(output, batch)
    if pointer is None:
        published = [
            name
            for name in (output / contract.RESULTS).folders()
            if read_published(output, name) is not None
        ]
        raise UsageError(
            f"{output.uri} has no published run of a batch {batch!r}"
            + (f"; published are {', '.join(published)}" if published else "")
        )
    folder = output / contract.run_folder(batch, pointer.run)
    receipt = RunReceipt.from_json(folder.read(contract.RUN), folder.uri)
    if receipt.model.model != model:
        raise UsageError(
            f"the published vectors of the batch {batch!r} are of the model "
            f"{receipt.model.model}, not of {model}; name other batches with --batches, or "
            f"export that model with --model {receipt.model.model}"
        )
    return Published(receipt, folder)


def read_pictures(batches: Sequence[Published]) -> Pictures:
    """Read the pictures of published runs that have a label, sorted by batch and path."""
    vectors = pa.concat_tables(
        _read(batch, contract.VECTORS, ["path", "label", "vector"]) for batch in batches
    )
    features = pa.concat_tables(
        _read(batch, contract.FEATURES, ["path", "features"]) for batch in batches
    )
    vectors, features = vectors.sort_by("path"), features.sort_by("path")
    if not vectors["path"].equals(features["path"]):
        raise UsageError("the tables of features and of vectors name other pictures: run it again")
    labelled = vectors["label"].is_valid()
    vectors, features = vectors.filter(labelled), features.filter(labelled)
    return Pictures(
        names=_texts(vectors["path"]),
        labels=_texts(vectors["label"]),
        features=tables.as_matrix(features["features"]),
        vectors=tables.as_matrix(vectors["vector"]),
    )


def _read(batch: Published, table: str, columns: list[str]) -> pa.Table:
    """Read a table of a run, with the batch's name before each path."""
    folder = batch.folder / table
    read = pa.concat_tables(tables.read_table(folder, name, columns) for name in folder.files())
    names = [f"{batch.receipt.batch}/{path}" for path in read["path"].to_pylist()]
    return read.set_column(0, "path", pa.array(names, pa.string()))


def _texts(column: pa.ChunkedArray) -> NDArray[np.str_]:
    return np.array(column.to_pylist(), dtype=np.str_)


def _in_use(output: Folder, network: str | None) -> tuple[str, str]:
    """Extractor and id of the one model in use, of a network or of any."""
    models = output / contract.MODELS
    extractors = [name for name in models.folders() if network in (None, name.rpartition("-")[0])]
    found = {
        extractor: pointer.model
        for extractor in extractors
        if (pointer := read_pointer(models / extractor, ModelPointer)) is not None
    }
    if not found:
        raise UsageError(_nothing(output, network))
    if len(found) > 1:
        told = ", ".join(f"{chosen} of {extractor}" for extractor, chosen in found.items())
        raise UsageError(
            f"{output.uri} has several models in use ({told}); say which one with --model"
        )
    [one] = found.items()
    return one


def _card_of(extractor: str, model: str) -> Card:
    """Card of the installed network that gives an extractor's features."""
    try:
        return networks.find_card(extractor)
    except UsageError as reason:
        raise UsageError(
            f"the model {model} takes features of {extractor}, and {reason}; install that network, "
            "or choose another --model"
        ) from reason


def _nothing(output: Folder, network: str | None) -> str:
    """Say that no model is in use, and which ones there are."""
    told = f"{output.uri} has no model in use"
    if network is not None:
        told += f" of the network {network}"
    stored = [f"{name} of {extractor}" for extractor, name in stored_models(output)]
    if stored:
        return f"{told}; stored there are {', '.join(stored)}"
    return f"{told}; the job fits one (python -m spark_job --output {output.uri} ...)"
