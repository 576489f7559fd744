"""What lies under a root: its batches, and which run of each to look at."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from spark_job import contract, lineage
from spark_job.errors import UsageError
from spark_job.pointers import ModelPointer, read_pointer
from spark_job.receipts import RunReceipt
from spark_job.runs import locked_unless_alive, read_published

if TYPE_CHECKING:
    from spark_job.objects import Folder

MOST_NAMED = 8
"""Batches or runs that a sentence names."""


def batch_names(root: Folder) -> list[str]:
    """Name the batches that have results or were worked at."""
    found = {*(root / contract.RESULTS).folders(), *(root / contract.WORK).folders()}
    return sorted(found)


def current_models(root: Folder) -> dict[str, ModelPointer | None]:
    """Read which model of each extractor the next run reuses."""
    models = root / contract.MODELS
    return {name: read_pointer(models / name, ModelPointer) for name in models.folders()}


def find_receipt(root: Folder, batch: str, run: str | None = None) -> RunReceipt:
    """Read the receipt of a batch's published run, or of another one that is complete.

    Raises
    ------
    UsageError
        Where there is none, with what there is instead.
    """
    if run is not None:
        folder = root / contract.run_folder(batch, run)
        content = folder.read_or_none(contract.RUN)
        if content is not None:
            return RunReceipt.from_json(content, folder.uri)
        _require_batch(root, batch)
        known = (root / contract.results_folder(batch) / contract.RUNS).folders()
        raise UsageError(
            f"batch {batch!r} has no complete run {run!r}; there are {_some(known) or 'none'}"
        )
    receipt = lineage.published_receipt(root, batch)
    if receipt is None:
        _require_batch(root, batch)
        raise UsageError(f"batch {batch!r} has no published run: {why_unpublished(root, batch)}")
    return receipt


def why_unpublished(root: Folder, batch: str) -> str:
    """Say what is known of a batch without a published run: what is at work, or what failed."""
    works = root / f"{contract.WORK}/{batch}"
    for run in reversed(works.folders()):
        work = works / run
        with locked_unless_alive(work) as free:
            if not free:
                return f"run {run} is at work{_how_far(work)}"
        with suppress(ValueError, KeyError, TypeError):
            failure = json.loads(work.read_or_none(contract.FAILURE) or b"null")
            return f"run {run} failed: {failure['message']}"
    complete = (root / contract.results_folder(batch) / contract.RUNS).folders()
    if complete:
        return f"`orchard show {batch} --run {complete[-1]}` shows what its last run left"
    return "its last run died; run it again, and it goes on where it was"


def is_published(root: Folder, receipt: RunReceipt) -> bool:
    """Whether a run is what its batch's results are."""
    pointer = read_published(root, receipt.batch)
    return pointer is not None and pointer.run == receipt.run


def _require_batch(root: Folder, batch: str) -> None:
    names = batch_names(root)
    if batch not in names:
        raise UsageError(f"{root.uri} has no batch {batch!r}; there are {_some(names) or 'none'}")


def _how_far(work: Folder) -> str:
    with suppress(ValueError, KeyError, TypeError):
        progress = json.loads(work.read_or_none(contract.PROGRESS) or b"null")
        return f" ({progress['done']:,} of {progress['images']:,} images)"
    return ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
