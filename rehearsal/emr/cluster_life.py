"""The life of a local EMR cluster: bootstrap actions, steps, logs, and its end.

It goes through EMR's own states. Where it differs from EMR:

- Every cluster's nodes are two folders of this machine, see `rehearsal.emr.nodes`, and all clusters
  share one YARN. Instance types, fleets, Spot and scaling are accepted and have no effect; neither
  have security configurations and applications.
- Steps run with the settings of `rehearsal.emr.submit`.
- A cluster starts in a second; bootstrap and steps take the time that they take.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rehearsal.emr import submit
from rehearsal.emr.clusters import Shortage
from rehearsal.emr.nodes import Node, NodePool, write_python

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from rehearsal.aws.endpoint import Credentials, Endpoint
    from rehearsal.emr.clusters import Cluster, Step
    from rehearsal.emr.yarn import Yarn

NO_CAPACITY = {
    "Code": "INTERNAL_ERROR",
    "Message": "Failed to start the job flow due to an internal error",
}
ERROR_DETAIL = {
    "ErrorCode": "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ",
    "ErrorMessage": "Instance type m5.xlarge is not available in eu-west-1a now.",
}
"""How EMR words that a zone has no instances, from its documentation."""

STARTING_S = 1.0
"""How long a cluster stays in STARTING, in which EMR would find instances."""


class Life:
    """Lives the lives of clusters, each in a thread of its own.

    Parameters
    ----------
    endpoint
        The local AWS, which has the files that clusters fetch.
    yarn
        Where steps run.
    folder
        Where nodes and steps have their folders.
    narrate
        Receives a line about each thing that happens.
    on_state
        Called with each cluster that has entered another state.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        yarn: Yarn,
        folder: Path,
        narrate: Callable[[str], object],
        on_state: Callable[[Cluster], object],
    ) -> None:
        self._endpoint = endpoint
        self._yarn = yarn
        self._folder = folder
        self._narrate = narrate
        self._on_state = on_state
        self._pool = NodePool(folder)

    def run_cluster(self, cluster: Cluster) -> None:
        """Live a cluster's life, from STARTING to TERMINATED."""
        self._enter(cluster, "STARTING")
        nodes = self._pool.lend()
        failed = True
        try:
            cluster.terminate.wait(None if cluster.shortage is Shortage.LATE else STARTING_S)
            if cluster.shortage is Shortage.LATE:
                failed = False
                return
            if cluster.shortage is Shortage.ENDED:
                cluster.reason, cluster.errors = dict(NO_CAPACITY), [dict(ERROR_DETAIL)]
                return
            failed = not self._bootstrap(cluster, nodes)
            if not failed:
                self._serve(cluster, nodes)
        except Exception as error:  # A cluster's thread must end as a cluster does.
            cluster.reason = {"Code": "INTERNAL_ERROR", "Message": f"{error}"}
            failed = True
        finally:
            self._enter(cluster, "TERMINATING")
            for step in cluster.steps:
                if step.state in ("PENDING", "RUNNING"):
                    step.state, step.ended = "CANCELLED", time.time()
            self._pool.take_back(nodes)
            cluster.ended = time.time()
            self._enter(cluster, "TERMINATED_WITH_ERRORS" if failed else "TERMINATED")

    def _enter(self, cluster: Cluster, state: str) -> None:
        if cluster.state != state or state == "STARTING":
            cluster.state = state
            self._narrate(f"cluster {cluster.cluster_id} is {state}")
            self._on_state(cluster)

    def _bootstrap(self, cluster: Cluster, nodes: list[Node]) -> bool:
        """Run the bootstrap actions on every node at once; return whether all succeeded."""
        self._enter(cluster, "BOOTSTRAPPING")
        for number, action in enumerate(cluster.request.get("BootstrapActions", []), start=1):
            script = action["ScriptBootstrapAction"]
            started: list[tuple[Node, subprocess.Popen[bytes]]] = []
            for node in nodes:
                node.folder.mkdir(parents=True, exist_ok=True)
                body = self._read_object(cluster, script["Path"])
                environment = self._environment(self._credentials(cluster, node.instance_id))
                started.append((node, node.run(body, script.get("Args", []), environment)))
            failed = False
            for node, process in started:
                output = _output_of(process, cluster.terminate)
                key = f"node/{node.instance_id}/bootstrap-actions/{number}/stdout.gz"
                self._write_log(cluster, key, output)
                for line in output.decode(errors="replace").splitlines():
                    self._narrate(f"{node.instance_id}: {line[:200]}")
                if process.returncode and not cluster.terminate.is_set():
                    failed = True
                    cluster.reason = {
                        "Code": "BOOTSTRAP_FAILURE",
                        "Message": f"On an instance ({node.instance_id}), bootstrap action "
                        f"{number} returned a non-zero return code",
                    }
            if failed:
                return False
        cluster.ready = time.time()
        return True

    def _serve(self, cluster: Cluster, nodes: list[Node]) -> None:
        """Run steps one after the other until the cluster is to end."""
        keep = cluster.request.get("Instances", {}).get("KeepJobFlowAliveWhenNoSteps", False)
        cluster.idle_since = time.time()
        while not cluster.terminate.is_set():
            step = next((s for s in cluster.steps if s.state == "PENDING"), None)
            if step is None:
                if not keep:
                    cluster.reason = {"Code": "ALL_STEPS_COMPLETED", "Message": "Steps completed"}
                    return
                self._enter(cluster, "WAITING")
                if cluster.idle_timeout_s and (
                    time.time() - cluster.idle_since > cluster.idle_timeout_s
                ):
                    message = "Cluster was idle longer than its auto-termination policy allows"
                    cluster.reason = {"Code": "USER_REQUEST", "Message": message}
                    return
                cluster.terminate.wait(0.2)
                continue
            self._enter(cluster, "RUNNING")
            self._run(cluster, step, nodes)
            cluster.idle_since = time.time()
            if step.state == "FAILED":
                action = step.request.get("ActionOnFailure", "TERMINATE_CLUSTER")
                if action in ("TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"):
                    cluster.reason = {"Code": "STEP_FAILURE", "Message": "Shut down as step failed"}
                    return
                if action == "CANCEL_AND_WAIT":
                    for other in cluster.steps:
                        if other.state == "PENDING":
                            other.state = "CANCELLED"

    def _run(self, cluster: Cluster, step: Step, nodes: list[Node]) -> None:
        """Run one step to its end, or to the cluster's."""
        if step.cancelled:
            step.state, step.ended = "CANCELLED", time.time()
            return
        step.state, step.started = "RUNNING", time.time()
        self._narrate(f"step {step.step_id} {step.request['Name']} is RUNNING")
        folder = self._folder / cluster.cluster_id / step.step_id
        folder.mkdir(parents=True)
        python = write_python(folder / "python", nodes, self._yarn.ports())
        process = submit.start(
            list(step.request["HadoopJarStep"]["Args"]),
            folder=folder,
            tag=step.step_id,
            configurations=list(cluster.request.get("Configurations", [])),
            python=python,
            yarn_conf_dir=self._yarn.conf_dir,
            endpoint=self._endpoint.url,
            environment=self._environment(self._credentials(cluster, step.step_id)),
        )
        interrupted = False
        while process.poll() is None:
            if cluster.terminate.wait(0.2) or step.cancelled:
                interrupted = True
                break
        if interrupted:
            _kill(process)
            self._yarn.kill_applications(step.step_id)
        log = self._write_step_logs(cluster, step, folder)
        step.ended = time.time()
        if interrupted:
            step.state = "CANCELLED"
        elif process.returncode == 0:
            step.state = "COMPLETED"
        else:
            step.state = "FAILED"
            reason = _reason(folder / "stderr")
            step.failure = {"Reason": "Unknown Error.", "Message": reason, "LogFile": log}
        self._narrate(f"step {step.step_id} is {step.state}")

    def _write_step_logs(self, cluster: Cluster, step: Step, folder: Path) -> str:
        base = f"steps/{step.step_id}"
        for name in ("stdout", "stderr"):
            self._write_log(cluster, f"{base}/{name}.gz", (folder / name).read_bytes())
        for application in self._yarn.applications(step.step_id):
            for container, name, content in self._yarn.container_logs(application):
                key = f"containers/{application}/{container}/{name}.gz"
                self._write_log(cluster, key, content)
        uri = str(cluster.request.get("LogUri", "")).rstrip("/")
        return f"{uri}/{cluster.cluster_id}/{base}/stderr.gz"

    def _write_log(self, cluster: Cluster, name: str, content: bytes) -> None:
        """Write one log with the instance role's rights, as EMR's log pusher does."""
        uri = urlsplit(cluster.request.get("LogUri", "").replace("s3n://", "s3://"))
        if not uri.netloc:
            return
        prefix = uri.path.strip("/")
        key = "/".join(part for part in (prefix, cluster.cluster_id, name) if part)
        client = self._endpoint.client("s3", self._credentials(cluster, "logs"))
        with contextlib.suppress(Exception):  # As on EMR, a log that cannot be pushed is missing.
            client.put_object(Bucket=uri.netloc, Key=key, Body=gzip.compress(content))

    def _read_object(self, cluster: Cluster, uri: str) -> bytes:
        parts = urlsplit(uri)
        client = self._endpoint.client("s3", self._credentials(cluster, "bootstrap"))
        found = client.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
        return bytes(found["Body"].read())

    def _credentials(self, cluster: Cluster, session: str) -> Credentials:
        # The instance profile bears its role's name.
        return self._endpoint.assume(cluster.request["JobFlowRole"], session, "ec2")

    def _environment(self, credentials: Credentials) -> dict[str, str]:
        return {
            **credentials.environment(),
            "AWS_ENDPOINT_URL": self._endpoint.url,
            "AWS_REGION": self._endpoint.region,
            "AWS_DEFAULT_REGION": self._endpoint.region,
        }


def _output_of(process: subprocess.Popen[bytes], stop: threading.Event) -> bytes:
    """Return all output of `process`, which is killed when `stop` is set."""
    watcher = threading.Thread(target=_kill_when, args=(process, stop), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    return bytes(output)


def _kill_when(process: subprocess.Popen[bytes], stop: threading.Event) -> None:
    while process.poll() is None:
        if stop.wait(0.2):
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill `process` with its whole group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reason(stderr: Path) -> str:
    """Return the last exception that a step's log names, as EMR's FailureDetails do."""
    lines = stderr.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [line for line in lines if "Exception" in line and not line.startswith("\tat ")]
    return (found or lines or ["Unknown Error."])[-1][:1000]
