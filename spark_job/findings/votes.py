"""What an image's neighbours say about its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spark_job.findings.neighbours import KEPT, SEARCHED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.findings.duplicates import Copies
    from spark_job.findings.members import Members
    from spark_job.findings.neighbours import Neighbours

FEWEST = 3
"""Votes below which nothing is concluded, of all and of the winner's: where most labels have one
or two images, some other label nearly always has a vote."""


@dataclass(frozen=True)
class Votes:
    """The votes of each image's neighbours.

    Attributes
    ----------
    names
        [l], the labels, sorted.
    own
        [h], number of each image's own label among `names`; -1 where it has none.
    winner
        [h], number of the label with the most votes, other than its own; -1 where none has any.
    for_own, for_winner, cast
        [h], votes for each, and votes in all.
    voter
        [h, v], ranks among the neighbours of those that vote, the nearest first; -1 beyond the
        last. v is `neighbours.KEPT` at most.
    """

    names: NDArray[np.str_]
    own: NDArray[np.intp]
    winner: NDArray[np.intp]
    for_own: NDArray[np.intp]
    for_winner: NDArray[np.intp]
    cast: NDArray[np.intp]
    voter: NDArray[np.intp]

    @property
    def decided(self) -> NDArray[np.bool_]:
        """Whether there are votes enough about an image that has a label, [h]."""
        return (self.own >= 0) & (self.cast >= FEWEST)

    @property
    def contradicted(self) -> NDArray[np.bool_]:
        """Whether more neighbours vote for one other label than for the image's own, [h]."""
        more = (self.for_winner > self.for_own) & (self.for_winner >= FEWEST)
        return self.decided & more

    @property
    def margin(self) -> NDArray[np.float64]:
        """Votes for the winner less those for the own label, as a share of all, [h]."""
        apart: NDArray[np.float64] = (self.for_winner - self.for_own) / np.maximum(self.cast, 1)
        return apart


def count_votes(members: Members, neighbours: Neighbours, copies: Copies) -> Votes:
    """Let the nearest neighbours vote, each with one vote.

    Copies of the image have none: their label was given with its own. Where too few of the
    neighbours are no copies (`neighbours.KEPT` of `neighbours.SEARCHED` are enough), as among the
    frames of one turning fruit, those that are nearly identical vote after all; those of the same
    content never do. Nor do images without a label.
    """
    labelled = np.array([label is not None for label in members.label], bool)
    names, numbers = np.unique(
        np.array([label or "" for label in members.label[labelled]], np.str_), return_inverse=True
    )
    number = np.full(len(members), -1)
    number[labelled] = numbers
    of, place = neighbours.of, neighbours.place
    may = labelled[place] & ~copies.identical
    strict = may & ~copies.near
    enough = strict.sum(axis=1) >= KEPT * place.shape[1] / SEARCHED
    may = np.where(enough[:, None], strict, may)
    may &= np.cumsum(may, axis=1) <= KEPT
    voter = np.full((len(of), min(KEPT, place.shape[1])), -1)
    image, rank = np.nonzero(may)
    voter[image, np.cumsum(may, axis=1)[image, rank] - 1] = rank
    rows = np.arange(len(of))
    said = np.where(voter >= 0, number[place[rows[:, None], voter]], -1)  # [h, v], labels
    own = number[of]
    for_own = ((said == own[:, None]) & (said >= 0)).sum(axis=1)
    others = (said >= 0) & (said != own[:, None])
    votes = (said[:, :, None] == said[:, None, :]).sum(axis=2) * others
    if not votes.shape[1]:
        none = np.zeros(len(of), np.intp)
        return Votes(names, own, none - 1, none, none, none, voter)
    best = votes.argmax(axis=1)  # of equals the one whose image is nearest
    for_winner = votes[rows, best]
    winner = np.where(for_winner > 0, said[rows, best], -1)
    return Votes(names, own, winner, for_own, for_winner, may.sum(axis=1), voter)
