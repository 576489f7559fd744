"""Copies: what counts as one, and how groups are made of pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spark_job.findings import duplicates
from spark_job.findings.duplicates import (
    Copy,
    find_copies,
    group,
    identical_pairs,
    near_pairs,
    nearly_identical,
)
from spark_job.findings.neighbours import find_neighbours
from tests.spark_job.findings.cells import directions, members


def copy(path: str, pixels: int = 100, size: int = 10, sha256: str | None = None) -> Copy:
    return Copy(path, "Apple", sha256 or path, pixels, size)


@pytest.mark.parametrize(
    ("bits", "distance", "same"),
    [
        (0, 0.0, True),
        (0, 0.139, True),  # a small copy: the hash is certain
        (0, 0.15, False),
        (12, 0.04, True),
        (12, 0.05, False),
        (20, 0.03, True),  # cropped
        (21, 0.0, False),
    ],
)
def test_two_are_one_picture_where_hash_and_features_agree(
    bits: int, distance: float, same: bool
) -> None:
    assert bool(nearly_identical(np.array(bits), np.array(distance))) is same


def test_copies_among_the_neighbours_are_told() -> None:
    points = directions(6, 16)
    points[1] = points[0]
    points[2] = points[0] + 0.01 * points[5]
    cell = members(points)
    sha256 = cell.sha256.copy()
    sha256[1] = sha256[0]
    phash = cell.phash.copy()
    phash[1] = phash[0]
    phash[2] = phash[0] ^ 0b1011
    cell = replace(cell, sha256=sha256, phash=phash)
    found = find_neighbours(cell)
    copies = find_copies(cell, found)
    assert found.place[0, :2].tolist() == [1, 2]
    assert copies.identical[0].tolist() == [True, False, False, False, False]
    assert copies.near[0].tolist() == [False, True, False, False, False]
    assert copies.bits[0, :2].tolist() == [0, 3]
    pairs, left_out = near_pairs(found, copies)
    assert left_out == 0
    told = sorted(sorted(pair) for pair in zip(pairs.first, pairs.second, strict=True))
    assert told == [[0, 2], [1, 2]]
    same = identical_pairs(cell)
    assert (same.first.tolist(), same.second.tolist()) == ([0], [1])


def test_of_very_many_pairs_the_closest_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.repeat(directions(1, 16), 40, axis=0)
    points[:, 0] += np.linspace(0, 0.05, 40)
    cell = members(points, phash=np.zeros(40, np.int64))
    found = find_neighbours(cell)
    copies = find_copies(cell, found)
    every, _ = near_pairs(found, copies)
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 9)
    few, left_out = near_pairs(found, copies)
    assert len(every.first) > 100
    assert np.array_equal(few.distance, np.sort(every.distance)[:9])
    assert left_out == len(every.first) - 9


def test_only_images_at_home_are_held_against_each_others_content() -> None:
    cell = members(directions(3, 4), sha256=np.array(["a", "a", "a"], object))
    cell = replace(cell, home=np.array([True, False, True]))
    pairs = identical_pairs(cell)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0], [2])


def test_a_copys_copy_belongs_to_the_group() -> None:
    pairs = [
        (copy("d"), copy("c"), 0.03, 4),
        (copy("a"), copy("b"), 0.01, 1),
        (copy("b"), copy("c"), 0.02, 2),
        (copy("x"), copy("y"), 0.0, 0),
    ]
    groups = group(pairs)
    assert [[one.path for one in found.images] for found in groups] == [
        ["a", "b", "c", "d"],
        ["x", "y"],
    ]
    assert groups[0].distance == [0.01, 0.01, 0.02, 0.03]
    assert groups[0].bits == [1, 1, 2, 4]


def test_the_largest_is_proposed_to_be_kept() -> None:
    small, large = copy("a", 100), copy("c", 400)
    poor, good = copy("b", 400, 9), copy("d", 400, 20)
    [found] = group([(small, large, 0, 0), (poor, good, 0, 0), (small, poor, 0, 0)])
    assert [one.path for one in found.images] == ["d", "c", "b", "a"]


def test_of_equals_the_original_is_kept_rather_than_a_copy_by_its_name() -> None:
    names = ("Kiwi/IMG_7 (copy).jpg", "Kiwi/IMG_7.jpg", "Old kiwis/IMG_7.jpg", "Kiwi/IMG_7-1.jpg")
    first, *others = (copy(name, sha256="1") for name in names)
    [found] = group([(first, other, 0, 0) for other in others])
    assert [one.path for one in found.images] == [names[1], names[2], names[3], names[0]]


def test_a_group_is_identical_if_all_of_it_is() -> None:
    first, second, third = copy("a", sha256="1"), copy("b", sha256="1"), copy("c", sha256="2")
    assert group([(first, second, 0, 0)])[0].is_identical
    assert not group([(first, second, 0, 0), (second, third, 0.01, 1)])[0].is_identical


def test_of_no_pairs_there_are_no_groups() -> None:
    assert group([]) == []
