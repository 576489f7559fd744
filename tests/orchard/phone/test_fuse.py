"""The fused file gives what the job's own code gives, whatever the network takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from orchard.phone.export import MOST_BYTES
from orchard.phone.fuse import ALIGNMENT, Weights, fuse, read_about
from orchard.phone.head import probabilities
from orchard.phone.running import PhoneModel
from spark_job.networks import Scaling, load_card, load_network
from spark_job.networks.export import random_images
from spark_job.networks.extractor import Extractor
from spark_job.pca import PCAModel

CARD = load_card()
NETWORK = load_network(CARD)
IMAGES = random_images(4, CARD.height, CARD.width)

SCALINGS = {
    "as it is": (CARD.channels, CARD.scaling),
    "no scaling": ("RGB", Scaling()),
    "blue first": ("BGR", Scaling(subtract=(103.939, 116.779, 123.68))),
    "by channel": (
        "RGB",
        Scaling((255.0,) * 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ),
}


def model(k: int, *, seed: int = 0) -> PCAModel:
    """A model of MobileNetV2's features of k components, of ordinary means and scales."""
    random = np.random.default_rng(seed)
    rows, _ = np.linalg.qr(random.normal(size=(CARD.features, k)))
    mean, scale = random.uniform(0, 2, CARD.features), random.uniform(0.05, 1, CARD.features)
    return PCAModel(mean, scale, rows.T, np.ones(CARD.features))


def head(labels: int, k: int) -> Weights:
    random = np.random.default_rng(1)
    return Weights(random.normal(size=(labels, k)) / 10, random.normal(size=labels))


@pytest.mark.parametrize("k", [1, 40, CARD.features])
def test_vectors_are_the_jobs_own_and_the_file_is_small(k: int) -> None:
    pca = model(k)
    content = fuse(NETWORK, CARD, pca, b"{}")
    assert len(content) < MOST_BYTES
    run, extract = PhoneModel(content), Extractor(CARD, NETWORK)
    for pixels in IMAGES:
        expected = pca.project(extract(pixels)[np.newaxis])[0]
        assert np.abs(run(pixels)["vector"] - expected).max() < 1e-4


@pytest.mark.parametrize("name", SCALINGS)
def test_every_scaling_and_order_of_channels_is_put_in_front(name: str) -> None:
    channels, scaling = SCALINGS[name]
    card = replace(CARD, channels=channels, scaling=scaling)
    nothing = PCAModel(
        np.zeros(CARD.features),
        np.ones(CARD.features),
        np.eye(CARD.features),
        np.ones(CARD.features),
    )
    run, extract = PhoneModel(fuse(NETWORK, card, nothing, b"{}")), Extractor(card, NETWORK)
    for pixels in IMAGES:
        assert np.array_equal(run(pixels)["vector"], extract(pixels))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("labels", [2, 131])
def test_a_head_gives_probabilities_beside_the_vector(labels: int, half: bool) -> None:
    pca, weights = model(CARD.features), head(labels, CARD.features)
    content = fuse(NETWORK, CARD, pca, b"{}", weights, half=half)
    assert not half or len(content) < MOST_BYTES
    found = PhoneModel(content)(IMAGES[0])
    expected = probabilities(weights, found["vector"][np.newaxis])[0]
    assert set(found) == {"vector", "probabilities"}
    assert found["probabilities"].sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found["probabilities"] - expected).max() < (5e-3 if half else 1e-4)


def test_an_app_finds_its_tensors_by_name_and_the_card_in_the_metadata() -> None:
    about = '{"label": "リンゴ"}'.encode()
    content = fuse(NETWORK, CARD, model(5), about, head(3, 5))
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["photograph"], "outputs": ["probabilities", "vector"]}
    }
    [taken] = interpreter.get_input_details()
    given = interpreter.get_output_details()
    assert (taken["name"], taken["dtype"], taken["shape"].tolist()) == (
        "photograph",
        np.uint8,
        [1, 224, 224, 3],
    )
    assert [(one["name"], one["dtype"], one["shape"].tolist()) for one in given] == [
        ("vector", np.float32, [1, 5]),
        ("probabilities", np.float32, [1, 3]),
    ]
    assert read_about(content) == about
    assert read_about(NETWORK) is None


def test_constants_lie_where_a_phone_can_read_them_in_place() -> None:
    content = fuse(NETWORK, CARD, model(3), b"odd")
    model_ = schema.Model.GetRootAs(content, 0)
    buffers = [model_.Buffers(number) for number in range(model_.BuffersLength())]
    field = 4  # of `data` in a buffer's table
    starts = [
        buffer._tab.Vector(buffer._tab.Offset(field)) for buffer in buffers if buffer.DataLength()
    ]
    assert len(starts) > 100
    assert {start % ALIGNMENT for start in starts} == {0}


def test_a_file_fused_twice_is_the_same_file() -> None:
    assert fuse(NETWORK, CARD, model(3), b"{}") == fuse(NETWORK, CARD, model(3), b"{}")
