"""Pictures of one fruit go to one side, however they are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchard.phone.groups import MOST, group, hold_out
from orchard.phone.sources import Pictures
from spark_job.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 64


def pictures(
    features: NDArray[np.float64], labels: list[str], names: list[str] | None = None
) -> Pictures:
    count = len(labels)
    return Pictures(
        names=np.array(names or [f"batch/{number:04d}" for number in range(count)]),
        labels=np.array(labels),
        features=features.astype(np.float32),
        vectors=features.astype(np.float32),
    )


def film(frames: int, seed: int, *, missing: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """Frames of something that turns by 7 degrees from one to the next: cosines of 0.99."""
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.normal(size=(WIDTH, 2)))
    angles = np.radians(7) * np.array([one for one in range(frames) if one not in missing])
    turned: NDArray[np.float64] = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ basis.T
    return turned


def apart(count: int, seed: int) -> NDArray[np.float64]:
    """Photographs taken one by one: cosines of about 0.5."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, WIDTH)) + 1


def test_frames_of_a_film_are_one_group_whatever_their_names_and_order() -> None:
    order = np.random.default_rng(5).permutation(40)
    found = group(pictures(film(40, 1)[order], ["Pear"] * 40))
    assert set(found) == {0}


def test_a_film_that_jumps_stays_whole() -> None:
    frames = film(40, 1, missing=(20, 21, 22, 23, 24))  # a cosine of 0.74 from one to the next
    assert set(group(pictures(frames, ["Pear"] * len(frames)))) == {0}


def test_a_stray_frame_stays_with_its_film() -> None:
    frames = film(30, 1, missing=(*range(20, 25), *range(26, 29)))
    assert set(group(pictures(frames, ["Pear"] * len(frames)))) == {0}


def test_photographs_taken_one_by_one_are_groups_of_their_own() -> None:
    found = group(pictures(apart(30, 2), ["Pear"] * 30))
    assert sorted(found) == list(range(30))


def test_the_same_photograph_twice_is_one_group() -> None:
    features = apart(10, 3)
    found = group(pictures(np.concatenate([features, features[:2]]), ["Pear"] * 12))
    assert len(set(found)) == 10
    assert found[10:].tolist() == found[:2].tolist()


def test_two_films_that_do_not_look_alike_are_two_groups() -> None:
    found = group(pictures(np.concatenate([film(20, 1), film(20, 2)]), ["Pear"] * 40))
    assert [len(set(half)) for half in (found[:20], found[20:])] == [1, 1]
    assert found[0] != found[-1]


def test_no_group_has_two_labels() -> None:
    found = group(pictures(film(40, 1), ["Apple"] * 20 + ["Pear"] * 20))
    assert found.tolist() == [0] * 20 + [1] * 20


def test_names_can_say_which_fruit_it_is() -> None:
    names = [f"batch/{label}/{fruit}-{n}.jpg" for label in "AB" for fruit in (7, 8) for n in (1, 2)]
    given = pictures(film(8, 1), ["A"] * 4 + ["B"] * 4, names)
    expected = [0, 0, 1, 1, 2, 2, 3, 3]
    assert group(given, r"(\d)-\d").tolist() == expected
    assert group(given, r"/\d-").tolist() == expected


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("(", r"'\(' is no regular expression"), ("film", "'film' is not found in 'batch/0000'")],
)
def test_a_pattern_that_is_none_is_refused(pattern: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        group(pictures(film(3, 1), ["A"] * 3), pattern)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=4))
def test_groups_are_held_out_whole_and_most_of_each_label_stays(sizes: list[list[int]]) -> None:
    """Of labels whose groups have these sizes."""
    labels = [f"{label}" for label, some in enumerate(sizes) for _ in range(sum(some))]
    each = [size for some in sizes for size in some]
    groups = np.repeat(np.arange(len(each)), each)
    made = pictures(np.ones((len(labels), 2)), labels)
    held = hold_out(made, groups)
    for number in range(len(each)):
        assert len(set(held[groups == number])) == 1
    for label, some in enumerate(sizes):
        share = held[made.labels == f"{label}"].mean()
        assert share <= MOST
        if len(some) > 1:
            assert share > 0, "the smallest of several groups is never more than half"
    assert np.array_equal(hold_out(made, groups), held)
