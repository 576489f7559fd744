from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spark_job.networks import export
from spark_job.networks.extractor import Extractor, extractor_id, load_network

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def model() -> Any:
    """MobileNetV2 with random weights, and statistics as unlike 0 and 1 as a trained one's."""
    import keras

    keras.utils.set_random_seed(7)
    model = export.keras_model(None)
    random = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, shape),
                    random.normal(0, 0.3, shape),
                    random.normal(0, 0.3, shape),
                    random.uniform(0.5, 1.5, shape),
                ]
            )
    return model


@pytest.fixture(scope="module")
def exported(model: Any) -> bytes:
    return export.export(model)


def test_the_export_computes_what_keras_computes(model: Any, exported: bytes) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), np.uint8)
    extract = Extractor(exported)
    found = np.stack([extract(image).copy() for image in pixels])
    expected = model.predict(pixels.astype(np.float32) / 127.5 - 1, verbose=0)
    assert expected.std() > 0.01, "random weights that give nothing compare nothing"
    assert np.abs(found - expected).max() < 1e-4 * max(1.0, float(np.abs(expected).max()))


def test_the_script_writes_a_network_and_the_card_that_the_job_checks(
    model: Any, exported: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.h5"
    model.save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "w.weights.h5").rename(weights)
    folder = tmp_path / "mobilenet_v2"
    folder.mkdir()
    monkeypatch.setattr(export, "HERE", folder)
    monkeypatch.setattr(export, "keras_model", lambda _: model)
    monkeypatch.setattr(export, "export", lambda _: exported)  # it takes a while
    monkeypatch.setattr(sys, "argv", ["export", str(weights)])
    export.main()
    card = json.loads((folder / "card.json").read_text())
    content = (folder / "network.tflite").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["source"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr("spark_job.networks.extractor.resources.files", lambda _: tmp_path)
    assert load_network(card) == content
    assert extractor_id(card).startswith("mobilenet_v2-")


def test_a_missing_weights_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / "none.h5")])
    with pytest.raises(SystemExit) as ended:
        export.main()
    assert ended.value.code == 2
    assert "there is no weights file at" in capsys.readouterr().err
