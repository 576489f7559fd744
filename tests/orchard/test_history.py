"""Spark's own history server over event logs that were fetched from S3."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from orchard.spark_history import command, environment, fetch
from spark_job.contract import SPARK_EVENTS
from spark_job.engines.spark import find_java
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.spark

JOB = """
import sys
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master("local[1]").appName("orchard b run-1")
    .config("spark.eventLog.enabled", "true")
    .config("spark.eventLog.dir", sys.argv[1])
    .config("spark.eventLog.rolling.enabled", "true")
    .config("spark.eventLog.compress", "true")
    .getOrCreate()
)
spark.range(10).count()
spark.stop()
"""


def test_a_run_is_found_in_the_history(bucket: str, tmp_path: Path) -> None:
    written, fetched = tmp_path / "written", tmp_path / "fetched"
    written.mkdir()
    subprocess.run(
        [sys.executable, "-c", JOB, written.as_uri()],
        check=True,
        env={**os.environ, "JAVA_HOME": find_java()},
    )
    logs = open_folder(f"s3://{bucket}/{tmp_path.name}")
    logs.write(f"{SPARK_EVENTS}/", b"")
    files = [path for path in written.rglob("*") if path.is_file() and path.suffix != ".crc"]
    for path in files:
        logs.write(f"{SPARK_EVENTS}/{path.relative_to(written).as_posix()}", path.read_bytes())
    assert fetch(logs, fetched, ["application_none"]) == 0
    assert fetch(logs, fetched) == len(files) > 0
    assert _applications(fetched) == ["orchard b run-1"]


def _applications(folder: Path) -> list[str]:
    """Serve the logs of a folder, and return the names of the applications that are shown."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(command(), env=environment(folder, port), start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                url = f"http://127.0.0.1:{port}/api/v1/applications"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    found = [application["name"] for application in json.load(answer)]
            except OSError:
                found = []
            if found:
                return found
            time.sleep(0.5)
        return []
    finally:
        server.kill()
        server.wait()
