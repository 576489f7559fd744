"""What is exported: a stored model, the network whose features it takes, published vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from spark_job import contract, networks, tables
from spark_job.errors import UsageError
from spark_job.models import DAMAGED, StoredModel, read_model
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
        Its id; by default the one that ``--pca auto`` reuses.

    Raises
    ------
    UsageError
        Where there is none, more than one is meant, it cannot be read, or its network is not here.
    """
    if network is not None:
        networks.load_card(network)
    folders = output / contract.MODELS
    extractors = [name for name in folders.folders() if network in (None, name.rpartition("-")[0])]
    found = {
        extractor: chosen
        for extractor in extractors
        if (chosen := _choose(folders / extractor, model)) is not None
    }
    if not found:
        raise UsageError(_nothing(output, network, model))
    if len(found) > 1:
        told = ", ".join(f"{chosen} of {extractor}" for extractor, chosen in found.items())
        raise UsageError(
            f"{output.uri} has several models in use ({told}); say which one with --model"
        )
    [(extractor, chosen)] = found.items()
    card = _card_of(extractor, chosen)
    try:
        return Source(read_model(folders / extractor, chosen), card)
    except BusyError:
        raise
    except (OSError, *DAMAGED) as error:
        raise UsageError(
            f"cannot read the model {chosen} in {(folders / extractor).uri}: {error}"
        ) from error


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
            f"{receipt.model.model}, not of {model}; name other batches with --batch, or export "
            f"that model with --model {receipt.model.model}"
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


def _choose(models: Folder, model: str | None) -> str | None:
    """Id of the model that is meant among those of one extractor; None where there is none."""
    if model is not None:
        return model if model in models.folders() else None
    pointer = read_pointer(models, ModelPointer)
    return None if pointer is None else pointer.model


def _card_of(extractor: str, model: str) -> Card:
    """Card of the installed network that gives an extractor's features."""
    try:
        return networks.find_card(extractor)
    except UsageError as reason:
        raise UsageError(
            f"the model {model} takes features of {extractor}, and {reason}; install that network, "
            "or choose another --model"
        ) from reason


def _nothing(output: Folder, network: str | None, model: str | None) -> str:
    """Say that there is no such model, and which ones there are."""
    of = "" if network is None else f" of the network {network}"
    models = output / contract.MODELS
    stored = [
        f"{name} of {extractor}"
        for extractor in models.folders()
        for name in (models / extractor).folders()
    ]
    if model is not None:
        told = f"{output.uri} has no model {model!r}{of}"
    else:
        told = f"{output.uri} has no model in use{of}"
    if stored:
        return f"{told}; stored there are {', '.join(stored)}"
    return f"{told}; the job fits one (python -m spark_job --output {output.uri} ...)"
