"""The nearest neighbours of a cell's pictures, exactly, by blocks of one matrix product each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.findings.members import Members

KEPT = 10
"""Neighbours of each image in the table, and votes at most about its label."""

SEARCHED = 16
"""Neighbours that are looked for: some are copies, which have no vote."""

BLOCK = 4_000_000
"""Distances in memory at a time."""


@dataclass(frozen=True)
class Neighbours:
    """What lies nearest to the images that are at home in a cell.

    Attributes
    ----------
    of
        [h], places of these images among the members.
    place
        [h, s], places of their neighbours, the nearest first; s is `SEARCHED`, or as many as there
        are others.
    squared
        [h, s], squared distances within the axes.
    """

    of: NDArray[np.intp]
    place: NDArray[np.intp]
    squared: NDArray[np.float32]

    @property
    def distance(self) -> NDArray[np.float32]:
        """Cosine distances [h, s], as far as the axes tell: 0 for the same direction."""
        distance: NDArray[np.float32] = self.squared / np.float32(2)
        return distance


def find_neighbours(members: Members) -> Neighbours:
    """Find the neighbours of the images at home among all members."""
    of = np.flatnonzero(members.home)
    most = max(0, min(SEARCHED, len(members) - 1))
    place = np.empty((len(of), most), np.intp)
    squared = np.empty((len(of), most), np.float32)
    if not most:
        return Neighbours(of, place, squared)
    points = members.point
    square = np.einsum("nm,nm->n", points, points)
    step = max(1, BLOCK // len(points))
    for start in range(0, len(of), step):
        block = of[start : start + step]
        distances = square - 2 * (points[block] @ points.T)
        distances[np.arange(len(block)), block] = np.inf
        near = np.argpartition(distances, most - 1, axis=1)[:, :most]
        # Anew by differences, for the product leaves rounding where two points are one; the order
        # of equals is that of the images.
        apart = points[near] - points[block][:, None]
        exact = np.einsum("nsm,nsm->ns", apart, apart)
        order = np.lexsort((members.row[near], exact))
        place[start : start + len(block)] = np.take_along_axis(near, order, axis=1)
        squared[start : start + len(block)] = np.take_along_axis(exact, order, axis=1)
    return Neighbours(of, place, squared)
