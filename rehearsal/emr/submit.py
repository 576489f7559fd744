"""One step's ``spark-submit``, on the rehearsal's YARN.

Where it differs from EMR, all of it is here:

- Memory and cores are a laptop's, whatever the cluster's configuration says; so is the number of
  executors: one for each node, without dynamic allocation, which needs YARN's shuffle service.
- ``s3://`` is Apache's S3A with the local endpoint, where EMR 7.10 and later have their own build
  of it; credentials come through the environment and not from an instance's metadata service.
- Spark's jars are read from the pyspark package in place.
- The classifications ``spark-defaults`` and ``spark-env`` of the cluster's configurations are
  applied; the others (``yarn-site`` and so on) belong to machines that are not here.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

from rehearsal.emr import java
from spark_job.contract import NODE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OVERRIDES: Mapping[str, str] = {
    "spark.master": "yarn",
    "spark.submit.deployMode": "cluster",
    "spark.driver.memory": "768m",
    "spark.driver.cores": "1",
    "spark.executor.memory": "768m",
    "spark.executor.memoryOverhead": "512m",
    "spark.driver.memoryOverhead": "512m",
    "spark.executor.cores": "1",
    "spark.executor.instances": "2",
    "spark.dynamicAllocation.enabled": "false",
    "spark.shuffle.service.enabled": "false",
    "spark.yarn.jars": f"local:{java.PYSPARK_HOME}/jars/*",
    "spark.yarn.report.interval": "500ms",
    "spark.yarn.scheduler.heartbeat.interval-ms": "500",
    "spark.ui.enabled": "false",
    "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
    "spark.hadoop.fs.s3a.path.style.access": "true",
    "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    "spark.hadoop.fs.s3a.aws.credentials.provider": (
        "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
    ),
}

LOOPBACK = "127.0.0.1"

QUICK_START = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"
"""Java options for processes that live for seconds."""


def command(arguments: list[str], overrides: Mapping[str, str]) -> list[str]:
    """Return the command of a step whose own is `arguments`, beginning with ``spark-submit``.

    The step's arguments stay as they are; `overrides` come after its options, so that they win.
    """
    if not arguments or arguments[0] != "spark-submit":
        raise ValueError(f"A rehearsal runs spark-submit, not {' '.join(arguments[:1])}.")
    end = 1
    while end < len(arguments) and arguments[end].startswith("--"):
        end += 1 if arguments[end] in ("--verbose", "--supervise") else 2
    settings = [part for name, value in overrides.items() for part in ("--conf", f"{name}={value}")]
    submit = str(java.PYSPARK_HOME / "bin" / "spark-submit")
    return [submit, *arguments[1:end], *settings, *arguments[end:]]


def start(
    arguments: list[str],
    *,
    folder: Path,
    tag: str,
    configurations: list[dict[str, Any]],
    python: Path,
    yarn_conf_dir: Path,
    endpoint: str,
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Start a step; its standard output and error go to files of those names in `folder`.

    Parameters
    ----------
    arguments
        The step's command, as the state machine wrote it.
    folder
        The step's own folder.
    tag
        By which YARN knows the step's application.
    configurations
        The cluster's configurations, as ``RunJobFlow`` has them.
    python
        What stands for the Python under `NODE_PREFIX` in every container.
    yarn_conf_dir
        The folder with ``yarn-site.xml``.
    endpoint
        The local AWS's URL.
    environment
        Credentials, region and endpoint, for every container.
    """
    conf_dir = folder / "conf"
    conf_dir.mkdir(parents=True)
    defaults = _classification(configurations, "spark-defaults")
    jars = java.fetch(java.S3A)
    class_path = os.pathsep.join(map(str, jars))
    environment = {**environment, "SPARK_LOCAL_IP": LOOPBACK}
    local = _local_settings(endpoint, class_path, environment, python)
    local["spark.yarn.tags"] = tag
    local["spark.yarn.stagingDir"] = (folder / "staging").as_uri()
    merged = _with_node_python(defaults, python) | local
    for role in ("driver", "executor"):
        name = f"spark.{role}.extraJavaOptions"
        merged[name] = f"{defaults.get(name, '')} {QUICK_START}".strip()
    exports = _with_node_python(_exports(configurations), python)
    for name, value in exports.items():
        merged.setdefault(f"spark.yarn.appMasterEnv.{name}", value)
        merged.setdefault(f"spark.executorEnv.{name}", value)
    (conf_dir / "spark-defaults.conf").write_text(
        "".join(f"{name} {value}\n" for name, value in merged.items()), encoding="utf-8"
    )
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            command([_local_python(a, python) for a in arguments], OVERRIDES),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "JAVA_HOME": str(java.java_home()),
                "SPARK_HOME": str(java.PYSPARK_HOME),
                "SPARK_CONF_DIR": str(conf_dir),
                "SPARK_DIST_CLASSPATH": class_path,
                "SPARK_SUBMIT_OPTS": f"{QUICK_START} -Djava.io.tmpdir={folder}",
                "YARN_CONF_DIR": str(yarn_conf_dir),
                "HADOOP_CONF_DIR": str(yarn_conf_dir),
                "HADOOP_USER_NAME": "hadoop",
                **environment,
            },
        )


def _local_settings(
    endpoint: str, class_path: str, environment: Mapping[str, str], python: Path
) -> dict[str, str]:
    settings = dict(OVERRIDES)
    settings["spark.hadoop.fs.s3a.endpoint"] = endpoint
    settings["spark.driver.extraClassPath"] = class_path
    settings["spark.executor.extraClassPath"] = class_path
    settings["spark.pyspark.python"] = str(python)
    settings["spark.pyspark.driver.python"] = str(python)
    for name, value in environment.items():
        settings[f"spark.yarn.appMasterEnv.{name}"] = value
        settings[f"spark.executorEnv.{name}"] = value
    return settings


def _classification(configurations: list[dict[str, Any]], name: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for entry in configurations:
        if entry.get("Classification") == name:
            merged |= entry.get("Properties", {})
    return merged


def _exports(configurations: list[dict[str, Any]]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for entry in configurations:
        if entry.get("Classification") == "spark-env":
            merged |= _classification(entry.get("Configurations", []), "export")
    return merged


def _with_node_python(settings: Mapping[str, str], python: Path) -> dict[str, str]:
    return {name: _local_python(value, python) for name, value in settings.items()}


def _local_python(text: str, python: Path) -> str:
    return re.sub(rf"{NODE_PREFIX}/bin/python[\d.]*", str(python), text)
