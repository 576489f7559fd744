"""Whose a run's work folder is: a lock on a disk, signs of life in S3.

In S3 a holder that is silent for `SILENCE` counts as dead. Both clocks are compared, so that they
must agree to within a minute, as S3 itself demands of who signs requests to within 15.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from spark_job import contract
from spark_job.errors import JobError, OutputRefusedError, UnavailableError
from spark_job.objects import ConflictError, LocalFolder
from spark_job.receipts import to_json

if TYPE_CHECKING:
    from spark_job.objects import Folder
    from spark_job.receipts import RunReceipt

LOGGER = logging.getLogger("orchard")

HEARTBEAT = 15.0
"""Seconds between two signs of life of a run."""

SILENCE = 120.0
"""Seconds without one after which a run in S3 counts as dead. On a disk its lock tells."""

LOCK_TRIES = 5
"""Times, a tenth of a second apart, that a lock is asked for: who cleans up holds it shortly."""


def now() -> str:
    """Tell the time in UTC, so that texts compare as times do."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class ClaimRecord:
    """``claim.json``: who works in a folder, since when, and when they last said so."""

    batch: str
    run: str
    extractor: str
    user: str
    host: str
    process: int
    started: str
    heartbeat: str
    ended: bool = False
    contract: int = contract.CONTRACT

    @property
    def is_silent(self) -> bool:
        """Whether its holder gave the folder back, or counts as dead in S3."""
        silence = datetime.now(UTC) - datetime.fromisoformat(self.heartbeat)
        return self.ended or silence.total_seconds() > SILENCE

    @property
    def holder(self) -> str:
        """Who it is, for a person."""
        return (
            f"process {self.process} of {self.user} on {self.host}, since {self.started}, last "
            f"heard of at {self.heartbeat}"
        )


def parse_claim(content: bytes | None) -> ClaimRecord | None:
    """Read a claim; None where there is none, or none that can be read."""
    try:
        found = json.loads(content or b"")
        record = ClaimRecord(**{field.name: found[field.name] for field in fields(ClaimRecord)})
        datetime.fromisoformat(record.heartbeat)
    except (ValueError, KeyError, TypeError):
        return None
    return record


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
    results
        The folder in which the run is settled.
    extractor
        That the run's features are of.
    started
        When the run started, as `now` tells it.
    settled
        The run's receipt where it was settled before and only its publication is missing.
    """

    def __init__(self, output: Folder, batch: str, run: str, extractor: str) -> None:
        self.output = output
        self.batch = batch
        self.run = run
        self.extractor = extractor
        self.work = output / contract.work_folder(batch, run)
        self.results = output / contract.run_folder(batch, run)
        self.started = now()
        self.settled: RunReceipt | None = None
        self._beating = Lock()
        self._tag = ""
        self._lock = self._take()
        self._last_heartbeat = monotonic()
        self._lost = False
        self._stop = Event()
        self._thread = Thread(target=self._beat_on, daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Give a sign of life, and fail where another process has taken the run over."""
        self._write_heartbeat()
        if self._lost:
            raise JobError(
                f"run {self.run!r} of batch {self.batch!r} gave no sign of life for "
                f"{SILENCE:.0f} s, and another process took it over; nothing was published"
            )
        if self._lock is None and monotonic() - self._last_heartbeat > SILENCE:
            raise UnavailableError(
                f"run {self.run!r} of batch {self.batch!r} could give no sign of life for "
                f"{SILENCE:.0f} s, for S3 was busy or out of reach, and another process may take "
                "it over; nothing was published. Wait a while, and run it again"
            )

    def stop_beating(self) -> None:
        """Give no further sign of life: what is left to do is short."""
        self._stop.set()
        self._thread.join()

    def release(self) -> None:
        """Give the folder back, with all that is in it."""
        self.stop_beating()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            return
        with suppress(OSError, ConflictError):
            if self.work.read_or_none(contract.CLAIM) is not None:
                self.work.swap(contract.CLAIM, self._content(ended=True), self._tag)

    def _take(self) -> int | None:
        """Take the folder; its lock where it is on a disk."""
        if isinstance(self.work, LocalFolder):
            for _ in range(LOCK_TRIES):
                lock = self.work.try_lock()
                if lock is not None:
                    # Written without asking: nobody else does while the folder is locked.
                    self.work.write(contract.CLAIM, self._content())
                    return lock
                sleep(0.1)
            raise self._refusal(parse_claim(self.work.read_or_none(contract.CLAIM)))
        found = self.work.read_tagged(contract.CLAIM)
        record = parse_claim(found and found[0])
        if record is not None and not record.is_silent:
            raise self._refusal(record)
        try:
            self._tag = self.work.swap(contract.CLAIM, self._content(), found and found[1])
        except ConflictError:
            raise self._refusal(parse_claim(self.work.read_or_none(contract.CLAIM))) from None
        return None

    def _refusal(self, record: ClaimRecord | None) -> OutputRefusedError:
        return OutputRefusedError(
            f"run {self.run!r} of batch {self.batch!r} is at work"
            f"{f' ({record.holder})' if record else ''}; wait for its end, or choose another --run"
        )

    def _beat_on(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            self._write_heartbeat()

    def _write_heartbeat(self) -> None:
        """Write a sign of life, or find that the folder is another's by now."""
        with self._beating:
            try:
                if self._lock is not None:
                    self.work.write(contract.CLAIM, self._content())
                else:
                    self._tag = self.work.swap(contract.CLAIM, self._content(), self._tag)
                self._last_heartbeat = monotonic()
            except ConflictError:
                self._lost = True
            except OSError as error:
                LOGGER.warning("no sign of life could be written: %s", error)

    def _content(self, *, ended: bool = False) -> bytes:
        record = ClaimRecord(
            batch=self.batch,
            run=self.run,
            extractor=self.extractor,
            user=_user(),
            host=socket.gethostname(),
            process=os.getpid(),
            started=self.started,
            heartbeat=now(),
            ended=ended,
        )
        return to_json(asdict(record))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
