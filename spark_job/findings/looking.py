"""The second pass: what a cell's pictures are like, each held against its neighbours."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from spark_job import tables
from spark_job.findings import schemas
from spark_job.findings.duplicates import MANY, find_copies, identical_pairs, near_pairs
from spark_job.findings.members import Members, members_schema
from spark_job.findings.neighbours import KEPT, find_neighbours
from spark_job.findings.outliers import GREY, MOST_OUTLIERS, histogram, unlikeness
from spark_job.findings.selection import USUAL, farthest_first
from spark_job.findings.streams import read_stream, write_streams
from spark_job.findings.votes import count_votes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.engines import Attempt
    from spark_job.findings.duplicates import Copies, Pairs
    from spark_job.findings.neighbours import Neighbours
    from spark_job.findings.placing import Placed, Queries
    from spark_job.findings.votes import Votes
    from spark_job.objects import Folder

MOST_SUSPECTS = 10_000
"""Suspects that a cell tells of, as many as there are in their table."""

SHOWN = 8
"""Typical images, and least typical ones, of each label."""

KINDS = ("identical", "near", "suspects", "unlike", "grey", "candidates", "typical", "tallies")
"""The tables in a cell's file, in this order."""


@dataclass(frozen=True)
class Cell:
    """A cell, or one of several pieces of a large one: every so many images, from `piece` on."""

    number: int
    piece: int = 0
    pieces: int = 1


@dataclass(frozen=True)
class Looked:
    """What became of a cell.

    Attributes
    ----------
    neighbours
        Name of its file of the table of neighbours; None where no image is at home in it.
    found, start
        The file of its other tables, and where they begin in it.
    images, near, frames, contradicted, grey
        Images at home, those that have a copy, those that have `duplicates.MANY` nearly identical
        ones, those whose label is contradicted, and those without colour.
    scores
        Histogram of how unlike they are.
    left_out
        Pairs of nearly identical ones that were too many to be told of.
    right, asked
        Of the neighbours of the queries at home: how many are among the nearest of all, and how
        many there are.
    """

    neighbours: str | None
    found: str
    start: list[int]
    images: int
    near: int
    frames: int
    contradicted: int
    grey: int
    scores: NDArray[np.int64]
    left_out: int
    right: int
    asked: int


