"""Spark's own history server, on this machine, over event logs that were fetched from a log bucket.

`orchard history` opens it over a run's, and `make history` over all of a deployment's.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from spark_job.contract import SPARK_EVENTS
from spark_job.errors import JobError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from spark_job.objects import Folder

LOOPBACK = "127.0.0.1"

PORT = 18080
"""Where Spark has it, unless it is told otherwise."""


def require_spark() -> None:
    """Refuse where there is no Spark, or no Java for it.

    Raises
    ------
    UsageError
        With the way to them.
    """
    if find_spec("pyspark") is None:
        raise UsageError(
            "Spark's history server comes with Spark; install Orchard with its extra `spark`"
        )


def fetch(logs: Folder, folder: Path, applications: Collection[str] | None = None) -> int:
    """Fetch event logs into a folder, and return how many files there are.

    Parameters
    ----------
    logs
        The root of all logs.
    folder
        Where to.
    applications
        Ids of Spark applications; None for all.
    """
    events = logs / SPARK_EVENTS
    count = 0
    for entry in events.entries():
        mine = applications is None or any(one in entry.name for one in applications)
        if not mine or entry.name.endswith("/"):
            continue
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(events.read(entry.name))
        count += 1
    return count


def serve(folder: Path, port: int) -> None:
    """Serve a folder of event logs until an interrupt.

    Raises
    ------
    JobError
        Where the server ends by itself, with the last that it says.
    """
    with tempfile.TemporaryFile("w+") as said:
        code = subprocess.call(
            command(), env=environment(folder, port), stdout=said, stderr=subprocess.STDOUT
        )
        said.seek(0)
        errors = [line for line in said if "Exception" in line and not line.startswith("\tat ")]
    told = f" ({errors[-1].strip()})" if errors else ""
    raise JobError(
        f"Spark's history server ended with code {code}{told}; if the port {port} is taken, say "
        "another --port"
    )


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
    return {
        **os.environ,
        "JAVA_HOME": find_java(),
        "SPARK_HISTORY_OPTS": options,
        "SPARK_LOCAL_IP": LOOPBACK,  # it would listen for everyone
    }
