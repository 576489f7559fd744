"""A local EMR: clusters that bootstrap nodes and run steps on the rehearsal's YARN.

It answers EMR's own API (the requests that Orchard makes; others are refused by name) and goes
through EMR's own states. Where it differs from EMR:

- Every cluster's nodes are two folders of this machine, see `rehearsal.nodes`, and all clusters
  share one YARN. Instance types, fleets, capacity, Spot and scaling are accepted and have no effect.
- Steps run with the settings of `rehearsal.submit`.
- A cluster starts in a second; bootstrap and steps take the time that they take.
- Security configurations and applications are accepted and have no effect.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rehearsal import submit
from rehearsal.calls import ACCOUNT, Request
from rehearsal.nodes import Node, NodePool, write_python

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from rehearsal.endpoint import Credentials, Endpoint, Response
    from rehearsal.yarn import Yarn

Narrate = Callable[[str], object]

STARTING_S = 1.0
"""How long a cluster stays in STARTING, in which EMR would find instances."""

ENDED = ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")


@dataclass
class Step:
    """One step of a cluster."""

    step_id: str
    request: Mapping[str, Any]
    state: str = "PENDING"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    failure: dict[str, str] = field(default_factory=dict)
    cancelled: bool = False

    def describe(self) -> dict[str, Any]:
        """Return it as ``DescribeStep`` does."""
        jar = self.request["HadoopJarStep"]
        status: dict[str, Any] = {
            "State": self.state,
            "StateChangeReason": {},
            "Timeline": _timeline(
                CreationDateTime=self.created,
                StartDateTime=self.started,
                EndDateTime=self.ended,
            ),
        }
        if self.failure:
            status["FailureDetails"] = self.failure
        return {
            "Id": self.step_id,
            "Name": self.request["Name"],
            "Config": {"Jar": jar["Jar"], "Args": jar.get("Args", []), "Properties": {}},
            "ActionOnFailure": self.request.get("ActionOnFailure", "TERMINATE_CLUSTER"),
            "Status": status,
        }


@dataclass
class Cluster:
    """One cluster."""

    cluster_id: str
    request: Mapping[str, Any]
    state: str = "STARTING"
    reason: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    ready: float | None = None
    ended: float | None = None
    steps: list[Step] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    idle_timeout_s: float | None = None
    idle_since: float = field(default_factory=time.time)
    terminate: threading.Event = field(default_factory=threading.Event)

    @property
    def arn_suffix(self) -> str:
        """The resource's part of its ARN."""
        return f"cluster/{self.cluster_id}"

    @property
    def alive(self) -> bool:
        """Whether it still costs money."""
        return not self.state.startswith("TERMINATED")

    def describe(self) -> dict[str, Any]:
        """Return it as ``DescribeCluster`` does."""
        instances = self.request.get("Instances", {})
        return {
            "Id": self.cluster_id,
            "Name": self.request["Name"],
            "Status": {
                "State": self.state,
                "StateChangeReason": self.reason,
                "Timeline": _timeline(
                    CreationDateTime=self.created,
                    ReadyDateTime=self.ready,
                    EndDateTime=self.ended,
                ),
            },
            "LogUri": self.request.get("LogUri"),
            "ReleaseLabel": self.request.get("ReleaseLabel"),
            "AutoTerminate": not instances.get("KeepJobFlowAliveWhenNoSteps", False),
            "TerminationProtected": instances.get("TerminationProtected", False),
            "ServiceRole": self.request["ServiceRole"],
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
        }


