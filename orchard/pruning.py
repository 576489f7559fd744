"""What of an output nobody needs any more: found, and removed if that is still so.

A published run, one that may still be published, one at work and their models never count among it,
nor a run of whose moments the next update of a current model is made.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchard.collection import batch_names
from spark_job import contract
from spark_job.claims import Claim, parse_claim
from spark_job.errors import OutputRefusedError, UsageError
from spark_job.lineage import READS, find_run
from spark_job.models import read_card, stored_models
from spark_job.objects import LocalFolder
from spark_job.pointers import BatchPointer, ModelPointer, read_pointer
from spark_job.receipts import RunReceipt
from spark_job.runs import locked_unless_alive

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")


class Kind(Enum):
    """Why something is superfluous."""

    SUPERSEDED = "superseded run"
    DEAD = "left by a run that died"
    MODEL = "model that nothing names"


@dataclass(frozen=True)
class Leftover:
    """Something superfluous.

    Attributes
    ----------
    kind
        Why.
    owner, name
        Of a run, its batch and its name; of a model, its extractor and its id.
    folders
        Below the root.
    started
        When a superseded run did; empty for anything else.
    files, bytes
        How many files it is, and how many bytes become free without it and what is named before
        it. On a disk a file has as many names as there are runs that copied it, and its bytes stay
        as long as one of them does.
    """

    kind: Kind
    owner: str
    name: str
    folders: tuple[str, ...]
    started: str = ""
    files: int = 0
    bytes: int = 0

    @property
    def has_results(self) -> bool:
        """Whether it is more of a run than its work folder."""
        return contract.run_folder(self.owner, self.name) in self.folders


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes
    ----------
    runs, models
        What is superfluous.
    at_work, unpublished
        Batches and names of runs at work, and of complete ones that started later than the
        published one, or have none beside them: these may still be published.
    made_from
        Batches and names of runs that would be superfluous, were not a current model made from
        them, and that model.
    """

    runs: list[Leftover] = field(default_factory=list)
    models: list[Leftover] = field(default_factory=list)
    at_work: list[tuple[str, str]] = field(default_factory=list)
    unpublished: list[tuple[str, str]] = field(default_factory=list)
    made_from: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Batch:
    """The runs of a batch.

    Attributes
    ----------
    pointer
        Which is published.
    living
        Extractors of those at work, by name.
    worked
        Those with a work folder.
    settled
        Receipts of those that are complete, by name; None where it cannot be read.
    unsettled
        Those with a folder among the results, and without a receipt.
    """

    name: str
    pointer: BatchPointer | None
    living: dict[str, str]
    worked: list[str]
    settled: dict[str, RunReceipt | None]
    unsettled: list[str]

    def has_superseded(self, receipt: RunReceipt) -> bool:
        """Whether a complete run lost to the published one for good."""
        return _is_superseded(receipt.run, receipt.started, self.pointer)


def survey(output: Folder, *, keep: int = 1, batches: Sequence[str] = ()) -> Survey:
    """Find what is superfluous.

    Parameters
    ----------
    output
        The root of all batches.
    keep
        How many superseded runs of each batch are kept, the latest started ones.
    batches
        Whose runs to look for; empty for all.

    Raises
    ------
    UsageError
        Where there is no such batch, or a published run is not there.
    """
    names = batch_names(output)
    for batch in batches:
        if batch not in names:
            known = ", ".join(names[:8]) or "none"
            raise UsageError(f"{output.uri} has no batch {batch!r}; there are {known}")
    with ThreadPoolExecutor(READS) as pool:
        found = list(pool.map(partial(_look_at, output), names))
        chosen = [one for one in found if not batches or one.name in batches]
        needed = _made_from(output)
        leftovers = [leftover for one in chosen for leftover in _leftovers(one, keep)]
        runs = [
            one for one in leftovers if not one.has_results or (one.owner, one.name) not in needed
        ]
        models = _unused_models(output, found, {(one.owner, one.name) for one in runs})
        measured = _measure(output, [*runs, *models], pool)
        return Survey(
            runs=measured[: len(runs)],
            models=measured[len(runs) :],
            at_work=[(one.name, run) for one in chosen for run in sorted(one.living)],
            unpublished=[
                (one.name, run)
                for one in chosen
                for run, receipt in one.settled.items()
                if receipt is not None
                and run not in one.living
                and (one.pointer is None or run != one.pointer.run)
                and not one.has_superseded(receipt)
            ],
            made_from=[
                (one.owner, one.name, needed[one.owner, one.name])
                for one in leftovers
                if one not in runs
            ],
        )


