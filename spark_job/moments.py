"""Count, mean and scatter of feature vectors: all that a PCA needs, and exactly mergeable.

Formulas: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances", Stanford STAN-CS-79-773, 1979, eq. 2.1, in its matrix form.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from spark_job.sketch import ContentSketch


@dataclass(frozen=True)
class Moments:
    """First and second moments of n vectors of d features, in float64.

    Attributes
    ----------
    n
        Number of vectors.
    mean
        [d].
    scatter
        [d, d], the sum over the vectors of outer(x - mean, x - mean).
    """

    n: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def empty(cls, features: int) -> Moments:
        """Moments of no vector: the neutral element of `merge`."""
        return cls(0, np.zeros(features), np.zeros((features, features)))

    @classmethod
    def of(cls, block: NDArray[np.floating]) -> Moments:
        """Moments of the rows of `block`, [n, d] with n at least 1."""
        centred = block.astype(np.float64)
        mean = centred.mean(axis=0)
        centred -= mean
        # A block's mean is rounded to its size, so what centring leaves is taken out once more:
        # without this a mean of 1e9 beside a scale of 1 costs half of the digits.
        rest = centred.mean(axis=0)
        centred -= rest
        return cls(len(block), mean + rest, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of vectors together."""
        if not self.n or not other.n:
            return other if not self.n else self
        n = self.n + other.n
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.n / n)
        between = np.outer(apart, apart * (self.n * other.n / n))
        between += self.scatter
        between += other.scatter
        return Moments(n, mean, between)

    def to_bytes(
        self, ids: Mapping[str, str] | None = None, contents: ContentSketch | None = None
    ) -> bytes:
        """Serialize: n, mean, the scatter's upper triangle and `ids`, as an ``.npz`` file.

        Parameters
        ----------
        ids
            Say what they were computed from.
        contents
            Of the images that they are of.
        """
        file = io.BytesIO()
        triangle = self.scatter[np.triu_indices(len(self.mean))]
        named: dict[str, Any] = {name: np.str_(text) for name, text in (ids or {}).items()}
        if contents is not None:
            named["contents"] = contents.hashes
        np.savez(file, n=self.n, mean=self.mean, scatter_triangle=triangle, **named)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Moments:
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as file:
            mean = file["mean"]
            scatter = np.empty((len(mean), len(mean)))
            upper = np.triu_indices(len(mean))
            scatter[upper] = file["scatter_triangle"]
            scatter.T[upper] = file["scatter_triangle"]
            return cls(int(file["n"]), mean, scatter)
