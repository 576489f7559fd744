"""Spark's own history server, here, over the event logs of a deployment: ``make history``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from operations.account import AccountError, configured, find_account
from operations.destroy import find_outputs
from spark_job.contract import SPARK_EVENTS
from stacks.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the logs, and serve them until interrupted."""
    parser = argparse.ArgumentParser(prog="make history", description=__doc__)
    parser.add_argument("--logs", type=Path, help="a folder of event logs instead of the stack's")
    parser.add_argument("--port", type=int, default=18080)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.logs
        if folder is None:
            folder = Path(scratch)
            try:
                config = configured()
                account = find_account(config)
                outputs = find_outputs(account, config.name)
            except (AccountError, ConfigError) as error:
                sys.exit(f"orchard: {error}")
            if outputs is None:
                sys.exit(
                    f"orchard: there is no stack {config.name} in {account.region}; make deploy"
                )
            s3 = account.session.client("s3", region_name=account.region)
            fetched = fetch(s3, outputs["LogBucket"], folder)
            print(f"fetched {fetched} files of event logs", flush=True)
        print(f"Spark's history is at http://localhost:{given.port} until Ctrl-C", flush=True)
        try:
            return subprocess.call(command(), env=environment(folder, given.port))
        except KeyboardInterrupt:
            return 130


def fetch(s3: Any, bucket: str, folder: Path) -> int:
    """Fetch the event logs of a log bucket into a folder, and return how many files there are."""
    count = 0
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{SPARK_EVENTS}/")
    for page in pages:
        for found in page.get("Contents", []):
            name = found["Key"].removeprefix(f"{SPARK_EVENTS}/")
            if not name or name.endswith("/"):
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, found["Key"], str(path))
            count += 1
    return count


def command() -> list[str]:
    """Return the command of Spark's history server, which pyspark brings."""
    import pyspark

    home = Path(pyspark.__file__).parent
    return [str(home / "bin" / "spark-class"), "org.apache.spark.deploy.history.HistoryServer"]


def environment(folder: Path, port: int) -> dict[str, str]:
    """Return the environment of a history server over a folder."""
    from spark_job.engines.spark import find_java

    settings = {
        "spark.history.fs.logDirectory": folder.resolve().as_uri(),
        "spark.history.ui.port": str(port),
        "spark.history.fs.update.interval": "10s",
    }
    options = " ".join(f"-D{name}={value}" for name, value in settings.items())
    return {**os.environ, "JAVA_HOME": find_java(), "SPARK_HISTORY_OPTS": options}


if __name__ == "__main__":
    sys.exit(main())
