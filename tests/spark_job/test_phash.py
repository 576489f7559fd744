"""The perceptual hash: near for one picture however it is stored, far for two."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from spark_job.phash import perceptual_hash
from tests.spark_job.photographs import encoded, fruit


def photograph(seed: int) -> Image.Image:
    """Fruits before a blurred ground, as no photograph is symmetric or without shades."""
    random = np.random.default_rng(seed)
    ground = Image.fromarray(random.integers(60, 220, (5, 5, 3), np.uint8))
    picture = ground.resize((200, 200), Image.Resampling.BICUBIC)
    for number in range(2):
        single = fruit(100 * seed + number, 90)
        x, y = (int(at) for at in random.integers(0, 110, 2))
        picture.paste(single.crop((15, 15, 75, 75)), (x, y))
    return picture


PICTURES = [photograph(seed) for seed in range(12)]


def apart(first: Image.Image, second: Image.Image) -> int:
    """Bits in which the hashes of two pictures differ."""
    mask = 2**64 - 1
    return ((perceptual_hash(first) ^ perceptual_hash(second)) & mask).bit_count()


def again(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    return Image.open(io.BytesIO(encoded(picture, kind, **options))).convert("RGB")


@pytest.mark.parametrize("picture", PICTURES)
def test_one_picture_stored_in_other_ways_has_nearly_one_hash(picture: Image.Image) -> None:
    assert apart(picture, again(picture, "PNG")) == 0
    others = {
        "a good JPEG": again(picture, "JPEG", quality=90),
        "a poor JPEG": again(picture, "JPEG", quality=40),
        "WebP": again(picture, "WEBP", quality=80),
        "larger": picture.resize((333, 333)),
        "smaller": picture.resize((90, 90)),
        "of another shape": picture.resize((200, 140)),
        "brighter": ImageEnhance.Brightness(picture).enhance(1.1),
    }
    bits = {name: apart(picture, other) for name, other in others.items()}
    assert max(bits.values()) <= 6, bits
    assert np.mean(list(bits.values())) <= 3, bits
    assert max(bits["larger"], bits["smaller"], bits["of another shape"]) <= 3, bits


def test_two_pictures_have_two_hashes() -> None:
    bits = [apart(first, second) for first, second in combinations(PICTURES, 2)]
    assert min(bits) >= 16, "far from what one picture has"
    assert np.median(bits) >= 20


def test_noise_is_as_far_apart_as_chance() -> None:
    random = np.random.default_rng(1)
    noise = [Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(12)]
    bits = [apart(first, second) for first, second in combinations(noise, 2)]
    assert 24 <= np.mean(bits) <= 40


def test_a_picture_turned_is_another_one() -> None:
    for picture in PICTURES[:4]:
        sheared = picture.transform(picture.size, Image.Transform.AFFINE, (1, 0.5, 0, 0, 1, 0))
        turned = sheared.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert apart(sheared, turned) >= 10


def test_a_hash_is_one_64_bit_number_whatever_the_picture() -> None:
    random = np.random.default_rng(1)
    odd = [
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (1, 500), "white"),
        Image.new("RGB", (3000, 2)),
        *(Image.fromarray(random.integers(0, 256, (9, 7, 3), np.uint8)) for _ in range(30)),
    ]
    hashes = [perceptual_hash(picture) for picture in odd]
    assert hashes == [perceptual_hash(picture.copy()) for picture in odd]
    assert all(-(2**63) <= value < 2**63 for value in hashes)
    assert {value < 0 for value in hashes} == {True, False}, "the whole range, sign included"
