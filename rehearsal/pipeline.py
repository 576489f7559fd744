"""What an engineer does with the deployed pipeline, and looks at, in a local AWS."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.sns.models import sns_backends

from rehearsal.aws.calls import ACCOUNT
from rehearsal.aws.step_functions import StatusEvents
from rehearsal.emr.yarn import wait_for
from spark_job.contract import IMAGES, READY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from rehearsal.aws.deployment import Deployment
    from rehearsal.aws.endpoint import Call, Endpoint
    from rehearsal.emr.api import LocalEmr
    from rehearsal.emr.clusters import Cluster


@dataclass(frozen=True)
class Outcome:
    """How an execution ended: its status, its output, and what it says failed."""

    arn: str
    status: str
    output: Mapping[str, Any]
    error: str
    cause: str


class Pipeline:
    """A deployed stack: its buckets, executions, messages and logs.

    Attributes
    ----------
    endpoint
        The local AWS that it is deployed in.
    emr
        The EMR that runs its clusters.
    deployment
        What is deployed.
    """

    endpoint: Endpoint
    emr: LocalEmr
    deployment: Deployment

    @property
    def bucket(self) -> str:
        """The data bucket."""
        return self.deployment.outputs["DataBucket"]

    @property
    def state_machine(self) -> str:
        """The ARN of the state machine that runs batches."""
        return self.machine("Workflow")

    def machine(self, kind: str) -> str:
        """Return the ARN of the state machine whose logical id contains `kind`."""
        return next(arn for logical, arn in self.machines().items() if kind in logical)

    def machines(self) -> dict[str, str]:
        """Return the ARNs of the stack's state machines, by logical id."""
        return self.deployment.of_type("AWS::StepFunctions::StateMachine")

    def role(self, kind: str) -> str:
        """Return the name of the role whose logical id contains `kind`."""
        roles = self.deployment.of_type("AWS::IAM::Role")
        return next(name for logical, name in roles.items() if kind in logical)

    def upload(self, images: Path, batch: str) -> int:
        """Upload a folder of images as a batch, and return how many there are."""
        s3 = self.endpoint.client("s3")
        paths = [path for path in sorted(images.rglob("*")) if path.is_file()]
        for path in paths:
            key = f"{IMAGES}/{batch}/{path.relative_to(images).as_posix()}"
            s3.upload_file(str(path), self.bucket, key)
        return len(paths)

    def mark_ready(self, batch: str) -> None:
        """Write the marker that starts a batch."""
        self.endpoint.client("s3").put_object(
            Bucket=self.bucket, Key=f"{IMAGES}/{batch}/{READY}", Body=b""
        )

    def start_execution(self, given: Mapping[str, Any] | str, name: str = "") -> str:
        """Start an execution as an engineer does, and return its ARN."""
        started = self.endpoint.client("stepfunctions").start_execution(
            stateMachineArn=self.state_machine,
            name=name or f"run-{uuid.uuid4().hex[:12]}",
            input=given if isinstance(given, str) else json.dumps(given),
        )
        return str(started["executionArn"])

    def executions(self, machine: str = "") -> list[str]:
        """Return the ARNs of a state machine's executions, the newest first."""
        listed = self.endpoint.client("stepfunctions").list_executions(
            stateMachineArn=machine or self.state_machine
        )
        return [execution["executionArn"] for execution in listed["executions"]]

    def first_execution(self, batch: str, timeout_s: float = 30.0) -> str:
        """Wait for the execution that the marker of `batch` starts, and return its ARN."""

        def found() -> list[str]:
            return [arn for arn in self.executions() if f":{batch}." in arn]

        wait_for(found, timeout_s, f"The start of a run of {batch}")
        return found()[-1]

    def outcome(self, arn: str) -> Outcome:
        """Return how an execution stands."""
        found = self.endpoint.client("stepfunctions").describe_execution(executionArn=arn)
        output = json.loads(found.get("output") or "{}")
        return Outcome(
            arn, found["status"], output, found.get("error") or "", found.get("cause") or ""
        )

    def wait(self, arn: str, timeout_s: float = 240.0) -> Outcome:
        """Wait until an execution has ended, and return how.

        Raises
        ------
        TimeoutError
            If it has not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while (outcome := self.outcome(arn)).status == "RUNNING":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{arn} is still running after {timeout_s:.0f} s.")
            time.sleep(0.3)
        return outcome

    def states(self, arn: str) -> list[str]:
        """Return the names of the states that an execution has entered, in order."""
        client = self.endpoint.client("stepfunctions")
        history = client.get_execution_history(executionArn=arn)["events"]
        details = (event.get("stateEnteredEventDetails") for event in history)
        return [entered["name"] for entered in details if entered]

    @property
    def asset_bucket(self) -> str:
        """The bucket that the assets of all stacks are in."""
        return self._asset(r"s3://(cdk-[^/]+)/", "CreateCluster")

    @property
    def wheelhouse(self) -> str:
        """The key of the wheelhouse that clusters install from."""
        return self._asset(r"[0-9a-f]{64}\.zip", "CreateCluster")

    @property
    def entry_point(self) -> str:
        """The key of the script that the step runs."""
        return self._asset(r"[0-9a-f]{64}\.py", "RunJob")

    @property
    def job(self) -> str:
        """The key of the job's zip that the step is given."""
        return self._asset(r"[0-9a-f]{64}\.zip", "RunJob")

    def _asset(self, pattern: str, state: str) -> str:
        client = self.endpoint.client("stepfunctions")
        described = client.describe_state_machine(stateMachineArn=self.state_machine)
        parameters = json.loads(described["definition"])["States"][state]["Parameters"]
        return str(re.findall(pattern, json.dumps(parameters))[0])

    def wait_for_cluster(self, arn: str, state: str, timeout_s: float = 120.0) -> Cluster:
        """Wait until an execution's cluster is in `state`, and return it."""
        run = arn.rpartition(":")[2]

        def found() -> list[Cluster]:
            return [
                cluster
                for cluster in list(self.emr.clusters.values())
                if cluster.request["Name"].endswith(run) and cluster.state == state
            ]

        wait_for(found, timeout_s, f"The cluster of {run} being {state}")
        return found()[0]

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until no cluster lives and no execution runs, but for those that only watch."""
        machines = [arn for logical, arn in self.machines().items() if "Watch" not in logical]

        def quiet() -> bool:
            # An event of an execution's end is delivered a moment after it.
            time.sleep(2 * StatusEvents.INTERVAL_S)
            arns = [arn for machine in machines for arn in self.executions(machine)]
            running = any(self.outcome(arn).status == "RUNNING" for arn in arns)
            return not running and not self.emr.alive()

        wait_for(quiet, timeout_s, "The end of every execution and cluster")

    def called(self, action: str) -> list[Call]:
        """Return the recorded calls that needed `action`."""
        return [
            call
            for call in self.endpoint.calls
            if any(permission.action == action for permission in call.permissions)
        ]

    def logs(self, cluster_id: str, kind: str) -> list[str]:
        """Return the texts of a cluster's logs whose names contain `kind`."""
        s3, bucket = self.endpoint.client("s3"), self.deployment.outputs["LogBucket"]
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"emr/{cluster_id}/").get("Contents", [])
        return [
            gzip.decompress(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()).decode()
            for found in listed
            if kind in found["Key"]
        ]

    @contextlib.contextmanager
    def changed(self, machine: str, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
        """Let the executions of a state machine that start within have a changed definition."""
        client = self.endpoint.client("stepfunctions")
        deployed = client.describe_state_machine(stateMachineArn=machine)["definition"]
        definition = json.loads(deployed)
        change(definition)
        client.update_state_machine(stateMachineArn=machine, definition=json.dumps(definition))
        try:
            yield
        finally:
            client.update_state_machine(stateMachineArn=machine, definition=deployed)

    @contextlib.contextmanager
    def time_limit(self, seconds: int, state: str = "") -> Iterator[None]:
        """Let runs that start within have another time limit, whole or for one state."""

        def limit(definition: dict[str, Any]) -> None:
            part = definition["States"][state] if state else definition
            part["TimeoutSeconds"] = seconds

        with self.changed(self.state_machine, limit):
            yield

    def abort(self, arn: str) -> None:
        """Abort an execution, as an engineer may."""
        self.endpoint.client("stepfunctions").stop_execution(executionArn=arn)

    def messages(self) -> list[str]:
        """Return the messages published to the stack's topics, the oldest first."""
        topics = sns_backends[ACCOUNT][self.endpoint.region].topics.values()
        return [sent[1] for topic in topics for sent in topic.sent_notifications]

    def rang(self, alarm: str) -> bool:
        """Return whether an alarm, by a part of its name, has rung so far and has been told."""
        return any(
            text.startswith('{"AlarmName"') and alarm in json.loads(text)["AlarmName"]
            for text in self.messages()
        )

    def objects(self, prefix: str) -> list[str]:
        """Return the keys of the data bucket's objects under `prefix`."""
        pages = self.endpoint.client("s3").get_paginator("list_objects_v2")
        return [
            found["Key"]
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix)
            for found in page.get("Contents", [])
        ]

    def fetch(self, prefix: str, folder: Path) -> Path:
        """Download the data bucket's objects under `prefix` into `folder`, and return it."""
        s3 = self.endpoint.client("s3")
        for key in self.objects(prefix):
            if key.endswith("/"):  # An empty object that stands for a folder.
                continue
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(self.bucket, key, str(path))
        return folder
