"""Who does what with which right, after all that the other tests of this folder have done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from rehearsal.aws.calls import ACCOUNT, Permission
from rehearsal.aws.policies import role_policies
from rehearsal.local_cloud import REGION
from tests.rehearsal.watching import OPERATOR, OUTSIDER, VIEWER

if TYPE_CHECKING:
    from collections.abc import Callable

    from rehearsal.local_cloud import LocalCloud
    from tests.rehearsal.tables import Published

WORKFLOW = "WorkflowStateMachineRole"

pytestmark = pytest.mark.rehearsal

UNUSED = {
    "logs:*": "Step Functions delivers its log with them; moto delivers none",
    "xray:*": "Step Functions sends its traces with them; moto sends none",
    "iam:CreateServiceLinkedRole": "AWS needs it once for each account, with the first cluster",
    "kms:*": "S3 and EMR ask for them where something is encrypted with a key; nothing is here",
    "s3:PutObjectAcl": "EMR asks for it with its logs; here logs are put without",
}
"""Actions that the policies allow and that no path here uses, and why they stay."""

CONDITIONAL = {
    "elasticmapreduce:CancelSteps": "Step Functions cancels a step whose execution is stopped",
    "elasticmapreduce:ListInstanceFleets": "only a cluster that is late asks for it",
    "elasticmapreduce:ListSteps": "only a step that failed or was throttled asks for it",
    "glue:CreatePartition": "only a batch's first publication asks for it",
    "elasticmapreduce:PutManagedScalingPolicy": "only a deployment with managed scaling asks",
    "states:DescribeExecution": "only a marker that comes while its run goes on asks for it",
    "s3:AbortMultipartUpload": "only a failed upload of a large file asks for it",
}
"""Actions that some path uses, but not each rehearsal takes it."""


@pytest.fixture(scope="module")
def roles(cloud: LocalCloud) -> dict[str, str]:
    """The roles that act in a rehearsal, by logical id; EMR's own and the flow logs' do not."""
    made = cloud.deployment.of_type("AWS::IAM::Role")
    return {k: v for k, v in made.items() if not k.startswith(("IdentityService", "Network"))}


def test_no_request_of_a_role_was_denied(cloud: LocalCloud, reference: Published) -> None:
    del reference
    denied = {
        f"{call.principal}: {permission}"
        for call in cloud.endpoint.calls
        if not call.allowed and call.principal not in (OUTSIDER, OPERATOR, VIEWER)
        for permission in call.permissions
        # Where S3 refuses a file of the code, Spark asks whether its bucket exists at all.
        if permission != Permission("s3:ListBucket", f"arn:aws:s3:::{cloud.asset_bucket}")
    }
    assert denied == set()


def test_every_right_is_used_or_explained(
    cloud: LocalCloud,
    reference: Published,
    roles: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    del reference
    if not any(item.path.name == "test_refusals.py" for item in request.session.items):
        pytest.skip("only after the refusals beside it are all rights used")
    explained = UNUSED | CONDITIONAL
    unexplained: dict[str, list[str]] = {}
    for logical, role in roles.items():
        used = {
            permission.action
            for call in cloud.endpoint.calls
            if call.principal == role
            for permission in call.permissions
        }
        unused = [
            action
            for action in allowed_actions(cloud, role)
            if action not in used
            and action not in explained
            and f"{action.partition(':')[0]}:*" not in explained
        ]
        print(f"{logical}: uses {', '.join(sorted(used)) or 'nothing'}")
        if unused:
            unexplained[logical] = unused
    assert unexplained == {}, "remove these rights, or say above why they stay"


def test_every_explanation_is_of_a_right_that_is_given(
    cloud: LocalCloud, roles: dict[str, str]
) -> None:
    given = {action for role in roles.values() for action in allowed_actions(cloud, role)}
    services = {f"{action.partition(':')[0]}:*" for action in given}
    elsewhere = {"elasticmapreduce:PutManagedScalingPolicy"}  # another configuration's
    assert (UNUSED | CONDITIONAL).keys() - elsewhere <= given | services


@pytest.mark.parametrize("service", ["lambda", "states", "glue"])
def test_a_role_is_trusted_with_its_own_service_alone(cloud: LocalCloud, service: str) -> None:
    assert not cloud.endpoint.trusts(cloud.role("InstanceRole"), service)
    assert not cloud.endpoint.trusts(cloud.role("ServiceRole"), service)


def test_the_nodes_reach_their_batches_and_nothing_else(cloud: LocalCloud) -> None:
    nodes = cloud.endpoint.assume(cloud.role("InstanceRole"), "curious", "ec2")
    s3 = cloud.endpoint.client("s3", nodes)
    engineer = cloud.endpoint.client("s3")
    where: Any = {"LocationConstraint": REGION}
    engineer.create_bucket(Bucket="somebody-elses", CreateBucketConfiguration=where)
    engineer.put_object(Bucket="somebody-elses", Key="images/b/x.jpg", Body=b"x")
    logs = cloud.deployment.outputs["LogBucket"]
    s3.put_object(Bucket=cloud.bucket, Key="work/curious/x", Body=b"x")
    source = {"Bucket": cloud.bucket, "Key": "work/curious/x"}
    s3.copy_object(Bucket=cloud.bucket, Key="results/curious/x", CopySource=source)
    s3.list_objects_v2(Bucket=cloud.bucket, Prefix="images/")
    refused: list[Callable[[], object]] = [
        lambda: s3.get_object(Bucket="somebody-elses", Key="images/b/x.jpg"),
        lambda: s3.list_objects_v2(Bucket="somebody-elses", Prefix="images/"),
        lambda: s3.put_object(Bucket=cloud.bucket, Key="images/b/x.jpg", Body=b"x"),
        lambda: s3.delete_object(Bucket=cloud.bucket, Key="images/b/x.jpg"),
        lambda: s3.put_object(Bucket=cloud.bucket, Key="elsewhere/x", Body=b"x"),
        lambda: s3.list_objects_v2(Bucket=cloud.bucket, Prefix=""),
        lambda: s3.list_objects_v2(Bucket=logs, Prefix="emr/"),
        lambda: s3.put_object(Bucket=logs, Key="elsewhere/x", Body=b"x"),
        lambda: s3.get_object(Bucket=logs, Key="emr/x"),
        lambda: s3.delete_bucket(Bucket=cloud.bucket),
        lambda: cloud.endpoint.client("emr", nodes).list_clusters(),
        lambda: cloud.endpoint.client("stepfunctions", nodes).start_execution(
            stateMachineArn=cloud.state_machine
        ),
    ]
    for request in refused:
        with pytest.raises(ClientError, match="AccessDenied"):
            request()


@pytest.mark.parametrize(
    ("logical", "permission"),
    [
        (WORKFLOW, Permission("elasticmapreduce:RunJobFlow", "*")),
        (
            WORKFLOW,
            Permission(
                "elasticmapreduce:TerminateJobFlows",
                f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/j-SOMEBODYELSES",
                {"elasticmapreduce:ResourceTag/project": "another"},
            ),
        ),
        (
            WORKFLOW,
            Permission(
                "iam:PassRole",
                f"arn:aws:iam::{ACCOUNT}:role/Administrator",
                {"iam:PassedToService": "ec2.amazonaws.com"},
            ),
        ),
        (
            WORKFLOW,
            Permission("sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:another-topic"),
        ),
        (WORKFLOW, Permission("s3:PutObject", "arn:aws:s3:::DATA/results/b/x")),
        (
            WORKFLOW,
            Permission("s3:GetObject", "arn:aws:s3:::DATA/images/b/x.jpg"),
        ),
        (
            WORKFLOW,
            Permission("s3:GetObject", "arn:aws:s3:::DATA/results/b/x.json"),
        ),
        (
            "Trigger",
            Permission(
                "states:StartExecution",
                f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:another",
            ),
        ),
        ("Trigger", Permission("elasticmapreduce:RunJobFlow", "*")),
        ("Janitor", Permission("elasticmapreduce:RunJobFlow", "*")),
        (
            "Janitor",
            Permission(
                "elasticmapreduce:TerminateJobFlows",
                f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/j-SOMEBODYELSES",
            ),
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_no_role_needs_is_denied(
    cloud: LocalCloud, roles: dict[str, str], logical: str, permission: Permission
) -> None:
    resource = permission.resource.replace("DATA", cloud.bucket)
    asked = Permission(permission.action, resource, permission.context)
    for name, role in roles.items():
        if logical in name:
            assert not cloud.endpoint.allows(role, asked), name


def test_a_role_is_passed_only_to_the_service_that_it_is_for(cloud: LocalCloud) -> None:
    nodes = f"arn:aws:iam::{ACCOUNT}:role/{cloud.role('InstanceRole')}"

    def passes(service: str) -> bool:
        context = {"iam:PassedToService": f"{service}.amazonaws.com"}
        role = cloud.role(WORKFLOW)
        return cloud.endpoint.allows(role, Permission("iam:PassRole", nodes, context))

    assert passes("ec2")
    assert not passes("lambda")


def allowed_actions(cloud: LocalCloud, role: str) -> list[str]:
    """Return the actions that the policies of `role` allow, as they are written there."""
    actions: set[str] = set()
    for policy in role_policies(cloud.endpoint.client("iam"), role):
        for statement in policy["Statement"]:
            if statement["Effect"] == "Allow":
                found = statement["Action"]
                actions |= {found} if isinstance(found, str) else set(found)
    return sorted(actions)
