"""The roles of EMR and of its nodes, and whom roles trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Stack, aws_iam
from constructs import Construct

from spark_job.deployed import EMR_LOGS as EMR_LOGS

if TYPE_CHECKING:
    from stacks.config import OrchardConfig

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
    them, with the functions of :mod:`stacks.grants`.

    Attributes
    ----------
    service_role
        What EMR assumes to run clusters: AWS's policy for it, and PassRole on the nodes' role.
    instance_role
        What the nodes are: nothing by default.
    instance_profile
        Bears the role's exact name, which EMR relies on.
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
        self.service_role.add_to_policy(service_linked_role(self, "spot.amazonaws.com", SPOT_ROLE))


def pass_role(service: str, role: aws_iam.IRole) -> aws_iam.PolicyStatement:
    """Allow handing a role to one service, and to no other."""
    return aws_iam.PolicyStatement(
        actions=["iam:PassRole"],
        resources=[role.role_arn],
        conditions={"StringEquals": {"iam:PassedToService": service}},
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


def service_linked_role(scope: Construct, service: str, role: str) -> aws_iam.PolicyStatement:
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
