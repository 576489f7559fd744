"""A network that nobody wrote code for: a folder is all it takes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spark_job.decode import decode
from spark_job.networks import load_card
from spark_job.networks.card import Card, parse_card
from spark_job.networks.extractor import Extractor
from tests.spark_job.jobs import REPOSITORY, files_below
from tests.spark_job.networks.conftest import SECOND, SECOND_CLASS, SECOND_SEED
from tests.spark_job.photographs import encoded, fruit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def card(checkout_with_second_network: Path) -> Card:
    folder = checkout_with_second_network / "spark_job" / "networks" / SECOND
    return parse_card(SECOND, (folder / "card.json").read_bytes())


@pytest.fixture(scope="module")
def pixels(card: Card) -> NDArray[np.uint8]:
    """Fruits as the card wants them: uint8 [4, height, width, 3]."""
    contents = [encoded(fruit(seed, 150), "JPEG") for seed in range(4)]
    return np.stack([decode(content, card, max_pixels=10**6).pixels for content in contents])


@pytest.fixture(scope="module")
def features(checkout_with_second_network: Path, pixels: Any, tmp_path_factory: Any) -> Any:
    """What the checkout's own code makes of `pixels`, in a process of its own."""
    folder: Path = tmp_path_factory.mktemp("features")
    np.save(folder / "pixels.npy", pixels)
    code = (
        "import sys, numpy; from spark_job.networks.extractor import shared_extractor;"
        "from spark_job.networks import names;"
        "assert names() == ['efficientnet_v2_b0', 'mobilenet_v2'];"
        "extract = shared_extractor(sys.argv[1]);"
        "found = [extract(image) for image in numpy.load(sys.argv[2] + '/pixels.npy')];"
        "numpy.save(sys.argv[2] + '/features.npy', numpy.stack(found))"
    )
    subprocess.run(
        [sys.executable, "-c", code, SECOND, str(folder)],
        cwd=checkout_with_second_network,
        check=True,
    )
    return np.load(folder / "features.npy")


def test_adding_it_touched_no_code(checkout_with_second_network: Path) -> None:
    ours, theirs = REPOSITORY / "spark_job", checkout_with_second_network / "spark_job"
    own = {name for name in files_below(ours) if "__pycache__" not in name}
    found = {name for name in files_below(theirs) if "__pycache__" not in name}
    assert found - own == {f"networks/{SECOND}/{name}" for name in ("card.json", "network.tflite")}
    assert own <= found
    assert [
        name for name in own if (ours / name).read_bytes() != (theirs / name).read_bytes()
    ] == []


def test_it_featurizes_as_keras_does(features: Any, pixels: Any, card: Card) -> None:
    import keras

    from spark_job.networks import export

    network = export.build(export.find_application(SECOND_CLASS), "random", seed=SECOND_SEED)
    preprocess = keras.applications.efficientnet_v2.preprocess_input
    expected = network.predict(preprocess(pixels.astype(np.float32)), verbose=0)
    assert features.shape == (len(pixels), card.features)
    assert np.abs(features - expected).max() <= card.tolerance
    assert features.std(axis=0).mean() > 100 * card.tolerance, "images hardly differ"


def test_it_is_another_extractor(card: Card) -> None:
    assert card.extractor.startswith(f"{SECOND}-")
    assert card.extractor.rpartition("-")[2] != load_card().extractor.rpartition("-")[2]


def test_it_does_not_pass_for_the_first(
    card: Card, checkout_with_second_network: Path, pixels: Any, features: Any
) -> None:
    """Both have 1,280 features of 224x224 pixels: nothing but the ids tells them apart."""
    network = checkout_with_second_network / "spark_job" / "networks" / SECOND / "network.tflite"
    assert np.array_equal(Extractor(card, network.read_bytes())(pixels[0]), features[0])
    assert (card.features, card.width) == (load_card().features, load_card().width)
    assert card.extractor != load_card().extractor
