"""Where pictures are compared: the directions of their features, in the axes of their batch.

Features are scaled to length one, so that what is compared is their direction: half the squared
distance of two is their cosine distance. Of that space the axes are kept along which the batch's
features vary most, beside the one of their mean: what a camera, a codec or a scaler changes in a
picture lies mostly in the others, and other pictures differ mostly in these.

The axes do not depend on the model that the vectors are of, nor on how many components it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.moments import Moments

AXES = 128
"""Most axes that are kept: more cost more, and tell pictures apart no better."""

ROUNDS = 6
"""Of subspace iteration: the axes then carry 99.98% of the variance that the best ones would."""

SPARE = 16
"""Axes that are iterated beyond those that are kept, so that these settle sooner."""


@dataclass(frozen=True)
class SearchSpace:
    """The axes of a batch.

    Attributes
    ----------
    axes
        [d, m], orthonormal columns, in float32.
    """

    axes: NDArray[np.float32]

    @classmethod
    def of(cls, moments: Moments) -> SearchSpace:
        """Find the axes of the features that `moments` are of.

        By randomized subspace iteration (N. Halko, P. G. Martinsson, J. A. Tropp, "Finding
        Structure with Randomness", SIAM Review 53, 2011, algorithm 4.4), from a fixed seed.
        """
        d = len(moments.mean)
        wanted = max(1, min(AXES, d, moments.n))
        start = np.random.default_rng(0).standard_normal((d, min(d, wanted + SPARE)))
        basis, _ = np.linalg.qr(start)
        for _ in range(ROUNDS):
            basis, _ = np.linalg.qr(moments.scatter @ basis)
        _, turn = np.linalg.eigh(basis.T @ moments.scatter @ basis)
        leading = (basis @ turn)[:, ::-1]
        axes, _ = np.linalg.qr(np.column_stack([moments.mean, leading])[:, :wanted])
        return cls(axes.astype(np.float32))

    def place(
        self, features: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points [n, m] of features [n, d], and the squared length [n] that the axes leave out.

        Features that are all zero have no direction, and lie at the origin.
        """
        length = np.linalg.norm(features, axis=1, keepdims=True)
        directions = features / np.where(length > 0, length, 1)
        points = directions @ self.axes
        rest = np.einsum("nd,nd->n", directions, directions)
        rest -= np.einsum("nm,nm->n", points, points)
        return points.astype(np.float32), np.maximum(rest, 0).astype(np.float32)
