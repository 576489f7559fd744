"""What people may do who run batches, and who look at what came of them: two managed policies.

Each is all that the command `orchard` asks for, with the stack's own names in it, and follows them
from deployment to deployment. Nobody has them by being deployed: an administrator attaches them, by
the ARNs among the outputs. The tests run every command with them alone, and judge its requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import ArnFormat, Stack, aws_iam
from constructs import Construct

from spark_job import contract
from spark_job.deployed import EMR_LOGS
from stacks.config import STACK_TAG
from stacks.grants import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_s3
    from aws_cdk import aws_stepfunctions as sfn


class People(Construct):
    """The policies of a stack's people.

    Attributes
    ----------
    viewers
        For those who look: at batches, runs, results, logs and costs.
    operators
        For those who run batches and look after their results, which is all of that and more.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        data: aws_s3.IBucket,
        logs: aws_s3.IBucket,
        machine: sfn.StateMachine,
        budget: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        look = [
            *_look_at_stack(self, budget),
            *_read(self, data, logs),
            *_look_at_runs(self, machine),
        ]
        name = Stack.of(self).stack_name
        self.viewers = aws_iam.ManagedPolicy(
            self,
            "Viewers",
            description=f"Looks at the batches of the stack {name}, and at what came of them.",
            statements=look,
        )
        self.operators = aws_iam.ManagedPolicy(
            self,
            "Operators",
            description=f"Runs the batches of the stack {name}, and looks after their results.",
            statements=[*look, *_run(self, machine), *_look_after(self, data)],
        )


def _look_at_stack(scope: Construct, budget: str | None) -> Sequence[aws_iam.PolicyStatement]:
    stack = Stack.of(scope)
    found = [
        aws_iam.PolicyStatement(
            sid="FindTheStack",
            actions=["cloudformation:DescribeStacks"],
            resources=[
                stack.format_arn(
                    service="cloudformation",
                    resource="stack",
                    resource_name=f"{stack.stack_name}/*",
                )
            ],
        )
    ]
    if budget is not None:
        found.append(
            aws_iam.PolicyStatement(
                sid="SeeTheBudget",
                actions=["budgets:ViewBudget"],
                resources=[
                    stack.format_arn(
                        service="budgets", region="", resource="budget", resource_name=budget
                    )
                ],
            )
        )
    return found


def _read(
    scope: Construct, data: aws_s3.IBucket, logs: aws_s3.IBucket
) -> Sequence[aws_iam.PolicyStatement]:
    kept = (EMR_LOGS.rstrip("/"), contract.SPARK_EVENTS)
    return [
        aws_iam.PolicyStatement(
            sid="ListData", actions=["s3:ListBucket"], resources=[data.bucket_arn]
        ),
        aws_iam.PolicyStatement(
            sid="ReadData",
            actions=["s3:GetObject"],
            resources=[data.arn_for_objects(f"{f}/*") for f in (contract.IMAGES, *OUTPUTS)],
        ),
        aws_iam.PolicyStatement(
            sid="ListLogs",
            actions=["s3:ListBucket"],
            resources=[logs.bucket_arn],
            conditions={"StringLike": {"s3:prefix": [f"{folder}/*" for folder in kept]}},
        ),
        aws_iam.PolicyStatement(
            sid="ReadLogs",
            actions=["s3:GetObject"],
            resources=[logs.arn_for_objects(f"{folder}/*") for folder in kept],
        ),
        _by_any_key(scope, data, "Decrypt"),
    ]


def _look_at_runs(scope: Construct, machine: sfn.StateMachine) -> Sequence[aws_iam.PolicyStatement]:
    return [
        aws_iam.PolicyStatement(
            sid="ListRuns",
            actions=["states:ListExecutions"],
            resources=[machine.state_machine_arn],
        ),
        aws_iam.PolicyStatement(
            sid="FollowRuns",
            actions=["states:DescribeExecution", "states:GetExecutionHistory"],
            resources=[_executions(machine)],
        ),
        aws_iam.PolicyStatement(
            sid="ListClusters",
            actions=["elasticmapreduce:ListClusters"],
            # Listing takes no resource: names and states of all of the account's clusters.
            resources=["*"],
        ),
        _on_clusters(scope, "LookAtClusters", "ListInstances"),
    ]


def _run(scope: Construct, machine: sfn.StateMachine) -> Sequence[aws_iam.PolicyStatement]:
    return [
        aws_iam.PolicyStatement(
            sid="StartRuns",
            actions=["states:StartExecution"],
            resources=[machine.state_machine_arn],
        ),
        aws_iam.PolicyStatement(
            sid="StopRuns", actions=["states:StopExecution"], resources=[_executions(machine)]
        ),
        # Of a cluster that the janitor did not end.
        _on_clusters(scope, "EndClusters", "TerminateJobFlows"),
    ]


def _look_after(scope: Construct, data: aws_s3.IBucket) -> Sequence[aws_iam.PolicyStatement]:
    return [
        aws_iam.PolicyStatement(
            sid="Upload",
            actions=["s3:PutObject"],
            resources=[data.arn_for_objects(f"{contract.IMAGES}/*")],
        ),
        # Models are built and chosen, batches reprojected, and what nobody needs is pruned.
        aws_iam.PolicyStatement(
            sid="LookAfterResults",
            actions=["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            resources=[data.arn_for_objects(f"{folder}/*") for folder in OUTPUTS],
        ),
        _by_any_key(scope, data, "GenerateDataKey"),
    ]


def _executions(machine: sfn.StateMachine) -> str:
    return Stack.of(machine).format_arn(
        service="states",
        resource="execution",
        resource_name=f"{machine.state_machine_name}:*",
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )


def _on_clusters(scope: Construct, sid: str, *actions: str) -> aws_iam.PolicyStatement:
    """Allow EMR actions on the clusters that bear the stack's tag."""
    stack = Stack.of(scope)
    return aws_iam.PolicyStatement(
        sid=sid,
        actions=[f"elasticmapreduce:{action}" for action in actions],
        resources=[
            stack.format_arn(service="elasticmapreduce", resource="cluster", resource_name="*")
        ],
        conditions={
            "StringEquals": {f"elasticmapreduce:ResourceTag/{STACK_TAG}": stack.stack_name}
        },
    )


def _by_any_key(scope: Construct, data: aws_s3.IBucket, action: str) -> aws_iam.PolicyStatement:
    """Allow S3 to use whichever key the data are encrypted with, for its objects alone."""
    stack = Stack.of(scope)
    return aws_iam.PolicyStatement(
        sid=f"{action}ThroughS3",
        actions=[f"kms:{action}"],
        resources=[stack.format_arn(service="kms", resource="key", resource_name="*")],
        conditions={
            "StringEquals": {"kms:ViaService": f"s3.{stack.region}.amazonaws.com"},
            "StringLike": {
                "kms:EncryptionContext:aws:s3:arn": [data.bucket_arn, data.arn_for_objects("*")]
            },
        },
    )
