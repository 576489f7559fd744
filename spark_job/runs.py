"""The life of a run: it claims a work folder, is settled from it, and is published.

Settling copies what the driver accepted into the run's own folder and writes the receipt last: from
then on the run is complete and never modified. Publication is one compare-and-swap of the batch's
pointer. A process that dies in between leaves a folder without a receipt, or a run without a
pointer, and the next run of the batch puts it right.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum, auto
from signal import SIG_IGN, SIGINT, SIGTERM, signal
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

from spark_job import contract
from spark_job.claims import Claim, parse_claim
from spark_job.errors import JobError, OutputRefusedError, UsageError
from spark_job.objects import BusyError, ConflictError, LocalFolder
from spark_job.pointers import BatchPointer, point, read_pointer
from spark_job.receipts import RunReceipt, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.objects import Folder
    from spark_job.receipts import Failure

LOGGER = logging.getLogger("orchard")

COPIES = 32
"""Files that are copied in S3, or small ones that are read, at a time."""


def claim_run(output: Folder, batch: str, run: str, images_uri: str, extractor: str) -> Claim:
    """Claim the work folder of a new run.

    Of a run of this name that was settled, and died before it was published, the claim has the
    receipt; of what any other attempt left, the finished parts stay.

    Raises
    ------
    UsageError
        Where the run is finished or at work, the batch's name belongs to other images, the results
        are of another contract, or nothing can be written.
    """
    try:
        _check_unfinished(output, batch, run, images_uri)  # before anything is written
        claim = Claim(output, batch, run, extractor)
        try:
            # Again: another process may have ended this very run meanwhile.
            claim.settled = _check_unfinished(output, batch, run, images_uri)
            if claim.settled is None:
                _clear(claim.work)
                claim.results.clear()
        except BaseException:
            claim.release()
            raise
    except BusyError:
        raise
    except OSError as error:
        raise OutputRefusedError(
            f"cannot write to {output.uri}: {error}; check --output"
        ) from error
    return claim


def read_published(output: Folder, batch: str) -> BatchPointer | None:
    """Read which run of a batch is published; None where none is.

    Raises
    ------
    UsageError
        Where the pointer is damaged or of another contract.
    """
    return read_pointer(output / contract.results_folder(batch), BatchPointer)


def read_settled(output: Folder, batch: str) -> list[RunReceipt]:
    """Read the receipts of a batch's complete runs, the latest started first.

    Those that are damaged, or of another contract, are passed over.
    """
    folder = output / f"{contract.results_folder(batch)}/{contract.RUNS}"

    def read(run: str) -> RunReceipt | None:
        content = (folder / run).read_or_none(contract.RUN)
        try:
            return None if content is None else RunReceipt.from_json(content, f"{folder.uri}/{run}")
        except UsageError:
            return None

    with ThreadPoolExecutor(COPIES) as pool:
        found = [one for one in pool.map(read, folder.folders()) if one is not None]
    return sorted(found, key=lambda one: (one.started, one.run), reverse=True)


def copy_files(claim: Claim, files: list[tuple[str, str]], source: Folder | None = None) -> None:
    """Copy accepted files into the run's folder, in S3 on the server's side.

    Parameters
    ----------
    claim
        Of the run.
    files
        Names in the source, and in the run's folder.
    source
        Where they are; None for the work folder.
    """
    claim.require()
    source = source or claim.work
    if claim.output.is_local:
        for name, target in files:
            source.copy(name, claim.results, target)
        return
    with ThreadPoolExecutor(COPIES) as pool:
        for _ in pool.map(lambda pair: source.copy(pair[0], claim.results, pair[1]), files):
            pass


def require_complete(claim: Claim, files: list[tuple[str, str]]) -> None:
    """Fail where files that `copy_files` took are not in the run's folder.

    Raises
    ------
    JobError
        Where files have gone, or another process has taken the run over.
    """
    claim.require()
    missing = {target for _, target in files} - {entry.name for entry in claim.results.entries()}
    if missing:
        raise JobError(
            f"{len(missing)} files of {claim.results.uri} have gone ({min(missing)}); nothing was "
            "published: run it again"
        )


def settle(claim: Claim, receipt: RunReceipt) -> None:
    """Write a run's receipt, when all else is in its folder: it is complete from then on.

    Raises
    ------
    JobError
        Where another process has taken the run over.
    """
    claim.require()
    try:
        claim.results.swap(contract.RUN, receipt.to_json(), None)
    except ConflictError:
        if claim.results.read_or_none(contract.RUN) != receipt.to_json():
            raise JobError(
                f"{claim.results.uri} was settled by another process; choose another --run"
            ) from None


def publish(output: Folder, receipt: RunReceipt) -> BatchPointer:
    """Point a batch at a settled run, unless one that started later is published already.

    Returns
    -------
    BatchPointer
        Which run the batch's results are now.
    """
    ours = BatchPointer(receipt.run, receipt.images, receipt.started, receipt.finished)
    return point(output / contract.results_folder(receipt.batch), ours)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM for a few small writes that belong together."""
    if current_thread() is not main_thread():
        yield
        return
    former = {number: signal(number, SIG_IGN) for number in (SIGINT, SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal(number, handler)


def clean_up(claim: Claim) -> None:
    """Remove this run's work folder, and those that dead runs of the batch left.

    Only those of the same extractor go: what another one computed is not replaced by this run.
    """
    claim.stop_beating()
    claim.work.clear()
    batch = claim.output / f"{contract.WORK}/{claim.batch}"
    for run in batch.folders():
        if run != claim.run:
            try:
                _clean_after(claim, run, batch / run)
            except OSError as error:
                LOGGER.warning("%s/%s could not be removed: %s", batch.uri, run, error)
    if isinstance(batch, LocalFolder):
        batch.remove_if_empty()


def record_failure(output: Folder, batch: str, run: str, failure: Failure) -> None:
    """Leave in the work folder why a run published nothing, unless another process works there."""
    work = output / contract.work_folder(batch, run)
    with locked_unless_alive(work) as ours:
        if ours:
            work.write(contract.FAILURE, to_json(failure.__dict__))


class State(Enum):
    """How far a run came."""

    UNSETTLED = auto()
    SETTLED = auto()
    PUBLISHED = auto()


def state_of(output: Folder, batch: str, run: str) -> State:
    """Look up how far a run came."""
    pointer = read_published(output, batch)
    if pointer is not None and pointer.run == run:
        return State.PUBLISHED
    settled = (output / contract.run_folder(batch, run)).read_or_none(contract.RUN) is not None
    return State.SETTLED if settled else State.UNSETTLED


def _check_unfinished(output: Folder, batch: str, run: str, images_uri: str) -> RunReceipt | None:
    """Refuse what is finished or another's; the receipt of a run that only lacks publication."""
    models = output / contract.MODELS
    if contract.CURRENT in models.files():  # no extractor had a folder of its own
        raise UsageError(
            f"{models.uri} is of an earlier layout, and this Orchard writes contract "
            f"{contract.CONTRACT}: choose another --output"
        )
    pointer = read_published(output, batch)
    if pointer is not None and pointer.images != images_uri:
        raise UsageError(
            f"{output.uri} already holds a batch {batch!r}, made from {pointer.images} "
            f"and not from {images_uri}; choose another --batch or --output"
        )
    results = output / contract.run_folder(batch, run)
    content = results.read_or_none(contract.RUN)
    if content is None:
        return None
    settled = RunReceipt.from_json(content, results.uri)
    published = pointer is not None and (pointer.started, pointer.run) >= (
        settled.started,
        settled.run,
    )
    if published or settled.images != images_uri:
        raise UsageError(f"{results.uri} holds a finished run; choose another --run")
    return settled


def _clear(work: Folder) -> None:
    """Remove what an earlier attempt left in a work folder, but for the claim and finished parts.

    The next attempt takes from those what is still true; see `spark_job.known`.
    """
    for name in work.folders():
        if name not in (contract.PARTS, contract.FEATURES, contract.REJECTS):
            (work / name).clear()
    work.delete(name for name in work.files() if name != contract.CLAIM)


def _clean_after(claim: Claim, run: str, work: Folder) -> None:
    with locked_unless_alive(work) as ours:
        record = parse_claim(work.read_or_none(contract.CLAIM))
        if not ours or (record is not None and record.extractor not in ("", claim.extractor)):
            return
        results = claim.output / contract.run_folder(claim.batch, run)
        if results.read_or_none(contract.RUN) is None:
            results.clear()  # it died while it was being settled
        work.clear()


@contextmanager
def locked_unless_alive(work: Folder) -> Iterator[bool]:
    """Say whether no living process works in a folder; on a disk nobody begins to meanwhile."""
    if not isinstance(work, LocalFolder):
        record = parse_claim(work.read_or_none(contract.CLAIM))
        yield record is None or record.is_silent
        return
    lock = work.try_lock()
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)
