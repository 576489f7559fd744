"""What the profile of a deployer may do: what `make deploy` and its like call themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from operations.statements import ANYTHING, allow, equal
from spark_job.contract import SPARK_EVENTS
from stacks.config import STACK_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from operations.statements import Scope, Statement

# Of CDK's bootstrap: it deploys, publishes assets and looks things up in these roles.
_ROLES: Final = ("deploy", "file-publishing", "lookup")
_BOOTSTRAP: Final = "cdk-hnb659fds"


def deployer(scope: Scope, trial: str) -> Sequence[Statement]:
    """Return what a deployer needs.

    Parameters
    ----------
    scope
        The stacks, the one of the acceptance trial among them.
    trial
        The name of that one, whose batches and tables are looked into.
    """
    return [*_deploy(scope), *_remove(scope), *_try(replace(scope, stacks=(trial,)))]


def _deploy(scope: Scope) -> Sequence[Statement]:
    roles = (f"role/{_BOOTSTRAP}-{role}-role-*" for role in _ROLES)
    return [
        allow("ActAsCdk", ["sts:AssumeRole"], scope.arns("iam", *roles)),
        allow(
            "SeeWhetherCdkWasHere",
            ["ssm:GetParameter"],
            scope.arns("ssm", "parameter/cdk-bootstrap/hnb659fds/version"),
        ),
        allow(
            "Look",
            [
                "ec2:DescribeInstanceTypeOfferings",
                "DescribeVpcEndpoints",
                "elasticmapreduce:ListClusters",
            ],
            # They take no resource.
            ANYTHING,
        ),
        allow(
            "LookAtStacks",
            ["cloudformation:DescribeStacks", "ListStackResources"],
            scope.arns("cloudformation", "stack/{stack}/*", "stack/{stack}-notebooks/*"),
        ),
        allow("ReadSparkEvents", ["s3:GetObject"], scope.objects(f"{SPARK_EVENTS}/*")),
    ]


def _remove(scope: Scope) -> Sequence[Statement]:
    return [
        # CloudFormation does it in the role by which the stack was deployed.
        allow(
            "DeleteNotebooks",
            ["cloudformation:DeleteStack"],
            scope.arns("cloudformation", "stack/{stack}-notebooks/*"),
        ),
        allow(
            "ListObjects",
            ["s3:ListBucket", "ListBucketMultipartUploads", "ListBucketVersions"],
            scope.buckets(),
        ),
        allow(
            "DeleteObjects",
            ["s3:AbortMultipartUpload", "DeleteObject", "DeleteObjectVersion"],
            scope.objects(),
        ),
        allow("FindExecutions", ["states:ListExecutions"], scope.state_machines()),
        allow("StopExecutions", ["states:StopExecution"], scope.state_machines("execution", ":*")),
        allow(
            "EndClusters",
            ["elasticmapreduce:TerminateJobFlows"],
            scope.arns("elasticmapreduce", "cluster/*"),
            equal(f"elasticmapreduce:ResourceTag/{STACK_TAG}", *scope.stacks),
        ),
        # EMR makes them, and what it tags them with is not known here.
        allow("DeleteEndpoints", ["ec2:DeleteVpcEndpoints"], scope.arns("ec2", "vpc-endpoint/*")),
    ]


def _try(trial: Scope) -> Sequence[Statement]:
    return [
        allow("TryBatches", ["states:StartExecution"], trial.state_machines()),
        allow(
            "FollowBatches",
            ["states:DescribeExecution"],
            trial.state_machines("execution", ":*"),
        ),
        # Athena reads tables and files, and writes what it found, as the one who asks.
        allow("LocateBuckets", ["s3:GetBucketLocation"], trial.buckets()),
        allow(
            "ReadAndWriteObjects",
            ["s3:GetObject", "ListMultipartUploadParts", "PutObject"],
            trial.objects(),
        ),
        allow(
            "ReadTables",
            ["glue:GetDatabase", "GetPartition", "GetPartitions", "GetTable", "GetTables"],
            trial.arns("glue", "catalog", "database/{database}", "table/{database}/*"),
        ),
        allow(
            "Query",
            ["athena:GetQueryExecution", "GetQueryResults", "GetWorkGroup", "StartQueryExecution"],
            trial.arns("athena", "workgroup/{stack}"),
        ),
        # A queue of the trial's own hears what people are told, for as long as it lasts.
        allow(
            "Listen",
            [
                "sqs:CreateQueue",
                "DeleteQueue",
                "GetQueueAttributes",
                "ReceiveMessage",
                "SetQueueAttributes",
            ],
            trial.arns("sqs", "{stack}-trial"),
        ),
        allow("Subscribe", ["sns:Subscribe"], trial.arns("sns", "{prefix}*")),
        # It takes no resource.
        allow("Unsubscribe", ["sns:Unsubscribe"], ANYTHING),
        # Only names that begin alike are asked for, and yet all alarms' ARNs are looked at.
        allow("LookAtAlarms", ["cloudwatch:DescribeAlarms"], trial.arns("cloudwatch", "alarm:*")),
    ]
