"""How unlike the others a picture is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spark_job.findings.neighbours import find_neighbours
from spark_job.findings.outliers import (
    Far,
    FarImage,
    histogram,
    median_and_deviation,
    modified_z,
    unlikeness,
)
from tests.spark_job.findings.cells import around, directions, members

HEAPS = directions(3, 64, seed=1)


def test_what_is_like_nothing_else_comes_first() -> None:
    points = np.concatenate([around(HEAPS, 40, 0.3), directions(2, 64, seed=9)])
    cell = members(points)
    scores = unlikeness(cell, find_neighbours(cell))
    assert set(np.argsort(-scores)[:2]) == {120, 121}


def test_what_is_unlike_its_own_kind_is_found_beside_a_kind_that_varies_more() -> None:
    tight, loose = around(HEAPS[:1], 40, 0.05), around(HEAPS[1:2], 40, 0.9, seed=2)
    odd = around(HEAPS[:1], 1, 0.5, seed=3)
    cell = members(np.concatenate([tight, loose, odd]))
    scores = unlikeness(cell, find_neighbours(cell))
    assert scores[80] > np.sort(scores[:40])[-1] + 1
    assert scores[80] > np.median(scores[40:80])


def test_what_the_axes_leave_out_counts_as_unlike() -> None:
    cell = members(around(HEAPS, 40, 0.3))
    rest = np.zeros(120, np.float32)
    rest[7] = 0.6
    plain = unlikeness(cell, find_neighbours(cell))
    with_rest = unlikeness(replace(cell, rest=rest), find_neighbours(cell))
    assert with_rest[7] > plain[7] + 0.5
    assert np.argmax(with_rest) == 7


def test_copies_and_lonely_images_have_finite_scores() -> None:
    for points in (directions(1, 8), np.repeat(directions(1, 8), 30, axis=0)):
        cell = members(points)
        assert np.isfinite(unlikeness(cell, find_neighbours(cell))).all()


def test_neighbours_from_over_the_border_are_no_measure() -> None:
    cell = members(around(HEAPS[:1], 12, 0.3))
    cell = replace(cell, home=np.arange(12) == 0)
    assert np.isfinite(unlikeness(cell, find_neighbours(cell))).all()


def test_median_and_deviation_are_those_of_the_scores() -> None:
    scores = np.random.default_rng(0).normal(-1.2, 0.3, 5001)
    median, deviation = median_and_deviation(histogram(scores))
    assert median == pytest.approx(float(np.median(scores)), abs=0.02)
    assert deviation == pytest.approx(float(np.median(np.abs(scores - median))), abs=0.02)
    assert modified_z(median + 2 * deviation, median, deviation) == pytest.approx(1.349)


def test_histograms_add_up_and_hold_what_lies_beyond() -> None:
    scores = np.array([-99, 0.0, 0.001, 99])
    assert histogram(scores).sum() == 4
    assert np.array_equal(histogram(scores[:2]) + histogram(scores[2:]), histogram(scores))


def test_the_farthest_are_named_and_all_are_counted() -> None:
    one = Far(tuple(FarImage(f"{n}", None, n / 2000) for n in range(900)), 900)
    both = one.merge(Far(tuple(FarImage(f"x{n}", None, n / 1000) for n in range(900)), 5000))
    assert both.all == 5900
    assert len(both.images) == 1000
    losses = [image.loss for image in both.images]
    assert losses == sorted(losses, reverse=True)
