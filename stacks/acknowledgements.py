"""Why each finding of cdk-nag's AwsSolutions pack stands: the evidence, finding by finding.

A test fails on a finding that is not here, and on an entry here that no finding needs any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aws_cdk import Acknowledgment, Stack, Token, Validations

from spark_job import contract
from spark_job.deployed import EMR_LOGS
from stacks.config import asset_prefix
from stacks.grants import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import CfnElement
    from constructs import IConstruct

    from stacks.pipeline_stack import PipelineStack

_PACK = "AwsSolutions::AwsSolutions-"


class Finding(NamedTuple):
    """A finding, where it stands, and why."""

    where: IConstruct
    rule: str
    evidence: str


def acknowledge(stack: PipelineStack) -> None:
    """Record why each finding in a stack stands, where cdk-nag and an auditor find it."""
    for finding in findings(stack):
        Validations.of(finding.where).acknowledge(
            Acknowledgment(id=_PACK + finding.rule, reason=finding.evidence)
        )


def findings(stack: PipelineStack) -> Sequence[Finding]:
    """Return the findings of a stack that stand."""
    roles = stack.identity
    data, logs = (_id(bucket) for bucket in (stack.storage.data, stack.storage.logs))
    account = _or_name(stack.account, "AWS::AccountId")
    here = f"{stack.region}:{account}"
    clusters = f"arn:<AWS::Partition>:elasticmapreduce:{here}:cluster/*"
    found = [
        Finding(
            roles.service_role,
            "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
            "AmazonEMRServicePolicy_v2]",
            "AWS keeps this policy in step with what EMR does; it acts on tagged resources only,"
            " and the trust is limited to this account's clusters.",
        ),
        *(
            Finding(
                roles.instance_role,
                _resource(f"<{data}.Arn>/{folder}/*"),
                "The objects under one prefix of the stack's own bucket, which is the job's work.",
            )
            for folder in (contract.IMAGES, *OUTPUTS)
        ),
        *(
            Finding(
                role,
                _resource(f"arn:<AWS::Partition>:kms:{here}:key/*"),
                "Whichever key the objects of one bucket are encrypted with, through S3 alone; and"
                " of nodes and EMR, whichever key bears the stack's tag.",
            )
            for role in (
                roles.instance_role,
                roles.service_role,
                stack.workflow,
                stack.registrar,
            )
        ),
        Finding(
            roles.instance_role,
            _resource(
                f"arn:<AWS::Partition>:s3:::cdk-hnb659fds-assets-{account}-{stack.region}/"
                f"{asset_prefix(stack.node.id)}*"
            ),
            "What this stack published, now or in an earlier version; reading only.",
        ),
        Finding(
            roles.instance_role,
            _resource(f"<{logs}.Arn>/emr/*"),
            "EMR names a cluster's logs after its id, unknown before it exists; writing only.",
        ),
        Finding(
            roles.instance_role,
            _resource(f"<{logs}.Arn>/{contract.SPARK_EVENTS}/*"),
            "Spark names its event logs after the application, unknown before it starts.",
        ),
        Finding(
            stack.workflow,
            _resource(f"<{data}.Arn>/{contract.WORK}/*/{contract.FAILURE}"),
            "Reads why a run failed, whichever batch and run that is; reading only that.",
        ),
        Finding(
            stack.workflow,
            _resource(f"<{data}.Arn>/{contract.RESULTS}/*/{contract.RUN}"),
            "Reads how a run went, whichever batch and run that is; reading only that.",
        ),
        Finding(
            stack.registrar,
            _resource(f"<{data}.Arn>/{contract.RESULTS}/*/{contract.CURRENT}"),
            "Reads what is published, of whichever batch; reading only that.",
        ),
        Finding(
            stack.registrar,
            _resource(f"arn:<AWS::Partition>:glue:{here}:table/{stack.catalog.database}/*"),
            "The tables of the stack's own database.",
        ),
        Finding(
            stack.registrar,
            _resource("*"),
            "X-Ray and log delivery, which have no resources.",
        ),
        Finding(
            stack.undelivered,
            "SQS3",
            "It is where undelivered events end; an alarm rings when there are any.",
        ),
        Finding(
            stack.workflow,
            _resource("*"),
            "RunJobFlow (no ARN before the cluster exists; limited by the tag it must bear),"
            " PutMetricData (limited by its namespace), and X-Ray and log delivery, which have no"
            " resources.",
        ),
        Finding(
            stack.workflow,
            _resource(clusters),
            "A cluster's id is not known before it exists; limited by the stack's tag.",
        ),
        Finding(
            stack.watch,
            _resource("*"),
            "X-Ray and log delivery, which have no resources.",
        ),
        Finding(
            stack.watch,
            _resource(clusters),
            "A cluster's id is not known before it exists; describing only, limited by the tag.",
        ),
        Finding(
            stack.janitor,
            _resource("*"),
            "ListClusters, which is over the account, and X-Ray and log delivery, which have no"
            " resources; reading only.",
        ),
        Finding(
            stack.janitor,
            _resource(clusters),
            "A cluster's id is not known before it exists; limited by the stack's tag.",
        ),
    ]
    if stack.config.ssm:
        found.append(
            Finding(
                roles.instance_role,
                _resource("*"),
                "Session Manager's channels have no ARN; only asked for with ssm=true.",
            )
        )
    if stack.trigger is not None:
        machine = _id(stack.workflow.state_machine)
        found += [
            Finding(
                stack.trigger,
                _resource("*"),
                "X-Ray and log delivery, which have no resources.",
            ),
            Finding(
                stack.trigger,
                _resource(f"arn:<AWS::Partition>:states:{here}:execution:<{machine}.Name>:*"),
                "The executions of the stack's own state machine, named after batches yet to come.",
            ),
        ]
    return [*found, *_of_people(stack, here, clusters)]


def _of_people(stack: PipelineStack, here: str, clusters: str) -> Sequence[Finding]:
    """Return the findings of the policies for people."""
    data, logs = (_id(bucket) for bucket in (stack.storage.data, stack.storage.logs))
    machine = _id(stack.workflow.state_machine)
    evidence = {
        "*": "ListClusters, which takes no resource; reading only.",
        clusters: "A cluster's id is not known before it exists; limited by the stack's tag.",
        f"arn:<AWS::Partition>:cloudformation:{here}:stack/{stack.stack_name}/*": (
            "The stack itself, whose ARN ends in an id of CloudFormation's."
        ),
        f"arn:<AWS::Partition>:states:{here}:execution:<{machine}.Name>:*": (
            "The executions of the stack's own state machine, named after batches yet to come."
        ),
        f"arn:<AWS::Partition>:kms:{here}:key/*": (
            "Whichever key the objects of one bucket are encrypted with, through S3 alone."
        ),
        **{
            f"<{data}.Arn>/{folder}/*": "The objects under one prefix of the stack's own bucket."
            for folder in (contract.IMAGES, *OUTPUTS)
        },
        **{
            f"<{logs}.Arn>/{folder}/*": "Logs, named after clusters and applications; reading only."
            for folder in (EMR_LOGS.rstrip("/"), contract.SPARK_EVENTS)
        },
    }
    return [
        Finding(policy, _resource(pattern), why)
        for policy in (stack.people.viewers, stack.people.operators)
        for pattern, why in evidence.items()
    ]


def _or_name(value: str, pseudo: str) -> str:
    """Return a value that is known at synth, or else the name that cdk-nag has for it."""
    return f"<{pseudo}>" if Token.is_unresolved(value) else value


def _resource(pattern: str) -> str:
    return f"IAM5[Resource::{pattern}]"


def _id(construct: IConstruct) -> str:
    element: CfnElement = construct.node.default_child  # type: ignore[assignment]
    return Stack.of(construct).get_logical_id(element)
