"""Keras' applications to flatbuffers and cards, and what is refused on the way."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spark_job.networks import Scaling, export, load_card, load_network, load_provenance
from spark_job.networks.card import parse_card
from spark_job.networks.export import ExportError
from spark_job.networks.extractor import Extractor
from tests.spark_job.jobs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.keras

# Order of channels and scaling of the modes that keras.applications.imagenet_utils documents.
NOTHING = ("RGB", Scaling())
TF = ("RGB", Scaling((127.5,) * 3, (1.0,) * 3))
CAFFE = ("BGR", Scaling(subtract=(103.939, 116.779, 123.68)))
TORCH = ("RGB", Scaling((255.0,) * 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

APPLICATIONS = {
    "ConvNeXtTiny": ("convnext_tiny", NOTHING),
    "ConvNeXtXLarge": ("convnext_xlarge", NOTHING),
    "DenseNet121": ("densenet121", TORCH),
    "EfficientNetB0": ("efficientnet_b0", NOTHING),
    "EfficientNetV2B0": ("efficientnet_v2_b0", NOTHING),
    "EfficientNetV2L": ("efficientnet_v2_l", NOTHING),
    "InceptionResNetV2": ("inception_resnet_v2", TF),
    "InceptionV3": ("inception_v3", TF),
    "MobileNet": ("mobilenet", TF),
    "MobileNetV2": ("mobilenet_v2", TF),
    "MobileNetV3Small": ("mobilenet_v3_small", NOTHING),
    "NASNetMobile": ("nasnet_mobile", TF),
    "ResNet50": ("resnet50", CAFFE),
    "ResNet50V2": ("resnet50_v2", TF),
    "VGG16": ("vgg16", CAFFE),
    "Xception": ("xception", TF),
}


@pytest.mark.parametrize("application", APPLICATIONS)
def test_folder_and_scaling_follow_from_the_application(application: str) -> None:
    found = export.find_application(application.upper())
    preprocessing = export.find_scaling(export.preprocessing_of(found))
    assert (export.folder_name(found.__name__), preprocessing) == APPLICATIONS[application]


def test_every_application_has_a_folder_of_its_own_and_a_scaling() -> None:
    import keras

    applications = [name for name in dir(keras.applications) if name[0].isupper()]
    assert len({export.folder_name(name) for name in applications}) == len(applications) > 30
    for name in applications:
        export.find_scaling(export.preprocessing_of(export.find_application(name)))


def test_another_preprocessing_is_refused() -> None:
    def preprocess_input(pixels: Any) -> Any:
        return pixels / 128 - 1

    with pytest.raises(ExportError, match=r"preprocess_input does .* none of the scalings"):
        export.find_scaling(preprocess_input)


@pytest.mark.parametrize(
    ("largest", "apart", "tolerance"),
    [
        (5.8, 2.6e-5, 1e-4),
        (4.9, 9e-5, 1e-3),
        (0.8, 1e-6, 1e-5),
        (300, 0.3, 1),
        (5.0, 0.0, 1e-6),
    ],
)
def test_tolerance_follows_the_distance_from_keras(
    largest: float, apart: float, tolerance: float
) -> None:
    assert export.tolerance_for(largest, apart) == tolerance


@pytest.mark.parametrize(
    ("largest", "apart"), [(0, 0), (np.nan, 0), (np.inf, 0), (1, 1.1e-3), (1, np.nan), (300, 0.31)]
)
def test_what_rounding_does_not_explain_is_refused(largest: float, apart: float) -> None:
    with pytest.raises(ExportError, match=r"check the weights|nothing was written"):
        export.tolerance_for(largest, apart)


def run_export(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spark_job.networks.export", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.shared
def test_the_committed_network_is_what_its_weights_give(shared: Path, tmp_path: Path) -> None:
    [weights] = (shared / "weights").glob("*.h5")
    options = ["--weights", str(weights), "--into", str(tmp_path), "--licence", "Apache-2.0"]
    ended = run_export("mobilenetv2", *options)
    assert ended.returncode == 0, ended.stderr
    assert f"{tmp_path}/mobilenet_v2: 1,280 features of 224x224 pixels" in ended.stdout
    folder = tmp_path / "mobilenet_v2"
    content = (folder / "network.tflite").read_bytes()
    card = parse_card("mobilenet_v2", (folder / "card.json").read_bytes())
    assert card.sha256 == hashlib.sha256(content).hexdigest()
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    committed = load_card()
    ours = Extractor(committed, load_network(committed))(pixels)
    assert np.array_equal(Extractor(card, content)(pixels), ours)
    origin = json.loads((folder / "card.json").read_bytes())["provenance"]
    assert origin["weights"] == load_provenance()["weights"]
    assert origin["licence"] == "Apache-2.0"


def test_a_flatbuffer_that_is_not_keras_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed network for one of other weights: the same shapes, other features."""
    monkeypatch.setattr(export, "convert", lambda _: load_network(load_card()))
    with pytest.raises(ExportError, match=r"from Keras on the same pixels, .* nothing was written"):
        export.export("MobileNetV2", "random", into=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("MobileNetV9", "did you mean MobileNetV2"),
        ("efficientnetv2", "EfficientNetV2"),
        ("kiwi", "keras.applications has no 'kiwi'; it has ConvNeXtBase, "),
        ("imagenet_utils", "has no 'imagenet_utils'"),
    ],
)
def test_an_application_that_keras_lacks_is_refused(network: str, told: str) -> None:
    with pytest.raises(ExportError) as refused:
        export.find_application(network)
    assert told in str(refused.value)


def test_what_the_command_refuses_is_one_sentence(tmp_path: Path) -> None:
    ended = run_export("MobileNetV2", "--weights", str(tmp_path / "none.h5"))
    assert ended.returncode == 1
    assert (
        ended.stderr.splitlines()[-1] == f"export: there is no weights file at {tmp_path}/none.h5"
    )
    assert run_export().returncode == 2


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import keras

    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ExportError, match=r"MobileNetV2 without its classifier does not take the"):
        export.export("MobileNetV2", str(tmp_path / "other.weights.h5"), into=tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("name", ["Mobile Net", "../up", "", "a/b", "_"])
def test_a_name_that_is_no_folder_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is not small letters and digits"):
        export.export("MobileNetV2", "random", into=tmp_path, name=name)
