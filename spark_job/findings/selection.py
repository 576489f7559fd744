"""In which order to look at pictures, so that the first few cover the batch best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 500
"""Pictures in the order."""

CANDIDATES = 4 * MOST
"""Pictures that all cells together propose, about."""

FEWEST = 20
"""Pictures that each cell proposes at least."""

USUAL = 0.98
"""Share of a cell's pictures that may be proposed: outliers lie farthest, and are not usual."""


def farthest_first(
    points: NDArray[np.float32], most: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Order points so that each is the farthest from all before it.

    T. F. Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", Theoretical Computer
    Science 38, 1985: the first n leave no point more than twice as far away as the best n would.
    Chosen among the choices of several parts, they do so within a constant factor (P. Indyk et
    al., "Composable Core-sets for Diversity and Coverage Maximization", PODS 2014).

    Parameters
    ----------
    points
        [n, m].
    most
        How many are wanted.

    Returns
    -------
    ndarray, ndarray
        Places of at most `most` points, the first nearest to the mean; and how far, as a cosine
        distance, each lies from those before it (0 for the first).
    """
    if not len(points) or not most:
        return np.empty(0, np.intp), np.empty(0)
    square = np.einsum("nm,nm->n", points, points)
    away = points - points.mean(axis=0)
    chosen = [int(np.einsum("nm,nm->n", away, away).argmin())]
    radius = [0.0]
    nearest = np.full(len(points), np.inf, np.float32)
    while len(chosen) < min(most, len(points)):
        last = chosen[-1]
        np.minimum(nearest, square + square[last] - 2 * (points @ points[last]), out=nearest)
        nearest[last] = -np.inf
        farthest = int(nearest.argmax())
        radius.append(max(0.0, float(nearest[farthest])) / 2)
        chosen.append(farthest)
    return np.array(chosen), np.array(radius)
