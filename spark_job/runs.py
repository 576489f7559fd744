"""The life of a run: it claims a work folder, is settled from it, and is published.

Settling copies what the driver accepted into the run's own folder and writes the receipt last: from
then on the run is complete and never modified. Publication is one compare-and-swap of the batch's
pointer. Whatever dies in between leaves a folder without a receipt, or a run without a pointer, and
the next run of the batch puts it right.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from signal import SIG_IGN, SIGINT, SIGTERM, signal
from threading import Event, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from spark_job import contract
from spark_job.errors import JobError, OutputRefusedError, UsageError
from spark_job.objects import ConflictError, LocalFolder
from spark_job.receipts import RunReceipt, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")

HEARTBEAT = 15.0
"""Seconds between two signs of life of a run."""

SILENCE = 120.0
"""Seconds without one after which a run in S3 counts as dead. On a disk its lock tells."""

COPIES = 32
"""Files that are copied in S3 at a time."""


def now() -> str:
    """Tell the time in UTC, so that texts compare as times do."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Claim:
    """A run's work folder, held by this process until `release`.

    Attributes
    ----------
    output
        The root of all batches.
    batch, run
        Whose folder it is.
    work
        The folder.
    started
        When the run started, as `now` tells it.
    settled
        The run's receipt where it was settled before and only its publication is missing.
    """

    def __init__(self, output: Folder, batch: str, run: str, extractor: str) -> None:
        self.output = output
        self.batch = batch
        self.run = run
        self.work = output / contract.work_folder(batch, run)
        self.results = output / contract.run_folder(batch, run)
        self.started = now()
        self.settled: RunReceipt | None = None
        self._extractor = extractor
        self._lock, self._tag = self._take()
        self._stop = Event()
        self._lost = False
        self._thread = Thread(target=self._beat, daemon=True)

    def _take(self) -> tuple[int | None, str]:
        lock = self.work.try_lock() if isinstance(self.work, LocalFolder) else None
        found = self.work.read_tagged(contract.CLAIM)
        if isinstance(self.work, LocalFolder):
            alive = lock is None
        else:
            alive = found is not None and not _is_silent(found[0])
        try:
            if alive:
                raise ConflictError
            return lock, self._write(lock, self._content(), found and found[1])
        except ConflictError:
            if lock is not None:
                os.close(lock)
            raise OutputRefusedError(
                f"run {self.run!r} of batch {self.batch!r} is at work{_by_whom(found)}; wait for "
                "its end, or choose another --run"
            ) from None

    def _write(self, lock: int | None, content: bytes, expected: str | None) -> str:
        if lock is None:
            return self.work.swap(contract.CLAIM, content, expected)
        self.work.write(contract.CLAIM, content)  # nobody else does: the folder is locked
        return ""

    def keep_alive(self) -> None:
        """Begin to give signs of life."""
        self._thread.start()

    def require(self) -> None:
        """Fail where another process has taken the run over, since this one was silent too long."""
        if self._lost:
            raise JobError(
                f"run {self.run!r} of batch {self.batch!r} gave no sign of life for "
                f"{SILENCE:.0f} s, and another process took it over; nothing was published"
            )

    def release(self) -> None:
        """Give the folder back, with all that is in it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        else:
            with suppress(OSError, ConflictError):
                if self.work.read_or_none(contract.CLAIM) is not None:
                    self.work.swap(contract.CLAIM, self._content(ended=True), self._tag)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            try:
                self._tag = self._write(self._lock, self._content(), self._tag)
            except ConflictError:
                found = self.work.read_tagged(contract.CLAIM)
                if found is not None and json.loads(found[0]).get("started") == self.started:
                    self._tag = found[1]  # a repeated request lost to itself
                    continue
                self._lost = True
                return
            except OSError as error:
                LOGGER.warning("no sign of life could be written: %s", error)

    def _content(self, *, ended: bool = False) -> bytes:
        return to_json(
            {
                "contract": contract.CONTRACT,
                "batch": self.batch,
                "run": self.run,
                "extractor": self._extractor,
                "user": _user(),
                "host": socket.gethostname(),
                "process": os.getpid(),
                "started": self.started,
                "heartbeat": now(),
                "ended": ended,
            }
        )


def claim_run(output: Folder, batch: str, run: str, images_uri: str, extractor: str) -> Claim:
    """Claim the work folder of a new run.

    Of a run of this name that was settled, and died before it was published, the claim has the
    receipt; what any other attempt left is removed.

    Raises
    ------
    UsageError
        Where the run is finished or at work, the batch's name belongs to other images, the results
        are of another contract, or nothing can be written.
    """
    try:
        _require_contract(output)
        pointer = read_pointer(output, batch)
        if pointer is not None and pointer["images"] != images_uri:
            raise UsageError(
                f"{output.uri} already holds a batch {batch!r}, made from {pointer['images']} "
                f"and not from {images_uri}; choose another --batch or --output"
            )
        content = (output / contract.run_folder(batch, run)).read_or_none(contract.RUN)
        settled = None if content is None else RunReceipt.from_json(content)
        if settled is not None:
            _require_unpublished(settled, pointer, images_uri)
        claim = Claim(output, batch, run, extractor)
        claim.settled = settled
        if settled is None:
            _clear(claim.work)
            claim.results.clear()
        claim.keep_alive()
    except OSError as error:
        raise OutputRefusedError(
            f"cannot write to {output.uri}: {error}; check --output"
        ) from error
    return claim


def read_pointer(output: Folder, batch: str) -> dict[str, Any] | None:
    """Read which run of a batch is published; None where none is.

    Raises
    ------
    UsageError
        Where the pointer is damaged or of another contract.
    """
    where = output / contract.results_folder(batch)
    found = where.read_or_none(contract.CURRENT)
    if found is None:
        return None
    return parse_pointer(found, f"{where.uri}/{contract.CURRENT}", "--batch")


def parse_pointer(content: bytes, where: str, option: str) -> dict[str, Any]:
    """Read a pointer's content.

    Raises
    ------
    UsageError
        Where it is damaged or of another contract.
    """
    try:
        pointer: dict[str, Any] = json.loads(content)
        found = pointer.get("contract")
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"{where} is damaged ({error}); restore it, or choose another {option} or --output"
        ) from error
    if found != contract.CONTRACT:
        raise UsageError(
            f"{where} is of {'an earlier layout' if found is None else f'contract {found}'}, and "
            f"this Orchard writes contract {contract.CONTRACT}: choose another --output"
        )
    return pointer


def copy_files(claim: Claim, files: list[tuple[str, str]]) -> None:
    """Copy accepted files into the run's folder, in S3 on the server's side.

    Parameters
    ----------
    claim
        Of the run.
    files
        Names in the work folder, and in the run's.
    """
    claim.require()
    if claim.output.is_local:
        for name, target in files:
            claim.work.copy(name, claim.results, target)
        return
    with ThreadPoolExecutor(COPIES) as pool:
        for _ in pool.map(lambda pair: claim.work.copy(pair[0], claim.results, pair[1]), files):
            pass


def settle(claim: Claim, receipt: RunReceipt) -> None:
    """Write a run's receipt, when all else is in its folder: it is complete from then on."""
    claim.require()
    try:
        claim.results.swap(contract.RUN, receipt.to_json(), None)
    except ConflictError:
        if claim.results.read_or_none(contract.RUN) != receipt.to_json():
            raise JobError(
                f"{claim.results.uri} was settled by another process; choose another --run"
            ) from None


