"""Sums by label, against plain means over pairs of images."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_job.findings import labels as room
from spark_job.findings.card import FindingsCard, labels_in_words
from spark_job.findings.labels import LabelSums
from tests.spark_job.findings.cells import directions

POINTS = directions(40, 12)
LABELS: list[str | None] = [*["Apple"] * 15, *["Pear"] * 14, "Quince", *["Plum"] * 7, *[None] * 3]


def mean_distance(pairs: list[tuple[int, int]]) -> float:
    return float(np.mean([1 - POINTS[one] @ POINTS[other] for one, other in pairs]))


def of(label: str) -> list[int]:
    return [place for place, one in enumerate(LABELS) if one == label]


def test_spread_is_the_mean_distance_of_two_images() -> None:
    sums = LabelSums.of(LABELS, POINTS)
    assert sums.names == ["Apple", "Pear", "Plum", "Quince"]
    assert sums.n.tolist() == [15, 14, 7, 1]
    for number, name in enumerate(sums.names[:3]):
        expected = mean_distance(list(combinations(of(name), 2)))
        assert sums.spread[number] == pytest.approx(expected, abs=1e-6)
    assert sums.spread[3] == 0


def test_the_nearest_label_is_the_one_of_the_least_mean_distance() -> None:
    sums = LabelSums.of(LABELS, POINTS)
    nearest, apart = sums.nearest()
    for number, name in enumerate(sums.names):
        means = {
            other: mean_distance(list(product(of(name), of(other))))
            for other in sums.names
            if other != name
        }
        best = min(means, key=lambda other: means[other])
        assert sums.names[nearest[number]] == best
        assert apart[number] == pytest.approx(means[best], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_sums_of_any_parts_are_the_sums_of_all(dealt: list[int]) -> None:
    merged = LabelSums.empty(12)
    for part in range(4):
        chosen = [place for place in range(40) if dealt[place] == part]
        if chosen:
            one = LabelSums.of([LABELS[place] for place in chosen], POINTS[chosen])
            merged = merged.merge(LabelSums.from_bytes(one.to_bytes()))
    whole = LabelSums.of(LABELS, POINTS)
    assert merged.names == whole.names
    assert np.array_equal(merged.n, whole.n)
    assert np.allclose(merged.total, whole.total)
    assert np.allclose(merged.square, whole.square)


def test_of_very_many_labels_the_first_are_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_LABELS", 2)
    merged = LabelSums.of(LABELS[20:], POINTS[20:]).merge(LabelSums.of(LABELS[:20], POINTS[:20]))
    assert merged.names == ["Apple", "Pear"]
    assert merged.n.tolist() == [15, 14]


def test_of_one_label_there_is_no_nearest() -> None:
    nearest, _ = LabelSums.of(["Apple"] * 40, POINTS).nearest()
    assert nearest.tolist() == [-1]


def test_without_labels_there_is_nothing_to_tell() -> None:
    sums = LabelSums.of([None] * 40, POINTS)
    assert sums.names == []
    assert len(sums.spread) == len(sums.nearest()[0]) == 0


@pytest.mark.parametrize(("labels", "told"), [(1, "1 label"), (1_000, "1,000 labels or more")])
def test_of_too_many_labels_it_is_said_that_there_may_be_more(labels: int, told: str) -> None:
    card = FindingsCard(9, 0, 0, 0, 0.0, 0, 0, 0, 0, 0, 9, 0.1, labels, 1, 1.0, 0.1)
    assert labels_in_words(card) == told
