"""A well-made script without Spark: tf.data feeds ``model.predict``, scikit-learn does the rest."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from keras.applications.mobilenet_v2 import MobileNetV2, preprocess_input

SIDE = 224
BATCH = 32


def main() -> None:
    """Turn a folder of images into vectors; prints k."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.single_machine", description=main.__doc__
    )
    parser.add_argument("--images", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--variance", type=float, default=0.80)
    arguments = parser.parse_args()

    paths = sorted(path for path in Path(arguments.images).rglob("*") if path.is_file())
    pixels = (
        tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
        .map(to_pixels, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )
    network = MobileNetV2(
        weights=None, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3)
    )
    network.load_weights(arguments.weights)
    features = network.predict(pixels, verbose=0)
    standardized = StandardScaler().fit_transform(features)
    vectors = PCA(arguments.variance).fit_transform(standardized)

    columns = {
        "path": [str(path) for path in paths],
        "label": [path.parent.name for path in paths],
        "vector": list(vectors),
    }
    parquet.write_table(pa.table(columns), arguments.output)
    print(json.dumps({"k": vectors.shape[1]}))


def to_pixels(path: tf.Tensor) -> tf.Tensor:
    """Decode, resize and scale one image, as near to the job as TensorFlow comes.

    Its resize keeps fractions that Pillow rounds to whole levels, hence the rounding.
    """
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
    resized = tf.cond(
        tf.reduce_any(tf.shape(image)[:2] > SIDE),
        partial(tf.image.resize, image, (SIDE, SIDE), "bicubic", antialias=True),
        # Enlarging needs no antialiasing, and is four times faster without.
        partial(tf.image.resize, image, (SIDE, SIDE), "bicubic"),
    )
    return preprocess_input(tf.clip_by_value(tf.round(resized), 0, 255))


if __name__ == "__main__":
    main()
