"""Pixels to features, against Keras, against somebody else's cluster, and against the card."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pyarrow import parquet

from spark_job.decode import decode
from spark_job.engines import Attempt
from spark_job.errors import JobError
from spark_job.networks import DEFAULT, Scaling, load_card, load_network, load_provenance
from spark_job.networks.extractor import Extractor, RatePass, scaler, shared_extractor
from tests.spark_job.photographs import fruit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CARD = load_card()


def test_an_image_has_as_many_features_as_the_card_says_and_always_the_same() -> None:
    pixels = np.asarray(fruit(1, 224))
    first = shared_extractor(DEFAULT)(pixels).copy()
    assert first.shape == (CARD.features,)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    shared_extractor(DEFAULT)(np.asarray(fruit(2, 224)))
    assert np.array_equal(shared_extractor(DEFAULT)(pixels), first)
    assert np.array_equal(Extractor(CARD, load_network(CARD))(pixels), first)


def test_features_tell_images_apart_and_are_kept_by_the_caller() -> None:
    one, other = (shared_extractor(DEFAULT)(np.asarray(fruit(seed, 224))) for seed in (1, 2))
    assert np.abs(one - other).max() > 0.1


def test_a_networks_rate_is_that_of_its_inferences() -> None:
    rate = RatePass(DEFAULT)(0, Attempt(0, lambda _: None))
    extract, pixels = shared_extractor(DEFAULT), np.asarray(fruit(1, 224))
    start = perf_counter()
    for _ in range(10):
        extract(pixels)
    assert rate == pytest.approx((perf_counter() - start) / 10, rel=0.9), "on a busy machine"


PIXELS = arrays.arrays(np.uint8, (2, 3, 3))
NUMBERS = st.floats(0.125, 300, width=32)
CHANNELS = st.one_of(NUMBERS.map(lambda number: (number,) * 3), st.tuples(*[NUMBERS] * 3))
STEP = st.one_of(st.none(), CHANNELS)


@given(PIXELS, st.sampled_from(["RGB", "BGR"]), STEP, STEP, STEP)
def test_scaling_is_its_formula(
    pixels: NDArray[np.uint8], channels: str, divide_by: Any, subtract: Any, then_divide_by: Any
) -> None:
    nothing = Scaling()
    scaling = Scaling(
        divide_by or nothing.divide_by,
        subtract or nothing.subtract,
        then_divide_by or nothing.then_divide_by,
    )
    found = np.empty(pixels.shape, np.float32)
    scaler(channels, scaling)(pixels, found)
    ordered = (pixels if channels == "RGB" else pixels[..., ::-1]).astype(np.float32)
    steps = [np.array(step, np.float32) for step in (divide_by, subtract, then_divide_by) if step]
    expected = ordered
    if divide_by:
        expected = expected / steps.pop(0)
    if subtract:
        expected = expected - steps.pop(0)
    if then_divide_by:
        expected = expected / steps.pop(0)
    assert np.array_equal(found, expected)


def test_mobilenet_sees_what_keras_preprocessing_makes_of_pixels() -> None:
    """Bit for bit x / 127.5 - 1 in float32: features of another rounding are other features."""
    pixels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, 2)
    found = np.empty(pixels.shape, np.float32)
    scaler(CARD.channels, CARD.scaling)(pixels, found)
    assert np.array_equal(found, pixels.astype(np.float32) / np.float32(127.5) - np.float32(1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"width": 192},
            "it takes float32 [1, 224, 224, 3], the card says float32 [1, 224, 192, 3]",
        ),
        ({"features": 1000}, "it gives float32 [1, 1280], the card says float32 [1, 1000]"),
    ],
)
def test_a_card_that_does_not_fit_its_flatbuffer_is_refused(
    change: dict[str, Any], told: str
) -> None:
    extract = Extractor(replace(CARD, **change), load_network(CARD))
    with pytest.raises(JobError) as refused:
        extract.warm_up()
    assert told in str(refused.value)
    assert "spark_job/networks/mobilenet_v2 does not fit its card" in str(refused.value)
    assert "correct the card" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"no network", bytes(5000)])
def test_what_is_no_flatbuffer_is_refused(content: bytes) -> None:
    with pytest.raises(JobError, match="mobilenet_v2 cannot be run by LiteRT"):
        Extractor(CARD, content).warm_up()


def test_running_needs_no_tensorflow() -> None:
    code = (
        "import sys, numpy; from spark_job.networks.extractor import shared_extractor;"
        "shared_extractor('mobilenet_v2')(numpy.zeros((224, 224, 3), 'uint8'));"
        "sys.exit(str([m for m in ('tensorflow', 'keras', 'pyspark') if m in sys.modules]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "[]" in ended.stderr.splitlines()[-1], ended.stderr


@pytest.mark.shared
def test_features_equal_those_of_an_independent_cluster(shared: Path, fruits: Path) -> None:
    """Somebody else's EMR cluster, with Keras: every image of theirs that is in the data set."""
    rows = parquet.read_table(shared / "reference" / "emr_features_280x1280.parquet").to_pylist()
    compared, worst = 0, 0.0
    for row in rows:
        path = fruits.joinpath(*row["path"].split("/")[-2:])
        if path.is_file():
            found = features_of(path)
            worst = max(worst, float(np.abs(found - np.array(row["features"])).max()))
            compared += 1
    assert compared > 200, f"only {compared} of the reference's {len(rows)} images were found"
    assert worst < CARD.tolerance


@pytest.mark.shared
@pytest.mark.keras
def test_features_equal_those_of_keras(shared: Path, fruits: Path) -> None:
    from keras.applications.mobilenet_v2 import MobileNetV2, preprocess_input

    [weights] = (shared / "weights").glob("*.h5")
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found == load_provenance()["weights"]["sha256"]
    paths = sorted(fruits.rglob("*.jpg"))[::9]
    assert len(paths) > 20
    images = [Image.open(path).convert("RGB").resize((224, 224)) for path in paths]
    batch = preprocess_input(np.stack([np.asarray(image, np.float32) for image in images]))
    network = MobileNetV2(
        input_shape=(224, 224, 3), include_top=False, pooling="avg", weights=str(weights)
    )
    expected: NDArray[Any] = network.predict(batch, verbose=0)
    features = np.stack([features_of(path) for path in paths])
    assert np.abs(features - expected).max() < CARD.tolerance


def features_of(path: Path) -> NDArray[np.float32]:
    return shared_extractor(DEFAULT)(decode(path.read_bytes(), CARD, max_pixels=10**6).pixels)
