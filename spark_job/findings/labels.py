"""What a label's images are like: how many, how alike, and which other label lies nearest.

The cosine distance of two images is half the squared distance of their points, as far as the axes
tell; means over pairs of them follow from sums over images.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_LABELS = 1_000
"""Labels that are told of, the first by name."""


@dataclass(frozen=True)
class LabelSums:
    """What the points of each label add up to; mergeable, and of a bounded size.

    Attributes
    ----------
    names
        At most `MOST_LABELS`, sorted. A label is in the merger of several exactly where it is in
        each that has seen it, so its numbers are whole.
    n
        [l], images.
    total
        [l, m], sum of their points.
    square
        [l], sum of the points' squared lengths.
    """

    names: list[str]
    n: NDArray[np.int64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]

    @classmethod
    def empty(cls, axes: int) -> LabelSums:
        """Sums of no image."""
        return cls([], np.zeros(0, np.int64), np.zeros((0, axes)), np.zeros(0))

    @classmethod
    def of(cls, labels: Sequence[str | None], points: NDArray[np.float32]) -> LabelSums:
        """Sums of images with these labels [n] and points [n, m]; those without one are left."""
        labelled = np.array([label is not None for label in labels], bool)
        if not labelled.any():
            return cls.empty(points.shape[1])
        named = np.array([label for label in labels if label is not None], np.str_)
        names, number = np.unique(named, return_inverse=True)
        chosen = points[labelled].astype(np.float64)
        total = np.zeros((len(names), points.shape[1]))
        np.add.at(total, number, chosen)
        square = np.zeros(len(names))
        np.add.at(square, number, np.einsum("nm,nm->n", chosen, chosen))
        return cls(names.tolist(), np.bincount(number), total, square)._bounded()

    def merge(self, other: LabelSums) -> LabelSums:
        """Sums of both sets of images."""
        names = sorted({*self.names, *other.names})
        places = {name: place for place, name in enumerate(names)}
        n = np.zeros(len(names), np.int64)
        total, square = np.zeros((len(names), self.total.shape[1])), np.zeros(len(names))
        for one in (self, other):
            at = [places[name] for name in one.names]
            n[at] += one.n
            total[at] += one.total
            square[at] += one.square
        return LabelSums(names, n, total, square)._bounded()

    def _bounded(self) -> LabelSums:
        most = MOST_LABELS
        if len(self.names) <= most:
            return self
        return LabelSums(self.names[:most], self.n[:most], self.total[:most], self.square[:most])

    @property
    def centres(self) -> NDArray[np.float64]:
        """Mean points of the labels, [l, m]."""
        centres: NDArray[np.float64] = self.total / self.n[:, None]
        return centres

    @property
    def spread(self) -> NDArray[np.float64]:
        """Mean cosine distance of two different images of each label, [l]; 0 of one image."""
        together = np.einsum("lm,lm->l", self.total, self.total) - self.square
        pairs = self.n * (self.n - 1)
        spread = np.where(pairs > 0, self.square / self.n - together / np.maximum(pairs, 1), 0)
        return np.maximum(spread, 0)

    def nearest(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Number of the label whose images lie nearest on average to each one's, and how far.

        Returns
        -------
        ndarray, ndarray
            [l], -1 where there is no other label; [l], mean cosine distance of two images, one of
            each label.
        """
        if len(self.names) < 2:
            return np.full(len(self.names), -1), np.full(len(self.names), np.nan)
        lengths = self.square / self.n
        apart = (lengths[:, None] + lengths) / 2 - self.centres @ self.centres.T
        np.fill_diagonal(apart, np.inf)
        nearest = apart.argmin(axis=1)
        return nearest, np.maximum(apart[np.arange(len(nearest)), nearest], 0)

    def to_bytes(self) -> bytes:
        """Serialize as an ``.npz`` file."""
        file = io.BytesIO()
        np.savez(file, **{**vars(self), "names": np.array(self.names, np.str_)})
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> LabelSums:
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as file:
            return cls(**{**{name: file[name] for name in file}, "names": file["names"].tolist()})
