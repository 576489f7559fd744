"""The nearest neighbours in a cell, against a plain comparison of all with all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_job.findings import neighbours as room
from spark_job.findings.neighbours import SEARCHED, find_neighbours
from tests.spark_job.findings.cells import directions, members

if TYPE_CHECKING:
    import pytest


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 120), st.integers(1, 20), st.integers(0, 99))
def test_neighbours_are_the_nearest_of_all(n: int, axes: int, seed: int) -> None:
    points = directions(n, axes, seed)
    found = find_neighbours(members(points))
    squared = ((points[:, None] - points) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    most = min(SEARCHED, n - 1)
    assert found.place.shape == (n, most)
    assert np.allclose(found.squared, np.sort(squared, axis=1)[:, :most], atol=1e-5)
    assert np.allclose(found.squared, np.take_along_axis(squared, found.place, 1), atol=1e-5)
    assert (found.place != np.arange(n)[:, None]).all()


def test_only_images_at_home_are_asked_about_and_all_may_be_answers() -> None:
    points = directions(50, 8)
    home = np.arange(50) % 2 == 0
    found = find_neighbours(replace(members(points), home=home))
    assert found.of.tolist() == np.flatnonzero(home).tolist()
    assert set(found.place.ravel()) & set(np.flatnonzero(~home))


def test_equals_are_at_no_distance_in_the_order_of_the_images() -> None:
    points = np.repeat(directions(2, 8), 9, axis=0)
    found = find_neighbours(members(points))
    assert not found.squared[:, :8].any()
    assert found.place[0, :8].tolist() == list(range(1, 9))
    assert found.place[12, :8].tolist() == [9, 10, 11, 13, 14, 15, 16, 17]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = members(directions(200, 16))
    whole = find_neighbours(cell)
    monkeypatch.setattr(room, "BLOCK", 700)
    by_blocks = find_neighbours(cell)
    assert np.array_equal(whole.place, by_blocks.place)
    assert np.array_equal(whole.squared, by_blocks.squared)


def test_an_image_alone_has_none() -> None:
    found = find_neighbours(members(directions(1, 8)))
    assert found.place.shape == (1, 0)