@dataclass(frozen=True)
class Publication:
    """How a publication ended: by which run the batch's results are now."""

    current: str
    started: str


def publish(output: Folder, receipt: RunReceipt) -> Publication:
    """Point a batch at a settled run, unless one that started later is published already.

    The model's pointer first, the batch's last.
    """
    ours = {
        "contract": contract.CONTRACT,
        "run": receipt.run,
        "images": receipt.images,
        "started": receipt.started,
        "finished": receipt.finished,
    }
    with _uninterrupted():
        if not receipt.model.reused:
            model = {
                "contract": contract.CONTRACT,
                "model": receipt.model.model,
                "batch": receipt.batch,
                "run": receipt.run,
                "started": receipt.started,
            }
            _point(output / contract.models_folder(receipt.extractor), model)
        won = _point(output / contract.results_folder(receipt.batch), ours)
    return Publication(won["run"], won["started"])


def clean_up(claim: Claim) -> None:
    """Remove this run's work folder, and those that dead runs of the batch left."""
    claim.work.clear()
    batch = claim.output / f"{contract.WORK}/{claim.batch}"
    for run in batch.folders():
        if run == claim.run:
            continue
        work = batch / run
        lock = None
        if isinstance(work, LocalFolder):
            lock = work.try_lock()
            if lock is None:
                continue
        try:
            found = work.read_or_none(contract.CLAIM)
            if found is not None and lock is None and not _is_silent(found):
                continue
            if found is None or json.loads(found).get("extractor") == claim._extractor:
                results = claim.output / contract.run_folder(claim.batch, run)
                if results.read_or_none(contract.RUN) is None:
                    results.clear()  # it died while it was being settled
                work.clear()
        finally:
            if lock is not None:
                os.close(lock)
    if isinstance(batch, LocalFolder):
        batch.remove_if_empty()


