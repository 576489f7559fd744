"""Export Keras' MobileNetV2 to the LiteRT model that the job runs.

    python -m spark_job.networks.export [WEIGHTS.h5]

Without a path Keras downloads its own ImageNet weights. TensorFlow is needed here and nowhere
else in the job. Writes ``network.tflite`` and its card ``card.json`` into ``mobilenet_v2/``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "mobilenet_v2"
WEIGHTS_NAME = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


def main() -> None:
    """Export, write the card, and say where they are."""
    parser = argparse.ArgumentParser(prog="python -m spark_job.networks.export")
    parser.add_argument(
        "weights",
        nargs="?",
        type=Path,
        help="MobileNetV2 weights (alpha 1.0, no top, .h5); default: Keras' own download",
    )
    weights: Path = parser.parse_args().weights or _download()
    if not weights.is_file():
        parser.error(f"there is no weights file at {weights}")
    content = export(keras_model(str(weights)))
    (HERE / "network.tflite").write_bytes(content)
    (HERE / "card.json").write_text(
        json.dumps(card(_sha256(weights.read_bytes()), _sha256(content)), indent=2) + "\n"
    )
    print(f"{HERE / 'mobilenet_v2.tflite'}: {len(content):,} bytes, sha256 {_sha256(content)}")


def keras_model(weights: str | None) -> Any:
    """MobileNetV2 up to its pooled features: float32 [n, 224, 224, 3] to [n, 1280].

    Parameters
    ----------
    weights
        Path of an ``.h5`` file, or None for random weights.
    """
    import keras

    return keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), include_top=False, pooling="avg", weights=weights
    )


def export(model: Any) -> bytes:
    """LiteRT flatbuffer of `model` with its batch fixed to one image, float32 throughout."""
    import keras
    import tensorflow as tf

    one_image = keras.Input(batch_shape=(1, *model.input_shape[1:]))
    fixed = keras.Model(one_image, model(one_image))
    return bytes(tf.lite.TFLiteConverter.from_keras_model(fixed).convert())


def card(source_sha256: str, export_sha256: str) -> dict[str, Any]:
    """What a reader must know of the exported network; the job checks `sha256` at each load."""
    import keras
    import tensorflow

    return {
        "name": "mobilenet_v2",
        "description": "MobileNetV2 (alpha 1.0), ImageNet, without its classifier: one image to "
        "1,280 globally average-pooled features",
        "file": "network.tflite",
        "sha256": export_sha256,
        "source": {
            "origin": "keras.applications.MobileNetV2(include_top=False, pooling='avg')",
            "weights": WEIGHTS_NAME,
            "sha256": source_sha256,
            "licence": "Apache-2.0",
        },
        "input": {"shape": [1, 224, 224, 3], "dtype": "float32", "channels": "RGB"},
        "output": {"shape": [1, 1280], "dtype": "float32"},
        "preprocessing": "EXIF orientation applied; alpha composited on white; RGB; Pillow "
        "bicubic resize to 224x224; x / 127.5 - 1",
        "tolerance": "within 1e-4 of Keras on the same pixels, per feature",
        "exported_with": {"tensorflow": tensorflow.__version__, "keras": keras.__version__},
    }


def _download() -> Path:
    import keras

    keras_model("imagenet")
    return Path(keras.config.keras_home()) / "models" / WEIGHTS_NAME


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
