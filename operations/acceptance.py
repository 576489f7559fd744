"""Try a deployment in a real account, from its first minute to its removal: ``make acceptance``.

It deploys a stack of its own name, runs a small batch through it, deploys once more while it runs,
looks at everything that should be there then, aborts a second batch, and removes the stack. What
people are told it hears itself, by a queue that it subscribes to the stack's topic meanwhile. Each
line that it prints has the request id of the call behind it, for a report, and after a failure the
ids of the last requests. The tests run the same program against the local AWS.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from pyarrow import parquet

from demo.synthetic import make_batch
from operations.account import AccountError, check_bootstrapped, configured, find_account
from operations.destroy import living_clusters, take_down
from spark_job.contract import (
    CURRENT,
    FEATURES,
    IMAGES,
    READY,
    REJECTS,
    RUN,
    VECTORS,
    results_folder,
    run_folder,
)
from stacks.batch.catalog import TABLES
from stacks.config import ConfigError, cluster_name_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STACK: Final = "OrchardAcceptance"
BATCH: Final = "acceptance"
COUNT: Final = "select count(*) from images where batch = 'acceptance'"
ABORTED: Final = "acceptance-aborted"
_LAST_REQUESTS: Final = 5
QUESTION: Final = (
    "This deploys the stack {stack} into {region} of account {account}, runs two clusters of three"
    " nodes for up to half an hour together, and removes everything again. It takes about 45"
    " minutes and costs about 1 dollar.\nType yes to go on: "
)
REMOVAL: Final = (
    "This removes the stack {stack} of a trial, with all its data, from {region} of account"
    " {account}.\nType yes to go on: "
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
    """

    client: Callable[[str], Any]
    deploy: Callable[[bool], object]
    destroy: Callable[[], object]
    stack: str = STACK
    poll_seconds: float = 15.0
    patience_seconds: float = 3600.0


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
        self._mails: list[str] = []

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
        with self._listening() as hear:
            images = self._upload()
            execution = self._start_by_marker()
            self._wait("the cluster", lambda: self._clusters(execution))
            self._place.deploy(True)
            self._say("ok  deployed again, changed, while the batch runs")
            self._finish(execution)
            run = execution.rpartition(":")[2]
            featurized = self._check_tables(run, images)
            self._check_partitions(run)
            self._check_athena(featurized)
            self._check_told(featurized, hear)
            self._check_no_cluster()
            self._abort_one(hear)
        self._place.destroy()
        self._say("ok  removed")

    @contextlib.contextmanager
    def _listening(self) -> Iterator[Callable[[], dict[str, Any]]]:
        """Subscribe a queue to the topic, for a while; yield what takes its messages in."""
        sqs, sns = self._client("sqs"), self._client("sns")
        topic = self._resource("AWS::SNS::Topic")
        name = f"{self._place.stack}-trial"
        # What was taken is not to come again: it is not deleted one by one.
        queue = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "43200"})[
            "QueueUrl"
        ]
        subscription = ""
        try:
            attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
            arn = attributes["Attributes"]["QueueArn"]
            sqs.set_queue_attributes(
                QueueUrl=queue, Attributes={"Policy": json.dumps(_from_topic(topic, arn))}
            )
            answer = sns.subscribe(
                TopicArn=topic,
                Protocol="sqs",
                Endpoint=arn,
                Attributes={"RawMessageDelivery": "true"},
                ReturnSubscriptionArn=True,
            )
            subscription = answer["SubscriptionArn"]
            self._ok("listening to the topic", answer)

            def hear() -> dict[str, Any]:
                found: dict[str, Any] = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
                self._mails += [message["Body"] for message in found.get("Messages", [])]
                return found

            yield hear
        finally:
            if subscription:
                sns.unsubscribe(SubscriptionArn=subscription)
            sqs.delete_queue(QueueUrl=queue)

    def _await_mail(self, what: str, hear: Callable[[], dict[str, Any]], *words: str) -> str:
        """Wait for a message that has some words, and return it."""
        answer: dict[str, Any] = {}

        def heard() -> list[str]:
            answer.update(hear())
            return [mail for mail in self._mails if all(word in mail for word in words)]

        mails: list[str] = self._wait(what, heard)
        self._ok(f"{what} came", answer)
        return mails[-1]

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
            found,
        )
        self._ok(f"{execution.rpartition(':')[2]} succeeded", found)

    def _check_tables(self, run: str, images: int) -> int:
        """Hold the tables against the receipt, and return how many images were featurized."""
        s3, bucket = self._client("s3"), self._outputs["DataBucket"]
        answer = s3.get_object(Bucket=bucket, Key=f"{results_folder(BATCH)}/{CURRENT}")
        published = json.loads(answer["Body"].read())["run"]
        self._require(published == run, f"{published} is published, and not {run}", answer)
        folder = run_folder(BATCH, run)
        answer = s3.get_object(Bucket=bucket, Key=f"{folder}/{RUN}")
        counts = json.loads(answer["Body"].read())["counts"]
        listed = counts["listed"]
        self._require(listed == images, f"{listed} of {images} were listed", answer)
        featurized: int = counts["computed"] + counts["carried_over"]
        expected = {
            FEATURES: featurized,
            VECTORS: featurized,
            REJECTS: counts["rejected"] + counts["unsupported"],
        }
        rows = {table: self._rows(f"{folder}/{table}/") for table in expected}
        self._require(rows == expected, f"there are {rows}, and {expected} in the receipt", answer)
        self._require(
            rows[FEATURES] + rows[REJECTS] == images,
            f"{rows[FEATURES]} features and {rows[REJECTS]} rejects are not {images} images",
            answer,
        )
        self._ok(
            f"{rows[FEATURES]} features, {rows[VECTORS]} vectors and {rows[REJECTS]} rejects"
            f" of {images} images",
            answer,
        )
        return featurized

    def _rows(self, prefix: str) -> int:
        """Return how many rows the files of a table have."""
        s3, bucket = self._client("s3"), self._outputs["DataBucket"]
        rows = 0
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                rows += parquet.read_metadata(io.BytesIO(body)).num_rows
        return rows

    def _check_partitions(self, run: str) -> None:
        glue, database = self._client("glue"), self._outputs["Database"]
        for table in TABLES:

            def located(name: str = table.name) -> dict[str, Any] | None:
                answer: dict[str, Any] = glue.get_partitions(DatabaseName=database, TableName=name)
                places = [one["StorageDescriptor"]["Location"] for one in answer["Partitions"]]
                return answer if any(f"/{run}/" in place for place in places) else None

            self._ok(f"partition of {table.name}", self._wait(f"{table.name}'s partition", located))

    def _check_athena(self, featurized: int) -> None:
        """Let Athena count the images of the batch, and hold its answer against the receipt."""
        athena = self._client("athena")
        started = athena.start_query_execution(
            QueryString=COUNT,
            QueryExecutionContext={"Database": self._outputs["Database"]},
            WorkGroup=self._place.stack,
        )
        query = started["QueryExecutionId"]

        def done() -> dict[str, Any] | None:
            found: dict[str, Any] = athena.get_query_execution(QueryExecutionId=query)
            state = found["QueryExecution"]["Status"]["State"]
            return None if state in ("QUEUED", "RUNNING") else found

        answer = self._wait("Athena's answer", done)
        status = answer["QueryExecution"]["Status"]
        self._require(
            status["State"] == "SUCCEEDED", f"Athena says {status.get('StateChangeReason')}", answer
        )
        answer = athena.get_query_results(QueryExecutionId=query)
        # The first row has the columns' names.
        count = answer["ResultSet"]["Rows"][1]["Data"][0]["VarCharValue"]
        self._require(
            count == str(featurized), f"Athena counts {count} images of {featurized}", answer
        )
        self._ok(f"Athena counts {count} images in the view images", answer)

    def _check_told(self, featurized: int, hear: Callable[[], dict[str, Any]]) -> None:
        self._await_mail(
            "the mail about the batch", hear, f"Batch {BATCH} is published: {featurized} images"
        )
        ringing, answer = self._ringing()
        self._require(not ringing, f"alarms ring: {', '.join(ringing)}", answer)
        self._ok("no alarm rings", answer)

    def _ringing(self) -> tuple[list[str], dict[str, Any]]:
        """Return the stack's alarms that ring, and CloudWatch's answer."""
        answer: dict[str, Any] = self._client("cloudwatch").describe_alarms(
            AlarmNamePrefix=f"{self._place.stack}-"
        )
        alarms = answer["MetricAlarms"]
        self._require(bool(alarms), "the stack has no alarms", answer)
        return [one["AlarmName"] for one in alarms if one["StateValue"] == "ALARM"], answer

    def _check_no_cluster(self) -> None:
        self._wait("the end of every cluster", lambda: not self._clusters() or None)
        self._say("ok  no cluster is left")

    def _abort_one(self, hear: Callable[[], dict[str, Any]]) -> None:
        client = self._client("stepfunctions")
        started = client.start_execution(
            stateMachineArn=self._outputs["StateMachine"],
            name=ABORTED,
            input=json.dumps({"batch": BATCH}),
        )
        arn = started["executionArn"]
        self._wait("the second cluster", lambda: self._clusters(arn))
        answer = client.stop_execution(executionArn=arn, cause="make acceptance")
        self._ok("a second execution was aborted", answer)

        def rings() -> dict[str, Any] | None:
            names, answer = self._ringing()
            return answer if any("AbortedExecutions" in name for name in names) else None

        self._ok("the alarm about it rings", self._wait("the alarm about it", rings))
        self._await_mail("the mail of that alarm", hear, "AbortedExecutions", "ALARM")
        self._check_no_cluster()
        # EMR would end an idle cluster too, in time: it must have been the janitor.
        janitor = self._resource("AWS::StepFunctions::StateMachine", "Janitor")

        def cleaned() -> dict[str, Any] | None:
            for execution in client.list_executions(stateMachineArn=janitor)["executions"]:
                found: dict[str, Any] = client.describe_execution(
                    executionArn=execution["executionArn"]
                )
                if ABORTED in found["input"] and found["status"] == "SUCCEEDED":
                    return found
            return None

        self._ok("the janitor saw to it", self._wait("the janitor's end", cleaned))
        self._await_mail("the janitor's mail", hear, f"Run {ABORTED} was aborted")

    def _resource(self, kind: str, part: str = "") -> str:
        """Return the physical id of the stack's resource of a type whose logical id begins so."""
        pages = self._client("cloudformation").get_paginator("list_stack_resources")
        return next(
            str(resource["PhysicalResourceId"])
            for page in pages.paginate(StackName=self._place.stack)
            for resource in page["StackResourceSummaries"]
            if resource["LogicalResourceId"].startswith(part) and resource["ResourceType"] == kind
        )

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
        self._say(f"ok  {what}{_request(answer)}")

    def _require(self, good: bool, words: str, answer: dict[str, Any]) -> None:
        if not good:
            raise AcceptanceError(f"{words}{_request(answer)}")