def remove(output: Folder, leftover: Leftover) -> bool:
    """Remove something unless it is needed by now.

    Returns
    -------
    bool
        Whether it was removed.
    """
    if leftover.kind is Kind.MODEL:
        return _remove_model(output, leftover)
    run = output / contract.run_folder(leftover.owner, leftover.name)
    goes = leftover.kind is Kind.SUPERSEDED or run.read_or_none(contract.RUN) is None
    if goes and (leftover.owner, leftover.name) in _made_from(output, leftover.owner):
        return False
    if leftover.kind is Kind.SUPERSEDED:
        return _remove_superseded(output, leftover)
    return _remove_dead(output, leftover)


def _look_at(output: Folder, batch: str) -> _Batch:
    """Look who lives before who is settled: a run that settles meanwhile was seen alive."""
    worked = (output / f"{contract.WORK}/{batch}").folders()
    living = {run: _extractor(output, batch, run) for run in worked if _lives(output, batch, run)}
    results = output / contract.results_folder(batch)
    pointer = read_pointer(results, BatchPointer)
    settled: dict[str, RunReceipt | None] = {}
    unsettled = []
    for run in (results / contract.RUNS).folders():
        folder = output / contract.run_folder(batch, run)
        content = folder.read_or_none(contract.RUN)
        if content is None:
            unsettled.append(run)
        else:
            settled[run] = _parse(content, folder)
    if pointer is not None and pointer.run not in settled:
        raise UsageError(
            f"the published run {pointer.run!r} of batch {batch!r} is not complete in "
            f"{results.uri}; restore it, or run the batch again, before anything is removed"
        )
    return _Batch(batch, pointer, living, worked, settled, unsettled)


def _parse(content: bytes, folder: Folder) -> RunReceipt | None:
    try:
        return RunReceipt.from_json(content, folder.uri)
    except UsageError:
        LOGGER.warning("%s is kept: its receipt cannot be read", folder.uri)
        return None


def _lives(output: Folder, batch: str, run: str) -> bool:
    with locked_unless_alive(output / contract.work_folder(batch, run)) as free:
        return not free


def _extractor(output: Folder, batch: str, run: str) -> str:
    work = output / contract.work_folder(batch, run)
    record = parse_claim(work.read_or_none(contract.CLAIM))
    return "" if record is None else record.extractor


def _leftovers(batch: _Batch, keep: int) -> list[Leftover]:
    superseded = sorted(
        (receipt.started, run)
        for run, receipt in batch.settled.items()
        if receipt is not None and batch.has_superseded(receipt) and run not in batch.living
    )
    found = [
        Leftover(
            Kind.SUPERSEDED,
            batch.name,
            run,
            (contract.run_folder(batch.name, run),),
            started=started,
        )
        for started, run in superseded[: max(0, len(superseded) - keep)]
    ]
    for run in sorted({*batch.worked, *batch.unsettled} - batch.living.keys()):
        folders = []
        if run in batch.unsettled:
            folders.append(contract.run_folder(batch.name, run))
        if run in batch.worked:
            folders.append(contract.work_folder(batch.name, run))
        found.append(Leftover(Kind.DEAD, batch.name, run, tuple(folders)))
    return found


def _is_superseded(run: str, started: str, pointer: BatchPointer | None) -> bool:
    """Whether a pointer names another run that started later: pointers never go back."""
    return pointer is not None and (started, run) < (pointer.started, pointer.run)


