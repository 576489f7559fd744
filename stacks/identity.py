"""Who may do what: EMR's service role, the nodes' role and the state machine's role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Stack, aws_iam
from constructs import Construct

from spark_job import contract
from stacks.config import STACK_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_kms, aws_s3

    from stacks.config import OrchardConfig

# What the job writes to, and reads again: on its next run, or when it settles what is at work.
OUTPUTS: Final = (contract.WORK, contract.RESULTS, contract.MODELS)
EMR_LOGS: Final = "emr/"
# Step Functions makes this rule itself, once per account, and under no other name.
_STEP_RULE: Final = "StepFunctionsGetEventForEMRAddJobFlowStepsRule"
SPOT_ROLE: Final = "AWSServiceRoleForEC2Spot"
USE_KEY: Final = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)


class Identity(Construct):
    """The roles of a stack, empty but for what each needs to be itself.

    What a role may do to a bucket, a topic or a cluster is granted by the stack that composes
    them, with the functions below.

    Attributes
    ----------
    service_role
        What EMR assumes to run clusters: AWS's policy for it, and PassRole on the nodes' role.
    instance_role
        What the nodes are: nothing by default.
    instance_profile
        Bears the role's exact name, which EMR relies on.
    state_machine_role
        What the batch's state machine assumes.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: OrchardConfig) -> None:
        super().__init__(scope, construct_id)
        self.instance_role = aws_iam.Role(
            self,
            "InstanceRole",
            assumed_by=aws_iam.ServicePrincipal("ec2.amazonaws.com"),
            description="The nodes of Orchard's clusters",
        )
        if config.ssm:
            self.instance_role.add_to_policy(_session_manager())
        self.instance_profile = aws_iam.CfnInstanceProfile(
            self,
            "InstanceProfile",
            instance_profile_name=self.instance_role.role_name,
            roles=[self.instance_role.role_name],
        )
        self.service_role = aws_iam.Role(
            self,
            "ServiceRole",
            assumed_by=trusted(self, "elasticmapreduce", "*"),
            description="EMR, running Orchard's clusters",
            managed_policies=[
                aws_iam.ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AmazonEMRServicePolicy_v2"
                )
            ],
        )
        # The managed policy's own PassRole covers only a role named EMR_EC2_DefaultRole.
        self.service_role.add_to_policy(pass_role("ec2.amazonaws.com", self.instance_role))
        self.service_role.add_to_policy(_service_linked_role(self, "spot.amazonaws.com", SPOT_ROLE))
        self.state_machine_role = aws_iam.Role(
            self,
            "StateMachineRole",
            assumed_by=trusted(self, "states", "stateMachine:*"),
            description="The state machine that runs Orchard's batches",
        )


def work_on_batches(
    role: aws_iam.Role, *, data: aws_s3.IBucket, logs: aws_s3.IBucket, key: aws_kms.IKey | None
) -> None:
    """Let the nodes read images, work, settle results and models, and write EMR's logs.

    A run is settled by copies within S3: GetObject on what is copied, and PutObject where it goes.
    A pointer is read, and written only if it is still what was read: both again. Nothing that the
    job writes is tagged, so a copy needs no right to read or write tags.
    """
    for statement in (
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
    ):
        role.add_to_policy(statement)
    if key is not None:
        role.add_to_policy(_use_key(key))


def read_certificates(role: aws_iam.Role, uri: str) -> None:
    """Let the nodes fetch the certificates by which they encrypt what they send each other."""
    where = uri.removeprefix("s3://")
    role.add_to_policy(
        aws_iam.PolicyStatement(
            actions=["s3:GetObject"], resources=[f"arn:{Stack.of(role).partition}:s3:::{where}"]
        )
    )


def encrypt_disks(role: aws_iam.Role, key: aws_kms.IKey) -> None:
    """Let EMR attach volumes encrypted with the key to the nodes it launches."""
    role.add_to_policy(_use_key(key))
    role.add_to_policy(
        aws_iam.PolicyStatement(
            actions=["kms:CreateGrant"],
            resources=[key.key_arn],
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        )
    )


def look_at_batches(role: aws_iam.Role, *, data: aws_s3.IBucket, key: aws_kms.IKey | None) -> None:
    """Let the state machine see whether a batch has images, and read why a run failed."""
    role.add_to_policy(_list(data, (contract.IMAGES,)))
    role.add_to_policy(
        aws_iam.PolicyStatement(
            actions=["s3:GetObject"],
            resources=[data.arn_for_objects(f"{contract.WORK}/*/{contract.FAILURE}")],
        )
    )
    if key is not None:
        role.add_to_policy(
            aws_iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key.key_arn])
        )


