"""The tables of all published runs, one dataset each, read where they lie: on a disk or in S3.

Only what a batch's pointer names is read, never a glob over runs. Each row is told with the batch
and the run that it is of. Runs of different versions have different columns, and vectors of
different models different lengths: a column that a run lacks is null, and lists are of any length.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
from pyarrow import dataset, fs

from spark_job import contract
from spark_job.errors import JobError, UsageError
from spark_job.lineage import READS
from spark_job.pointers import BatchPointer, read_pointer
from spark_job.ranged import RangedFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spark_job.objects import Entry, Folder

FINDINGS_VIEW = f"{contract.FINDINGS}_"
"""How the names of tables of findings begin; the kind follows."""

_FILES = {
    contract.RECEIPT_TABLE.rpartition("/")[0]: contract.RUNS,
    contract.FEATURES: contract.FEATURES,
    contract.VECTORS: contract.VECTORS,
    contract.REJECTS: contract.REJECTS,
}
"""Tables by the folders of their files in a run's."""

_OF = [("batch", pa.string()), ("run", pa.string())]
"""Columns of each table, beside its own."""


@dataclass(frozen=True)
class PublishedRun:
    """A published run and its tables' files.

    Attributes
    ----------
    batch, run, started
        As the batch's pointer names it.
    folder
        Where it lies.
    files
        By table.
    """

    batch: str
    run: str
    started: str
    folder: Folder
    files: dict[str, list[Entry]]


@dataclass
class Tables:
    """The tables of published runs.

    Attributes
    ----------
    runs
        Whose, by batch in order.
    failures
        What went wrong while they were read, for Arrow and DuckDB pass on no more than its text.
    """

    runs: list[PublishedRun]
    failures: list[Exception] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Which there are."""
        return sorted({name for one in self.runs for name in one.files})

    def open(self, name: str) -> Any:
        """Give a table of all runs that have it, as an Arrow dataset: nothing is read but footers.

        Raises
        ------
        UsageError
            Where runs have columns of one name that do not go together.
        """
        kind = dataset.ParquetFileFormat()
        having = [one for one in self.runs if one.files.get(name)]
        fragments = [
            [self._fragment(kind, one, entry) for entry in one.files[name]] for one in having
        ]
        with ThreadPoolExecutor(READS) as pool:
            schemas = list(pool.map(lambda several: several[0].physical_schema, fragments))
        newest = sorted(zip(having, schemas, strict=True), key=lambda pair: pair[0].started)
        schema = _unified(name, [(one.batch, schema) for one, schema in reversed(newest)])
        every = [fragment for several in fragments for fragment in several]
        return dataset.FileSystemDataset(every, schema, kind, filesystem=fs.LocalFileSystem())

    def rows(self, name: str, wanted: Any = None) -> Iterator[dict[str, Any]]:
        """Read rows of a table, those for which an expression is true, a few at a time.

        Raises
        ------
        OSError, JobError
            Where they cannot be read.
        """
        try:
            for batch in self.open(name).to_batches(filter=wanted):
                yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            self.explain(error)

    def explain(self, error: Exception) -> NoReturn:
        """Raise what went wrong while the tables were read, by what Arrow or DuckDB say of it.

        Raises
        ------
        OSError
            That reading a file ended with.
        JobError
            Where a file has gone, or is damaged.
        """
        met = self.failures[0] if self.failures else error
        told = " ".join(str(met).split()).rstrip(".")
        if isinstance(met, FileNotFoundError) or "No such file" in told:
            raise JobError(f"a run was removed while it was read ({told}); ask again") from error
        if isinstance(met, OSError) and not isinstance(met, pa.ArrowException):
            raise met
        raise JobError(
            f"a table cannot be read ({told}); run its batch again with --again"
        ) from error

    def _fragment(self, kind: Any, one: PublishedRun, entry: Entry) -> Any:
        of = (dataset.field("batch") == one.batch) & (dataset.field("run") == one.run)
        if one.folder.is_local:
            path, where = f"{one.folder.uri}/{entry.name}", fs.LocalFileSystem()
            return kind.make_fragment(path, filesystem=where, partition_expression=of)
        file = pa.PythonFile(RangedFile(one.folder, entry, self.failures), mode="r")
        return kind.make_fragment(file, partition_expression=of)


def find_tables(root: Folder, batches: Sequence[str] | None = None) -> Tables:
    """Find the tables of published runs.

    Parameters
    ----------
    root
        The root of all batches.
    batches
        Whose; None for all that have a published run.

    Raises
    ------
    UsageError
        Where a pointer cannot be used.
    """
    names = (root / contract.RESULTS).folders() if batches is None else sorted(batches)

    def find(batch: str) -> PublishedRun | None:
        pointer = read_pointer(root / contract.results_folder(batch), BatchPointer)
        if pointer is None:
            return None
        return find_run(root, batch, pointer.run, pointer.started)

    with ThreadPoolExecutor(READS) as pool:
        return Tables([one for one in pool.map(find, names) if one is not None])


def find_run(root: Folder, batch: str, run: str, started: str = "") -> PublishedRun:
    """Find the tables of one run, published or not."""
    folder = root / contract.run_folder(batch, run)
    files: dict[str, list[Entry]] = {}
    for entry in sorted(folder.entries(), key=lambda entry: entry.name):
        below, _, file = entry.name.rpartition("/")
        if file.endswith(".parquet") and not file.startswith("."):
            first, _, kind = below.partition("/")
            table = f"{FINDINGS_VIEW}{kind}" if first == contract.FINDINGS else _FILES.get(below)
            if table is not None:
                files.setdefault(table, []).append(entry)
    return PublishedRun(batch, run, started, folder, files)


def _unified(table: str, schemas: Sequence[tuple[str, Any]]) -> Any:
    """Give the columns of all schemas, each with its batch's name, the first one's first."""
    plain = [(batch, pa.schema(map(_plain, schema))) for batch, schema in schemas]
    batch, unified = plain[0]
    for other, schema in plain[1:]:
        try:
            unified = pa.unify_schemas([unified, schema], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise UsageError(
                f"the tables {table} of the batches {batch!r} and {other!r} have columns that do "
                f"not go together ({error}); run the older batch again"
            ) from error
    names = dict(_OF)
    return pa.schema([*_OF, *(column for column in unified if column.name not in names)])


def _plain(column: Any) -> Any:
    """Leave the length out of a column's type, and whether it may be null."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        kind = pa.list_(kind.value_type)
    return pa.field(column.name, kind)
