"""Members of a cell for the tests of what is found in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job.findings.members import Members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def members(points: NDArray[Any], labels: Sequence[str | None] = (), **columns: Any) -> Members:
    """Images at these points, all at home, each of its own content, unless `columns` say else."""
    n = len(points)
    made = Members(
        row=np.arange(n),
        home=np.ones(n, bool),
        path=np.array([f"{number:05d}.jpg" for number in range(n)], object),
        label=np.array(list(labels) or ["Apple"] * n, object),
        sha256=np.array([f"{number:064x}" for number in range(n)], object),
        phash=np.random.default_rng(1).integers(-(2**63), 2**63, n),
        chroma=np.full(n, 50, np.float32),
        pixels=np.full(n, 10_000),
        bytes=np.full(n, 5_000),
        rest=np.zeros(n, np.float32),
        point=np.asarray(points, np.float32),
    )
    return replace(made, **columns)


def directions(n: int, axes: int, seed: int = 0) -> NDArray[np.float32]:
    """Points of length one, [n, axes], in all directions."""
    points = np.random.default_rng(seed).standard_normal((n, axes))
    return _scaled(points)


def around(centres: NDArray[Any], each: int, wide: float, seed: int = 0) -> NDArray[np.float32]:
    """Points of length one about each of the centres [c, axes], `each` of each, one after other."""
    random = np.random.default_rng(seed)
    points = np.repeat(centres, each, axis=0)
    points = points + wide * random.standard_normal(points.shape) / np.sqrt(points.shape[1])
    return _scaled(points)


def _scaled(points: NDArray[Any]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = points / np.linalg.norm(points, axis=1, keepdims=True)
    return scaled.astype(np.float32)
