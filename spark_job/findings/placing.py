"""The first pass: every image gets a point, and its row goes to the cells that it belongs to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from spark_job import contract, tables
from spark_job.findings.labels import LabelSums
from spark_job.findings.members import deal, members_schema
from spark_job.findings.neighbours import KEPT
from spark_job.findings.streams import write_streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.engines import Attempt
    from spark_job.findings.space import SearchSpace
    from spark_job.objects import Folder

PLACES = "places"
"""Folder below the work folder with the rows of each group of files, cell by cell."""

COLUMNS = ["path", "label", "bytes", "sha256", "phash", "chroma", "width", "height", "features"]


@dataclass(frozen=True)
class Source:
    """A file of the features table, its rows, and the number of its first row in the batch."""

    name: str
    rows: int
    first: int


@dataclass(frozen=True)
class SamplePass:
    """Points of images spread evenly over some files.

    Attributes
    ----------
    work
        The run's work folder.
    space
        In which the points lie.
    files
        Which files.
    most
        Images of each.
    """

    work: Folder
    space: SearchSpace
    files: list[Source]
    most: int

    def __call__(
        self, number: int, _attempt: Attempt
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows [n] and points [n, m] of images of file number `number` of those."""
        source = self.files[number]
        file = f"{contract.FEATURES}/{source.name}"
        features = tables.as_matrix(tables.read_table(self.work, file, ["features"])["features"])
        chosen = np.unique(np.linspace(0, len(features) - 1, min(self.most, len(features))))
        rows = chosen.astype(np.int64)
        points, _ = self.space.place(features[rows])
        return source.first + rows, points


@dataclass(frozen=True)
class Queries:
    """Images of which all neighbours are looked for, to find how many a cell misses.

    Attributes
    ----------
    row
        [q], numbers of the images in the batch.
    point
        [q, m].
    """

    row: NDArray[np.int64]
    point: NDArray[np.float32]


@dataclass(frozen=True)
class Placed:
    """What became of a group of files.

    Attributes
    ----------
    file
        Where its rows lie.
    start
        [cells + 1], where those of each cell begin in the file.
    members
        [cells], how many there are of each.
    labels
        Name of the file with the sums of its labels.
    near
        [q, 10], squared distances of the queries' nearest images of this group; infinite where
        there are fewer.
    """

    file: str
    start: list[int]
    members: list[int]
    labels: str
    near: NDArray[np.float32]


@dataclass(frozen=True)
class PlacingPass:
    """Deals the images of each group of features files out to cells.

    Attributes
    ----------
    work
        The run's work folder.
    space
        In which the points lie.
    groups
        Files of the features table.
    centres
        [cells, m].
    queries
        To be held against all images.
    """

    work: Folder
    space: SearchSpace
    groups: list[list[Source]]
    centres: NDArray[np.float32]
    queries: Queries

    def __call__(self, group: int, attempt: Attempt) -> Placed:
        """Deal group number `group` out."""
        found, labels = [], LabelSums.empty(self.space.axes.shape[1])
        near = np.full((len(self.queries.row), KEPT), np.inf, np.float32)
        for done, source in enumerate(self.groups[group]):
            attempt.report(done)
            file = f"{contract.FEATURES}/{source.name}"
            table = tables.read_table(self.work, file, COLUMNS)
            points, rest = self.space.place(tables.as_matrix(table["features"]))
            rows = source.first + np.arange(len(points))
            labels = labels.merge(LabelSums.of(table["label"].to_pylist(), points))
            near = self._nearest(near, rows, points)
            found.append(_placed(table, rows, points, rest, *deal(points, self.centres)))
        joined = pa.concat_tables(found).combine_chunks()
        name = f"{PLACES}/{group:05d}-{secrets.token_hex(8)}"
        cells = len(self.centres)
        order = np.argsort(joined["cell"].to_numpy(), kind="stable")
        joined = joined.take(pa.array(order))
        ends = np.searchsorted(joined["cell"].to_numpy(), np.arange(cells + 1))
        rows_only = joined.drop_columns(["cell"])
        start = write_streams(
            self.work,
            f"{name}.arrow",
            (rows_only.slice(ends[cell], ends[cell + 1] - ends[cell]) for cell in range(cells)),
        )
        self.work.write(f"{name}.npz", labels.to_bytes())
        return Placed(f"{name}.arrow", start, np.diff(ends).tolist(), f"{name}.npz", near)

    def _nearest(
        self, near: NDArray[np.float32], rows: NDArray[np.int64], points: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Squared distances of the queries' nearest images so far, these among them."""
        if not len(near):
            return near
        queries = self.queries.point
        distances = np.einsum("nm,nm->n", points, points) - 2 * (queries @ points.T)
        distances += np.einsum("qm,qm->q", queries, queries)[:, None]
        distances[self.queries.row[:, None] == rows] = np.inf
        together = np.concatenate([near, np.maximum(distances, 0)], axis=1)
        nearest: NDArray[np.float32] = np.partition(together, KEPT - 1, axis=1)[:, :KEPT]
        return nearest


def _placed(
    table: pa.Table,
    rows: NDArray[np.int64],
    points: NDArray[np.float32],
    rest: NDArray[np.float32],
    home: NDArray[np.intp],
    border: NDArray[np.intp],
) -> pa.Table:
    """Rows of `members_schema` with the number of their cell; copies come after the images."""
    copied = np.flatnonzero(border >= 0)
    chosen = np.concatenate([np.arange(len(rows)), copied])
    cells = np.concatenate([home, border[copied]])
    at_home = np.arange(len(chosen)) < len(rows)
    pixels = table["width"].to_numpy().astype(np.int64) * table["height"].to_numpy()
    columns = {name: table[name] for name in ("path", "label", "bytes", "sha256", "phash")}
    columns |= {"chroma": table["chroma"], "pixels": pa.array(pixels), "row": pa.array(rows)}
    columns |= {"rest": pa.array(rest), "point": tables.as_lists(points)}
    schema = members_schema(points.shape[1])
    every = pa.table(
        {name: columns.get(name, pa.nulls(len(rows), pa.bool_())) for name in schema.names}
    )
    taken = every.take(pa.array(chosen))
    taken = taken.set_column(schema.names.index("home"), "home", pa.array(at_home))
    return taken.cast(schema).append_column("cell", pa.array(cells, pa.int32()))
