"""A head is counted on what it was not fitted on, and says of what nothing is known."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from orchard.phone.groups import group, hold_out
from orchard.phone.head import fit_head, logits, probabilities
from orchard.phone.sources import Pictures
from spark_job.errors import JobError, UsageError

BATCHES = [{"batch": "monday", "run": "r", "pictures": 90}]


def pictures(labels: dict[str, int], *, noise: float = 1.0, seed: int = 0) -> Pictures:
    """So many of each label, around a centre of its own; photographs taken one by one."""
    random = np.random.default_rng(seed)
    names = [label for label, count in labels.items() for _ in range(count)]
    centres = {label: 6 * random.normal(size=8) for label in labels}
    vectors = np.stack([centres[label] + noise * random.normal(size=8) for label in names])
    return Pictures(
        names=np.array([f"monday/{number:04d}" for number in range(len(names))]),
        labels=np.array(names),
        features=random.normal(size=(len(names), 64)).astype(np.float32),
        vectors=vectors.astype(np.float32),
    )


@pytest.mark.parametrize("labels", [{"A": 40, "B": 50}, {"A": 30, "B": 20, "C": 40}])
def test_labels_that_lie_apart_are_told_apart(labels: dict[str, int]) -> None:
    given = pictures(labels)
    head = fit_head(given, BATCHES)
    found = probabilities(head.weights, given.vectors)
    assert found.shape == (sum(labels.values()), len(labels))
    assert np.allclose(found.sum(axis=1), 1)
    assert np.array_equal(np.array(head.card.labels)[found.argmax(axis=1)], given.labels)
    assert (head.card.accuracy, head.card.mean_accuracy, head.warnings) == (1, 1, [])


def test_the_card_counts_what_was_held_out_and_nothing_else() -> None:
    given = pictures({"A": 40, "B": 35, "C": 25}, noise=6)
    head = fit_head(given, BATCHES)
    held = hold_out(given, group(given))
    found = np.array(head.card.labels)[logits(head.weights, given.vectors).argmax(axis=1)]
    right = found == given.labels
    assert 0 < head.card.correct < head.card.held_out
    for one in head.card.of:
        own = given.labels == one.label
        assert one.pictures == one.fitted + one.held_out == own.sum()
        assert one.groups == one.pictures
        assert one.held_out == (own & held).sum()
        assert one.correct == (own & held & right).sum()
        assert one.accuracy == pytest.approx(one.correct / one.held_out)
    assert head.card.correct == sum(one.correct for one in head.card.of)
    assert head.card.held_out == held.sum() == 20
    assert head.card.accuracy == pytest.approx(head.card.correct / 20)


def test_of_labels_that_are_one_fruit_nothing_is_known_and_that_is_said() -> None:
    labels = {"A": 30, **{f"Film {number:02d}": 4 for number in range(12)}}
    given = pictures(labels)
    films = np.char.startswith(given.labels, "Film")
    features = given.features.copy()
    features[films] = 1
    head = fit_head(Pictures(given.names, given.labels, features, given.vectors), BATCHES)
    unknown = [one for one in head.card.of if one.accuracy is None]
    assert [one.label for one in unknown] == sorted(set(labels) - {"A"})
    assert {(one.groups, one.held_out, one.fitted) for one in unknown} == {(1, 0, 4)}
    [told] = head.warnings
    assert told.startswith("12 of 13 labels have too few groups of pictures to hold any out")
    assert "Film 00, Film 01" in told
    assert "Film 11" not in told
    assert "--group-by" in told
    assert "A" in head.card.labels


def test_nothing_at_all_can_be_held_out() -> None:
    given = pictures({"A": 5, "B": 5})
    head = fit_head(given, BATCHES, group_by="monday")
    assert (head.card.held_out, head.card.accuracy, head.card.mean_accuracy) == (0, None, None)
    assert "2 of 2 labels" in head.warnings[0]
    assert "--group-by" not in head.warnings[0]


@pytest.mark.parametrize(
    ("labels", "told"),
    [({"A": 5}, "5 labelled pictures of monday have only the label 'A'")],
)
def test_fewer_labels_than_two_are_refused(labels: dict[str, int], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        fit_head(pictures(labels), BATCHES)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(JobError, match="pip install scikit-learn"):
        fit_head(pictures({"A": 5, "B": 5}), BATCHES)
