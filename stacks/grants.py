"""What each role may do. The stack that composes buckets, roles and machines calls these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Stack, aws_iam

from spark_job import contract
from stacks.config import STACK_TAG
from stacks.identity import EMR_LOGS, USE_KEY, pass_role, service_linked_role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_kms, aws_s3, aws_sns, aws_ssm
    from aws_cdk import aws_stepfunctions as sfn

# What the job writes to, and reads again: on its next run, or when it settles what is at work.
OUTPUTS: Final = (contract.WORK, contract.RESULTS, contract.MODELS)
METRICS: Final = "Orchard"
"""CloudWatch's namespace of what runs say of themselves."""

_FOR_AWS: Final = {"kms:GrantIsForAWSResource": "true"}

# Step Functions makes this rule itself, once per account, and under no other name.
_STEP_RULE: Final = "StepFunctionsGetEventForEMRAddJobFlowStepsRule"


def process_batches(
    grantee: aws_iam.IGrantable,
    *,
    data: aws_s3.IBucket,
    logs: aws_s3.IBucket,
    key: aws_kms.IKey | None,
) -> None:
    """Let the nodes read images, work, settle results and models, and write EMR's logs.

    A run is settled by copies within S3: GetObject on what is copied, and PutObject where it goes.
    A pointer is read, and written only if it is still what was read: both again. Nothing that the
    job writes is tagged, so a copy needs no right to read or write tags.
    """
    _allow(
        grantee,
        _list(data, (contract.IMAGES, *OUTPUTS)),
        aws_iam.PolicyStatement(
            actions=["s3:GetObject"], resources=[data.arn_for_objects(f"{contract.IMAGES}/*")]
        ),
        aws_iam.PolicyStatement(
            actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            resources=[data.arn_for_objects(f"{folder}/*") for folder in OUTPUTS],
        ),
        aws_iam.PolicyStatement(
            # EMR asks for `s3:Put*` here: what it puts may come with an access control list, which
            # the bucket ignores, yet S3 would refuse the log without the permission.
            actions=["s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"],
            resources=[logs.arn_for_objects(f"{EMR_LOGS}*")],
        ),
        # Spark's event logs: it looks for its folder, writes, and renames what it has finished.
        aws_iam.PolicyStatement(
            actions=["s3:ListBucket"],
            resources=[logs.bucket_arn],
            # It asks for files that are not there, with no prefix in the request: S3 says so only
            # to those who may list.
            conditions={
                "StringLikeIfExists": {
                    "s3:prefix": [contract.SPARK_EVENTS, f"{contract.SPARK_EVENTS}/*"]
                }
            },
        ),
        aws_iam.PolicyStatement(
            actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            resources=[logs.arn_for_objects(f"{contract.SPARK_EVENTS}/*")],
        ),
        aws_iam.PolicyStatement(
            # Looking for its folder, it asks for a file of that name first.
            actions=["s3:GetObject"],
            resources=[logs.arn_for_objects(contract.SPARK_EVENTS)],
        ),
    )
    # What is encrypted stays readable when the deployment's key is changed, or given up; and a
    # cluster that runs meanwhile goes on to encrypt with the key that it was started with.
    _allow(grantee, _read_encrypted(grantee, data), _use_own_keys(grantee))
    if key is not None:
        _allow(grantee, _use(key))


def read_assets(grantee: aws_iam.IGrantable, bucket: aws_s3.IBucket, prefix: str) -> None:
    """Let the nodes fetch what the stack published, now or before, and no other stack's assets."""
    _allow(
        grantee,
        aws_iam.PolicyStatement(
            actions=["s3:GetObject"], resources=[bucket.arn_for_objects(f"{prefix}*")]
        ),
        # The account may have been bootstrapped with a key of its own.
        _read_encrypted(grantee, bucket),
    )


def read_certificates(grantee: aws_iam.IGrantable, uri: str) -> None:
    """Let the nodes fetch the certificates by which they encrypt what they send each other."""
    where = f"arn:{_stack(grantee).partition}:s3:::{uri.removeprefix('s3://')}"
    _allow(grantee, aws_iam.PolicyStatement(actions=["s3:GetObject"], resources=[where]))


def encrypt_disks(grantee: aws_iam.IGrantable, key: aws_kms.IKey | None) -> None:
    """Let EMR attach volumes encrypted with the stack's keys to the nodes it launches.

    Parameters
    ----------
    key
        The key of new clusters, if they have one; clusters that run may have an earlier one.
    """
    _allow(
        grantee,
        _use_own_keys(grantee),
        aws_iam.PolicyStatement(
            actions=["kms:CreateGrant"],
            resources=[_keys(_stack(grantee))],
            conditions={**_own(grantee), "Bool": _FOR_AWS},
        ),
    )
    if key is not None:
        _allow(
            grantee,
            _use(key),
            aws_iam.PolicyStatement(
                actions=["kms:CreateGrant"],
                resources=[key.key_arn],
                conditions={"Bool": _FOR_AWS},
            ),
        )


