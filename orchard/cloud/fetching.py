"""Bringing a batch's run here: its tables, its report and its model, checked, under a root.

What is fetched lies as it lay, so that every command looks at it with `--output`. The batch's
pointer is written last: before that no command takes the run for whole. Features are held against
the digest that the run's receipt has of them, and rows against its counts; a file that is here
already, of the same size and content, is not fetched again. Where its ETag does not tell the
content, as where a key of KMS encrypts it, it is, and compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

from orchard.cloud import etags
from orchard.cloud.moving import File, Moved, move
from orchard.collection import find_receipt
from spark_job import contract
from spark_job.errors import JobError, UnavailableError, UsageError
from spark_job.objects import BusyError, ExpiredError
from spark_job.parts import features_digest
from spark_job.pointers import BatchPointer, ModelPointer, point, read_pointer
from spark_job.receipts import EMPTY_DIGEST, add_digests
from spark_job.tables import as_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spark_job.objects import Entry, Folder
    from spark_job.receipts import RunReceipt

ROWS = 10_000
"""Rows of features in memory at a time."""


@dataclass(frozen=True)
class Fetched:
    """A run that is here.

    Attributes
    ----------
    receipt
        The run's own.
    files, moved
        How many it has, and what was moved of them.
    published
        The run of the batch that commands look at here from now on; None where there is none.
    """

    receipt: RunReceipt
    files: int
    moved: Moved
    published: str | None


def fetch(root: Folder, batch: str, to: Folder, run: str | None = None) -> Fetched:
    """Fetch a run of a batch.

    Parameters
    ----------
    root
        The root of all batches, there.
    batch
        Whose.
    to
        The root here.
    run
        Another run than the published one.

    Raises
    ------
    UsageError
        Where there is no such run, or `to` is not here.
    JobError
        Where what came is not what the run's receipt says.
    UnavailableError
        Where the store is busy or out of reach: the rest can be fetched later.
    """
    if not to.is_local:
        raise UsageError(f"{to.uri} is in S3; DIR is a folder of this machine")
    moved = Moved()
    try:
        receipt = find_receipt(root, batch, run)
        results = contract.run_folder(batch, receipt.run)
        models = contract.models_folder(receipt.extractor)
        entries = {
            f"{place}/{one.name}": one
            for place in (results, f"{models}/{receipt.model.model}")
            for one in (root / place).entries()
        }
        files = [File(name, one.bytes or 0) for name, one in entries.items()]
        # The receipt is the last file of a run, here too: after all others, whichever come last.
        last = f"{results}/{contract.RUN}"
        bring = _Bringer(root, to, entries)
        move([one for one in files if one.name != last], bring, doing="fetch", moved=moved)
        for file in files:
            if file.name == last:
                moved.count(file, had_to=bring(file))
        _check(to / results, receipt)
        published = _publish(root, to, receipt)
    except BusyError as error:
        if isinstance(error, ExpiredError):
            told, remedy = "the AWS credentials expired", "sign in (aws sso login)"
        else:
            told, remedy = "S3 is busy or out of reach", "check the network"
        raise UnavailableError(
            f"{told} ({error}); {moved.done:,} files are here: {remedy}, and the same command goes "
            "on where it was"
        ) from error
    return Fetched(receipt, len(files), moved, published)


class _Bringer:
    """Fetches a file, unless it is here."""

    def __init__(self, root: Folder, to: Folder, entries: Mapping[str, Entry]) -> None:
        self._root = root
        self._to = to
        self._entries = entries
        self._etags_tell = True

    def __call__(self, file: File) -> bool:
        """Say whether it had to be fetched."""
        etag = self._entries[file.name].version
        path = Path(self._to.uri, file.name)
        here = None
        if path.is_file() and path.stat().st_size == file.bytes:
            here = path.read_bytes()
            if etags.is_of(here, etag):
                return False
        content = self._root.read(file.name)
        if self._etags_tell and etags.may_be_md5(etag) and not etags.is_of(content, etag):
            again = here if here == content else self._root.read(file.name)
            if content == again:
                # A key of KMS makes of an ETag what nobody can compute.
                self._etags_tell = False
            elif not etags.is_of(again, etag):
                raise JobError(f"{file.name} came damaged, twice; fetch it again")
            content = again
        if content == here:
            return False
        self._to.write(file.name, content)
        return True


def _check(folder: Folder, receipt: RunReceipt) -> None:
    """Hold the tables of a run against its receipt."""
    counts = receipt.counts
    expected = {
        contract.FEATURES: counts.featurized,
        contract.VECTORS: counts.featurized,
        contract.REJECTS: counts.rejected + counts.unsupported,
    }
    for table, rows in expected.items():
        found = sum(parquet.read_metadata(path).num_rows for path in _files(folder, table))
        if found != rows:
            raise JobError(
                f"{folder.uri}/{table} has {found:,} rows, and the run's receipt says {rows:,}; "
                "remove it, and fetch it again"
            )
    if _digest(folder) != receipt.digests.features:
        raise JobError(
            f"the features in {folder.uri} are not those that the run's receipt has the digest of; "
            "remove them, and fetch them again"
        )


def _digest(folder: Folder) -> str:
    """Digest the features of a run as its receipt does."""
    digests = [EMPTY_DIGEST]
    for path in _files(folder, contract.FEATURES):
        with parquet.ParquetFile(path) as file:
            for rows in file.iter_batches(ROWS, columns=["path", "features"]):
                matrix = as_matrix(pa.chunked_array([rows["features"]]))
                digests.append(features_digest(rows["path"].to_pylist(), matrix))
    return add_digests(digests)


def _files(folder: Folder, table: str) -> Iterator[str]:
    below = folder / table
    return (f"{below.uri}/{name}" for name in below.files() if name.endswith(".parquet"))


def _publish(root: Folder, to: Folder, receipt: RunReceipt) -> str | None:
    """Point at the run here, if it is the published one there; the run that is pointed at."""
    results, models = (
        contract.results_folder(receipt.batch),
        contract.models_folder(receipt.extractor),
    )
    theirs = read_pointer(root / results, BatchPointer)
    if theirs is None or theirs.run != receipt.run:
        ours = read_pointer(to / results, BatchPointer)
        return None if ours is None else ours.run
    model = (root / models).read_or_none(contract.CURRENT)
    if model is not None and read_pointer(to / models, ModelPointer) is None:
        (to / models).write(contract.CURRENT, model)
    # Of two runs the later started one is the batch's: a run that was made here may be.
    return point(to / results, theirs).run
