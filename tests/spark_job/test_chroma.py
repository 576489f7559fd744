"""Mean chroma: nothing of a grey picture, however it is stored, and much of a colourful one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from spark_job.chroma import mean_chroma
from tests.spark_job.photographs import encoded, fruit


def test_a_grey_copy_has_none_and_its_original_has_some() -> None:
    picture = fruit(3, 200)
    grey = picture.convert("L").convert("RGB")
    assert mean_chroma(grey) == 0
    assert mean_chroma(Image.open(io.BytesIO(encoded(grey, "JPEG", quality=40)))) < 2
    assert mean_chroma(picture) > 8


@pytest.mark.parametrize(
    ("colour", "chroma"), [((255, 0, 0), 255), ((10, 60, 30), 50), ((9, 9, 9), 0)]
)
@pytest.mark.parametrize("size", [(1, 1), (40, 3), (224, 224)])
def test_of_one_colour_it_is_the_largest_channel_less_the_least(
    colour: tuple[int, int, int], chroma: float, size: tuple[int, int]
) -> None:
    assert mean_chroma(Image.new("RGB", size, colour)) == chroma


def test_noise_of_all_colours_is_averaged_away() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    assert mean_chroma(Image.fromarray(noise)) < 40