def _made_from(output: Folder, batch: str | None = None) -> dict[tuple[str, str], str]:
    """Find the runs, of one batch or of all, of which current models would be updated.

    Returns
    -------
    dict
        The model by the run's batch and name.
    """
    found = {}
    models = output / contract.MODELS
    for extractor in models.folders():
        pointer = read_pointer(models / extractor, ModelPointer)
        card = None if pointer is None else read_card(output, extractor, pointer.model)
        if card is None:
            continue
        for one in card.batches:
            if batch in (None, one["batch"]):
                with suppress(UsageError):  # an update could not use it either
                    run = find_run(output, extractor, one["batch"], one["run"])
                    found[one["batch"], run] = card.model
    return found


def _unused_models(
    output: Folder, batches: Iterable[_Batch], removed: set[tuple[str, str]]
) -> list[Leftover]:
    """Name the models that no pointer and no run that stays names.

    Where a run is at work, or a receipt cannot be read, nobody knows: all are kept.
    """
    named: set[tuple[str, str]] = set()
    busy: set[str] = set()
    for batch in batches:
        busy.update(batch.living.values())
        for run, receipt in batch.settled.items():
            if receipt is None:
                return []
            if (batch.name, run) not in removed:
                named.add((receipt.extractor, receipt.model.model))
    if "" in busy:
        return []
    models = output / contract.MODELS
    for extractor in models.folders():
        pointer = read_pointer(models / extractor, ModelPointer)
        if pointer is not None:
            named.add((extractor, pointer.model))
    return [
        Leftover(Kind.MODEL, extractor, model, (f"{contract.models_folder(extractor)}/{model}",))
        for extractor, model in stored_models(output)
        if (extractor, model) not in named and extractor not in busy
    ]


def _measure(
    output: Folder, leftovers: Sequence[Leftover], pool: ThreadPoolExecutor
) -> list[Leftover]:
    if not isinstance(output, LocalFolder):
        return list(pool.map(partial(_measure_in_s3, output), leftovers))
    names: Counter[tuple[int, int]] = Counter()
    measured = []
    for one in leftovers:
        files = freed = 0
        for status in _statuses(output, one):
            inode = (status.st_dev, status.st_ino)
            names[inode] += 1
            files += 1
            freed += status.st_size if names[inode] == status.st_nlink else 0
        measured.append(replace(one, files=files, bytes=freed))
    return measured


def _measure_in_s3(output: Folder, leftover: Leftover) -> Leftover:
    sizes = [
        entry.bytes or 0 for folder in leftover.folders for entry in (output / folder).entries()
    ]
    return replace(leftover, files=len(sizes), bytes=sum(sizes))


def _statuses(output: LocalFolder, leftover: Leftover) -> Iterator[os.stat_result]:
    for folder in leftover.folders:
        below = output / folder
        for entry in below.entries():
            with suppress(FileNotFoundError):  # its run goes on, or somebody else removes it
                yield Path(below.path, entry.name).lstat()


def _remove_superseded(output: Folder, leftover: Leftover) -> bool:
    batch, run = leftover.owner, leftover.name
    pointer = read_pointer(output / contract.results_folder(batch), BatchPointer)
    if not _is_superseded(run, leftover.started, pointer):
        return False
    folder = output / contract.run_folder(batch, run)
    # The receipt first: who dies half way leaves a folder that is no complete run.
    folder.delete([contract.RUN])
    folder.clear()
    return True


def _remove_dead(output: Folder, leftover: Leftover) -> bool:
    """Claim what a dead run left, so that nobody begins with it while it is removed."""
    try:
        claim = Claim(output, leftover.owner, leftover.name, "")
    except OutputRefusedError:
        return False
    try:
        if claim.results.read_or_none(contract.RUN) is None:
            claim.results.clear()
        claim.stop_beating()
        claim.work.clear()
    finally:
        claim.release()
    batch = output / f"{contract.WORK}/{leftover.owner}"
    if isinstance(batch, LocalFolder):
        batch.remove_if_empty()
    return True


def _remove_model(output: Folder, leftover: Leftover) -> bool:
    found = [_look_at(output, batch) for batch in batch_names(output)]
    if leftover.folders not in {one.folders for one in _unused_models(output, found, set())}:
        return False
    folder = output / leftover.folders[0]
    # The card first: a model without one counts as damaged, and is stored anew where it is fitted.
    folder.delete([contract.MODEL_CARD])
    folder.clear()
    return True
