"""What a report is made of: the stored results of one run, and no more of them than it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from spark_job import contract, tables
from spark_job.corrections import read_kept
from spark_job.errors import UsageError
from spark_job.models import ModelCard, read_card
from spark_job.ranged import RangedFile
from spark_job.receipts import RunReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from spark_job.corrections import Corrections
    from spark_job.objects import Folder

MAPPED = 25_000
"""Most images on the map, spread evenly over the batch."""

MAP_BYTES = 800_000_000
"""Of vectors that are read for it: from everywhere in the batch, in row groups."""

MAP_GROUPS = 512
"""Most row groups that are read; a file has them as parts, or pieces of it, were written."""

AXES = 8
"""Components that the map can show."""

REJECTS = 2_000
"""Most rows of the table of rejects that are read."""


@dataclass(frozen=True)
class MapPoints:
    """Images on the map.

    Attributes
    ----------
    path, label
        [n], strings; a label may be None.
    vector
        [n, a], their first components.
    places
        Where in the batch, in the order of paths, they were taken from, of a batch too large to be
        read; None where that was everywhere.
    """

    path: list[str]
    label: list[str | None]
    vector: NDArray[np.float32]
    places: int | None = None

    def spread(self, number: int) -> MapPoints:
        """Take no more than so many of them, evenly."""
        kept = spread_over(len(self.path), number)
        paths, labels = ([some[at] for at in kept] for some in (self.path, self.label))
        return replace(self, path=paths, label=labels, vector=self.vector[kept])


@dataclass(frozen=True)
class Results:
    """What a report shows of a run.

    Attributes
    ----------
    receipt
        The run's.
    model
        The card of the model that its vectors are of; None where it is gone.
    shares
        [d], of the variance, per component.
    rejects
        Rows of their table, the first ones of each file.
    findings
        Rows of the findings' tables by their names, but for the neighbours; empty where none were
        asked for.
    points
        For the map.
    corrections
        That the run was made with; None where there were none, or it did not keep them.
    """

    receipt: RunReceipt
    model: ModelCard | None
    shares: NDArray[np.float64]
    rejects: list[dict[str, Any]]
    findings: dict[str, list[dict[str, Any]]]
    points: MapPoints
    corrections: Corrections | None = None


def read_results(output: Folder, batch: str, run: str) -> Results:
    """Read what a report shows of a settled run.

    Raises
    ------
    UsageError
        Where its receipt cannot be used, or it has no vectors.
    FileNotFoundError
        Where there is no such run.
    """
    folder = output / contract.run_folder(batch, run)
    receipt = RunReceipt.from_json(folder.read(contract.RUN), folder.uri)
    return Results(
        receipt=receipt,
        model=read_card(output, receipt.extractor, receipt.model.model),
        shares=_shares(folder),
        rejects=list(_rejects(folder / contract.REJECTS)),
        findings=_findings(folder / contract.FINDINGS),
        points=_points(folder / contract.VECTORS),
        corrections=read_kept(folder),
    )


def _shares(folder: Folder) -> NDArray[np.float64]:
    content = folder.read_or_none(contract.VARIANCE_FILE)
    if content is None:
        return np.zeros(0)
    shares: NDArray[np.float64] = csv.read_csv(pa.BufferReader(content))["share"].to_numpy()
    return shares


def _rejects(folder: Folder) -> Iterator[dict[str, Any]]:
    read = 0
    for name in folder.files():
        table = tables.read_table(folder, name).slice(0, REJECTS - read)
        yield from table.to_pylist()
        read += len(table)
        if read == REJECTS:
            return


def _findings(folder: Folder) -> dict[str, list[dict[str, Any]]]:
    """Read the tables; each is one file, and bounded, but for the neighbours."""
    found = {}
    for kind in folder.folders():
        if kind != "neighbours":
            rows: list[dict[str, Any]] = []
            for name in (folder / kind).files():
                rows += tables.read_table(folder / kind, name).to_pylist()
            found[kind] = rows
    return found


def _points(folder: Folder) -> MapPoints:
    """Read the first components of images that are spread evenly over the batch."""
    entries = sorted(folder.entries(), key=lambda entry: entry.name)
    if not entries:
        raise UsageError(f"{folder.uri} has no files; restore them, or run the batch again")
    files = [parquet.ParquetFile(RangedFile(folder, entry), pre_buffer=True) for entry in entries]
    groups = [
        (file, number, file.metadata.row_group(number))
        for file in files
        for number in range(file.num_row_groups)
    ]
    size = sum(group.total_byte_size for *_, group in groups)
    most = max(1, min(MAP_GROUPS, len(groups) * MAP_BYTES // max(1, size)))
    chosen = [groups[at] for at in spread_over(len(groups), most)]
    rows = sum(group.num_rows for *_, group in chosen)
    kept = spread_over(rows, MAPPED)
    paths: list[str] = []
    labels: list[str | None] = []
    vectors = []
    before = 0
    for file, number, group in chosen:
        here = kept[(kept >= before) & (kept < before + group.num_rows)] - before
        before += group.num_rows
        table = file.read_row_group(number, columns=["path", "label", "vector"])
        table = table.take(pa.array(here))
        paths += table["path"].to_pylist()
        labels += table["label"].to_pylist()
        vectors.append(tables.as_matrix(table["vector"])[:, :AXES])
    places = len(chosen) if len(chosen) < len(groups) else None
    return MapPoints(paths, labels, np.concatenate(vectors), places)


def spread_over(rows: int, number: int) -> NDArray[np.int64]:
    """Choose no more than so many of some rows, evenly."""
    some = min(rows, number)
    chosen: NDArray[np.int64] = np.arange(some) * rows // max(1, some)
    return chosen
