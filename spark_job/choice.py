"""Which model a run's vectors are made with, and how it becomes the one that later runs reuse.

``auto`` reuses the current model, and fits one where there is none; ``reuse`` takes the current one
or one that is named; ``fit`` makes a new one of this batch alone; ``update`` makes one of this
batch and all batches of the current model.

The pointer to the current model moves by compare-and-swap: what was made from one model may only
follow that one. A run that loses makes its vectors with the winner's; nothing is inferred again. A
model of ``fit`` follows nothing: of two, the later started run's stays.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from spark_job import contract
from spark_job.errors import UsageError
from spark_job.lineage import fit_merged, merge_published, require_mergeable
from spark_job.models import (
    DAMAGED,
    StoredModel,
    find_model,
    read_model,
    require_extractor,
    require_model,
    write_model,
)
from spark_job.objects import BusyError, ConflictError
from spark_job.pointers import ModelPointer, point, read_pointer, read_tagged_pointer
from spark_job.receipts import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from spark_job.claims import Claim
    from spark_job.lineage import BatchMoments
    from spark_job.models import ModelCard
    from spark_job.networks import Card
    from spark_job.objects import Folder
    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")


@dataclass(frozen=True)
class Current:
    """The model that a run begins from, if any.

    Attributes
    ----------
    model
        It; None where one is to be fitted.
    tag, generation
        Of the pointer to the current model, as it was read: what the next one may follow.
    """

    model: StoredModel | None
    tag: str | None = None
    generation: int = 0


@dataclass(frozen=True)
class Choice:
    """The model that a run's vectors are made with.

    Attributes
    ----------
    model
        It.
    reused
        Whether it was there before.
    after
        What it follows.
    """

    model: StoredModel
    reused: bool
    after: Current


def find_current(settings: JobSettings, output: Folder, card: Card) -> Current:
    """Find the model that a run with these settings begins from.

    Raises
    ------
    UsageError
        Where it cannot be read, is not there though it must be, or was not fitted as the arguments
        ask.
    """
    models = output / contract.models_folder(card.extractor)
    try:
        pointer, tag = read_tagged_pointer(models, ModelPointer)
        generation = 0 if pointer is None else pointer.generation
        if settings.pca == "fit":
            return Current(None)  # yet a pointer that is damaged is found before the work
        if settings.model is not None:
            found = _find_named(output, card, settings.model)
        elif pointer is not None:
            found = read_model(models, pointer.model)
        elif settings.pca == "reuse":
            raise UsageError(
                f"{output.uri} has no model of {card.extractor} to reuse; say --pca auto, which "
                "fits one where there is none"
            )
        else:
            _warn_of_others(output, card)
            return Current(None)
    except (BusyError, UsageError):
        raise
    except (OSError, *DAMAGED) as error:
        raise UsageError(
            f"cannot read the current model in {models.uri}: {error}; restore it, or use --pca "
            "fit for a new one"
        ) from error
    require_extractor(found.card, card)
    _require_rule(settings, found.card)
    if settings.pca == "update":
        others = _others(settings, found)
        require_mergeable(output, card.extractor, list(others), others)
    return Current(found, tag, generation)


def choose(
    settings: JobSettings,
    output: Folder,
    card: Card,
    own: BatchMoments,
    calibrate: Callable[[StoredModel, list[dict[str, Any]]], StoredModel],
) -> Choice:
    """Choose the model of a run; a new one is stored.

    Parameters
    ----------
    settings, output, card
        Of the run.
    own
        Moments of its features.
    calibrate
        Gives a stored model a calibration, if it can be told one that says more than what it has:
        takes the model, and the batches, runs and images that it is of as they are by now.
    """
    current = find_current(settings, output, card)
    base = current.model
    if base is not None and settings.pca != "update":
        return Choice(calibrate(base, base.card.batches), True, current)
    others: dict[str, str] = {}
    rule = settings.rule or {"variance": settings.default_variance}
    standardize = settings.standardize is not False
    if base is not None:
        rule, standardize, others = base.card.rule, base.card.standardize, _others(settings, base)
    merged = merge_published(output, card.extractor, list(others), others, own)
    model = fit_merged(
        output,
        card.extractor,
        merged,
        rule=rule,
        standardize=standardize,
        parent=None if base is None else base.card,
    )
    model = calibrate(model, merged.batches)
    same = base is not None and base.card.model == model.card.model
    return Choice(model, same, current)


def adopt(choice: Choice, settings: JobSettings, claim: Claim) -> str | None:
    """Make a new model the current one.

    Returns
    -------
    str or None
        Which model is the current one then: after ``fit``, that of a run which started later may
        be. None where another run's came between, so that this one must choose again.
    """
    card = choice.model.card
    if choice.reused:
        return card.model
    models = claim.output / contract.models_folder(card.extractor)
    generation = choice.after.generation + 1
    ours = ModelPointer(card.model, claim.batch, claim.run, claim.started, generation)
    if settings.pca == "fit":
        current = point(models, ours).model
    else:
        try:
            models.swap(contract.CURRENT, to_json(asdict(ours)), choice.after.tag)
        except ConflictError:
            # Also where this run's own request was repeated and lost to itself.
            if read_pointer(models, ModelPointer) != ours:
                return None
        current = card.model
    # Nothing named it until now, and somebody may have removed it as a leftover.
    write_model(claim.output, choice.model)
    return current


def _find_named(output: Folder, card: Card, name: str) -> StoredModel:
    """Read the model that is named, by its id or the first digits of it."""
    extractor, model = find_model(output, name)
    if extractor != card.extractor:
        raise UsageError(
            f"the model {model} takes features of {extractor}, and this job's are of "
            f"{card.extractor}; use the network that it was fitted with, or another model"
        )
    return require_model(output, extractor, model)


def _others(settings: JobSettings, model: StoredModel) -> dict[str, str]:
    """Which other batches a model is of, and their runs."""
    batches = model.card.batches
    return {one["batch"]: one["run"] for one in batches if one["batch"] != settings.batch}


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
