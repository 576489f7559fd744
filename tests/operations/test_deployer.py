"""A deployer's permissions: every call that `operations` makes, found in its source."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
import pytest

from operations.acceptance import STACK as TRIAL
from operations.permissions import main, policies
from rehearsal.aws.calls import Permission
from rehearsal.aws.policies import Simulator, assumed_role
from stacks.config import STACK_TAG, OrchardConfig
from tests.operations.deployments import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cdk

STACK: Final = OrchardConfig().name
REPOSITORY: Final = Path(__file__).parents[2]
COMMITTED: Final = REPOSITORY / "docs" / "permissions"
PLACE: Final = f"{REGION}:{ACCOUNT}"

# boto3's own, of several requests each.
TRANSFERS: Final = {
    "download_file": ("HeadObject", "GetObject"),
    "upload_file": ("PutObject", "CreateMultipartUpload", "UploadPart", "AbortMultipartUpload"),
}


BY_WAY_OF_ORCHARD: Final = {
    "history": ("cloudformation:DescribeStacks", "s3:ListObjectsV2", "s3:GetObject")
}
"""What a module leaves to `orchard`, whose own calls are not looked for here."""


def permissions(stack: str) -> dict[str, list[tuple[str, str]]]:
    """What each operation needs: actions, and on what of a stack."""
    bucket = f"arn:aws:s3:::{stack.lower()}-storagelogs2a2d4d26-a1b2c3d4e5f6"
    key = f"{bucket}/{'images/b/1.png' if stack == TRIAL else 'spark-events/e.zstd'}"
    formed = f"arn:aws:cloudformation:{PLACE}:stack"
    states = f"arn:aws:states:{PLACE}"
    machine = f"{states}:stateMachine:WorkflowStateMachine8F1B1C15-A1B2C3D4E5F6"
    run = f"{states}:execution:WorkflowStateMachine8F1B1C15-A1B2C3D4E5F6:b.1"
    glue, database = f"arn:aws:glue:{PLACE}", stack.lower()
    tables = ["catalog", f"database/{database}", f"table/{database}/images"]
    workgroup = f"arn:aws:athena:{PLACE}:workgroup/{stack}"
    return {
        # Needs no permission.
        "sts:GetCallerIdentity": [],
        "ssm:GetParameter": [
            ("ssm:GetParameter", f"arn:aws:ssm:{PLACE}:parameter/cdk-bootstrap/hnb659fds/version")
        ],
        "ec2:DescribeInstanceTypeOfferings": [("ec2:DescribeInstanceTypeOfferings", "*")],
        "ec2:DescribeVpcEndpoints": [("ec2:DescribeVpcEndpoints", "*")],
        "ec2:DeleteVpcEndpoints": [
            ("ec2:DeleteVpcEndpoints", f"arn:aws:ec2:{PLACE}:vpc-endpoint/vpce-1")
        ],
        "cloudformation:DescribeStacks": [
            ("cloudformation:DescribeStacks", f"{formed}/{stack}/a-b"),
            ("cloudformation:DescribeStacks", f"{formed}/{stack}-notebooks/a-b"),
        ],
        "cloudformation:ListStackResources": [
            ("cloudformation:ListStackResources", f"{formed}/{stack}/a-b")
        ],
        "cloudformation:DeleteStack": [
            ("cloudformation:DeleteStack", f"{formed}/{stack}-notebooks/a-b")
        ],
        "s3:GetObject": [("s3:GetObject", key)],
        "s3:PutObject": [("s3:PutObject", key)],
        "s3:CreateMultipartUpload": [("s3:PutObject", key)],
        "s3:UploadPart": [("s3:PutObject", key)],
        "s3:AbortMultipartUpload": [("s3:AbortMultipartUpload", key)],
        "s3:DeleteObjects": [
            ("s3:DeleteObject", f"{bucket}/any"),
            ("s3:DeleteObjectVersion", f"{bucket}/any"),
        ],
        "s3:ListObjectsV2": [("s3:ListBucket", bucket)],
        "s3:ListObjectVersions": [("s3:ListBucketVersions", bucket)],
        "s3:ListMultipartUploads": [("s3:ListBucketMultipartUploads", bucket)],
        "stepfunctions:ListExecutions": [("states:ListExecutions", machine)],
        "stepfunctions:StartExecution": [("states:StartExecution", machine)],
        "stepfunctions:StopExecution": [("states:StopExecution", run)],
        "stepfunctions:DescribeExecution": [("states:DescribeExecution", run)],
        "emr:ListClusters": [("elasticmapreduce:ListClusters", "*")],
        "emr:TerminateJobFlows": [
            ("elasticmapreduce:TerminateJobFlows", f"arn:aws:elasticmapreduce:{PLACE}:cluster/j-1")
        ],
        "glue:GetPartitions": [("glue:GetPartitions", f"{glue}:{each}") for each in tables],
        # Athena does what the query needs as the one who asks.
        "athena:StartQueryExecution": [
            ("athena:StartQueryExecution", workgroup),
            ("athena:GetWorkGroup", workgroup),
            *(
                (f"glue:{action}", f"{glue}:{each}")
                for action in ("GetDatabase", "GetPartitions", "GetTable")
                for each in (tables if action != "GetDatabase" else tables[:2])
            ),
            ("s3:GetBucketLocation", bucket),
            ("s3:GetObject", f"{bucket}/results/b/r/features/1.parquet"),
            ("s3:PutObject", f"{bucket}/athena/1.csv"),
        ],
        "athena:GetQueryExecution": [("athena:GetQueryExecution", workgroup)],
        "athena:GetQueryResults": [
            ("athena:GetQueryResults", workgroup),
            ("s3:GetObject", f"{bucket}/athena/1.csv"),
        ],
        **{
            f"sqs:{action}": [(f"sqs:{action}", f"arn:aws:sqs:{PLACE}:{stack}-trial")]
            for action in (
                "CreateQueue",
                "DeleteQueue",
                "GetQueueAttributes",
                "ReceiveMessage",
                "SetQueueAttributes",
            )
        },
        "sns:Subscribe": [("sns:Subscribe", f"arn:aws:sns:{PLACE}:{stack}-Alerts539-A1B2C3D4E5F6")],
        "sns:Unsubscribe": [("sns:Unsubscribe", "*")],
        "cloudwatch:DescribeAlarms": [
            ("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{PLACE}:alarm:*")
        ],
    }


def calls() -> Iterator[tuple[str, str]]:
    """Every operation that a module of `operations` calls: the module's name, and the operation."""
    trees = {
        file.stem: ast.parse(file.read_text()) for file in (REPOSITORY / "operations").glob("*.py")
    }
    services = {
        str(node.args[0].value)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("client", "_client", "resource")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    session = boto3.Session(region_name=REGION)
    clients = {service: session.client(service) for service in sorted(services)}
    methods = {
        name: f"{service}:{operation}"
        for service, client in clients.items()
        for name, operation in client.meta.method_to_api_mapping.items()
    }
    for client in clients.values():
        service = client.meta.service_model.service_name
        for waiter in client.waiter_names:
            operation = client.get_waiter(waiter).config.operation
            methods[f"waiter {waiter}"] = f"{service}:{operation}"
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                for name in _names(node, node.func.attr):
                    if name in methods:
                        yield module, methods[name]
                yield from ((module, f"s3:{o}") for o in TRANSFERS.get(node.func.attr, ()))
        yield from ((module, operation) for operation in _of_bucket(tree))
        yield from ((module, operation) for operation in BY_WAY_OF_ORCHARD.get(module, ()))


def _names(node: ast.Call, attribute: str) -> Iterator[str]:
    yield attribute
    if node.args and isinstance(node.args[0], ast.Constant):
        if attribute == "get_paginator":
            yield str(node.args[0].value)
        if attribute == "get_waiter":
            yield f"waiter {node.args[0].value!s}"


def _of_bucket(tree: ast.Module) -> Iterator[str]:
    """What is called by way of the collections of a bucket, boto3's resource."""
    if ".resource(" not in ast.unparse(tree):
        return
    bucket = boto3.resource("s3", region_name=REGION).Bucket("any").meta.resource_model
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for collection in bucket.collections:
        if collection.name in attributes:
            yield f"s3:{collection.request.operation}"
            # Of all at once rather than one by one, where there are both.
            actions = {action.name: action for action in collection.resource.model.actions}
            actions |= {action.name: action for action in collection.batch_actions}
            for name in attributes & set(actions):
                yield f"s3:{actions[name].request.operation}"


@pytest.fixture(scope="module")
def allows() -> Iterator[Callable[..., bool]]:
    policy = policies(STACK, ACCOUNT, REGION)["deployer"]
    with Simulator() as simulator:

        def ask(action: str, resource: str, **context: str) -> bool:
            return simulator.allows(
                Permission(action, resource, context),
                principal=assumed_role("Deployer", "test"),
                policies=(policy,),
            )

        yield ask


def test_every_call_of_operations_is_allowed(allows: Callable[..., bool]) -> None:
    found = sorted(set(calls()))
    assert len({module for module, _ in found}) >= 4
    assert {operation for _, operation in found} == set(permissions(STACK))
    for module, operation in found:
        for stack in (TRIAL,) if module == "acceptance" else (STACK, TRIAL):
            own = {f"elasticmapreduce:ResourceTag/{STACK_TAG}": stack}
            for action, resource in permissions(stack)[operation]:
                context = own if action == "elasticmapreduce:TerminateJobFlows" else {}
                assert allows(action, resource, **context), f"{module}: {action} on {resource}"


def test_cdk_can_act_in_its_own_roles(allows: Callable[..., bool]) -> None:
    for role in ("deploy", "file-publishing", "lookup"):
        name = f"cdk-hnb659fds-{role}-role-{ACCOUNT}-{REGION}"
        assert allows("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/{name}")


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/Admin", {}),
        ("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/{STACK}-x", {}),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{STACK}-x", {}),
        ("cloudformation:DeleteStack", f"arn:aws:cloudformation:{PLACE}:stack/{STACK}/a", {}),
        ("cloudformation:DescribeStacks", f"arn:aws:cloudformation:{PLACE}:stack/Flowers/a", {}),
        ("cloudformation:CreateStack", f"arn:aws:cloudformation:{PLACE}:stack/{STACK}/a", {}),
        ("s3:GetObject", f"arn:aws:s3:::{STACK.lower()}-storagedata1-x/images/b/1.png", {}),
        ("s3:PutObject", f"arn:aws:s3:::{STACK.lower()}-storagedata1-x/images/b/1.png", {}),
        ("s3:DeleteObject", "arn:aws:s3:::flowers-storagedata1-x/images/b/1.png", {}),
        ("s3:DeleteBucket", f"arn:aws:s3:::{STACK.lower()}-storagedata1-x", {}),
        ("elasticmapreduce:TerminateJobFlows", f"arn:aws:elasticmapreduce:{PLACE}:cluster/j", {}),
        (
            "elasticmapreduce:TerminateJobFlows",
            f"arn:aws:elasticmapreduce:{PLACE}:cluster/j",
            {f"elasticmapreduce:ResourceTag/{STACK_TAG}": "Flowers"},
        ),
        ("states:StopExecution", f"arn:aws:states:{PLACE}:execution:Pay:1", {}),
        ("glue:GetTable", f"arn:aws:glue:{PLACE}:table/flowers/images", {}),
        ("athena:StartQueryExecution", f"arn:aws:athena:{PLACE}:workgroup/primary", {}),
        ("sqs:ReceiveMessage", f"arn:aws:sqs:{PLACE}:{STACK}-Undelivered-A1B2", {}),
        ("sns:Subscribe", f"arn:aws:sns:{PLACE}:{STACK}-Alerts539-A1B2C3D4E5F6", {}),
    ],
)
def test_a_deployer_may_do_nothing_else(
    allows: Callable[..., bool], action: str, resource: str, context: dict[str, str]
) -> None:
    assert not allows(action, resource, **context)


