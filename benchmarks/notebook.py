"""The notebook shape that the job replaces: clear, common, and the network recomputed at each fit.

``binaryFile``, ``repartition(24)``, an iterator pandas UDF with ``model.predict`` and broadcast
weights, ``StandardScaler``, a first PCA to look at the explained variance, a second one with the
chosen k, and a Parquet table. Nothing is cached, so every pass over the features runs the network.
"""
# Hints stay objects here (no `annotations` import from the future): pandas_udf reads them.

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image
from pyspark.ml.feature import PCA, StandardScaler
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, element_at, split
from pyspark.sql.pandas.functions import pandas_udf

from spark_job.engines.spark import find_java

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.broadcast import Broadcast

PARTITIONS = 24
MANY_COMPONENTS = 500
"""Components of the first PCA, whose curve shows how many to keep."""


def main() -> None:
    """Turn a folder of images into vectors; prints k and how often the network ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notebook", description=main.__doc__)
    parser.add_argument("--images", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--variance", type=float, default=0.80)
    parser.add_argument("--partitions", type=int, default=PARTITIONS)
    arguments = parser.parse_args()

    os.environ["JAVA_HOME"] = find_java()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    spark = SparkSession.builder.master("local[*]").appName("notebook").getOrCreate()
    inferred = spark.sparkContext.accumulator(0)
    network = build_network()
    network.load_weights(arguments.weights)
    weights = spark.sparkContext.broadcast(network.get_weights())

    images = read_images(spark, arguments.images).repartition(arguments.partitions)
    featurize = make_featurizer(weights, inferred)
    features = images.select("path", "label", featurize("content").alias("features"))
    vectors, k = reduce_features(features, arguments.variance)
    vectors.write.parquet(arguments.output)
    spark.stop()
    print(json.dumps({"k": k, "inferred": inferred.value}))


def build_network() -> Any:
    """MobileNetV2 without its classifier, weights not loaded yet."""
    from keras.applications.mobilenet_v2 import MobileNetV2

    return MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))


def read_images(spark: SparkSession, folder: str) -> DataFrame:
    """Read the images below `folder` with their labels."""
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(folder)
    return files.withColumn("label", element_at(split(col("path"), "/"), -2))


def make_featurizer(weights: "Broadcast[list[Any]]", inferred: "Accumulator[int]") -> Any:
    """Give the UDF that turns an image's bytes into its features."""

    def featurize(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        network = build_network()
        network.set_weights(weights.value)
        for batch in batches:
            pixels = np.stack([to_pixels(content) for content in batch])
            inferred.add(len(pixels))
            yield pd.Series(list(network.predict(pixels, verbose=0)))

    as_udf: Any = pandas_udf  # whose typed overloads leave iterators out
    return as_udf(featurize, "array<float>")


def to_pixels(content: bytes) -> Any:
    """Decode, resize and scale one image as the job does; float32 [224, 224, 3]."""
    from keras.applications.mobilenet_v2 import preprocess_input

    image = Image.open(io.BytesIO(content)).convert("RGB").resize((224, 224))
    return preprocess_input(np.asarray(image, dtype=np.float32))


def reduce_features(
    features: DataFrame, variance: float, most: int = MANY_COMPONENTS
) -> tuple[DataFrame, int]:
    """Standardize, choose k by the explained variance of `most` components, and project."""
    rows = features.withColumn("features", array_to_vector(col("features")))
    scaler = StandardScaler(inputCol="features", outputCol="scaled", withMean=True, withStd=True)
    scaled = scaler.fit(rows).transform(rows)
    pca = PCA(k=most, inputCol="scaled", outputCol="vector")
    curve = np.cumsum(pca.fit(scaled).explainedVariance.toArray())
    k = int(np.searchsorted(curve, variance, side="right")) + 1
    vectors = pca.setK(k).fit(scaled).transform(scaled)
    return vectors.select("path", "label", vector_to_array(col("vector")).alias("vector")), k


if __name__ == "__main__":
    main()