def _request(answer: dict[str, Any]) -> str:
    """Return the request id of an answer, or of an error's response, as it is printed."""
    found = answer.get("ResponseMetadata", {}).get("RequestId", "")
    return f"  (request {found})" if found else ""


def _from_topic(topic: str, queue: str) -> dict[str, Any]:
    """Return the policy that lets a topic write into a queue."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue,
                "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
            }
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and try it in the account of the credentials."""
    parser = argparse.ArgumentParser(prog="make acceptance", description=__doc__)
    parser.add_argument(
        "--remove", action="store_true", help="remove what a trial left that was not ok, no more"
    )
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
    question = REMOVAL if given.remove else QUESTION
    place = {"stack": STACK, "region": account.region, "account": account.number}
    if input(question.format(**place)).strip() != "yes":
        print("Nothing was done.")
        return 1
    knobs = {"name": STACK, "interactive": "false", "trigger": "true", "kms": "false"}
    knobs |= {"removal_policy": "destroy", "delete_data": "true"}
    context = [part for key, value in knobs.items() for part in ("-c", f"{key}={value}")]

    last = deque[str](maxlen=_LAST_REQUESTS)

    def remember(model: Any, parsed: dict[str, Any], **_: object) -> None:
        last.append(f"{model.service_model.service_name} {model.name}{_request(parsed)}")

    account.session.events.register("after-call", remember)

    def client(service: str) -> Any:
        return account.session.client(service, region_name=account.region)

    def deploy(again: bool) -> None:
        changed = ["-c", f"idle_timeout_minutes={config.idle_timeout_minutes + 1}"] if again else []
        command = [*given.cdk, *context, *changed, "deploy", STACK, "--require-approval", "never"]
        if subprocess.call(command):
            raise AcceptanceError("the deployment failed; CDK says above why")

    def destroy() -> None:
        if take_down(config, account, [*given.cdk, *context, "destroy", STACK, "--force"]):
            raise AcceptanceError("the stack could not be removed; CDK says above why")

    try:
        if given.remove:
            destroy()
            return 0
        Acceptance(Place(client, deploy, destroy), print).run()
    except (AcceptanceError, BotoCoreError, ClientError) as error:
        own = _request(error.response) if isinstance(error, ClientError) else ""
        print(f"NOT ok: {error}{own}")
        print("The last requests to AWS were:", *last, sep="\n  ")
        print(
            f"The stack {STACK} is left as it is, to be looked at; after that, run:"
            " make acceptance ARGS=--remove"
        )
        return 1
    print("Everything is as it should be.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
