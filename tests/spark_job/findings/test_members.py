"""How a batch is dealt out to cells."""

from __future__ import annotations

import numpy as np
import pytest

from spark_job.findings.members import ALONE, BORDER, CELL, count_cells, deal, find_centres
from tests.spark_job.findings.cells import around, directions


@pytest.mark.parametrize(
    ("images", "cells"),
    [(2, 1), (ALONE, 1), (ALONE + 1, 2), (10 * CELL, 10), (10_000_000, 1250)],
)
def test_a_cell_is_home_to_so_many_images(images: int, cells: int) -> None:
    assert count_cells(images) == cells


def test_each_point_is_at_home_with_the_nearest_centre_and_copied_at_a_border() -> None:
    points, centres = directions(3000, 16), directions(7, 16, seed=5)
    home, border = deal(points, centres)
    squared = ((points[:, None] - centres) ** 2).sum(axis=2)
    order = np.argsort(squared, axis=1)
    assert np.array_equal(home, order[:, 0])
    near, next_near = np.sort(squared, axis=1)[:, :2].T
    assert np.array_equal(border >= 0, next_near < BORDER * near)
    assert np.array_equal(border[border >= 0], order[border >= 0, 1])


def test_of_one_cell_nothing_is_copied() -> None:
    home, border = deal(directions(50, 8), np.zeros((1, 8), np.float32))
    assert not home.any()
    assert (border == -1).all()


def test_centres_find_heaps() -> None:
    heaps = directions(6, 32, seed=2)
    sample = around(heaps, 50, 0.2)
    home, _ = deal(heaps, find_centres(sample, 6))
    assert sorted(home) == list(range(6))


def test_a_centre_that_nothing_is_near_takes_half_of_a_full_cell() -> None:
    sample = np.concatenate([np.repeat(directions(1, 8), 50, axis=0), directions(50, 8, seed=3)])
    home, _ = deal(sample, find_centres(sample, 10))
    assert len(np.unique(home)) == 10


def test_images_that_are_all_alike_do_not_upset_it() -> None:
    sample = np.repeat(directions(1, 8), 100, axis=0)
    assert np.isfinite(find_centres(sample, 5)).all()