@dataclass(frozen=True)
class LookingPass:
    """Looks at cells.

    Attributes
    ----------
    work
        The run's work folder.
    folder
        The folder in it for the table of neighbours and what else is found.
    placed
        Where the cells' rows lie.
    cells
        The cells.
    axes
        Of the points.
    names, centres
        The labels [l] and the mean points of their images [l, m].
    queries, nearest
        See `Queries`; [q], the squared distance of the tenth of all images.
    proposed
        Images that a cell proposes to be looked at first.
    """

    work: Folder
    folder: str
    placed: list[Placed]
    cells: list[Cell]
    axes: int
    names: list[str]
    centres: NDArray[np.float32]
    queries: Queries
    nearest: NDArray[np.float32]
    proposed: int

    def __call__(self, number: int, _attempt: Attempt) -> Looked:
        """Look at cell number `number` of those."""
        whole, members = self._read(self.cells[number])
        neighbours = find_neighbours(members)
        copies = find_copies(members, neighbours)
        votes = count_votes(members, neighbours, copies)
        scores = unlikeness(members, neighbours)
        near, left_out = near_pairs(neighbours, copies)
        token = secrets.token_hex(8)
        file = f"{self.folder}/neighbours/{tables.attempt_name(number, token)}"
        if len(neighbours.of):
            _write_neighbours(self.work, file, members, neighbours)
        found = f"{self.folder}/found/{number:05d}-{token}.arrow"
        start = write_streams(
            self.work,
            found,
            [
                # Of all pieces, or copies in two of them would not be found: the first tells.
                _pairs_table(whole, identical_pairs(whole)),
                _pairs_table(members, near),
                _suspects_table(members, neighbours, votes),
                _unlike_table(members, neighbours, scores),
                _grey_table(members, neighbours),
                self._candidates(members, neighbours, copies, scores),
                self._typical(members),
                _tallies(votes),
            ],
        )
        right, asked = self._recall(members, neighbours)
        return Looked(
            neighbours=file if len(neighbours.of) else None,
            found=found,
            start=start,
            images=len(neighbours.of),
            near=int((copies.near | copies.identical).any(axis=1).sum()),
            frames=int((copies.near.sum(axis=1) >= MANY).sum()),
            contradicted=int(votes.contradicted.sum()),
            grey=int((members.chroma[neighbours.of] < GREY).sum()),
            scores=histogram(scores),
            left_out=left_out,
            right=right,
            asked=asked,
        )

    def _read(self, cell: Cell) -> tuple[Members, Members]:
        """All members of a cell, for its first piece and for none else; and those of the piece."""
        found = [members_schema(self.axes).empty_table()]
        for group in self.placed:
            start, end = group.start[cell.number], group.start[cell.number + 1]
            if group.members[cell.number]:
                found.append(read_stream(self.work, group.file, start, end))
        joined = pa.concat_tables(found).combine_chunks()
        whole = Members.of(joined.slice(0, len(joined) if cell.piece == 0 else 0))
        if cell.pieces == 1:
            return whole, whole
        every = np.arange(len(joined)) % cell.pieces
        return whole, Members.of(joined.filter(pa.array(every == cell.piece)))

    def _recall(self, members: Members, neighbours: Neighbours) -> tuple[int, int]:
        rows = members.row[neighbours.of]
        _, ours, theirs = np.intersect1d(rows, self.queries.row, return_indices=True)
        found = neighbours.squared[ours, :KEPT]
        # What the product rounds is less than this.
        limit = self.nearest[theirs, None] + 1e-6
        return int((found <= limit).sum()), len(ours) * KEPT

    def _candidates(
        self,
        members: Members,
        neighbours: Neighbours,
        copies: Copies,
        scores: NDArray[np.float64],
    ) -> pa.Table:
        """Images of this cell that cover it best, neither outliers nor smaller copies."""
        usual = np.ones(len(scores), bool)
        if len(scores) > 1 / (1 - USUAL):
            usual = scores <= np.quantile(scores, USUAL)
        later = neighbours.place > neighbours.of[:, None]
        usual &= ~(copies.identical & ~later).any(axis=1)
        of = neighbours.of[usual]
        chosen, _ = farthest_first(members.point[of], self.proposed)
        places = of[chosen]
        columns = {
            "path": pa.array(members.path[places], pa.string()),
            "label": pa.array(members.label[places], pa.string()),
            "point": tables.as_lists(members.point[places]),
        }
        return pa.table(columns)

    def _typical(self, members: Members) -> pa.Table:
        """Images of each label that lie nearest to its centre, and those that lie farthest."""
        home = np.flatnonzero(members.home)
        number = {name: place for place, name in enumerate(self.names)}
        label = np.array([number.get(one, -1) for one in members.label[home]], np.intp)
        home, label = home[label >= 0], label[label >= 0]
        apart = members.point[home] - self.centres[label]
        squared = np.einsum("nm,nm->n", apart, apart)
        order = np.lexsort((members.row[home], squared, label))
        paths, labels, distances = [], [], []
        for one in np.unique(label):
            start, end = np.searchsorted(label[order], [one, one + 1])
            of_label = order[start:end]
            ends = (
                of_label
                if len(of_label) <= 2 * SHOWN
                else np.r_[of_label[:SHOWN], of_label[-SHOWN:]]
            )
            paths.append(members.path[home[ends]])
            labels.append(np.full(len(ends), one))
            distances.append(squared[ends])
        columns = {
            "label": pa.array(np.concatenate([np.empty(0, np.int64), *labels]), pa.int64()),
            "path": pa.array(np.concatenate([np.empty(0, object), *paths]), pa.string()),
            "squared": pa.array(np.concatenate([np.empty(0), *distances]), pa.float64()),
        }
        return pa.table(columns)


def _write_neighbours(work: Folder, file: str, members: Members, neighbours: Neighbours) -> None:
    of, place = neighbours.of, neighbours.place[:, :KEPT]
    order = np.argsort(members.path[of], kind="stable")
    of, place, distance = of[order], place[order], neighbours.distance[order, :KEPT]
    offsets = pa.array(np.arange(len(of) + 1) * place.shape[1], pa.int32())
    paths = pa.array(members.path[place.ravel()], pa.string())
    columns = [
        pa.array(members.path[of], pa.string()),
        pa.array(members.label[of], pa.string()),
        pa.ListArray.from_arrays(offsets, paths),
        pa.ListArray.from_arrays(offsets, pa.array(distance.ravel(), pa.float32())),
    ]
    tables.write_table(work, file, schemas.NEIGHBOURS, columns, {})