def record_failure(output: Folder, batch: str, run: str, failure: dict[str, Any]) -> None:
    """Leave in the work folder why a run published nothing."""
    (output / contract.work_folder(batch, run)).write(contract.FAILURE, to_json(failure))


def is_settled(output: Folder, batch: str, run: str) -> bool:
    """Whether a run is complete."""
    return (output / contract.run_folder(batch, run)).read_or_none(contract.RUN) is not None


def _point(folder: Folder, ours: dict[str, Any]) -> dict[str, Any]:
    """Write a pointer unless it is a later run's; the pointer that is there in the end."""
    while True:
        found = folder.read_tagged(contract.CURRENT)
        theirs = None
        if found is not None:
            theirs = parse_pointer(found[0], f"{folder.uri}/{contract.CURRENT}", "--batch")
            # Also where this run's own request was repeated and lost to itself.
            if (theirs["started"], theirs["run"]) >= (ours["started"], ours["run"]):
                return theirs
        if "model" in ours:
            ours = ours | {"generation": theirs["generation"] + 1 if theirs else 1}
        try:
            folder.swap(contract.CURRENT, to_json(ours), found and found[1])
        except ConflictError:
            continue
        return ours


def _require_contract(output: Folder) -> None:
    """Refuse an output of the former layout, in which models lay beside each other."""
    models = output / contract.MODELS
    if contract.CURRENT in models.files():
        raise UsageError(
            f"{models.uri} is of an earlier layout, and this Orchard writes contract "
            f"{contract.CONTRACT}: choose another --output"
        )


def _require_unpublished(
    settled: RunReceipt, pointer: dict[str, Any] | None, images_uri: str
) -> None:
    """Refuse a finished run, unless it died between its settling and its publication."""
    published = pointer is not None and (pointer["started"], pointer["run"]) >= (
        settled.started,
        settled.run,
    )
    if published or settled.images != images_uri:
        raise UsageError(f"{settled.results} holds a finished run; choose another --run")


def _clear(work: Folder) -> None:
    """Remove what an earlier attempt left in a work folder, but for the claim on it."""
    for name in work.folders():
        (work / name).clear()
    work.delete(name for name in work.files() if name != contract.CLAIM)


def _is_silent(content: bytes) -> bool:
    try:
        claim = json.loads(content)
        since = datetime.now(UTC) - datetime.fromisoformat(claim["heartbeat"])
    except (ValueError, KeyError, TypeError):
        return True
    return bool(claim.get("ended")) or since.total_seconds() > SILENCE


def _by_whom(found: tuple[bytes, str] | None) -> str:
    try:
        claim = json.loads(found[0]) if found else {}
        return (
            f" (process {claim['process']} of {claim['user']} on {claim['host']}, since "
            f"{claim['started']}, last heard of at {claim['heartbeat']})"
        )
    except (ValueError, KeyError):
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM for two small writes that belong together."""
    if current_thread() is not main_thread():
        yield
        return
    former = {number: signal(number, SIG_IGN) for number in (SIGINT, SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal(number, handler)
