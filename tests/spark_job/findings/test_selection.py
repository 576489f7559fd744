"""An order in which few pictures cover many."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_job.findings.selection import farthest_first
from tests.spark_job.findings.cells import around, directions

if TYPE_CHECKING:
    from numpy.typing import NDArray


def radius(points: NDArray[np.float32], chosen: list[int]) -> float:
    """How far the farthest point lies from the nearest of the chosen ones."""
    apart = np.linalg.norm(points[:, None] - points[chosen], axis=2)
    return float(apart.min(axis=1).max())


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 9), st.integers(1, 3), st.integers(0, 99))
def test_the_first_n_leave_none_twice_as_far_as_the_best_n(n: int, most: int, seed: int) -> None:
    points = directions(n, 3, seed)
    chosen, _ = farthest_first(points, most)
    best = min(radius(points, list(some)) for some in combinations(range(n), most))
    assert radius(points, chosen.tolist()) <= 2 * best + 1e-5


def test_each_kind_is_seen_before_any_is_seen_twice() -> None:
    points = around(directions(8, 64), 30, 0.2)
    chosen, apart = farthest_first(points, 20)
    assert sorted(chosen[:8] // 30) == list(range(8))
    assert len(set(chosen)) == 20
    assert apart[0] == 0
    assert (np.diff(apart[1:]) <= 1e-6).all()
    assert apart[7] > 2 * apart[8]


def test_the_distance_is_the_cosine_distance_to_those_before() -> None:
    points = directions(50, 6)
    chosen, apart = farthest_first(points, 10)
    for place in range(1, 10):
        nearest = 1 - (points[chosen[:place]] @ points[chosen[place]]).max()
        assert apart[place] == pytest.approx(nearest, abs=1e-5)


def test_copies_are_chosen_once_there_is_nothing_else() -> None:
    points = np.repeat(directions(3, 8), 2, axis=0)
    chosen, apart = farthest_first(points, 6)
    assert sorted(chosen) == list(range(6))
    assert sorted(chosen[:3] // 2) == [0, 1, 2]
    assert not apart[3:].any()


@pytest.mark.parametrize(("n", "most"), [(0, 5), (5, 0), (1, 5)])
def test_of_next_to_nothing_there_is_next_to_nothing(n: int, most: int) -> None:
    chosen, apart = farthest_first(directions(n, 4), most)
    assert len(chosen) == len(apart) == min(n, most)
