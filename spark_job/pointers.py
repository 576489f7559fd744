"""Which run of a batch is published, and which model of an extractor is reused."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from spark_job import contract
from spark_job.errors import UsageError
from spark_job.objects import ConflictError
from spark_job.receipts import to_json

if TYPE_CHECKING:
    from spark_job.objects import Folder


@dataclass(frozen=True)
class BatchPointer:
    """``results/<batch>/current.json``: the published run, its images, its start and its end."""

    run: str
    images: str
    started: str
    finished: str
    contract: int = contract.CONTRACT


@dataclass(frozen=True)
class ModelPointer:
    """``models/<extractor>/current.json``: the model in use, and the run that published it.

    Attributes
    ----------
    batch, run
        Empty where a person chose the model.
    generation
        How many models were current here, this one included; not that of the model itself, see
        `models.ModelCard`.
    """

    model: str
    batch: str
    run: str
    started: str
    generation: int = 1
    contract: int = contract.CONTRACT


Pointer = TypeVar("Pointer", BatchPointer, ModelPointer)


def read_pointer(folder: Folder, kind: type[Pointer]) -> Pointer | None:
    """Read a folder's pointer; None where there is none.

    Raises
    ------
    UsageError
        Where it is damaged or of another contract.
    """
    return read_tagged_pointer(folder, kind)[0]


def read_tagged_pointer(folder: Folder, kind: type[Pointer]) -> tuple[Pointer | None, str | None]:
    """Read a folder's pointer with its tag for `Folder.swap`; both None where there is none.

    Raises
    ------
    UsageError
        Where it is damaged or of another contract.
    """
    found = folder.read_tagged(contract.CURRENT)
    return (None, None) if found is None else (_parse(folder, kind, found[0]), found[1])


def point(folder: Folder, ours: Pointer) -> Pointer:
    """Write a pointer unless it is a later started run's; the pointer that is there in the end."""
    while True:
        found = folder.read_tagged(contract.CURRENT)
        theirs = None if found is None else _parse(folder, type(ours), found[0])
        # Also where this run's own request was repeated and lost to itself.
        if theirs is not None and (theirs.started, theirs.run) >= (ours.started, ours.run):
            return theirs
        if isinstance(ours, ModelPointer) and isinstance(theirs, ModelPointer):
            ours = replace(ours, generation=theirs.generation + 1)
        try:
            folder.swap(contract.CURRENT, to_json(asdict(ours)), found and found[1])
        except ConflictError:
            continue
        return ours


def _parse(folder: Folder, kind: type[Pointer], content: bytes) -> Pointer:
    where = f"{folder.uri}/{contract.CURRENT}"
    try:
        found = json.loads(content)
        number = found.get("contract")
        if number == contract.CONTRACT:
            return kind(**{field.name: found[field.name] for field in fields(kind)})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{where} is damaged ({error!r}); restore it, or choose another --output"
        ) from error
    raise UsageError(
        f"{where} is of {'an earlier layout' if number is None else f'contract {number}'}, and "
        f"this Orchard writes contract {contract.CONTRACT}: choose another --output"
    )


def choose_model(models: Folder, model: str, started: str) -> ModelPointer | None:
    """Point an extractor at a model, whatever it points at, as a person asks.

    Parameters
    ----------
    models
        The extractor's folder.
    model
        The id.
    started
        When the person asked, as `claims.now` tells it. A run that started before, and fits a new
        model from its batch alone, does not move the pointer any more.

    Returns
    -------
    ModelPointer
        The one that was there; None where there was none. Where it names the model already,
        nothing is written.
    """
    while True:
        found = models.read_tagged(contract.CURRENT)
        theirs = None if found is None else _parse(models, ModelPointer, found[0])
        if theirs is not None and theirs.model == model:
            return theirs
        generation = 1
        if theirs is not None:
            # Where this clock is behind, a later moment than theirs all the same.
            started, generation = max(started, theirs.started), theirs.generation + 1
        ours = ModelPointer(model, "", "", started, generation)
        try:
            models.swap(contract.CURRENT, to_json(asdict(ours)), found and found[1])
        except ConflictError:
            continue
        return theirs
