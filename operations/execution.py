"""What CloudFormation may do with the stacks' resources, instead of all that an administrator may.

Derived from what each resource's schema says that its handlers call; :mod:`operations.left_out`
says which of that is left out, and why. The tests hold both to the templates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from operations.statements import ANYTHING, allow, equal
from stacks.config import STACK_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from operations.statements import Conditions, Scope, Statement

_EMR_POLICY: Final = "arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"
# Whom roles are passed to: EC2 by the nodes' profile, the others by what they run.
_PASSED_TO: Final = ("ec2", "elasticmapreduce", "events", "states")


def execution(scope: Scope) -> Mapping[str, Sequence[Statement]]:
    """Return the statements by subject, each of which fits into one managed policy."""
    return {
        "identity": [*_roles(scope), *_keys(scope)],
        "network": [*_look_at_network(), *_network(scope)],
        "data": [*_buckets(scope), *_tables(scope), *_clusters(scope)],
        "operation": [*_events(scope), *_monitoring(scope), *_parameters(scope)],
    }


def _roles(scope: Scope) -> Sequence[Statement]:
    roles = scope.arns("iam", "role/{prefix}*")
    emr = "role/aws-service-role/elasticmapreduce.amazonaws.com/AWSServiceRoleForEMRCleanup"
    return [
        allow(
            "Roles",
            [
                "iam:CreateRole",
                "DeleteRole",
                "DeleteRolePolicy",
                "GetRole",
                "GetRolePolicy",
                "ListAttachedRolePolicies",
                "ListRolePolicies",
                "PutRolePolicy",
                "TagRole",
                "UntagRole",
                "UpdateAssumeRolePolicy",
                "UpdateRole",
                "UpdateRoleDescription",
            ],
            roles,
        ),
        allow(
            "EmrsPolicy",
            ["iam:AttachRolePolicy", "DetachRolePolicy"],
            roles,
            {"ArnEquals": {"iam:PolicyARN": _EMR_POLICY}},
        ),
        allow("PassRoles", ["iam:PassRole"], roles, _passed_to(*_PASSED_TO)),
        # Of the stack's people; an administrator attaches them.
        allow(
            "Policies",
            [
                "iam:CreatePolicy",
                "CreatePolicyVersion",
                "DeletePolicy",
                "DeletePolicyVersion",
                "GetPolicy",
                "GetPolicyVersion",
                "ListEntitiesForPolicy",
                "ListPolicyVersions",
            ],
            scope.arns("iam", "policy/{prefix}*"),
        ),
        # It bears its role's name.
        allow(
            "Profiles",
            [
                "iam:AddRoleToInstanceProfile",
                "CreateInstanceProfile",
                "DeleteInstanceProfile",
                "GetInstanceProfile",
                "RemoveRoleFromInstanceProfile",
            ],
            scope.arns("iam", "instance-profile/{prefix}*"),
        ),
        # EMR makes it with an account's first cluster, as the one who asks for the cluster.
        allow(
            "EmrsCleanup",
            ["iam:CreateServiceLinkedRole"],
            scope.arns("iam", emr),
            equal("iam:AWSServiceName", "elasticmapreduce.amazonaws.com"),
        ),
    ]


def _passed_to(*services: str) -> Conditions:
    return equal("iam:PassedToService", *(f"{service}.amazonaws.com" for service in services))


def _keys(scope: Scope) -> Sequence[Statement]:
    return [
        # No key, no ARN.
        allow("CreateKeys", ["kms:CreateKey"], ANYTHING),
        # A key's name is chosen by KMS, and a new key's tags count for nothing for some minutes.
        allow(
            "Keys",
            [
                "kms:DescribeKey",
                "DisableKeyRotation",
                "EnableKeyRotation",
                "GetKeyPolicy",
                "GetKeyRotationStatus",
                "ListResourceTags",
                "PutKeyPolicy",
                "TagResource",
                "UntagResource",
                "UpdateKeyDescription",
            ],
            scope.arns("kms", "key/*"),
        ),
    ]


def _look_at_network() -> Sequence[Statement]:
    return [
        allow(
            "LookAtNetworks",
            [
                # `Fn::GetAZs` asks for these two and for the subnets.
                "ec2:DescribeAccountAttributes",
                "DescribeAvailabilityZones",
                "DescribeFlowLogs",
                "DescribeInstances",
                "DescribeNetworkAcls",
                "DescribeRouteTables",
                "DescribeSecurityGroupRules",
                "DescribeSecurityGroups",
                "DescribeSubnets",
                "DescribeTags",
                "DescribeVpcAttribute",
                "DescribeVpcEncryptionControls",
                "DescribeVpcEndpoints",
                "DescribeVpcs",
                "autoscaling:DescribeTags",
            ],
            # All but one take no resource.
            ANYTHING,
        ),
        # Of AWS' own zones: an interface endpoint's private names. No schema says so, but IAM's
        # reference did. Log deliveries, of which a flow log is one, take no resource.
        allow(
            "NamesAndFlowLogs",
            [
                "route53:AssociateVPCWithHostedZone",
                "logs:CreateLogDelivery",
                "logs:DeleteLogDelivery",
            ],
            ANYTHING,
        ),
    ]


def _network(scope: Scope) -> Sequence[Statement]:
    kinds = (
        "route-table",
        "security-group",
        "security-group-rule",
        "subnet",
        "vpc",
        "vpc-endpoint",
        "vpc-flow-log",
    )
    of_all = scope.arns("ec2", *(f"{kind}/*" for kind in kinds))
    return [
        # EC2 chooses their names, and whether CloudFormation tags them at once or afterwards is
        # not documented: bound to kinds of things, not to the stacks.
        allow(
            "MakeNetworks",
            [
                "ec2:AssociateRouteTable",
                "AuthorizeSecurityGroupEgress",
                "AuthorizeSecurityGroupIngress",
                "CreateFlowLogs",
                "CreateRouteTable",
                "CreateSecurityGroup",
                "CreateSubnet",
                "CreateTags",
                "CreateVpc",
                "CreateVpcEndpoint",
                "DeleteTags",
                "DisassociateRouteTable",
                "ModifySubnetAttribute",
                "ModifyVpcAttribute",
                "ModifyVpcEndpoint",
                "ModifyVpcTenancy",
                "ReplaceRouteTableAssociation",
                "RevokeSecurityGroupEgress",
                "RevokeSecurityGroupIngress",
                "UpdateSecurityGroupRuleDescriptionsEgress",
                "UpdateSecurityGroupRuleDescriptionsIngress",
            ],
            of_all,
        ),
        allow(
            "DeleteNetworks",
            [
                "ec2:DeleteFlowLogs",
                "DeleteRouteTable",
                "DeleteSecurityGroup",
                "DeleteSubnet",
                "DeleteVpc",
                "DeleteVpcEndpoints",
            ],
            of_all,
            equal(f"aws:ResourceTag/{STACK_TAG}", *scope.stacks),
        ),
    ]


def _buckets(scope: Scope) -> Sequence[Statement]:
    return [
        allow(
            "Buckets",
            [
                "s3:CreateBucket",
                "DeleteBucket",
                "DeleteBucketPolicy",
                "GetAccelerateConfiguration",
                "GetAnalyticsConfiguration",
                "GetBucket*",
                "GetEncryptionConfiguration",
                "GetIntelligentTieringConfiguration",
                "GetInventoryConfiguration",
                "GetLifecycleConfiguration",
                "GetMetricsConfiguration",
                "GetReplicationConfiguration",
                "ListBucket",
                "ListBucketMultipartUploads",
                "ListTagsForResource",
                "PutBucketLogging",
                "PutBucketNotification",
                "PutBucketOwnershipControls",
                "PutBucketPolicy",
                "PutBucketPublicAccessBlock",
                "PutBucketTagging",
                "PutBucketVersioning",
                "PutEncryptionConfiguration",
                "PutLifecycleConfiguration",
                "TagResource",
                "UntagResource",
            ],
            scope.buckets(),
        ),
        # The workgroup's handler tries where Athena puts results.
        allow(
            "AthenasResults",
            ["s3:AbortMultipartUpload", "GetObject", "ListMultipartUploadParts", "PutObject"],
            scope.objects("athena/*"),
        ),
    ]


def _tables(scope: Scope) -> Sequence[Statement]:
    return [
        allow(
            "Tables",
            [
                "glue:CreateDatabase",
                "CreateTable",
                "DeleteDatabase",
                "DeleteTable",
                "GetDatabase",
                "GetTable",
                "UpdateDatabase",
                "UpdateTable",
            ],
            scope.arns(
                "glue",
                "catalog",
                "database/{database}",
                "table/{database}/*",
                "userDefinedFunction/{database}/*",
            ),
        ),
        # Lake Formation, where it is in use, gives its own rights; these take no resource.
        allow(
            "LakeFormation",
            [
                "lakeformation:DescribeLakeFormationIdentityCenterConfiguration",
                "DescribeResource",
                "GetDataAccess",
                "ListResources",
            ],
            ANYTHING,
        ),
        allow(
            "Workgroups",
            [
                "athena:CreateWorkGroup",
                "DeleteWorkGroup",
                "GetWorkGroup",
                "ListTagsForResource",
                "TagResource",
                "UntagResource",
                "UpdateWorkGroup",
            ],
            scope.arns("athena", "workgroup/{stack}"),
        ),
    ]


CLUSTER: Final = (
    "DescribeCluster",
    "GetAutoTerminationPolicy",
    "ListBootstrapActions",
    "ListInstanceFleets",
    "ListInstances",
    "ListSteps",
    "ModifyInstanceFleet",
    "PutAutoTerminationPolicy",
    "RemoveAutoTerminationPolicy",
    "RemoveTags",
    "SetTerminationProtection",
    "TerminateJobFlows",
)
"""What EMR's API has for the life of a cluster: its resource has no schema of handlers."""


