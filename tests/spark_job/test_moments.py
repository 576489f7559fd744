"""Moments merge exactly, whatever the split, the means and the scales.

The reference is made of sums without rounding errors. Against it a mean is right to 4 units in the
last place, and the scatter's entry (i, j) to 1e-12 of sqrt(S_ii * S_jj), beside what a mean that is
rounded to float64 leaves uncertain: eps * |mean|, which counts where a scale is 1e9 times smaller.
"""

from __future__ import annotations

import io
import math
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_job.moments import Moments

if TYPE_CHECKING:
    from numpy.typing import NDArray


@st.composite
def tables(draw: st.DrawFn) -> NDArray[np.float64]:
    """Rows of features whose means are up to 1e9 times their scales, which differ by 1e12."""
    rows, features = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scales = 10.0 ** np.array(
        draw(st.lists(st.integers(-6, 6), min_size=features, max_size=features))
    )
    ratios = draw(
        st.lists(st.sampled_from([0.0, 1.0, -1e3, 1e6, -1e9]), min_size=features, max_size=features)
    )
    table: NDArray[np.float64] = random.standard_normal((rows, features)) + np.array(ratios)
    return table * scales


@st.composite
def splits(draw: st.DrawFn) -> list[NDArray[np.float64]]:
    """A table cut into blocks of any sizes."""
    table = draw(tables())
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(table) - 1)), max_size=8)))
    return [block for block in np.split(table, cuts) if len(block)]


@given(splits(), st.randoms(use_true_random=False))
def test_merging_any_split_in_any_order_equals_one_fit(
    blocks: list[NDArray[np.float64]], random: object
) -> None:
    parts = [Moments.of(block) for block in blocks]
    random.shuffle(parts)  # type: ignore[attr-defined]
    merged = reduce(Moments.merge, parts, Moments.empty(blocks[0].shape[1]))
    assert_equals(merged, exact(np.concatenate(blocks)))


@given(splits())
def test_merging_is_associative(blocks: list[NDArray[np.float64]]) -> None:
    parts = [Moments.of(block) for block in blocks]
    reference = exact(np.concatenate(blocks))
    assert_equals(reduce(Moments.merge, parts), reference)
    assert_equals(reduce(lambda right, left: left.merge(right), reversed(parts)), reference)


@given(tables())
def test_the_moments_of_no_vector_change_nothing(table: NDArray[np.float64]) -> None:
    moments, nothing = Moments.of(table), Moments.empty(table.shape[1])
    for merged in (moments.merge(nothing), nothing.merge(moments)):
        assert merged.n == moments.n
        assert np.array_equal(merged.mean, moments.mean)
        assert np.array_equal(merged.scatter, moments.scatter)


@given(tables())
def test_serialized_moments_come_back_bit_for_bit(table: NDArray[np.float64]) -> None:
    moments = Moments.of(table)
    back = Moments.from_bytes(moments.to_bytes())
    assert back.n == moments.n
    assert np.array_equal(back.mean, moments.mean)
    assert np.array_equal(back.scatter, np.triu(moments.scatter) + np.triu(moments.scatter, 1).T)


def test_serialized_moments_say_what_they_are_of() -> None:
    """So that an update never merges those of another network, or of one run twice."""
    moments = Moments.of(np.arange(12.0).reshape(4, 3))
    content = moments.to_bytes({"extractor": "e", "images": "00ff", "batch": "b", "run": "größe 1"})
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        ids = {name: str(file[name]) for name in ("extractor", "images", "batch", "run")}
        assert int(file["n"]) == 4
        assert np.array_equal(file["mean"], moments.mean)
    assert ids == {"extractor": "e", "images": "00ff", "batch": "b", "run": "größe 1"}
    back = Moments.from_bytes(content)
    assert np.array_equal(back.scatter, moments.scatter)


def test_float32_features_lose_nothing_on_the_way_to_float64() -> None:
    features = (np.random.default_rng(1).standard_normal((500, 8)) + 1000).astype(np.float32)
    assert_equals(Moments.of(features), exact(features.astype(np.float64)))


def test_a_constant_feature_has_no_scatter_however_large_it_is() -> None:
    blocks = [np.full((size, 1), 1e9 + 0.1) for size in (1, 7, 1000)]
    merged = reduce(Moments.merge, map(Moments.of, blocks))
    deviation = math.sqrt(merged.scatter[0, 0] / (merged.n - 1))
    assert deviation <= 1e-15 * 1e9


@pytest.mark.parametrize("rows", [1, 2])
def test_the_smallest_blocks(rows: int) -> None:
    block = np.arange(3.0 * rows).reshape(rows, 3)
    moments = Moments.of(block)
    assert moments.n == rows
    assert np.array_equal(moments.mean, block.mean(axis=0))
    assert np.array_equal(moments.scatter, np.full((3, 3), 4.5 if rows == 2 else 0.0))


def exact(table: NDArray[np.float64]) -> Moments:
    """Moments by sums without rounding errors (math.fsum) of products in extended precision."""
    n = len(table)
    wide = table.astype(np.longdouble)
    mean = np.array([math.fsum(column) / n for column in table.T])
    centred = wide - wide.mean(axis=0)
    scatter = np.array([[math.fsum(a * b) for b in centred.T] for a in centred.T])
    return Moments(n, mean, scatter)


def assert_equals(found: Moments, expected: Moments) -> None:
    assert found.n == expected.n
    deviation = np.sqrt(np.diag(expected.scatter))
    rounding = np.finfo(np.float64).eps * np.abs(expected.mean)
    assert (np.abs(found.mean - expected.mean) <= 4 * rounding + 1e-15 * deviation).all()
    # What the rounding of a mean does to the entries that it takes part in.
    noise = 4 * np.sqrt(found.n) * rounding
    allowed = 1e-12 * np.outer(deviation, deviation)
    allowed += np.outer(noise, deviation) + np.outer(deviation, noise) + np.outer(noise, noise)
    assert (np.abs(found.scatter - expected.scatter) <= allowed).all()
