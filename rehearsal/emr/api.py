"""A local EMR: its API, for the requests that Orchard makes; others are refused by name."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

from rehearsal.aws.calls import ACCOUNT, Request
from rehearsal.emr.cluster_life import Life
from rehearsal.emr.clusters import Cluster, Shortage, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rehearsal.aws.endpoint import Endpoint, Response
    from rehearsal.emr.yarn import Yarn

ENDED = ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")


class LocalEmr:
    """The service: its API, and a thread for each cluster. Use as a context manager.

    Parameters
    ----------
    endpoint
        The local AWS that it becomes a part of.
    yarn
        Where steps run.
    folder
        Where nodes and steps have their folders.
    narrate
        Receives a line about each thing that happens.
    publish
        Called with the detail of each event that EMR reports to EventBridge.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        yarn: Yarn,
        folder: Path,
        *,
        narrate: Callable[[str], object] = lambda _: None,
        publish: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> None:
        self.clusters: dict[str, Cluster] = {}
        self._endpoint = endpoint
        self._life = Life(
            endpoint, yarn, folder, narrate, lambda cluster: publish(cluster.state_change())
        )
        self.shortages: list[Shortage] = []
        """What the next clusters meet instead of instances; a test fills it."""
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
        return [cluster for cluster in list(self.clusters.values()) if cluster.alive]

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
            "ListInstanceFleets": lambda body: {
                "InstanceFleets": self._cluster(body).describe_fleets()
            },
            "ListInstances": lambda body: {
                "Instances": self._cluster(body).describe_instances(body.get("InstanceStates", ()))
            },
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
        service_role = body["ServiceRole"].rpartition("/")[2]
        if not self._endpoint.trusts(service_role, "elasticmapreduce"):
            raise LookupError(f"EMR is not trusted with the service role {service_role}.")
        cluster = Cluster(f"j-{next(self._numbers):013d}", body)
        cluster.tags = {tag["Key"]: tag.get("Value", "") for tag in body.get("Tags", [])}
        self._set_idle_limit(cluster, body.get("AutoTerminationPolicy"))
        self.clusters[cluster.cluster_id] = cluster
        self._append_steps(cluster, body.get("Steps", []))
        cluster.shortage = self.shortages.pop(0) if self.shortages else None
        thread = threading.Thread(
            target=self._life.run_cluster, args=(cluster,), name=cluster.cluster_id, daemon=True
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
                for c in reversed(list(self.clusters.values()))
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
        return f"arn:aws:elasticmapreduce:{self._endpoint.region}:{ACCOUNT}:{cluster.arn_suffix}"


def _refused(message: str) -> Response:
    return 400, {"__type": "InvalidRequestException", "message": message}