def _clusters(scope: Scope) -> Sequence[Statement]:
    """Return what the notebook clusters need."""
    clusters = scope.arns("elasticmapreduce", "cluster/*")
    return [
        # They take no resource.
        allow(
            "SecurityConfigurations",
            [
                "elasticmapreduce:CreateSecurityConfiguration",
                "DeleteSecurityConfiguration",
                "DescribeSecurityConfiguration",
            ],
            ANYTHING,
        ),
        # No cluster, no ARN: bound by the tag that it must bear.
        allow(
            "StartNotebooks",
            ["elasticmapreduce:AddTags", "RunJobFlow"],
            ANYTHING,
            equal(f"aws:RequestTag/{STACK_TAG}", *scope.notebooks),
        ),
        allow(
            "Notebooks",
            [f"elasticmapreduce:{action}" for action in CLUSTER],
            clusters,
            equal(f"elasticmapreduce:ResourceTag/{STACK_TAG}", *scope.notebooks),
        ),
    ]


def _events(scope: Scope) -> Sequence[Statement]:
    return [
        allow(
            "StateMachines",
            [
                "states:CreateStateMachine",
                "DeleteStateMachine",
                "DescribeStateMachine",
                "ListTagsForResource",
                "TagResource",
                "UntagResource",
                "UpdateStateMachine",
            ],
            scope.state_machines(),
        ),
        allow(
            "Rules",
            [
                "events:DeleteRule",
                "DescribeRule",
                "ListTagsForResource",
                "ListTargetsByRule",
                "PutRule",
                "PutTargets",
                "RemoveTargets",
                "TagResource",
                "UntagResource",
            ],
            scope.arns("events", "rule/{prefix}*"),
        ),
        allow(
            "Topics",
            [
                "sns:CreateTopic",
                "DeleteTopic",
                "GetDataProtectionPolicy",
                "GetSubscriptionAttributes",
                "GetTopicAttributes",
                "ListSubscriptionsByTopic",
                "ListTagsForResource",
                "SetSubscriptionAttributes",
                "SetTopicAttributes",
                "Subscribe",
                "TagResource",
                "Unsubscribe",
                "UntagResource",
            ],
            scope.arns("sns", "{prefix}*"),
        ),
        allow(
            "Queues",
            [
                "sqs:CreateQueue",
                "DeleteQueue",
                "GetQueueAttributes",
                "GetQueueUrl",
                "ListQueueTags",
                "SetQueueAttributes",
                "TagQueue",
                "UntagQueue",
            ],
            scope.arns("sqs", "{prefix}*"),
        ),
    ]


