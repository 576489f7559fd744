"""How unlike the rest of its batch a picture is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spark_job.findings.neighbours import KEPT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.findings.members import Members
    from spark_job.findings.neighbours import Neighbours

UNLIKE = "unlike the others"
NO_COLOUR = "without colour"
FAR = "far outside the model"

GREY = 2.0
"""Mean chroma, of 255, below which a picture has no colour; a grey JPEG has less."""

RARE = 0.05
"""Where more of a batch than this share is without colour, that is usual in it, and so it is with
what lies far outside the model."""

Z = 2.5
"""Modified z-score from which on an image stands out (B. Iglewicz, D. Hoaglin, "How to Detect and
Handle Outliers", ASQC, 1993, where it is 3.5; logarithms of distances that end at right angles do
not go so far). Of 240 photographs of fruit none reaches it, and noise, a page and a chart do."""

MOST_OUTLIERS = 1_000
"""Outliers that are named."""

LARGEST, STEP = 4.0, 1 / 64
BINS = round(2 * LARGEST / STEP)


@dataclass(frozen=True)
class FarImage:
    """An image far outside the model that its batch reuses, and how much of it is lost."""

    path: str
    label: str | None
    loss: float


@dataclass(frozen=True)
class Far:
    """The images far outside the model, those of which most is lost first; and how many they are.

    Of more than `MOST_OUTLIERS` only so many are named.
    """

    images: tuple[FarImage, ...] = ()
    all: int = 0

    def merge(self, other: Far) -> Far:
        """Take both together."""
        images = sorted((*self.images, *other.images), key=lambda one: (-one.loss, one.path))
        return Far(tuple(images[:MOST_OUTLIERS]), self.all + other.all)


def unlikeness(members: Members, neighbours: Neighbours) -> NDArray[np.float64]:
    """How far each image at home lies from its neighbours, for itself and against their own.

    The geometric mean, twice as much weighed for the first, of the distance to the tenth neighbour
    (S. Ramaswamy, R. Rastogi, K. Shim, "Efficient Algorithms for Mining Outliers from Large Data
    Sets", SIGMOD 2000) and of its ratio to the neighbours' own (the simplified local outlier factor
    of E. Schubert, A. Zimek, H.-P. Kriegel, "Local Outlier Detection Reconsidered", Data Mining
    and Knowledge Discovery 28, 2014): the first finds what is unlike anything, the second what is
    unlike its kind. What the axes leave out of two pictures counts as unrelated.

    Returns
    -------
    ndarray
        [h], logarithms; 0 for an image whose neighbours are at right angles, with all alike.
    """
    of, place = neighbours.of, neighbours.place
    if not place.shape[1]:
        return np.zeros(len(of))
    last = min(KEPT, place.shape[1]) - 1
    far = place[:, last]
    squared = neighbours.squared[:, last] + members.rest[of] + members.rest[far]
    distance = np.sqrt(np.maximum(squared / 2, 1e-7)).astype(np.float64)
    known = np.full(len(members), np.nan)
    known[of] = distance
    theirs = known[place[:, : last + 1]]
    # Those copied in from over the border have none of their own here.
    without = np.isnan(theirs).all(axis=1)
    theirs[without] = distance[without, None]
    ratio = distance / np.nanmedian(theirs, axis=1)
    scores: NDArray[np.float64] = np.log(distance) + np.log(ratio) / 2
    return scores


def histogram(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count scores by bins, [`BINS`]; the first and the last have all beyond."""
    places = np.floor((scores + LARGEST) / STEP).astype(np.intp)
    return np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)


def median_and_deviation(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Median and median absolute deviation of scores, from their histogram."""
    middles = (np.arange(BINS) + 0.5) * STEP - LARGEST
    median = _weighted_median(middles, counts)
    deviations = np.abs(middles - median)
    order = np.argsort(deviations, kind="stable")
    return median, _weighted_median(deviations[order], counts[order])


def modified_z(score: float, median: float, deviation: float) -> float:
    """How far a score lies above the others'; see `Z`."""
    return 0.6745 * (score - median) / max(deviation, STEP)


def _weighted_median(values: NDArray[np.floating], counts: NDArray[np.int64]) -> float:
    cumulative = np.cumsum(counts)
    return float(values[np.searchsorted(cumulative, cumulative[-1] / 2)])
