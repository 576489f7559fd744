"""What neighbours say about a label, and which of them have no say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spark_job.findings.duplicates import Copies, find_copies
from spark_job.findings.neighbours import find_neighbours
from spark_job.findings.votes import Votes, count_votes
from tests.spark_job.findings.cells import around, directions, members

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAPS = directions(2, 32, seed=4)


def votes_of(labels: Sequence[str | None], near: tuple[int, int] | None = None) -> Votes:
    """Votes in two heaps of 20 images each; those of `near` are copies of each other."""
    cell = members(around(HEAPS, 20, 0.3), labels)
    if near is not None:
        phash = cell.phash.copy()
        phash[slice(*near)] = 0
        point = cell.point.copy()
        point[slice(*near)] = point[near[0]] + 0.001 * point[slice(*near)]
        cell = replace(cell, phash=phash, point=point)
    found = find_neighbours(cell)
    return count_votes(cell, found, find_copies(cell, found))


def test_a_heap_of_one_label_has_nothing_to_say() -> None:
    votes = votes_of(["Apple"] * 20 + ["Pear"] * 20)
    assert not votes.contradicted.any()
    assert (votes.for_own == 10).all()
    assert (votes.winner == -1).all()


def test_a_label_among_others_is_contradicted() -> None:
    votes = votes_of(["Pear", *["Apple"] * 19, *["Pear"] * 20])
    assert np.flatnonzero(votes.contradicted).tolist() == [0]
    assert votes.names[votes.winner[0]] == "Apple"
    assert (votes.for_winner[0], votes.for_own[0], votes.cast[0]) == (10, 0, 10)
    assert votes.margin[0] == 1


def test_copies_of_one_picture_do_not_vote_for_each_other() -> None:
    # Five frames of one fruit, all with the same wrong label.
    votes = votes_of(["Pear"] * 5 + ["Apple"] * 15 + ["Pear"] * 20, near=(0, 5))
    assert np.flatnonzero(votes.contradicted).tolist() == [0, 1, 2, 3, 4]
    assert not votes.for_own[:5].any()


def test_where_nearly_all_are_copies_they_vote_after_all() -> None:
    votes = votes_of(["Pear", *["Apple"] * 19, *["Pear"] * 20], near=(0, 20))
    assert np.flatnonzero(votes.contradicted).tolist() == [0]
    assert votes.cast[0] == 10


def test_images_of_the_same_content_never_vote() -> None:
    cell = members(around(HEAPS[:1], 12, 0.3), ["Pear"] * 6 + ["Apple"] * 6)
    cell = replace(cell, sha256=np.array(["same"] * 6 + list("abcdef"), object))
    found = find_neighbours(cell)
    votes = count_votes(cell, found, find_copies(cell, found))
    assert votes.for_own[:6].tolist() == [0] * 6
    assert votes.contradicted[:6].all()


def test_images_without_a_label_neither_vote_nor_are_doubted() -> None:
    votes = votes_of([None] * 10 + ["Apple"] * 10 + ["Pear"] * 20)
    assert (votes.own[:10] == -1).all()
    assert not votes.decided[:10].any()
    assert (votes.cast[:20] <= 10).all()
    assert not votes.contradicted.any()


def test_too_few_votes_decide_nothing() -> None:
    cell = members(directions(3, 8), ["Apple", "Pear", "Pear"])
    found = find_neighbours(cell)
    votes = count_votes(cell, found, find_copies(cell, found))
    assert votes.cast.tolist() == [2, 2, 2]
    assert not votes.contradicted.any()


def test_of_two_labels_with_as_many_votes_the_nearer_wins() -> None:
    points = np.eye(8)[:1] + 0.02 * np.arange(8)[:, None] * np.eye(8)[1]
    cell = members(points, ["Apple", "Pear", "Lime", "Lime", "Pear", "Pear", "Lime", "Kiwi"])
    found = find_neighbours(cell)
    none = np.zeros_like(found.place, bool)
    votes = count_votes(cell, found, Copies(none, none, none.astype(np.uint8)))
    assert votes.names[votes.winner[0]] == "Pear"
    assert votes.for_winner[0] == 3


def test_voters_are_named_the_nearest_first() -> None:
    votes = votes_of(["Apple"] * 20 + ["Pear"] * 20)
    assert (votes.voter == np.arange(10)).all()


def test_an_image_alone_has_no_votes() -> None:
    cell = members(directions(1, 8))
    found = find_neighbours(cell)
    votes = count_votes(cell, found, find_copies(cell, found))
    assert votes.cast.tolist() == [0]
    assert not votes.contradicted.any()


def test_as_many_labels_as_images_take_no_memory_for_each_pair() -> None:
    n = 5_000
    cell = members(directions(n, 8), [f"{number}" for number in range(n)])
    found = find_neighbours(cell)
    votes = count_votes(cell, found, find_copies(cell, found))
    assert (votes.for_winner == 1).all()