@pytest.mark.parametrize("name", [STACK, "A" * 40])
def test_each_policy_fits_into_a_managed_one(name: str) -> None:
    made = policies(name, ACCOUNT, "eu-central-1")
    # CloudFormation's role takes ten.
    assert 2 <= len(made) <= 11
    for policy, document in made.items():
        # IAM does not count white space.
        size = len(json.dumps(document, separators=(",", ":")))
        assert size <= 6144, f"{policy} has {size} characters"
        sids = [statement["Sid"] for statement in document["Statement"]]
        assert len(sids) == len(set(sids))


def test_what_is_committed_is_what_is_made() -> None:
    made = policies(STACK)
    found = {file.stem: json.loads(file.read_text()) for file in COMMITTED.glob("*.json")}
    assert found == made, 'run: make permissions ARGS="--output docs/permissions"'


def test_a_place_is_written_into_every_arn_that_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--account", ACCOUNT, "--region", REGION, "--output", str(tmp_path)])
    written = sorted(tmp_path.glob("*.json"))
    assert len(written) > 1
    assert set(capsys.readouterr().out.split()) == {str(file) for file in written}
    for file in written:
        for statement in json.loads(file.read_text())["Statement"]:
            for arn in statement["Resource"]:
                assert arn == "*" or "*" not in arn.split(":", 5)[:5], arn
