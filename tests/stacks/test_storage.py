"""The buckets: private, encrypted, versioned, cleaned up, and kept unless two keys are turned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk


def rules(bucket: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = bucket["LifecycleConfiguration"]["Rules"]
    return found


@pytest.mark.parametrize("name", ["Data", "Logs"])
def test_every_bucket_is_private_and_encrypted(fruits: Synthesis, name: str) -> None:
    bucket = fruits.one("AWS::S3::Bucket", name)
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (ownership,) = bucket["OwnershipControls"]["Rules"]
    assert ownership["ObjectOwnership"] == "BucketOwnerEnforced"


@pytest.mark.parametrize("name", ["Data", "Logs"])
def test_every_bucket_refuses_plain_http_and_old_tls(fruits: Synthesis, name: str) -> None:
    policy = fruits.one("AWS::S3::BucketPolicy", name)["PolicyDocument"]["Statement"]
    denied = [s["Condition"] for s in policy if s["Effect"] == "Deny" and s["Action"] == "s3:*"]
    assert {"Bool": {"aws:SecureTransport": "false"}} in denied
    assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in denied


def test_data_can_be_restored_and_does_not_pile_up(fruits: Synthesis) -> None:
    bucket = fruits.one("AWS::S3::Bucket", "Data")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = (rule for rule in rules(bucket) if "Prefix" not in rule)
    assert rule["Status"] == "Enabled"
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert "ExpirationInDays" not in rule, "images and results must not expire"


@pytest.mark.parametrize(
    ("values", "days"),
    [
        ({}, 14),
        ({"job_timeout_minutes": 20_160, "execution_timeout_minutes": 20_300}, 16),
        ({"job_timeout_minutes": 43_200, "execution_timeout_minutes": 44_640}, 32),
    ],
)
def test_only_work_that_no_run_can_still_be_at_expires(
    synthesize: Callable[..., Synthesis], values: dict[str, Any], days: int
) -> None:
    bucket = synthesize(**values).one("AWS::S3::Bucket", "Data")
    (rule,) = (rule for rule in rules(bucket) if "ExpirationInDays" in rule)
    assert (rule["Status"], rule["Prefix"]) == ("Enabled", "work/")
    assert rule["ExpirationInDays"] == days
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}


def test_logs_expire(synthesize: Callable[..., Synthesis]) -> None:
    bucket = synthesize(log_retention_days=30).one("AWS::S3::Bucket", "Logs")
    (rule,) = rules(bucket)
    assert rule["ExpirationInDays"] == 30
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_reading_the_data_is_logged_by_policy_and_not_by_acl(fruits: Synthesis) -> None:
    data, logs = (fruits.one("AWS::S3::Bucket", name) for name in ("Data", "Logs"))
    assert data["LoggingConfiguration"]["LogFilePrefix"] == "access/"
    assert "AccessControl" not in logs
    policy = fruits.one("AWS::S3::BucketPolicy", "Logs")["PolicyDocument"]["Statement"]
    (delivery,) = [s for s in policy if s["Principal"] == {"Service": "logging.s3.amazonaws.com"}]
    assert delivery["Action"] == "s3:PutObject"
    assert "aws:SourceAccount" in delivery["Condition"]["StringEquals"]


def test_new_objects_are_announced_without_a_lambda_function(fruits: Synthesis) -> None:
    bucket = fruits.one("AWS::S3::Bucket", "Data")
    assert bucket["NotificationConfiguration"] == {
        "EventBridgeConfiguration": {"EventBridgeEnabled": True}
    }


def test_the_logs_take_no_kms_which_s3_could_not_deliver_to(
    synthesize: Callable[..., Synthesis],
) -> None:
    stack = synthesize(kms=True)
    data, logs = (
        stack.one("AWS::S3::Bucket", name)["BucketEncryption"]["ServerSideEncryptionConfiguration"][
            0
        ]["ServerSideEncryptionByDefault"]
        for name in ("Data", "Logs")
    )
    assert data["SSEAlgorithm"] == "aws:kms"
    assert logs["SSEAlgorithm"] == "AES256"
    assert stack.one("AWS::KMS::Key")["EnableKeyRotation"] is True


def test_a_key_of_the_users_is_used_as_it_is(synthesize: Callable[..., Synthesis]) -> None:
    key = "arn:aws:kms:eu-west-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
    stack = synthesize(kms=key)
    (encryption,) = stack.one("AWS::S3::Bucket", "Data")["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    assert encryption["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == key
    assert encryption["BucketKeyEnabled"] is True
    assert stack.resources("AWS::KMS::Key") == {}


@pytest.mark.parametrize(
    ("keys", "policy"),
    [
        ({}, "Retain"),
        ({"removal_policy": "destroy"}, "Retain"),
        ({"delete_data": True}, "Retain"),
        ({"removal_policy": "destroy", "delete_data": True}, "Delete"),
    ],
)
def test_buckets_go_with_the_stack_only_when_both_keys_are_turned(
    synthesize: Callable[..., Synthesis], keys: dict[str, Any], policy: str
) -> None:
    stack = synthesize(**keys)
    for resource in stack.template["Resources"].values():
        if resource["Type"] == "AWS::S3::Bucket":
            assert resource["DeletionPolicy"] == policy
            assert resource["UpdateReplacePolicy"] == policy
    warned = any("removal_policy=destroy and delete_data=true" in m for m in stack.messages)
    assert warned == (len(keys) == 1)
