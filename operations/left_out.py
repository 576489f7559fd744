"""What the schemas say that handlers may call, and that CloudFormation need not be allowed here.

The lists of handlers are left out whole: they are for finding resources, not for deploying them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

UNUSED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "AWS::Athena::WorkGroup": {
        "WorkGroupConfiguration.ExecutionRole": ("iam:PassRole",),
        "WorkGroupConfiguration.CustomerContentEncryptionConfiguration": (
            "kms:Decrypt",
            "kms:GenerateDataKey",
        ),
    },
    "AWS::EC2::FlowLog": {
        "DeliverLogsPermissionArn": ("iam:PassRole",),
    },
    "AWS::EC2::Subnet": {
        "Ipv6CidrBlock": ("ec2:AssociateSubnetCidrBlock", "ec2:DisassociateSubnetCidrBlock"),
    },
    "AWS::EC2::VPC": {
        "VpcEncryptionControl": ("ec2:CreateVpcEncryptionControl",),
    },
    "AWS::EC2::VPCEndpoint": {
        "ServiceNetworkArn": ("vpc-lattice:CreateServiceNetworkVpcEndpointAssociation",),
        "ServiceRegion": ("vpce:AllowMultiRegion",),
    },
    "AWS::Glue::Database": {
        "DatabaseInput.FederatedDatabase": (
            "glue:CreateConnection",
            "glue:DeleteConnection",
            "glue:GetConnection",
            "glue:PassConnection",
            "glue:UpdateConnection",
        ),
    },
    "AWS::Glue::Table": {
        "OpenTableFormatInput": (
            "glue:PassConnection",
            "iam:PassRole",
            "s3:GetObject",
            "s3:PutObject",
        ),
        "TableInput.StorageDescriptor.SchemaReference": ("glue:GetSchemaVersion",),
    },
    "AWS::IAM::ManagedPolicy": {
        "Groups": ("iam:AttachGroupPolicy", "iam:DetachGroupPolicy"),
        "Roles": ("iam:AttachRolePolicy", "iam:DetachRolePolicy"),
        "Users": ("iam:AttachUserPolicy", "iam:DetachUserPolicy"),
    },
    "AWS::IAM::Policy": {
        "Groups": ("iam:DeleteGroupPolicy", "iam:GetGroupPolicy", "iam:PutGroupPolicy"),
        "Users": ("iam:DeleteUserPolicy", "iam:GetUserPolicy", "iam:PutUserPolicy"),
    },
    "AWS::IAM::Role": {
        "PermissionsBoundary": (
            "iam:DeleteRolePermissionsBoundary",
            "iam:PutRolePermissionsBoundary",
        ),
    },
    "AWS::KMS::Key": {
        "Enabled": ("kms:DisableKey", "kms:EnableKey"),
    },
    "AWS::Logs::LogGroup": {
        "BearerTokenAuthenticationEnabled": ("logs:PutBearerTokenAuthentication",),
        "DataProtectionPolicy": ("logs:PutDataProtectionPolicy", "logs:CreateLogDelivery"),
        "DeletionProtectionEnabled": ("logs:PutLogGroupDeletionProtection",),
        "FieldIndexPolicies": ("logs:DeleteIndexPolicy", "logs:PutIndexPolicy"),
        "KmsKeyId": ("logs:AssociateKmsKey", "logs:DisassociateKmsKey"),
        "ResourcePolicyDocument": ("logs:DeleteResourcePolicy", "logs:PutResourcePolicy"),
    },
    "AWS::S3::Bucket": {
        "AbacStatus": ("s3:PutBucketAbac",),
        "AccelerateConfiguration": ("s3:PutAccelerateConfiguration",),
        "AccessControl": ("s3:PutBucketAcl", "s3:PutObjectAcl"),
        "AnalyticsConfigurations": ("s3:PutAnalyticsConfiguration",),
        "CorsConfiguration": ("s3:PutBucketCORS",),
        "IntelligentTieringConfigurations": ("s3:PutIntelligentTieringConfiguration",),
        "InventoryConfigurations": ("s3:PutInventoryConfiguration",),
        "MetadataConfiguration": (
            "s3:CreateBucketMetadataTableConfiguration",
            "s3:DeleteBucketMetadataTableConfiguration",
            "s3:UpdateBucketMetadataAnnotationTableConfiguration",
            "s3:UpdateBucketMetadataInventoryTableConfiguration",
            "s3:UpdateBucketMetadataJournalTableConfiguration",
            "s3tables:CreateNamespace",
            "s3tables:CreateTable",
            "s3tables:CreateTableBucket",
            "s3tables:GetTable",
            "s3tables:GetTableMetadataLocation",
            "s3tables:PutTableBucketPolicy",
            "s3tables:PutTableEncryption",
            "s3tables:PutTablePolicy",
            "s3tables:UpdateTableMetadataLocation",
        ),
        "MetricsConfigurations": ("s3:PutMetricsConfiguration",),
        "ObjectLockConfiguration": ("s3:PutBucketObjectLockConfiguration",),
        "ReplicationConfiguration": ("iam:PassRole", "s3:PutReplicationConfiguration"),
        "WebsiteConfiguration": ("s3:DeleteBucketWebsite", "s3:PutBucketWebsite"),
    },
    "AWS::SNS::Subscription": {
        "SubscriptionRoleArn": ("iam:GetRole", "iam:PassRole"),
    },
    "AWS::SNS::Topic": {
        "DataProtectionPolicy": ("sns:PutDataProtectionPolicy",),
        "DeliveryStatusLogging": ("iam:GetRole", "iam:PassRole"),
    },
    "AWS::StepFunctions::StateMachine": {
        "DefinitionS3Location": ("s3:GetObject", "s3:GetObjectVersion"),
        "EncryptionConfiguration": ("kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"),
    },
}
"""By resource, what belongs to a property that no template has."""

NEEDLESS: Final[Mapping[str, Mapping[str, str]]] = {
    "AWS::Athena::WorkGroup": {
        "iam:CreateServiceLinkedRole": "a workgroup of SQL runs in no role of its own",
    },
    "AWS::EC2::FlowLog": {
        "iam:CreateServiceLinkedRole": "a delivery to S3 has a bucket policy, and no role",
    },
    "AWS::KMS::Key": {
        "kms:ScheduleKeyDeletion": "CloudFormation retains the key",
    },
    "AWS::Logs::LogGroup": {
        "firehose:TagDeliveryStream": "there is no delivery stream",
    },
    "AWS::S3::Bucket": {
        "s3:DeleteObject": "CloudFormation deletes a bucket only when it is empty",
    },
}
"""By resource, what nothing here calls, and why."""

UNKNOWN: Final = (
    "lakeformation:CreateTable",
    "s3:DeleteBucketAnalyticsConfiguration",
    "s3:DeleteBucketCors",
    "s3:DeleteBucketEncryption",
    "s3:DeleteBucketLifecycle",
    "s3:DeleteBucketMetricsConfiguration",
    "s3:DeleteBucketReplication",
    "s3:PutBucketReplication",
    "s3:PutObjectLockConfiguration",
    "s3:REST.PUT.OBJECT",
    "vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation",
)
"""What schemas name, and IAM has no action of: mostly calls whose action has another name."""