def _monitoring(scope: Scope) -> Sequence[Statement]:
    logs = "log-group:/aws/vendedlogs/states/{stack}-*"
    # A dashboard's name has no stack in it, only what the template calls it.
    dashboards = scope.arns("cloudwatch", "dashboard/MonitoringDashboard*")
    return [
        allow(
            "AlarmsAndDashboards",
            [
                "cloudwatch:DeleteAlarms",
                "DeleteDashboards",
                "GetDashboard",
                "ListTagsForResource",
                "PutDashboard",
                "PutMetricAlarm",
                "TagResource",
                "UntagResource",
            ],
            [*scope.arns("cloudwatch", "alarm:{prefix}*"), *dashboards],
        ),
        allow(
            "LogGroups",
            [
                "logs:CreateLogGroup",
                "DeleteDataProtectionPolicy",
                "DeleteLogGroup",
                "DeleteRetentionPolicy",
                "GetDataProtectionPolicy",
                "ListTagsForResource",
                "PutRetentionPolicy",
                "TagResource",
                "UntagResource",
            ],
            scope.arns("logs", logs),
        ),
        # Alarms are looked for by all, and the others take no resource.
        allow(
            "Look",
            [
                "cloudwatch:DescribeAlarms",
                "logs:DescribeIndexPolicies",
                "DescribeLogGroups",
                "DescribeResourcePolicies",
            ],
            ANYTHING,
        ),
        # How CloudFormation names them is not documented.
        allow(
            "Budgets",
            [
                "budgets:ListTagsForResource",
                "ModifyBudget",
                "TagResource",
                "UntagResource",
                "ViewBudget",
            ],
            scope.arns("budgets", "budget/*"),
        ),
        allow(
            "BillingOfBudgets",
            ["billing:GetBillingViewData"],
            scope.arns("billing", "billingview/*"),
        ),
    ]


def _parameters(scope: Scope) -> Sequence[Statement]:
    return [
        allow(
            "Parameters",
            [
                "ssm:AddTagsToResource",
                "DeleteParameter",
                "GetParameters",
                "ListTagsForResource",
                "PutParameter",
                "RemoveTagsFromResource",
            ],
            scope.arns("ssm", "parameter/orchard/{stack}/*"),
        ),
        # Every template of CDK's asks for it.
        allow(
            "CdksVersion",
            ["ssm:GetParameters"],
            scope.arns("ssm", "parameter/cdk-bootstrap/hnb659fds/version"),
        ),
    ]