class LocalEmr:
    """The service: its API, and a thread for each cluster. Use as a context manager."""

    def __init__(
        self, endpoint: Endpoint, yarn: Yarn, folder: Path, narrate: Narrate = lambda _: None
    ) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.pool = NodePool(folder)
        self._endpoint = endpoint
        self._yarn = yarn
        self._folder = folder
        self._narrate = narrate
        self._numbers = itertools.count(1)
        self._threads: list[threading.Thread] = []
        endpoint.handlers["elasticmapreduce"] = self.handle
        endpoint.tags_of = self._tags_of

    def __enter__(self) -> LocalEmr:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every cluster and wait for their threads."""
        for cluster in self.clusters.values():
            cluster.terminate.set()
        for thread in self._threads:
            thread.join()

    def alive(self) -> list[Cluster]:
        """Return the clusters that are not terminated."""
        return [cluster for cluster in self.clusters.values() if cluster.alive]

    def handle(self, request: Request) -> Response:
        """Answer one request of EMR's API."""
        operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "RunJobFlow": self._run_job_flow,
            "AddJobFlowSteps": self._add_steps,
            "CancelSteps": self._cancel_steps,
            "DescribeStep": lambda body: {"Step": self._step(body).describe()},
            "ListSteps": lambda body: {
                "Steps": [step.describe() for step in reversed(self._cluster(body).steps)]
            },
            "DescribeCluster": lambda body: {"Cluster": self._cluster(body).describe()},
            "ListClusters": self._list_clusters,
            "TerminateJobFlows": self._terminate,
            "AddTags": self._add_tags,
            "PutAutoTerminationPolicy": self._put_idle_limit,
        }
        operation = operations.get(request.operation)
        if operation is None:
            return _refused(f"The rehearsal does not know {request.operation}.")
        try:
            return 200, operation(request.json)
        except LookupError as error:
            return _refused(str(error.args[0]))

    def _run_job_flow(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = Cluster(f"j-{next(self._numbers):013d}", body)
        cluster.tags = {tag["Key"]: tag.get("Value", "") for tag in body.get("Tags", [])}
        self._set_idle_limit(cluster, body.get("AutoTerminationPolicy"))
        self.clusters[cluster.cluster_id] = cluster
        self._append_steps(cluster, body.get("Steps", []))
        thread = threading.Thread(
            target=self._live, args=(cluster,), name=cluster.cluster_id, daemon=True
        )
        self._threads.append(thread)
        thread.start()
        return {"JobFlowId": cluster.cluster_id, "ClusterArn": self._arn(cluster)}

    def _add_steps(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(body)
        if cluster.state in ENDED or cluster.terminate.is_set():
            raise LookupError(f"A job flow that is shutting down may not be modified: {cluster}.")
        return {"StepIds": self._append_steps(cluster, body["Steps"])}

    def _append_steps(self, cluster: Cluster, requests: list[dict[str, Any]]) -> list[str]:
        steps = [Step(f"s-{next(self._numbers):013d}", request) for request in requests]
        cluster.steps.extend(steps)
        return [step.step_id for step in steps]

    def _cancel_steps(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(body)
        for step in cluster.steps:
            if step.step_id in body["StepIds"]:
                step.cancelled = True
        answers = [{"StepId": step, "Status": "SUBMITTED"} for step in body["StepIds"]]
        return {"CancelStepsInfoList": answers}

    def _list_clusters(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = body.get("ClusterStates") or ()
        return {
            "Clusters": [
                {"Id": c.cluster_id, "Name": c.request["Name"], "Status": c.describe()["Status"]}
                for c in reversed(self.clusters.values())
                if not wanted or c.state in wanted
            ]
        }

    def _terminate(self, body: dict[str, Any]) -> dict[str, Any]:
        for cluster_id in body["JobFlowIds"]:
            cluster = self._cluster({"ClusterId": cluster_id})
            if cluster.request.get("Instances", {}).get("TerminationProtected"):
                raise LookupError("Could not shut down one or more job flows: protected.")
            if not cluster.reason:
                cluster.reason = {"Code": "USER_REQUEST", "Message": "Terminated by user request"}
            cluster.terminate.set()
        return {}

    def _add_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster({"ClusterId": body["ResourceId"]})
        cluster.tags |= {tag["Key"]: tag.get("Value", "") for tag in body["Tags"]}
        return {}

    def _put_idle_limit(self, body: dict[str, Any]) -> dict[str, Any]:
        self._set_idle_limit(self._cluster(body), body.get("AutoTerminationPolicy"))
        return {}

    def _set_idle_limit(self, cluster: Cluster, policy: dict[str, Any] | None) -> None:
        cluster.idle_timeout_s = float(policy["IdleTimeout"]) if policy else None

    def _cluster(self, body: dict[str, Any]) -> Cluster:
        cluster_id = body.get("ClusterId") or body.get("JobFlowId") or ""
        if cluster_id not in self.clusters:
            raise LookupError(f"Cluster id '{cluster_id}' is not valid.")
        return self.clusters[cluster_id]

    def _step(self, body: dict[str, Any]) -> Step:
        for step in self._cluster(body).steps:
            if step.step_id == body["StepId"]:
                return step
        raise LookupError(f"Step id '{body['StepId']}' is not valid.")

    def _tags_of(self, arn: str) -> Mapping[str, str]:
        cluster = self.clusters.get(arn.rpartition("/")[2])
        return cluster.tags if cluster else {}

    def _arn(self, cluster: Cluster) -> str:
        region = self._endpoint.region
        return f"arn:aws:elasticmapreduce:{region}:{ACCOUNT}:{cluster.arn_suffix}"

    def _enter(self, cluster: Cluster, state: str) -> None:
        if cluster.state != state:
            cluster.state = state
            self._narrate(f"cluster {cluster.cluster_id} is {state}")

    def _live(self, cluster: Cluster) -> None:
        """Live a cluster's life, from STARTING to TERMINATED."""
        self._narrate(f"cluster {cluster.cluster_id} is STARTING")
        nodes = self.pool.lend()
        failed = True
        try:
            cluster.terminate.wait(STARTING_S)
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
            self.pool.take_back(nodes)
            cluster.ended = time.time()
            self._enter(cluster, "TERMINATED_WITH_ERRORS" if failed else "TERMINATED")

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
            for container, path in self._yarn.container_logs(application):
                key = f"containers/{application}/{container}/{path.name}.gz"
                self._write_log(cluster, key, path.read_bytes())
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
        return self._endpoint.assume(cluster.request["JobFlowRole"], session)

    def _environment(self, credentials: Credentials) -> dict[str, str]:
        return {
            **credentials.environment(),
            "AWS_ENDPOINT_URL": self._endpoint.url,
            "AWS_REGION": self._endpoint.region,
            "AWS_DEFAULT_REGION": self._endpoint.region,
        }


def _timeline(**moments: float | None) -> dict[str, float]:
    return {name: moment for name, moment in moments.items() if moment is not None}


def _refused(message: str) -> Response:
    return 400, {"__type": "InvalidRequestException", "message": message}


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
