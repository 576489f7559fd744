"""The least that a Spark Python job can be: start, copy two rows in Python, write them, stop."""

from __future__ import annotations

import argparse
import os
import sys

from pyspark.sql import SparkSession

from spark_job.engines.spark import find_java


def main() -> None:
    """Copy two rows through ``mapInArrow`` into a Parquet file, all of Spark's settings default."""
    parser = argparse.ArgumentParser("python -m benchmarks.empty_job", description=main.__doc__)
    parser.add_argument("--output", required=True)
    output = parser.parse_args().output
    os.environ["JAVA_HOME"] = find_java()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[*]").appName("empty").getOrCreate()
    spark.range(2).mapInArrow(lambda batches: batches, "id bigint").write.parquet(output)
    spark.stop()


if __name__ == "__main__":
    main()
