"""Where models are kept, each under the id of what determines it."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from spark_job import contract
from spark_job.drift import Calibration
from spark_job.errors import UsageError
from spark_job.objects import BusyError, ConflictError
from spark_job.pca import PCAModel
from spark_job.receipts import to_json

if TYPE_CHECKING:
    from spark_job.networks import Card
    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")


DAMAGED = (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile)
"""What reading a damaged model may raise."""


@dataclass(frozen=True)
class ModelCard:
    """What is known of a stored model.

    Attributes
    ----------
    model
        Its id: the hash of what determines it; see `model_id`.
    extractor
        Of the features that it takes.
    images
        Digest of the images that it was fitted on, by content.
    rule, standardize
        How it was fitted.
    features, k, n
        Features it takes, components it keeps, images it was fitted on.
    variance_kept
        Share of those images' variance that it keeps.
    batches
        Which batches they are of: batch, run and n.
    parents
        Models that it was made from.
    shared
        Images with the same content in several of the batches; None where that is not known.
    generation
        One more than that of the model that it is an update of; 1 where it is none. It is told as
        the model was first made. None of a model of before this was told.
    """

    model: str
    extractor: str
    images: str
    rule: dict[str, float]
    standardize: bool
    features: int
    k: int
    n: int
    variance_kept: float
    batches: list[dict[str, Any]]
    parents: list[str]
    shared: int | None = None
    generation: int | None = None
    contract: int = contract.CONTRACT


@dataclass(frozen=True)
class StoredModel:
    """A model, its card, and how it does on images that it was fitted without, if that is known."""

    pca: PCAModel
    card: ModelCard
    calibration: Calibration | None = None


def read_model(models: Folder, model: str) -> StoredModel:
    """Read a stored model from its extractor's folder."""
    folder = models / model
    fields = json.loads(folder.read(contract.MODEL_CARD))
    if fields.get("contract") != contract.CONTRACT:
        raise ValueError(f"{folder.uri} is not of contract {contract.CONTRACT}")
    card = ModelCard(**fields)
    fitted = PCAModel.from_bytes(folder.read(contract.MODEL_FILE))
    return StoredModel(fitted, card, _read_calibration(folder, card))


def read_calibration(output: Folder, card: ModelCard) -> Calibration | None:
    """Read what the drift cards of a model compare with; None where there is nothing of use."""
    return _read_calibration(output / contract.models_folder(card.extractor) / card.model, card)


def _read_calibration(folder: Folder, card: ModelCard) -> Calibration | None:
    content = folder.read_or_none(contract.CALIBRATION)
    if content is None:
        return None
    try:
        found = Calibration.from_fields(json.loads(content))
    except DAMAGED as error:
        LOGGER.warning(
            "%s in %s is damaged (%s): no advice", contract.CALIBRATION, folder.uri, error
        )
        return None
    if found.covered:
        return found
    # An older Orchard stored it: found out for one batch, and an average, far too loose, for more.
    whole = replace(found, covered=card.n, sampled=found.images)
    return whole if len(card.batches) == 1 else None


def require_extractor(model: ModelCard, card: Card) -> None:
    """Refuse a model of another network: its numbers would mean nothing.

    Raises
    ------
    UsageError
        Where the model does not take what the network gives.
    """
    if (model.extractor, model.features) != (card.extractor, card.features):
        raise UsageError(
            f"the model {model.model} takes {model.features} features of {model.extractor}, and "
            f"this job's are {card.features} of {card.extractor}; use --pca fit, or the network "
            "that it was fitted with"
        )


def write_model(output: Folder, model: StoredModel) -> StoredModel:
    """Store a model under its id, and return what is stored there.

    A stored model is never modified: where this one exists already, that is what is returned,
    unless it cannot be read. A calibration is added, and replaced by one that says more.
    """
    models = output / contract.models_folder(model.card.extractor)
    card = to_json(asdict(model.card))
    for name, content in (
        (contract.MODEL_FILE, model.pca.to_bytes()),
        (contract.MODEL_CARD, card),
    ):
        # Another run may fit the same at the same time, or have died between the two.
        with suppress(ConflictError):
            (models / model.card.model).swap(name, content, None)
    if model.calibration is not None:
        stored = _read_calibration(models / model.card.model, model.card)
        if stored is None or model.calibration.says_more_than(stored):
            calibration = to_json(asdict(model.calibration))
            (models / model.card.model).write(contract.CALIBRATION, calibration)
    try:
        return read_model(models, model.card.model)
    except DAMAGED:
        LOGGER.warning("the stored model %s is damaged, and is stored anew", model.card.model)
        (models / model.card.model).write(contract.MODEL_FILE, model.pca.to_bytes())
        (models / model.card.model).write(contract.MODEL_CARD, card)
    return read_model(models, model.card.model)


def model_id(determined_by: dict[str, Any]) -> str:
    """Name a model by the hash of what determines it.

    That is the names of the batches, their images, the extractor, and how it was fitted.
    """
    canonical = json.dumps(determined_by, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def find_model(output: Folder, prefix: str, network: str | None = None) -> tuple[str, str]:
    """Find a stored model by its id, or by the first digits of it that no other model has.

    Parameters
    ----------
    output
        The root of all batches.
    prefix
        The id, or its first digits.
    network
        Only models of its features; by default of any network.

    Returns
    -------
    tuple
        Its extractor and its id.

    Raises
    ------
    UsageError
        Where there is none, or more than one.
    """
    stored = [one for one in stored_models(output) if network in (None, one[0].rpartition("-")[0])]
    found = [one for one in stored if one[1] == prefix] or [
        one for one in stored if prefix and one[1].startswith(prefix)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        of = "" if network is None else f" of the network {network}"
        known = "`orchard models list` names those that there are" if stored else "it has none"
        raise UsageError(f"{output.uri} has no model {prefix!r}{of}; {known}")
    named = ", ".join(f"{model} of {extractor}" for extractor, model in found[:8])
    raise UsageError(
        f"{prefix!r} may be any of {len(found)} models ({named}); write more of its id"
    )


def stored_models(output: Folder) -> list[tuple[str, str]]:
    """Name the stored models by extractor and id, in order, whether they can be read or not."""
    models = output / contract.MODELS
    return [
        (extractor, model)
        for extractor in models.folders()
        for model in (models / extractor).folders()
    ]


def read_card(output: Folder, extractor: str, model: str) -> ModelCard | None:
    """Read what is known of a stored model; None where its card is missing or damaged."""
    folder = output / contract.models_folder(extractor) / model
    try:
        fields = json.loads(folder.read_or_none(contract.MODEL_CARD) or b"")
        card = ModelCard(**fields)
    except DAMAGED:
        return None
    return card if card.contract == contract.CONTRACT else None


def require_model(output: Folder, extractor: str, model: str) -> StoredModel:
    """Read a stored model that a person named.

    Raises
    ------
    UsageError
        Where it is missing or damaged.
    """
    models = output / contract.models_folder(extractor)
    try:
        return read_model(models, model)
    except BusyError:
        raise
    except (OSError, *DAMAGED) as error:
        raise UsageError(
            f"the model {models.uri}/{model} cannot be read ({error}); restore it, or build it "
            "again with `orchard models build`"
        ) from error
