"""Try a deployment in a real account, from its first minute to its removal: ``make acceptance``.

It deploys a stack of its own name, runs a small batch through it, deploys once more while it runs,
looks at everything that should be there then, aborts a second batch, and removes the stack. Each
line that it prints has the request id of the call behind it, for a report. The tests run the same
program against the local AWS.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from pyarrow import parquet

from demo.synthetic import make_batch
from operations.account import AccountError, check_bootstrapped, configured, find_account
from operations.destroy import living_clusters, take_down
from spark_job.contract import CURRENT, FEATURES, IMAGES, READY, RUN, results_folder, run_folder
from stacks.batch.catalog import TABLES
from stacks.config import ConfigError, cluster_name_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STACK: Final = "OrchardAcceptance"
BATCH: Final = "acceptance"
QUESTION: Final = (
    "This deploys the stack {stack} into {region} of account {account}, runs two clusters of three"
    " nodes for up to half an hour together, and removes everything again. It takes about 45"
    " minutes and costs about 1 dollar.\nType yes to go on: "
)


class AcceptanceError(RuntimeError):
    """What is not as it should be."""


@dataclass(frozen=True)
class Place:
    """Where it is tried.

    Attributes
    ----------
    client
        Makes a boto3 client of a service.
    deploy
        Deploys the stack; told that it is the second time, with something changed.
    destroy
        Removes it.
    stack
        Its name.
    poll_seconds, patience_seconds
        How often to look, and for how long at most.
    real
        Whether it is AWS: the local one has no Athena and no alarms.
    """

    client: Callable[[str], Any]
    deploy: Callable[[bool], object]
    destroy: Callable[[], object]
    stack: str = STACK
    poll_seconds: float = 15.0
    patience_seconds: float = 3600.0
    real: bool = True


class Acceptance:
    """One trial.

    Parameters
    ----------
    place
        Where.
    say
        Receives each line.
    """

    def __init__(self, place: Place, say: Callable[[str], object]) -> None:
        self._place = place
        self._say = say
        self._outputs: dict[str, str] = {}

    def run(self) -> None:
        """Try everything.

        Raises
        ------
        AcceptanceError
            For the first thing that is not as it should be; the stack is left to be looked at.
        """
        self._place.deploy(False)
        answer = self._client("cloudformation").describe_stacks(StackName=self._place.stack)
        self._outputs = {
            entry["OutputKey"]: entry["OutputValue"] for entry in answer["Stacks"][0]["Outputs"]
        }
        self._ok("deployed", answer)
        images = self._upload()
        execution = self._start_by_marker()
        self._wait("the cluster", lambda: self._clusters(execution))
        self._place.deploy(True)
        self._say("ok  deployed again, changed, while the batch runs")
        self._finish(execution)
        run = execution.rpartition(":")[2]
        self._check_tables(run, images)
        self._check_partitions(run)
        self._check_told(execution)
        self._check_no_cluster()
        self._abort_one()
        self._place.destroy()
        self._say("ok  removed")

    def _upload(self) -> int:
        s3, bucket = self._client("s3"), self._outputs["DataBucket"]
        with tempfile.TemporaryDirectory() as scratch:
            make_batch(Path(scratch))
            files = [path for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
            for path in files:
                key = f"{IMAGES}/{BATCH}/{path.relative_to(scratch).as_posix()}"
                s3.upload_file(str(path), bucket, key)
        self._say(f"ok  {len(files)} files uploaded to s3://{bucket}/{IMAGES}/{BATCH}/")
        return len(files)

    def _start_by_marker(self) -> str:
        answer = self._client("s3").put_object(
            Bucket=self._outputs["DataBucket"], Key=f"{IMAGES}/{BATCH}/{READY}", Body=b""
        )
        self._ok("marker written", answer)
        found = self._wait(
            "the execution that the marker starts",
            lambda: [arn for arn in self._executions() if arn.endswith(f":{BATCH}.1")],
        )
        return str(found[0])

    def _executions(self) -> list[str]:
        answer = self._client("stepfunctions").list_executions(
            stateMachineArn=self._outputs["StateMachine"]
        )
        return [execution["executionArn"] for execution in answer["executions"]]

    def _finish(self, execution: str) -> None:
        client = self._client("stepfunctions")

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = client.describe_execution(executionArn=execution)
            return None if found["status"] == "RUNNING" else found

        found = self._wait("the end of the execution", ended)
        self._require(
            found["status"] == "SUCCEEDED",
            f"{execution} is {found['status']}: {found.get('cause')}",
        )
        self._ok(f"{execution.rpartition(':')[2]} succeeded", found)

    def _check_tables(self, run: str, images: int) -> None:
        s3, bucket = self._client("s3"), self._outputs["DataBucket"]
        answer = s3.get_object(Bucket=bucket, Key=f"{results_folder(BATCH)}/{CURRENT}")
        published = json.loads(answer["Body"].read())["run"]
        self._require(published == run, f"{published} is published, and not {run}")
        folder = run_folder(BATCH, run)
        receipt = json.loads(s3.get_object(Bucket=bucket, Key=f"{folder}/{RUN}")["Body"].read())
        counts = receipt["counts"]
        self._require(counts["listed"] == images, f"{counts['listed']} of {images} were listed")
        rows = 0
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/{FEATURES}/")
        for entry in listed["Contents"]:
            body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            rows += parquet.read_metadata(io.BytesIO(body)).num_rows
        self._require(rows == counts["computed"], f"{rows} features of {counts['computed']}")
        self._ok(f"{rows} features and vectors of {counts['listed']} images", answer)

    def _check_partitions(self, run: str) -> None:
        glue, database = self._client("glue"), self._outputs["Database"]
        for table in TABLES:

            def located(name: str = table.name) -> dict[str, Any] | None:
                answer: dict[str, Any] = glue.get_partitions(DatabaseName=database, TableName=name)
                places = [one["StorageDescriptor"]["Location"] for one in answer["Partitions"]]
                return answer if any(f"/{run}/" in place for place in places) else None

            self._ok(f"partition of {table.name}", self._wait(f"{table.name}'s partition", located))
        if self._place.real:
            self._query(database)
        else:
            self._say("--  no Athena here")

    def _query(self, database: str) -> None:
        athena = self._client("athena")
        started = athena.start_query_execution(
            QueryString="select count(*) from images",
            QueryExecutionContext={"Database": database},
            WorkGroup=self._place.stack,
        )

        def done() -> dict[str, Any] | None:
            found = athena.get_query_execution(QueryExecutionId=started["QueryExecutionId"])
            status: dict[str, Any] = found["QueryExecution"]["Status"]
            return None if status["State"] in ("QUEUED", "RUNNING") else status

        status = self._wait("Athena's answer", done)
        self._require(
            status["State"] == "SUCCEEDED", f"Athena says {status.get('StateChangeReason')}"
        )
        self._ok("Athena reads the view images", started)

    def _check_told(self, execution: str) -> None:
        client = self._client("stepfunctions")
        history = client.get_execution_history(
            executionArn=execution, maxResults=1000, reverseOrder=True
        )
        names = [
            event["stateExitedEventDetails"]["name"]
            for event in history["events"]
            if "stateExitedEventDetails" in event
        ]
        self._require("NotifySuccess" in names, "nobody was told of the batch")
        self._ok("the batch was told", history)
        if self._place.real:
            answer = self._client("cloudwatch").describe_alarms(
                AlarmNamePrefix=self._place.stack, StateValue="ALARM"
            )
            ringing = [alarm["AlarmName"] for alarm in answer["MetricAlarms"]]
            self._require(not ringing, f"alarms ring: {', '.join(ringing)}")
            self._ok("no alarm rings", answer)

    def _check_no_cluster(self) -> None:
        self._wait("the end of every cluster", lambda: not self._clusters() or None)
        self._say("ok  no cluster is left")

    def _abort_one(self) -> None:
        client = self._client("stepfunctions")
        started = client.start_execution(
            stateMachineArn=self._outputs["StateMachine"],
            name="acceptance-aborted",
            input=json.dumps({"batch": BATCH}),
        )
        arn = started["executionArn"]
        self._wait("the second cluster", lambda: self._clusters(arn))
        answer = client.stop_execution(executionArn=arn, cause="make acceptance")
        self._ok("a second execution was aborted", answer)
        self._check_no_cluster()
        # EMR would end an idle cluster too, in time: it must have been the janitor.
        janitor = next(
            resource["PhysicalResourceId"]
            for page in self._client("cloudformation")
            .get_paginator("list_stack_resources")
            .paginate(StackName=self._place.stack)
            for resource in page["StackResourceSummaries"]
            if resource["LogicalResourceId"].startswith("JanitorStateMachine")
            and resource["ResourceType"] == "AWS::StepFunctions::StateMachine"
        )

        def cleaned() -> dict[str, Any] | None:
            for execution in client.list_executions(stateMachineArn=janitor)["executions"]:
                found: dict[str, Any] = client.describe_execution(
                    executionArn=execution["executionArn"]
                )
                if "acceptance-aborted" in found["input"] and found["status"] == "SUCCEEDED":
                    return found
            return None

        self._ok("the janitor saw to it", self._wait("the janitor's end", cleaned))

    def _clusters(self, execution: str = "") -> list[str]:
        """Return the living clusters of the stack, or of one execution."""
        prefix = cluster_name_prefix(self._place.stack) + execution.rpartition(":")[2]
        return living_clusters(self._client("emr"), prefix)

    def _client(self, service: str) -> Any:
        return self._place.client(service)

    def _wait(self, what: str, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self._place.patience_seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                minutes = self._place.patience_seconds / 60
                raise AcceptanceError(f"{what} did not come within {minutes:.0f} minutes")
            time.sleep(self._place.poll_seconds)
        return found

    def _ok(self, what: str, answer: dict[str, Any]) -> None:
        request = answer.get("ResponseMetadata", {}).get("RequestId", "")
        self._say(f"ok  {what}" + (f"  (request {request})" if request else ""))

    def _require(self, good: bool, words: str) -> None:
        if not good:
            raise AcceptanceError(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and try it in the account of the credentials."""
    parser = argparse.ArgumentParser(prog="make acceptance", description=__doc__)
    parser.add_argument("--cdk", nargs=argparse.REMAINDER, required=True, help="CDK's command")
    given = parser.parse_args(arguments)
    try:
        config = replace(
            configured(),
            name=STACK,
            interactive=False,
            trigger=True,
            kms=False,
            removal_policy="destroy",
            delete_data=True,
        )
        account = find_account(config)
        check_bootstrapped(account)
    except (AccountError, ConfigError) as error:
        sys.exit(f"orchard: {error}")
    question = QUESTION.format(stack=STACK, region=account.region, account=account.number)
    if input(question).strip() != "yes":
        print("Nothing was done.")
        return 1
    knobs = {"name": STACK, "interactive": "false", "trigger": "true", "kms": "false"}
    knobs |= {"removal_policy": "destroy", "delete_data": "true"}
    context = [part for key, value in knobs.items() for part in ("-c", f"{key}={value}")]

    def client(service: str) -> Any:
        return account.session.client(service, region_name=account.region)

    def deploy(again: bool) -> None:
        changed = ["-c", f"idle_timeout_minutes={config.idle_timeout_minutes + 1}"] if again else []
        command = [*given.cdk, *context, *changed, "deploy", STACK, "--require-approval", "never"]
        if subprocess.call(command):
            raise AcceptanceError("the deployment failed")

    def destroy() -> None:
        if take_down(config, account, [*given.cdk, *context, "destroy", STACK, "--force"]):
            raise AcceptanceError("the stack could not be removed")

    try:
        Acceptance(Place(client, deploy, destroy), print).run()
    except (AcceptanceError, BotoCoreError, ClientError) as error:
        print(f"NOT ok: {error}\nThe stack {STACK} is left as it is, to be looked at.")
        return 1
    print("Everything is as it should be.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
