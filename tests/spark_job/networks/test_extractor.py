from __future__ import annotations

import hashlib
import json
import shutil
import sys
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from spark_job.decode import decode
from spark_job.errors import JobError
from spark_job.networks.extractor import (
    Extractor,
    extractor_id,
    load_card,
    load_network,
    shared_extractor,
)
from tests.spark_job.photographs import fruit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def test_an_image_has_1280_features_and_always_the_same() -> None:
    pixels = np.asarray(fruit(1, 224))
    first = shared_extractor()(pixels).copy()
    assert first.shape == (1280,)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    shared_extractor()(np.asarray(fruit(2, 224)))
    assert np.array_equal(shared_extractor()(pixels), first)
    assert np.array_equal(Extractor(load_network(load_card()))(pixels), first)


def test_features_tell_images_apart_and_are_kept_by_the_caller() -> None:
    one, other = (shared_extractor()(np.asarray(fruit(seed, 224))) for seed in (1, 2))
    assert np.abs(one - other).max() > 0.1


def test_the_card_describes_the_network_that_lies_beside_it() -> None:
    card = load_card()
    content = (resources.files("spark_job.networks") / "mobilenet_v2" / card["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert card["source"]["licence"] == "Apache-2.0"
    assert len(card["source"]["sha256"]) == 64
    assert "1e-4" in card["tolerance"]


def test_the_extractors_id_follows_weights_and_preprocessing_and_nothing_else() -> None:
    card = load_card()
    same = card | {"description": "other words", "exported_with": {}, "sha256": "of another export"}
    assert extractor_id(same) == extractor_id(card)
    assert extractor_id(card | {"preprocessing": "other"}) != extractor_id(card)
    assert extractor_id(card | {"source": {"sha256": "0" * 64}}) != extractor_id(card)


def test_a_damaged_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resources.files("spark_job.networks")
    with resources.as_file(source) as folder:
        shutil.copytree(folder, tmp_path / "networks")
    network = tmp_path / "networks" / "mobilenet_v2" / load_card()["file"]
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    patched = "spark_job.networks.extractor.resources.files"
    monkeypatch.setattr(patched, lambda _: tmp_path / "networks")
    with pytest.raises(JobError, match=r"network\.tflite is damaged: .*restore the file"):
        load_network(load_card())


def test_running_needs_no_tensorflow() -> None:
    import subprocess

    code = (
        "import sys, numpy; from spark_job.networks.extractor import shared_extractor;"
        "shared_extractor()(numpy.zeros((224, 224, 3), 'uint8'));"
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
    assert worst < 1e-4


@pytest.mark.shared
@pytest.mark.keras
def test_features_equal_those_of_keras(shared: Path, fruits: Path) -> None:
    from keras.applications.mobilenet_v2 import preprocess_input

    from spark_job.networks.export import keras_model

    [weights] = (shared / "weights").glob("*.h5")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == load_card()["source"]["sha256"]
    paths = sorted(fruits.rglob("*.jpg"))[::9]
    assert len(paths) > 20
    images = [Image.open(path).convert("RGB").resize((224, 224)) for path in paths]
    batch = preprocess_input(np.stack([np.asarray(image, np.float32) for image in images]))
    expected: NDArray[Any] = keras_model(str(weights)).predict(batch, verbose=0)
    found = np.stack([features_of(path) for path in paths])
    assert np.abs(found - expected).max() < 1e-4


def features_of(path: Path) -> NDArray[np.float32]:
    return shared_extractor()(decode(path.read_bytes(), max_pixels=10**6).pixels).copy()


def test_the_card_is_readable_json() -> None:
    folder = resources.files("spark_job.networks") / "mobilenet_v2"
    with resources.as_file(folder / "card.json") as path:
        assert json.loads(path.read_text("utf-8")) == load_card()
