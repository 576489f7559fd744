"""Counting images that several batches share, exactly and then nearly."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from spark_job.sketch import SIZE, ContentSketch, Shared


def contents(start: int, end: int) -> list[str]:
    return [sha256(b"%d" % number).hexdigest() for number in range(start, end)]


def count_shared(sketches: list[ContentSketch]) -> int:
    shared = Shared()
    for sketch in sketches:
        shared.add(sketch)
    return shared.count()


def test_small_sets_are_counted_exactly() -> None:
    one, two, three = (ContentSketch.of(contents(*ends)) for ends in ((0, 50), (40, 90), (45, 60)))
    assert one.is_whole
    assert count_shared([one, two]) == 10
    assert count_shared([one, two, three]) == 20, "each once, in however many sets"
    assert count_shared([one, ContentSketch.of(contents(60, 70))]) == 0
    assert count_shared([one]) == 0
    assert count_shared([]) == 0


def test_copies_within_a_set_are_not_shared() -> None:
    twice = ContentSketch.of(contents(0, 9) * 2)
    assert len(twice.hashes) == 9
    assert count_shared([twice, ContentSketch.of(contents(8, 12))]) == 1


def test_a_merged_sketch_is_that_of_the_union() -> None:
    halves = ContentSketch.of(contents(0, 70_000)).merge(ContentSketch.of(contents(60_000, 99_000)))
    whole = ContentSketch.of(contents(0, 99_000))
    assert np.array_equal(halves.hashes, whole.hashes)
    assert len(whole.hashes) == SIZE
    assert not whole.is_whole
    assert np.array_equal(whole.merge(ContentSketch.empty()).hashes, whole.hashes)


def test_large_sets_are_estimated() -> None:
    one, two = ContentSketch.of(contents(0, 200_000)), ContentSketch.of(contents(180_000, 300_000))
    assert count_shared([one, two]) == pytest.approx(20_000, rel=0.05)
    few = ContentSketch.of(contents(0, 5_000))
    assert count_shared([one, few]) == pytest.approx(5_000, rel=0.1)