def _pairs_table(members: Members, pairs: Pairs) -> pa.Table:
    columns = {}
    for side, places in (("first", pairs.first), ("second", pairs.second)):
        columns[f"{side}_path"] = pa.array(members.path[places], pa.string())
        columns[f"{side}_label"] = pa.array(members.label[places], pa.string())
        columns[f"{side}_sha256"] = pa.array(members.sha256[places], pa.string())
        columns[f"{side}_pixels"] = pa.array(members.pixels[places], pa.int64())
        columns[f"{side}_bytes"] = pa.array(members.bytes[places], pa.int64())
    columns["distance"] = pa.array(pairs.distance, pa.float64())
    columns["bits"] = pa.array(pairs.bits, pa.int64())
    return pa.table(columns)


def _suspects_table(members: Members, neighbours: Neighbours, votes: Votes) -> pa.Table:
    """The images whose label is contradicted most, by the margin of the votes."""
    image = np.flatnonzero(votes.contradicted)
    winner = votes.winner[image]
    voters, distances = [], []
    for one, label in zip(image, winner, strict=True):
        ranks = votes.voter[one][votes.voter[one] >= 0]
        places = neighbours.place[one, ranks]
        agree = members.label[places] == str(votes.names[label])
        voters.append(members.path[places[agree]].tolist())
        distances.append(float(neighbours.distance[one, ranks[agree][0]]))
    distance, margin = np.array(distances), votes.margin[image]
    order = np.lexsort((members.row[neighbours.of[image]], distance, -margin))[:MOST_SUSPECTS]
    image, of = image[order], neighbours.of[image[order]]
    columns = {
        "path": pa.array(members.path[of], pa.string()),
        "label": pa.array(members.label[of], pa.string()),
        "suggested": pa.array(votes.names[winner[order]].tolist(), pa.string()),
        "votes": pa.array(votes.for_winner[image], pa.int32()),
        "votes_own": pa.array(votes.for_own[image], pa.int32()),
        "cast": pa.array(votes.cast[image], pa.int32()),
        "voters": pa.array([voters[at] for at in order], pa.list_(pa.string())),
        "distance": pa.array(distance[order], pa.float32()),
        "margin": pa.array(margin[order], pa.float64()),
    }
    return pa.table(columns)


def _unlike_table(
    members: Members, neighbours: Neighbours, scores: NDArray[np.float64]
) -> pa.Table:
    """The images that are most unlike the others."""
    image = np.lexsort((members.row[neighbours.of], -scores))[:MOST_OUTLIERS]
    return _with_nearest(members, neighbours, image).append_column("score", pa.array(scores[image]))


def _grey_table(members: Members, neighbours: Neighbours) -> pa.Table:
    """The images without colour; of many, the ones with the least."""
    chroma = members.chroma[neighbours.of].astype(np.float64)
    grey = np.flatnonzero(chroma < GREY)
    image = grey[np.lexsort((members.row[neighbours.of[grey]], chroma[grey]))][:MOST_OUTLIERS]
    return _with_nearest(members, neighbours, image).append_column("score", pa.array(chroma[image]))


def _with_nearest(members: Members, neighbours: Neighbours, image: NDArray[np.intp]) -> pa.Table:
    of = neighbours.of[image]
    columns = {
        "path": pa.array(members.path[of], pa.string()),
        "label": pa.array(members.label[of], pa.string()),
        "nearest": pa.nulls(len(of), pa.string()),
        "distance": pa.nulls(len(of), pa.float32()),
    }
    if neighbours.place.shape[1]:
        nearest = neighbours.place[image, 0]
        columns["nearest"] = pa.array(members.path[nearest], pa.string())
        columns["distance"] = pa.array(neighbours.distance[image, 0], pa.float32())
    return pa.table(columns)


def _tallies(votes: Votes) -> pa.Table:
    """How often which label won over which: rows of own label, winner and images."""
    decided = votes.decided
    own, other = votes.own[decided], votes.winner[decided]
    lost = votes.contradicted[decided]
    won = np.where(lost, other, own)
    pairs, counts = np.unique(np.column_stack([own, won]), axis=0, return_counts=True)
    columns = {
        "own": pa.array(votes.names[pairs[:, 0]].tolist(), pa.string()),
        "won": pa.array(votes.names[pairs[:, 1]].tolist(), pa.string()),
        "images": pa.array(counts, pa.int64()),
    }
    return pa.table(columns)