def inspect_batches(
    grantee: aws_iam.IGrantable, *, data: aws_s3.IBucket, logs: aws_s3.IBucket
) -> None:
    """Let the state machine look for what is named, read how a run went, and put it in numbers."""
    _allow(
        grantee,
        aws_iam.PolicyStatement(
            # The folder of Spark's event logs, which must be there before they are.
            actions=["s3:PutObject"],
            resources=[logs.arn_for_objects(f"{contract.SPARK_EVENTS}/")],
        ),
        _list(data, (contract.IMAGES, contract.MODELS)),
        aws_iam.PolicyStatement(
            actions=["s3:GetObject"],
            resources=[
                data.arn_for_objects(f"{contract.WORK}/*/{contract.FAILURE}"),
                data.arn_for_objects(f"{contract.RESULTS}/*/{contract.RUN}"),
            ],
        ),
        aws_iam.PolicyStatement(
            actions=["cloudwatch:PutMetricData"],
            # Metrics have no ARN; the namespace is the limit.
            resources=["*"],
            conditions={"StringEquals": {"cloudwatch:namespace": METRICS}},
        ),
        _read_encrypted(grantee, data),
    )


def run_clusters(
    grantee: aws_iam.IGrantable,
    *,
    service_role: aws_iam.IRole,
    instance_role: aws_iam.IRole,
    managed_scaling: bool,
) -> None:
    """Let the state machine create clusters under the stack's tag, and act on those alone."""
    stack = _stack(grantee)
    clusters = _clusters(stack)
    own = {STACK_TAG: stack.stack_name}
    _allow(
        grantee,
        aws_iam.PolicyStatement(
            actions=["elasticmapreduce:RunJobFlow"],
            # A cluster has no ARN before it exists; the tag it must be born with is the limit.
            resources=["*"],
            conditions=_equals("aws:RequestTag", own),
        ),
        aws_iam.PolicyStatement(
            # What RunJobFlow needs for its Tags, and only for those of this stack's clusters.
            actions=["elasticmapreduce:AddTags"],
            resources=[clusters],
            conditions=_equals("aws:RequestTag", own),
        ),
        aws_iam.PolicyStatement(
            # What RunJobFlow needs for its AutoTerminationPolicy and ManagedScalingPolicy.
            actions=[
                "elasticmapreduce:PutAutoTerminationPolicy",
                *(["elasticmapreduce:PutManagedScalingPolicy"] if managed_scaling else []),
            ],
            resources=[clusters],
        ),
        _on_own_clusters(
            stack,
            "AddJobFlowSteps",
            "CancelSteps",
            "DescribeCluster",
            "DescribeStep",
            "ListInstanceFleets",
            "ListSteps",
            "TerminateJobFlows",
        ),
        pass_role("elasticmapreduce.amazonaws.com", service_role),
        pass_role("ec2.amazonaws.com", instance_role),
        service_linked_role(stack, "elasticmapreduce.amazonaws.com", "AWSServiceRoleForEMRCleanup"),
        aws_iam.PolicyStatement(
            # The rule by which Step Functions hears of steps that ended (`addStep.sync`).
            actions=["events:DescribeRule", "events:PutRule", "events:PutTargets"],
            resources=[
                stack.format_arn(service="events", resource="rule", resource_name=_STEP_RULE)
            ],
        ),
    )


def read_parameter(grantee: aws_iam.IGrantable, parameter: aws_ssm.IStringParameter) -> None:
    """Let a state machine read a parameter."""
    _allow(
        grantee,
        aws_iam.PolicyStatement(actions=["ssm:GetParameter"], resources=[parameter.parameter_arn]),
    )


def list_own_executions(machine: sfn.StateMachine) -> None:
    """Let a state machine see its own executions.

    In a policy of its own: CDK makes a machine after its role's default policy, which can
    therefore not name the machine.
    """
    policy = aws_iam.Policy(machine, "OwnExecutions", roles=[machine.role])
    policy.add_statements(
        aws_iam.PolicyStatement(
            actions=["states:ListExecutions"], resources=[machine.state_machine_arn]
        )
    )


def list_clusters(grantee: aws_iam.IGrantable) -> None:
    """Let a state machine see the names and states of the account's clusters."""
    _allow(
        grantee,
        aws_iam.PolicyStatement(
            actions=["elasticmapreduce:ListClusters"],
            # Listing takes no resource; only the stack's own clusters can be acted on.
            resources=["*"],
        ),
    )


def end_clusters(grantee: aws_iam.IGrantable) -> None:
    """Let the janitor terminate the stack's clusters."""
    _allow(grantee, _on_own_clusters(_stack(grantee), "TerminateJobFlows"))


def describe_clusters(grantee: aws_iam.IGrantable) -> None:
    """Let the watch look at the stack's clusters."""
    _allow(grantee, _on_own_clusters(_stack(grantee), "DescribeCluster"))


