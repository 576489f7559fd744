"""Samples: evenly chosen, in proportion, joined in the order of paths, and small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_job import samples
from spark_job.samples import Sample, evenly, evenly_by_group, join, phase_of, shares


@given(st.integers(0, 5000), st.integers(1, 2000), st.floats(0, 0.99))
def test_things_are_chosen_once_each_and_evenly(n: int, most: int, phase: float) -> None:
    chosen = evenly(n, most, phase)
    assert len(chosen) == min(n, most)
    assert ((chosen >= 0) & (chosen < n)).all()
    if n > most:
        gaps = np.diff(chosen)
        assert ((gaps >= n // most) & (gaps <= n // most + 1)).all()
    else:
        assert chosen.tolist() == list(range(n))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.integers(1, 100))
def test_groups_have_of_what_is_chosen_what_lies_in_them(sizes: list[int], most: int) -> None:
    chosen = evenly_by_group(sizes, most)
    starts = np.cumsum([0, *sizes[:-1]])
    together = np.concatenate([one + start for one, start in zip(chosen, starts, strict=True)])
    assert together.tolist() == evenly(sum(sizes), most).tolist()
    assert all((one < size).all() for one, size in zip(chosen, sizes, strict=True))


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=40), st.integers(1, 5000))
def test_shares_are_in_proportion_and_no_more_than_the_samples_have(
    images: list[int], most: int
) -> None:
    found = shares(images, most)
    assert sum(found) <= most
    for share, n in zip(found, images, strict=True):
        assert share <= min(n, samples.IMAGES) + 1  # by rounding, which `evenly` forgives
        assert abs(share - n * sum(found) / sum(images)) <= 1
    if most >= sum(images) and max(images) <= samples.IMAGES:
        assert found == images


@pytest.mark.parametrize(
    ("images", "total"),
    [([20_000], 1024), ([20_000] * 2, 2048), ([2_500] * 8, 4096), ([300, 300], 600), ([], 0)],
)
def test_several_batches_make_a_larger_sample(images: list[int], total: int) -> None:
    assert sum(shares(images, 4096)) == total


def test_what_batches_have_of_one_fruit_lies_apart() -> None:
    """Chosen alike in each of eight batches that a fruit's frames were dealt out to, it is side
    by side."""
    chosen = [8 * evenly(1000, 100, phase_of(number)) + number for number in range(8)]
    gaps = np.diff(np.sort(np.concatenate(chosen)))
    assert gaps.max() < 25
    assert (gaps > 3).mean() > 0.9


def made(seed: int, paths: list[str], width: int = 3) -> Sample:
    features = np.random.default_rng(seed).standard_normal((len(paths), width))
    return Sample.of(paths, [path.partition("/")[0] or None for path in paths], features)


def test_a_sample_comes_back_as_it_was_written() -> None:
    sample = made(1, ["b/2", "a/リンゴ.jpg", "/no label"])
    assert sample.paths.tolist() == ["/no label", "a/リンゴ.jpg", "b/2"]
    assert sample.labels.tolist() == ["", "a", "b"]
    back = Sample.from_bytes(sample.to_bytes())
    for name in ("paths", "labels", "features"):
        assert np.array_equal(getattr(back, name), getattr(sample, name)), name
    assert back.features.dtype == np.float16


def test_samples_are_joined_in_the_order_of_paths_and_names_may_repeat() -> None:
    one, other = made(1, ["a/1", "a/3", "b/1"]), made(2, ["a/2", "a/3"])
    joined = join([one, other])
    assert joined.paths.tolist() == ["a/1", "a/2", "a/3", "a/3", "b/1"]
    assert np.array_equal(joined.features[2:4], [one.features[1], other.features[1]])
    assert len(joined.take(np.array([0, 4]))) == 2
    assert len(join([made(1, []), one])) == 3


def test_features_that_are_too_large_for_half_of_the_digits_keep_all() -> None:
    features = np.array([[1.0, 1e6]], np.float32)
    sample = Sample.of(["a"], ["a"], features)
    assert np.array_equal(sample.features, features)
    assert np.array_equal(join([sample, made(1, ["b"], 2)]).features[0], features[0])


def test_the_largest_sample_takes_less_than_three_megabytes() -> None:
    paths = [f"Apple Golden 1/r_{number}_100.jpg" for number in range(samples.IMAGES)]
    assert len(made(1, paths, 1280).to_bytes()) < 2_700_000
