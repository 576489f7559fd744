"""A local AWS with a stack in it: buckets, a state machine that nothing runs, and outputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import pytest

from orchard.cloud import session
from orchard.cloud.stack import Stack, find_stack
from spark_job import __version__, contract, deployed, s3
from spark_job.run_input import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUNDS = Bounds("auto", 0.8, 0.05, 2, 20, ("m5.xlarge", "m6i.xlarge"), spot=False)


@pytest.fixture
def deploy(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """A function that deploys a stack with other outputs than usual, and returns its name."""
    del s3_endpoint
    monkeypatch.delenv("ORCHARD_STACK", raising=False)
    for cache in (s3._connected, s3._connected_client, session._connected):
        cache.cache_clear()

    def make(**outputs: str | None) -> str:
        mark = uuid4().hex[:8]
        data, logs = f"data-{mark}", f"logs-{mark}"
        where = {"LocationConstraint": "eu-west-1"}
        for name in (data, logs):
            boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=where)
        machine = boto3.client("stepfunctions").create_state_machine(
            name=f"machine-{mark}",
            definition='{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}',
            roleArn="arn:aws:iam::123456789012:role/any",
        )
        usual: dict[str, str | None] = {
            deployed.DATA_BUCKET: data,
            deployed.LOG_BUCKET: logs,
            deployed.STATE_MACHINE: machine["stateMachineArn"],
            deployed.VERSION: __version__,
            deployed.CONTRACT: str(contract.CONTRACT),
            deployed.RUN_INPUT: BOUNDS.to_json(),
            deployed.MONTHLY_BUDGET: "50",
        }
        told = {name: {"Value": value} for name, value in (usual | outputs).items() if value}
        topic = {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": mark}}}
        template = json.dumps({"Resources": topic, "Outputs": told})
        boto3.client("cloudformation").create_stack(StackName=f"S{mark}", TemplateBody=template)
        return f"S{mark}"

    yield make
    for cache in (s3._connected, s3._connected_client, session._connected):
        cache.cache_clear()


@pytest.fixture
def stack(deploy: Callable[..., str]) -> Stack:
    return find_stack(deploy())
