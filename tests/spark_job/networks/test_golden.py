"""Pixels and features are what they were when the extractor's id was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spark_job.networks import load_card
from tests.spark_job.networks.golden_set import FOLDER, Golden, committed, computed, differences

TOLERANCE = load_card().tolerance


def test_the_same_images_give_the_same_pixels_and_features() -> None:
    told = differences(committed(), computed(), TOLERANCE)
    assert not told, told


def test_the_images_are_few_and_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 200_000


class TestAChangeIsTold:
    @pytest.fixture
    def then(self) -> Golden:
        return committed()

    def test_of_pixels(self, then: Golden) -> None:
        now = replace(
            then,
            pixels=then.pixels | {"cmyk.jpg": "0" * 64},
            versions=then.versions | {"pillow": "99.0"},
        )
        told = differences(then, now, TOLERANCE)
        assert "  cmyk.jpg: other pixels\n" in told
        assert f"libraries: pillow {then.versions['pillow']} -> 99.0" in told
        assert "raise the decode version 2 in RULES" in told
        assert "python -m tests.spark_job.networks.golden_set" in told
        assert "baseline.jpg" not in told

    def test_of_features(self, then: Golden) -> None:
        features = then.features.copy()
        features[list(then.pixels).index("turned.jpg"), 3] += 2 * TOLERANCE
        told = differences(then, replace(then, features=features), TOLERANCE)
        assert "  turned.jpg: features up to 0.0002 away (tolerance 0.0001)\n" in told
        assert "libraries: the same" in told

    def test_of_features_that_are_none(self, then: Golden) -> None:
        nothing = np.full_like(then.features, np.nan)
        assert "features up to nan" in differences(then, replace(then, features=nothing), TOLERANCE)

    def test_within_tolerance_it_is_none(self, then: Golden) -> None:
        now = replace(then, features=then.features + np.float32(TOLERANCE / 4))
        assert differences(then, now, TOLERANCE) == ""

    def test_of_the_extractor(self, then: Golden) -> None:
        told = differences(then, replace(then, extractor="mobilenet_v2-other"), TOLERANCE)
        assert f"the golden files are of {then.extractor}, the card is of mobilenet_v2-oth" in told

    def test_of_the_images(self, then: Golden) -> None:
        fewer = replace(then, pixels={"alpha.png": then.pixels["alpha.png"]})
        assert "restore the images" in differences(then, fewer, TOLERANCE)
        assert "run `python -m" in differences(fewer, then, TOLERANCE)
