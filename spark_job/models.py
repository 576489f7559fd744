"""Which model a run's vectors are made with, and where models are kept."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from spark_job import contract, pca
from spark_job.drift import Calibration
from spark_job.errors import UsageError
from spark_job.objects import BusyError, ConflictError
from spark_job.pca import PCAModel
from spark_job.pointers import ModelPointer, read_pointer
from spark_job.receipts import to_json
from spark_job.settings import DEFAULT_VARIANCE

if TYPE_CHECKING:
    from spark_job.moments import Moments
    from spark_job.networks import Card
    from spark_job.objects import Folder
    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")


DAMAGED = (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile)
"""What reading a damaged model may raise."""


@dataclass(frozen=True)
class ModelCard:
    """What is known of a stored model.

    Attributes
    ----------
    model
        Its id: the hash of what determines it.
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
    contract: int = contract.CONTRACT


@dataclass(frozen=True)
class StoredModel:
    """A model, its card, and how it does on images that it was fitted without, if that is known."""

    pca: PCAModel
    card: ModelCard
    calibration: Calibration | None = None


def current_model(settings: JobSettings, output: Folder, card: Card) -> StoredModel | None:
    """Read the model that `--pca auto` reuses; None where one is to be fitted.

    Raises
    ------
    UsageError
        Where it cannot be read, or was not fitted as the arguments ask.
    """
    models = output / contract.models_folder(card.extractor)
    try:
        pointer = read_pointer(models, ModelPointer)
        if settings.pca == "fit":
            return None  # yet a pointer that is damaged is found before the work, not after it
        if pointer is None:
            _warn_of_others(output, card)
            return None
        current = read_model(models, pointer.model)
    except BusyError:
        raise
    except (OSError, *DAMAGED) as error:
        raise UsageError(
            f"cannot read the current model in {models.uri}: {error}; restore it, or use "
            "--pca fit for a new one"
        ) from error
    require_extractor(current.card, card)
    _require_rule(settings, current.card)
    return current


def read_model(models: Folder, model: str) -> StoredModel:
    """Read a stored model from its extractor's folder."""
    folder = models / model
    fields = json.loads(folder.read(contract.MODEL_CARD))
    if fields.get("contract") != contract.CONTRACT:
        raise ValueError(f"{folder.uri} is not of contract {contract.CONTRACT}")
    card = ModelCard(**fields)
    fitted = PCAModel.from_bytes(folder.read(contract.MODEL_FILE))
    return StoredModel(fitted, card, _read_calibration(folder))


def _read_calibration(folder: Folder) -> Calibration | None:
    """Read what the drift card is held against; None where an older Orchard stored the model."""
    try:
        return Calibration.from_fields(json.loads(folder.read(contract.CALIBRATION)))
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        LOGGER.warning(
            "%s in %s is damaged (%s): no advice", contract.CALIBRATION, folder.uri, error
        )
        return None


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


def fit_rule(settings: JobSettings) -> dict[str, Any]:
    """How many components a new model keeps: an argument of `pca.fit`."""
    return settings.rule or {"variance": DEFAULT_VARIANCE}


def fit_model(
    settings: JobSettings,
    output: Folder,
    moments: Moments,
    card: Card,
    images: str,
    calibration: Calibration | None = None,
) -> StoredModel:
    """Fit a model and store it under the id of what determines it.

    Parameters
    ----------
    settings, output, card
        Of the run.
    moments
        Of its features.
    images
        Digest of its images' content.
    calibration
        Of its features.
    """
    rule = fit_rule(settings)
    standardize = settings.standardize is not False
    model = pca.fit(moments, standardize=standardize, **rule)
    if model.k < rule.get("components", 0):
        LOGGER.warning(
            "%s components were asked for, but %s images vary in no more than %s directions: %s "
            "are kept",
            settings.components,
            f"{moments.n:,}",
            model.k,
            model.k,
        )
    determined_by = {
        "extractor": card.extractor,
        "images": images,
        "rule": rule,
        "standardize": standardize,
        "fit": pca.VERSION,
    }
    stored = ModelCard(
        model=model_id(determined_by),
        extractor=card.extractor,
        images=images,
        rule=rule,
        standardize=standardize,
        features=card.features,
        k=model.k,
        n=moments.n,
        variance_kept=model.variance_kept,
        batches=[{"batch": settings.batch, "run": settings.run, "n": moments.n}],
        parents=[],
    )
    return write_model(output, StoredModel(model, stored, calibration))


def write_model(output: Folder, model: StoredModel) -> StoredModel:
    """Store a model under its id, and return what is stored there.

    A stored model is never modified: where this one exists already, that is what is returned,
    unless it cannot be read. A calibration is added to one that has none.
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
    if model.calibration is not None and _read_calibration(models / model.card.model) is None:
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
    """Name a model by the hash of what determines it: images, extractor, and how it was fitted."""
    canonical = json.dumps(determined_by, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _warn_of_others(output: Folder, card: Card) -> None:
    """Say so where the output has models, but none that takes this extractor's features."""
    others = [name for name in (output / contract.MODELS).folders() if name != card.extractor]
    if others:
        LOGGER.warning(
            "the models in %s are of other networks, or of images decoded otherwise (%s), and do "
            "not compare with the one that is fitted now for %s",
            output.uri,
            ", ".join(others),
            card.extractor,
        )


def _require_rule(settings: JobSettings, card: ModelCard) -> None:
    """Refuse to reuse a model that was not fitted as the arguments ask."""
    asked = dict(settings.rule)
    fitted = dict(card.rule)
    if asked in ({}, fitted) and settings.standardize in (None, card.standardize):
        return
    wanted = " ".join(f"--{name} {value:g}" for name, value in asked.items())
    if settings.standardize is not None:
        wanted += f" --standardize {str(settings.standardize).lower()}"
    has = " ".join(f"--{name} {value:g}" for name, value in fitted.items())
    raise UsageError(
        f"the current model {card.model} was fitted with {has} --standardize "
        f"{str(card.standardize).lower()} (k={card.k}), and {wanted.strip()} asks for another; "
        "leave that out to reuse the model, or use --pca fit for a new one, with which older "
        "batches do not compare"
    )
