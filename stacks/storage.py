"""Where images, results, models and logs live."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aws_cdk import Annotations, Aws, Duration, RemovalPolicy, aws_iam, aws_kms, aws_s3
from constructs import Construct

from spark_job.contract import WORK
from stacks.identity import SPOT_ROLE, USE_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stacks.config import OrchardConfig

# A multipart upload that no one finished in a week belongs to a node that is gone; since EMR 7.10
# nothing else cleans them up, and their parts are billed.
_INCOMPLETE_UPLOADS = Duration.days(7)

# A run removes its work folder when it is published. What a failed one leaves, the next run of the
# batch takes over; two weeks are time to start it, and to read why the first one failed.
_WORK_DAYS = 14


class Storage(Construct):
    """The data bucket, the log bucket and, when asked for, the key of the data.

    Attributes
    ----------
    data
        ``images/``, ``work/``, ``results/`` and ``models/``: private, TLS-only, encrypted,
        versioned; ``work/`` expires.
    logs
        ``emr/``, ``access/`` and ``flow/``, expiring after ``log_retention_days``.
    key
        The KMS key of the data, or None under SSE-S3.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: OrchardConfig) -> None:
        super().__init__(scope, construct_id)
        # Without it CDK would let S3 deliver access logs by an ACL, which these buckets refuse.
        self.node.set_context("@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy", True)
        removal = RemovalPolicy.DESTROY if config.deletes_data else RemovalPolicy.RETAIN
        if (config.removal_policy == "destroy") != config.delete_data:
            Annotations.of(self).add_warning_v2(
                "orchard:one-key",
                "The buckets stay when the stack is deleted, since only one of"
                " removal_policy=destroy and delete_data=true is set; set both to delete them.",
            )
        self.key = _key(self, config)
        self.logs = aws_s3.Bucket(
            self,
            "Logs",
            # S3 delivers access logs to SSE-S3 buckets only, so KMS is never used here.
            encryption=aws_s3.BucketEncryption.S3_MANAGED,
            block_public_access=aws_s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=aws_s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=removal,
            lifecycle_rules=[
                aws_s3.LifecycleRule(
                    expiration=Duration.days(config.log_retention_days),
                    abort_incomplete_multipart_upload_after=_INCOMPLETE_UPLOADS,
                )
            ],
        )
        self.data = aws_s3.Bucket(
            self,
            "Data",
            encryption=aws_s3.BucketEncryption.KMS
            if self.key
            else aws_s3.BucketEncryption.S3_MANAGED,
            encryption_key=self.key,
            bucket_key_enabled=True if self.key else None,
            block_public_access=aws_s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=aws_s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            versioned=True,
            removal_policy=removal,
            server_access_logs_bucket=self.logs,
            server_access_logs_prefix="access/",
            lifecycle_rules=[
                aws_s3.LifecycleRule(
                    noncurrent_version_expiration=Duration.days(config.noncurrent_days),
                    expired_object_delete_marker=True,
                    abort_incomplete_multipart_upload_after=_INCOMPLETE_UPLOADS,
                ),
                aws_s3.LifecycleRule(
                    prefix=f"{WORK}/",
                    expiration=Duration.days(_work_days(config)),
                    # What a run removes here lies settled in its results: it need not be kept to be
                    # restored, and would be billed like the features a second time.
                    noncurrent_version_expiration=Duration.days(1),
                ),
            ],
        )
        _send_events(self.data)


def _work_days(config: OrchardConfig) -> int:
    """Return after how many days what lies in a work folder expires: never under a run's hands."""
    return max(_WORK_DAYS, 1 + math.ceil(config.execution_timeout_minutes / (24 * 60)))


def _key(scope: Construct, config: OrchardConfig) -> aws_kms.IKey | None:
    if isinstance(config.kms, str):
        return aws_kms.Key.from_key_arn(scope, "Key", config.kms)
    if config.kms:
        key = aws_kms.Key(
            scope,
            "Key",
            description="Orchard's images, results and models",
            enable_key_rotation=True,
            # Not with the stack, and not when `kms` is turned off: what it encrypted needs it.
            removal_policy=RemovalPolicy.RETAIN,
        )
        for statement in _spot_disks():
            key.add_to_resource_policy(statement)
        return key
    return None


def _spot_disks() -> Sequence[aws_iam.PolicyStatement]:
    """Let EC2's role for Spot instances encrypt their disks, which no policy of ours could.

    The role is AWS's own: only a key's policy can give it a key. It is named in a condition and
    not as the principal, since a key's policy is refused for a principal that does not exist yet.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html
    """
    role = f"role/aws-service-role/spot.amazonaws.com/{SPOT_ROLE}"
    spot = {
        "StringEquals": {"kms:CallerAccount": Aws.ACCOUNT_ID},
        "ArnEquals": {"aws:PrincipalArn": f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:{role}"},
    }
    return (
        aws_iam.PolicyStatement(
            principals=[aws_iam.AnyPrincipal()],
            actions=list(USE_KEY),
            # The key itself.
            resources=["*"],
            conditions=spot,
        ),
        aws_iam.PolicyStatement(
            principals=[aws_iam.AnyPrincipal()],
            actions=["kms:CreateGrant"],
            # The key itself.
            resources=["*"],
            conditions={**spot, "Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    )


def _send_events(bucket: aws_s3.Bucket) -> None:
    # The high-level `event_bridge_enabled` would bring a Lambda function to set one property.
    resource = bucket.node.default_child
    if not isinstance(resource, aws_s3.CfnBucket):
        raise TypeError(f"{bucket.node.path} is not backed by a bucket resource.")
    resource.notification_configuration = aws_s3.CfnBucket.NotificationConfigurationProperty(
        event_bridge_configuration=aws_s3.CfnBucket.EventBridgeConfigurationProperty(
            event_bridge_enabled=True
        )
    )
