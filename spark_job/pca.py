"""Principal components from moments, and vectors from principal components.

I. T. Jolliffe, "Principal Component Analysis", 2nd ed., Springer 2002: sections 2.3 (correlation
or covariance matrix) and 6.1.1 (how many components, by cumulative percentage of variance).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spark_job.errors import NoImagesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.moments import Moments


VERSION = 1
"""Raised when a fit of the same moments gives other numbers; a part of each model's id."""

SMALLEST_SCALE = 0.03
"""Least scale, as a share of the median one: what hardly varies in a model's images may vary in
later ones, and would be divided by next to nothing."""


@dataclass(frozen=True)
class PCAModel:
    """A fitted PCA of d features with k components kept, in float64.

    Attributes
    ----------
    mean
        [d], subtracted from the features.
    scale
        [d], divides them: standard deviations (n - 1), none below `SMALLEST_SCALE` of the median
        one, or ones.
    components
        [k, d], orthonormal rows; the largest loading of each, by magnitude, is positive.
    eigenvalues
        [d], the whole spectrum of the correlation (or covariance) matrix, descending.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]

    @property
    def k(self) -> int:
        """Number of components kept."""
        return len(self.components)

    @property
    def explained_variance_ratio(self) -> NDArray[np.float64]:
        """Share of the variance per component, [d], for the whole spectrum."""
        ratio: NDArray[np.float64] = self.eigenvalues / self.eigenvalues.sum()
        return ratio

    @property
    def variance_kept(self) -> float:
        """Share of the variance that the k components explain together."""
        return float(self.explained_variance_ratio[: self.k].sum())

    def standardize(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scaled features z [n, d] of `features` [n, d]: centred, divided by their scale."""
        standardized = features.astype(np.float64)
        standardized -= self.mean
        standardized /= self.scale
        return standardized

    def rotate(self, standardized: NDArray[np.float64]) -> NDArray[np.float32]:
        """Vectors [n, k] of what `standardize` gave."""
        vectors: NDArray[np.float32] = (standardized @ self.components.T).astype(np.float32)
        return vectors

    def project(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Vectors [n, k] of `features` [n, d]: centred, scaled, onto the components."""
        return self.rotate(self.standardize(features))

    def variance_kept_of(self, moments: Moments) -> float | None:
        """Share of the variance of other features, of which `moments` are, that is kept.

        With S their covariance in units of the scales, and C the components: tr(C S C') / tr(S)
        (I. T. Jolliffe, section 6.1.1, for components of another sample). None where they do not
        vary.
        """
        scatter = moments.scatter / np.outer(self.scale, self.scale)
        total = np.trace(scatter)
        kept = np.einsum("kd,kd->", self.components @ scatter, self.components)
        return float(kept / total) if total > 0 else None

    def to_bytes(self) -> bytes:
        """Serialize as an ``.npz`` file with the attributes' names, and k."""
        file = io.BytesIO()
        np.savez(
            file,
            mean=self.mean,
            scale=self.scale,
            components=self.components,
            eigenvalues=self.eigenvalues,
            k=self.k,
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> PCAModel:
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as file:
            return cls(file["mean"], file["scale"], file["components"], file["eigenvalues"])


def fit(
    moments: Moments,
    *,
    variance: float | None = None,
    components: int | None = None,
    standardize: bool = True,
) -> PCAModel:
    """Fit a PCA by an explained share of the variance, or with a number of components.

    Parameters
    ----------
    moments
        Of the features, at least two vectors that differ.
    variance
        Keep the fewest components whose shares add up to more than this, in (0, 1].
    components
        Keep so many; no more than the data's rank are kept in any case, since the rest is noise.
    standardize
        Divide each feature by its standard deviation, or by `SMALLEST_SCALE` of the median one
        where that is larger.

    Raises
    ------
    NoImagesError
        Where the vectors do not vary, so that there is nothing to fit.
    """
    if moments.n < 2:
        raise NoImagesError(
            f"a PCA needs at least two images that differ, and {moments.n} could be used; add "
            "images to the batch"
        )
    covariance = moments.scatter / (moments.n - 1)
    deviation = np.sqrt(np.diag(covariance))
    alive = deviation > _rounding(moments)
    if not alive.any():
        raise NoImagesError(
            f"a PCA needs images that differ, and all {moments.n} have the same features; add "
            "other images to the batch"
        )
    scale = np.ones_like(deviation)
    if standardize:
        scale = np.maximum(deviation, SMALLEST_SCALE * np.median(deviation[alive]))
    matrix = covariance / np.outer(scale, scale)
    matrix[~alive] = 0.0
    matrix[:, ~alive] = 0.0
    ascending, vectors = np.linalg.eigh(matrix)
    eigenvalues = np.maximum(ascending[::-1], 0.0)
    rank = _rank(eigenvalues, moments.n)
    if variance is not None:
        cumulative = np.cumsum(eigenvalues) / eigenvalues.sum()
        components = int(np.searchsorted(cumulative, variance, side="right")) + 1
    kept = vectors[:, ::-1].T[: rank if components is None else min(components, rank)]
    components_kept = _with_fixed_signs(kept)
    components_kept[:, ~alive] = 0.0  # of which rounding leaves 1e-15
    return PCAModel(moments.mean, scale, components_kept, eigenvalues)


def _rounding(moments: Moments) -> NDArray[np.float64]:
    """Standard deviation below which a feature is constant but for float32's rounding, [d]."""
    floor: NDArray[np.float64] = np.finfo(np.float32).eps * np.abs(moments.mean)
    return floor


def _rank(eigenvalues: NDArray[np.float64], n: int) -> int:
    """Number of components that are more than noise; n vectors span n - 1 dimensions at most.

    The noise floor is eps * d on eigenvalues relative to the largest: what rounding leaves of a
    singular d by d matrix (G. H. Golub, C. F. Van Loan, "Matrix Computations", section 5.5.8).
    """
    above = eigenvalues > np.finfo(np.float64).eps * len(eigenvalues) * eigenvalues[0]
    return min(int(above.sum()), n - 1)


def _with_fixed_signs(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make each row's largest loading positive, as scikit-learn's ``svd_flip`` does by rows."""
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    flipped: NDArray[np.float64] = components * signs[:, np.newaxis]
    return flipped
