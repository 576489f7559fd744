"""The axes in which pictures are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from spark_job.findings.space import AXES, SearchSpace
from spark_job.moments import Moments

if TYPE_CHECKING:
    from numpy.typing import NDArray


def features(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """As a network gives: not negative, and varying less along each further direction."""
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(random.standard_normal((d, d)))
    drawn = random.standard_normal((n, d)) * 0.97 ** np.arange(d)
    given: NDArray[np.float32] = np.maximum(drawn @ turn + 1, 0).astype(np.float32)
    return given


@pytest.mark.parametrize(("n", "d"), [(2, 300), (40, 300), (3000, 300)])
def test_axes_are_orthonormal_and_no_more_than_there_are_images(n: int, d: int) -> None:
    axes = SearchSpace.of(Moments.of(features(n, d))).axes
    assert axes.shape == (d, min(n, AXES))
    assert np.abs(axes.T @ axes - np.eye(axes.shape[1])).max() < 1e-5


def test_the_axes_carry_what_the_best_ones_would() -> None:
    drawn = features(3000, 300)
    moments = Moments.of(drawn)
    axes = SearchSpace.of(moments).axes.astype(float)
    best = np.linalg.eigvalsh(moments.scatter)[::-1][: AXES - 1].sum()
    assert np.trace(axes.T @ moments.scatter @ axes) > 0.995 * best
    mean = moments.mean / np.linalg.norm(moments.mean)
    assert np.linalg.norm(axes.T @ mean) == pytest.approx(1, abs=1e-5)


def test_the_same_moments_give_the_same_axes() -> None:
    moments = Moments.of(features(500, 64))
    assert np.array_equal(SearchSpace.of(moments).axes, SearchSpace.of(moments).axes)


def test_points_and_the_rest_make_up_a_length_of_one() -> None:
    drawn = features(500, 300)
    points, rest = SearchSpace.of(Moments.of(drawn)).place(drawn)
    assert points.dtype == rest.dtype == np.float32
    assert np.allclose((points**2).sum(axis=1) + rest, 1, atol=1e-5)


def test_where_all_axes_are_kept_distances_are_cosine_distances() -> None:
    drawn = features(400, 60)
    points, rest = SearchSpace.of(Moments.of(drawn)).place(drawn)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    squared = ((points[:, None] - points) ** 2).sum(axis=2)
    assert rest.max() < 1e-5
    assert np.allclose(squared / 2, 1 - unit @ unit.T, atol=1e-5)


def test_a_brighter_picture_has_the_same_point() -> None:
    drawn = features(100, 60)
    space = SearchSpace.of(Moments.of(drawn))
    assert np.allclose(space.place(drawn)[0], space.place(3 * drawn)[0], atol=1e-6)


def test_features_without_a_direction_lie_at_the_origin() -> None:
    drawn = features(100, 60)
    points, rest = SearchSpace.of(Moments.of(drawn)).place(np.zeros((2, 60), np.float32))
    assert not points.any()
    assert not rest.any()


def test_images_that_do_not_differ_have_axes_too() -> None:
    drawn = np.repeat(features(1, 60), 5, axis=0)
    points, _ = SearchSpace.of(Moments.of(drawn)).place(drawn)
    assert np.isfinite(points).all()
    assert np.allclose(points, points[0], atol=1e-6)