def start_batches(
    grantee: aws_iam.IGrantable,
    *,
    machine: sfn.IStateMachine,
    executions: str,
    data: aws_s3.IBucket,
) -> None:
    """Let the trigger start executions, and see which names are taken.

    Parameters
    ----------
    executions
        What the ARNs of the machine's executions begin with.
    """
    for actions, resource in (
        ("states:StartExecution", machine.state_machine_arn),
        ("states:DescribeExecution", f"{executions}*"),
    ):
        _allow(grantee, aws_iam.PolicyStatement(actions=[actions], resources=[resource]))
    _allow(grantee, _list(data, (contract.RESULTS,)))


def register_partitions(
    grantee: aws_iam.IGrantable, *, database: str, data: aws_s3.IBucket
) -> None:
    """Let the registrar read the pointers, and point the partitions of the stack's tables."""
    stack = _stack(grantee)
    _allow(
        grantee,
        aws_iam.PolicyStatement(
            actions=["s3:GetObject"],
            resources=[data.arn_for_objects(f"{contract.RESULTS}/*/{contract.CURRENT}")],
        ),
        aws_iam.PolicyStatement(
            actions=["glue:CreatePartition", "glue:UpdatePartition"],
            resources=[
                stack.format_arn(service="glue", resource="catalog"),
                stack.format_arn(service="glue", resource="database", resource_name=database),
                stack.format_arn(service="glue", resource="table", resource_name=f"{database}/*"),
            ],
        ),
        _read_encrypted(grantee, data),
    )


def publish(grantee: aws_iam.IGrantable, topic: aws_sns.ITopic) -> None:
    """Let a state machine tell people."""
    _allow(
        grantee,
        aws_iam.PolicyStatement(actions=["sns:Publish"], resources=[topic.topic_arn]),
    )


def _allow(grantee: aws_iam.IGrantable, *statements: aws_iam.PolicyStatement) -> None:
    for statement in statements:
        grantee.grant_principal.add_to_principal_policy(statement)


def _stack(grantee: aws_iam.IGrantable) -> Stack:
    return Stack.of(grantee.grant_principal)  # type: ignore[arg-type]  # roles are constructs


def _clusters(stack: Stack) -> str:
    """Return the pattern of the ARNs of the account's clusters in the stack's region."""
    return stack.format_arn(service="elasticmapreduce", resource="cluster", resource_name="*")


def _on_own_clusters(stack: Stack, *actions: str) -> aws_iam.PolicyStatement:
    """Allow EMR actions on the clusters that bear the stack's tag."""
    return aws_iam.PolicyStatement(
        actions=[f"elasticmapreduce:{action}" for action in actions],
        resources=[_clusters(stack)],
        conditions=_equals("elasticmapreduce:ResourceTag", {STACK_TAG: stack.stack_name}),
    )


def _use(key: aws_kms.IKey) -> aws_iam.PolicyStatement:
    return aws_iam.PolicyStatement(actions=list(USE_KEY), resources=[key.key_arn])


def _use_own_keys(grantee: aws_iam.IGrantable) -> aws_iam.PolicyStatement:
    """Allow the use of every key that bears the stack's tag: the one deployed, and earlier ones.

    They stay when `kms` is turned off, and so must the rights, for as long as a cluster runs that
    was started with one. A key that somebody else made has these rights where it bears the tag too.
    """
    return aws_iam.PolicyStatement(
        actions=list(USE_KEY), resources=[_keys(_stack(grantee))], conditions=_own(grantee)
    )


def _own(grantee: aws_iam.IGrantable) -> dict[str, dict[str, str]]:
    return _equals("aws:ResourceTag", {STACK_TAG: _stack(grantee).stack_name})


def _keys(stack: Stack) -> str:
    """Return the pattern of the ARNs of the account's keys in the stack's region."""
    return stack.format_arn(service="kms", resource="key", resource_name="*")


def _read_encrypted(grantee: aws_iam.IGrantable, bucket: aws_s3.IBucket) -> aws_iam.PolicyStatement:
    """Allow S3 to decrypt a bucket's objects for a grantee, whichever key they are encrypted with.

    S3 names the object to KMS, or with a bucket key the bucket, and the key's policy must leave it
    to IAM as well, as every key's does by default.
    """
    stack = _stack(grantee)
    return aws_iam.PolicyStatement(
        actions=["kms:Decrypt"],
        resources=[_keys(stack)],
        conditions={
            "StringEquals": {"kms:ViaService": f"s3.{stack.region}.amazonaws.com"},
            "StringLike": {
                "kms:EncryptionContext:aws:s3:arn": [
                    bucket.bucket_arn,
                    bucket.arn_for_objects("*"),
                ]
            },
        },
    )


def _list(bucket: aws_s3.IBucket, folders: Sequence[str]) -> aws_iam.PolicyStatement:
    return aws_iam.PolicyStatement(
        actions=["s3:ListBucket"],
        resources=[bucket.bucket_arn],
        conditions={"StringLike": {"s3:prefix": [f"{folder}/*" for folder in folders]}},
    )


def _equals(key: str, tags: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {"StringEquals": {f"{key}/{tag}": value for tag, value in tags.items()}}