def run_clusters(
    role: aws_iam.Role,
    *,
    service_role: aws_iam.IRole,
    instance_role: aws_iam.IRole,
    managed_scaling: bool,
) -> None:
    """Let the state machine create clusters under the stack's tag, and act on those alone."""
    stack = Stack.of(role)
    clusters = cluster_arn(role)
    own = {STACK_TAG: stack.stack_name}
    for statement in (
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
        act_on_clusters(
            role,
            "AddJobFlowSteps",
            "CancelSteps",
            "DescribeCluster",
            "DescribeStep",
            "ListSteps",
            "TerminateJobFlows",
        ),
        pass_role("elasticmapreduce.amazonaws.com", service_role),
        pass_role("ec2.amazonaws.com", instance_role),
        _service_linked_role(role, "elasticmapreduce.amazonaws.com", "AWSServiceRoleForEMRCleanup"),
        aws_iam.PolicyStatement(
            # The rule by which Step Functions hears of steps that ended (`addStep.sync`).
            actions=["events:DescribeRule", "events:PutRule", "events:PutTargets"],
            resources=[
                stack.format_arn(service="events", resource="rule", resource_name=_STEP_RULE)
            ],
        ),
    ):
        role.add_to_policy(statement)


def act_on_clusters(scope: Construct, *actions: str) -> aws_iam.PolicyStatement:
    """Allow EMR actions on the clusters that bear the stack's tag."""
    return aws_iam.PolicyStatement(
        actions=[f"elasticmapreduce:{action}" for action in actions],
        resources=[cluster_arn(scope)],
        conditions=_equals("elasticmapreduce:ResourceTag", {STACK_TAG: Stack.of(scope).stack_name}),
    )


def pass_role(service: str, role: aws_iam.IRole) -> aws_iam.PolicyStatement:
    """Allow handing a role to one service, and to no other."""
    return aws_iam.PolicyStatement(
        actions=["iam:PassRole"],
        resources=[role.role_arn],
        conditions={"StringEquals": {"iam:PassedToService": service}},
    )


def cluster_arn(scope: Construct) -> str:
    """Return the pattern of the ARNs of the account's clusters in the stack's region."""
    return Stack.of(scope).format_arn(
        service="elasticmapreduce", resource="cluster", resource_name="*"
    )


def trusted(scope: Construct, service: str, resource: str) -> aws_iam.IPrincipal:
    """Trust a service only when it acts for this account, against the confused deputy."""
    stack = Stack.of(scope)
    return aws_iam.ServicePrincipal(
        f"{service}.amazonaws.com",
        conditions={
            "StringEquals": {"aws:SourceAccount": stack.account},
            "ArnLike": {
                "aws:SourceArn": f"arn:{stack.partition}:{service}:{stack.region}"
                f":{stack.account}:{resource}"
            },
        },
    )


def _use_key(key: aws_kms.IKey) -> aws_iam.PolicyStatement:
    return aws_iam.PolicyStatement(actions=list(USE_KEY), resources=[key.key_arn])


def _list(bucket: aws_s3.IBucket, folders: Sequence[str]) -> aws_iam.PolicyStatement:
    return aws_iam.PolicyStatement(
        actions=["s3:ListBucket"],
        resources=[bucket.bucket_arn],
        conditions={"StringLike": {"s3:prefix": [f"{folder}/*" for folder in folders]}},
    )


def _equals(key: str, tags: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {"StringEquals": {f"{key}/{tag}": value for tag, value in tags.items()}}


def _service_linked_role(scope: Construct, service: str, role: str) -> aws_iam.PolicyStatement:
    """Allow creating the role that a service needs once per account."""
    stack = Stack.of(scope)
    return aws_iam.PolicyStatement(
        actions=["iam:CreateServiceLinkedRole"],
        resources=[
            f"arn:{stack.partition}:iam::{stack.account}:role/aws-service-role/{service}/{role}"
        ],
        conditions={"StringEquals": {"iam:AWSServiceName": service}},
    )


def _session_manager() -> aws_iam.PolicyStatement:
    """Allow the agent on a node to offer shells through Session Manager."""
    return aws_iam.PolicyStatement(
        actions=[
            "ec2messages:AcknowledgeMessage",
            "ec2messages:DeleteMessage",
            "ec2messages:FailMessage",
            "ec2messages:GetEndpoint",
            "ec2messages:GetMessages",
            "ec2messages:SendReply",
            "ssm:UpdateInstanceInformation",
            "ssmmessages:CreateControlChannel",
            "ssmmessages:CreateDataChannel",
            "ssmmessages:OpenControlChannel",
            "ssmmessages:OpenDataChannel",
        ],
        # The channels have no ARN, and a node's own id is not known before it exists.
        resources=["*"],
    )
