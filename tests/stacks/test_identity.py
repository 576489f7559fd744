"""The roles: everything the work needs is allowed, and nothing beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rehearsal.aws.calls import Permission
from rehearsal.aws.policies import Simulator, assumed_role
from spark_job.contract import WORK
from stacks.config import EMR_TAG, STACK_TAG
from tests.stacks.definitions import tasks
from tests.stacks.policies import ACCOUNT, REGION, Deployed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

CLUSTER = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/j-1"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventForEMRAddJobFlowStepsRule"
OWN = {f"elasticmapreduce:ResourceTag/{STACK_TAG}": "Fruits"}
BORN = {f"aws:RequestTag/{STACK_TAG}": "Fruits", f"aws:RequestTag/{EMR_TAG}": "true"}

# The only actions that may stand beside `Resource: *`, each with the reason why it must.
UNBOUND = {
    "elasticmapreduce:RunJobFlow": "no cluster, no ARN; bound by the tag it must bear",
    "elasticmapreduce:ListClusters": "takes no resource",
    "cloudwatch:PutMetricData": "takes no resource; bound by the namespace",
    "xray:GetSamplingRules": "takes no resource",
    "xray:GetSamplingTargets": "takes no resource",
    "xray:PutTelemetryRecords": "takes no resource",
    "xray:PutTraceSegments": "takes no resource",
    "logs:CreateLogDelivery": "takes no resource",
    "logs:DeleteLogDelivery": "takes no resource",
    "logs:DescribeLogGroups": "Step Functions asks for all",
    "logs:DescribeResourcePolicies": "takes no resource",
    "logs:GetLogDelivery": "takes no resource",
    "logs:ListLogDeliveries": "takes no resource",
    "logs:PutResourcePolicy": "takes no resource",
    "logs:UpdateLogDelivery": "takes no resource",
}

# What a state machine needs beyond the stack's own resources, and why that does no harm.
NOT_BOUND_TO_THE_STACK = {
    "elasticmapreduce:ListClusters": "names and states of the account's clusters, reading only",
    "elasticmapreduce:PutAutoTerminationPolicy": "makes a cluster end earlier at worst",
    "cloudwatch:PutMetricData": "numbers of the namespace Orchard, whichever stack's",
    "elasticmapreduce:PutManagedScalingPolicy": "EMR asks for it before the cluster has its tags",
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def deployed(fruits: Synthesis) -> Deployed:
    return Deployed(fruits.template, "Fruits")


@pytest.fixture(scope="module")
def allowed(simulator: Simulator, deployed: Deployed) -> Callable[..., bool]:
    def ask(role: str, action: str, resource: str, **context: str) -> bool:
        logical_id = deployed.find("AWS::IAM::Role", role)
        return simulator.allows(
            Permission(action, resource, context),
            principal=assumed_role(logical_id, "test"),
            policies=deployed.policies(logical_id),
        )

    return ask


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# -- Shape ---------------------------------------------------------------------------------------


def test_services_act_for_this_account_only(fruits: Synthesis) -> None:
    trusted = []
    for role in fruits.resources("AWS::IAM::Role").values():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        service = trust["Principal"]["Service"].removesuffix(".amazonaws.com")
        trusted.append(service)
        if service == "ec2":
            # An instance assumes the role of its profile, which only this account can give it.
            continue
        account = {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
        assert trust["Condition"]["StringEquals"] == account
        assert f":{service}:" in str(trust["Condition"]["ArnLike"]["aws:SourceArn"])
    assert sorted(trusted) == ["ec2", "elasticmapreduce", *["events"] * 4, *["states"] * 5]


def test_the_instance_profile_bears_the_roles_name(fruits: Synthesis) -> None:
    profile = fruits.one("AWS::IAM::InstanceProfile")
    assert profile["Roles"] == [profile["InstanceProfileName"]]


@pytest.mark.parametrize("values", [{}, {"kms": True, "ssm": True, "alert_email": "a@b.co"}])
def test_no_policy_allows_more_than_it_names(
    synthesize: Callable[..., Synthesis], values: dict[str, Any]
) -> None:
    stack = synthesize(**values)
    deployed = Deployed(stack.template, "Fruits")
    managed = [
        str(policy)
        for role in stack.resources("AWS::IAM::Role").values()
        for policy in role.get("ManagedPolicyArns", ())
    ]
    assert all("service-role/AmazonEMRServicePolicy_v2" in policy for policy in managed)
    roles = stack.resources("AWS::IAM::Role")
    assert not any("Policies" in role for role in roles.values()), "inline policies go unseen here"
    for role in roles:
        for policy in deployed.policies(role):
            for statement in policy["Statement"]:
                actions = listed(statement["Action"])
                assert not [action for action in actions if "*" in action]
                if "*" in listed(statement["Resource"]):
                    assert set(actions) <= set(UNBOUND) or (
                        values.get("ssm") and all(a.startswith(("ssm", "ec2m")) for a in actions)
                    ), statement


def test_every_star_has_its_reason_beside_it_in_the_code() -> None:
    stars = 0
    for file in (Path(__file__).parents[2] / "stacks").rglob("*.py"):
        lines = file.read_text().splitlines()
        for number, line in enumerate(lines):
            if 'resources=["*"]' in line:
                stars += 1
                assert lines[number - 1].strip().startswith("#"), f"{file.name}:{number + 1}"
    assert stars >= 3


# -- The state machines --------------------------------------------------------------------------


def needed(resource: str, parameters: dict[str, Any], deployed: Deployed) -> list[Permission]:
    """The permissions that a Task needs, derived from the call that it makes."""
    service, _, call = resource.removeprefix("arn:aws:states:::").rpartition(":")
    bucket = parameters.get("Bucket", "")
    if (service, call) == ("aws-sdk:s3", "listObjectsV2"):
        return [
            Permission("s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": prefix(parameters)})
        ]
    if (service, call) == ("aws-sdk:s3", "getObject"):
        template = parameters["Key.$"].split("'")[1]
        key = template.format(*("b", "r")[: template.count("{}")])
        return [Permission("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}")]
    if (service, call) == ("aws-sdk:s3", "putObject"):
        return [Permission("s3:PutObject", f"arn:aws:s3:::{bucket}/{parameters['Key']}")]
    if (service, call) == ("sns", "publish"):
        return [Permission("sns:Publish", parameters["TopicArn"])]
    if (service, call) == ("elasticmapreduce", "createCluster"):
        return list(creation(parameters, deployed))
    if (service, call) == ("elasticmapreduce", "addStep.sync"):
        emr = ("AddJobFlowSteps", "DescribeStep", "CancelSteps")
        rules = ("PutRule", "PutTargets", "DescribeRule")
        return [Permission(f"elasticmapreduce:{action}", CLUSTER, OWN) for action in emr] + [
            Permission(f"events:{action}", RULE) for action in rules
        ]
    if (service, call) == ("elasticmapreduce", "terminateCluster"):
        return [Permission("elasticmapreduce:TerminateJobFlows", CLUSTER, OWN)]
    if (service, call) == ("aws-sdk:ssm", "getParameter"):
        name = parameters["Name"].lstrip("/")
        return [Permission("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{name}")]
    if (service, call) == ("aws-sdk:sfn", "startExecution"):
        return [Permission("states:StartExecution", parameters["StateMachineArn"])]
    if (service, call) == ("aws-sdk:sfn", "describeExecution"):
        executions = parameters["ExecutionArn.$"].split("'")[3]
        return [Permission("states:DescribeExecution", f"{executions}2026-11-20.1")]
    if (service, call) == ("aws-sdk:sfn", "listExecutions"):
        machine = deployed.find("AWS::StepFunctions::StateMachine", "Workflow")
        return [Permission("states:ListExecutions", deployed.arn(machine))]
    if (service, call) == ("aws-sdk:cloudwatch", "putMetricData"):
        namespace = {"cloudwatch:namespace": parameters["Namespace"]}
        return [Permission("cloudwatch:PutMetricData", "*", namespace)]
    if service == "aws-sdk:glue":
        action = f"glue:{call[0].upper()}{call[1:]}"
        database = parameters["DatabaseName"]
        where = f"arn:aws:glue:{REGION}:{ACCOUNT}"
        return [
            Permission(action, f"{where}:{resource}")
            for resource in ("catalog", f"database/{database}", f"table/{database}/vectors")
        ]
    if service == "aws-sdk:emr":
        action = call[0].upper() + call[1:]
        if action == "ListClusters":
            return [Permission("elasticmapreduce:ListClusters", "*")]
        return [Permission(f"elasticmapreduce:{action}", CLUSTER, OWN)]
    raise LookupError(f"What does {resource} need? Say so here.")


def prefix(parameters: dict[str, Any]) -> str:
    """What a listing asks for: what the input names, or a text with the batch in it."""
    if "Prefix" in parameters:
        return str(parameters["Prefix"])
    given: str = parameters["Prefix.$"]
    known = {
        "$.settings.images": "images/b/",
        "$.key.name": "images/b.csv",
        "States.Format('{}{}', $.extractor, $.model)": "models/mobilenet_v2-0/01ab",
    }
    return known.get(given) or given.split("'")[1].partition("{")[0]


def creation(request: dict[str, Any], deployed: Deployed) -> Iterator[Permission]:
    tags = {
        f"aws:RequestTag/{tag['Key']}": str(tag.get("Value", "a-batch")) for tag in request["Tags"]
    }
    yield Permission("elasticmapreduce:RunJobFlow", "*", tags)
    yield Permission("elasticmapreduce:AddTags", CLUSTER, tags)
    if "AutoTerminationPolicy" in request:
        yield Permission("elasticmapreduce:PutAutoTerminationPolicy", CLUSTER)
    if "ManagedScalingPolicy" in request:
        yield Permission("elasticmapreduce:PutManagedScalingPolicy", CLUSTER)
    service = {"iam:PassedToService": "elasticmapreduce.amazonaws.com"}
    yield Permission("iam:PassRole", request["ServiceRole"], service)
    instance = deployed.arn(deployed.find("AWS::IAM::Role", "IdentityInstanceRole"))
    yield Permission("iam:PassRole", instance, {"iam:PassedToService": "ec2.amazonaws.com"})
    yield Permission(
        "iam:CreateServiceLinkedRole",
        f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/elasticmapreduce.amazonaws.com/"
        "AWSServiceRoleForEMRCleanup",
        {"iam:AWSServiceName": "elasticmapreduce.amazonaws.com"},
    )


def calls(deployed: Deployed) -> Iterator[tuple[str, str, Permission]]:
    """Every permission that the state machines need: for which state, of which role."""
    for name, role, definition in deployed.state_machines():
        for state, task in tasks(definition["States"]):
            for permission in needed(task["Resource"], task["Parameters"], deployed):
                yield f"{state} of {name}", role, permission


def elsewhere(permission: Permission) -> Permission:
    """The same permission on what is not the stack's."""
    action, resource, context = permission.action, permission.resource, dict(permission.context)
    for key in context:
        if key.endswith(f"Tag/{STACK_TAG}"):
            return Permission(action, resource, context | {key: "Flowers"})
    if action.startswith("s3:"):
        bucket = resource.removeprefix("arn:aws:s3:::").partition("/")[0]
        return Permission(action, resource.replace(bucket, "elsewhere"), context)
    if ":table/" in resource:
        return Permission(action, resource.replace(":table/", ":table/other-"), context)
    if resource.endswith(":catalog"):
        return Permission(action, resource.replace(REGION, "eu-south-1"), context)
    if ":execution:" in resource:
        return Permission(action, resource.replace(":execution:", ":execution:Other"), context)
    return Permission(action, f"{resource}-other", context)


def test_every_call_of_every_state_machine_is_allowed(
    deployed: Deployed, simulator: Simulator
) -> None:
    asked = list(calls(deployed))
    assert len(asked) > 20
    for state, role, permission in asked:
        assert simulator.allows(
            permission,
            principal=assumed_role(role, "test"),
            policies=deployed.policies(role),
        ), f"{state} needs {permission}"


def test_no_call_of_a_state_machine_is_allowed_on_what_is_not_the_stacks(
    deployed: Deployed, simulator: Simulator
) -> None:
    for state, role, permission in calls(deployed):
        if permission.action in NOT_BOUND_TO_THE_STACK:
            continue
        foreign = elsewhere(permission)
        assert foreign != permission
        assert not simulator.allows(
            foreign,
            principal=assumed_role(role, "test"),
            policies=deployed.policies(role),
        ), f"{state} may {foreign}"


def test_managed_scaling_is_allowed_only_where_it_is_used(
    synthesize: Callable[..., Synthesis], simulator: Simulator
) -> None:
    existing: dict[str, Any] = {
        "vpc_id": "vpc-0123456789abcdef0",
        "subnet_ids": ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1"),
        "availability_zones": ("eu-west-1a", "eu-west-1b"),
    }
    units = {"managed_scaling_min_units": 1, "managed_scaling_max_units": 8}
    for values, expected in ((existing, False), (existing | units, True)):
        deployed = Deployed(synthesize(**values).template, "Fruits")
        role = deployed.find("AWS::IAM::Role", "WorkflowStateMachineRole")
        assert expected is simulator.allows(
            Permission("elasticmapreduce:PutManagedScalingPolicy", CLUSTER),
            principal=assumed_role(role, "test"),
            policies=deployed.policies(role),
        )


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("elasticmapreduce:RunJobFlow", "*", {}),
        ("elasticmapreduce:RunJobFlow", "*", {f"aws:RequestTag/{STACK_TAG}": "Flowers"}),
        *(
            (f"elasticmapreduce:{action}", CLUSTER, context)
            for action in ("TerminateJobFlows", "AddJobFlowSteps", "DescribeCluster")
            for context in ({}, {f"elasticmapreduce:ResourceTag/{STACK_TAG}": "Flowers"})
        ),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/Admin", {}),
        ("s3:PutObject", "{data}/images/b/apple/1.jpg", {}),
        ("s3:PutObject", "{data}/results/b/current.json", {}),
        ("s3:PutObject", f"{{data}}/{WORK}/b/r/failure.json", {}),
        ("s3:GetObject", "{data}/images/b/apple/1.jpg", {}),
        ("s3:GetObject", "{data}/results/b/current.json", {}),
        ("s3:GetObject", f"{{data}}/{WORK}/b/r/features/part-0-a.parquet", {}),
        ("s3:GetObject", "arn:aws:s3:::elsewhere/work/b/r/failure.json", {}),
        ("s3:ListBucket", "{data}", {"s3:prefix": "results/"}),
        ("s3:ListBucket", "arn:aws:s3:::elsewhere", {"s3:prefix": "images/"}),
        ("sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:elsewhere", {}),
    ],
)
def test_the_state_machine_may_do_nothing_else(
    deployed: Deployed,
    allowed: Callable[..., bool],
    action: str,
    resource: str,
    context: dict[str, str],
) -> None:
    data = deployed.arn(deployed.find("AWS::S3::Bucket", "Data"))
    role = "WorkflowStateMachineRole"
    assert not allowed(role, action, resource.format(data=data), **context)


def test_roles_are_passed_to_their_own_services_only(
    deployed: Deployed, allowed: Callable[..., bool]
) -> None:
    instance = deployed.arn(deployed.find("AWS::IAM::Role", "IdentityInstanceRole"))
    for role in ("WorkflowStateMachineRole", "IdentityServiceRole"):
        for service, expected in (("ec2", True), ("lambda", False)):
            passed = {"iam:PassedToService": f"{service}.amazonaws.com"}
            assert allowed(role, "iam:PassRole", instance, **passed) is expected


# -- The nodes -----------------------------------------------------------------------------------


def test_the_job_may_do_its_work(deployed: Deployed, allowed: Callable[..., bool]) -> None:
    data = deployed.arn(deployed.find("AWS::S3::Bucket", "Data"))
    logs = deployed.arn(deployed.find("AWS::S3::Bucket", "Logs"))
    node = "IdentityInstanceRole"
    for prefix in ("images/b/", "work/b/r/", "results/b/runs/r/", "models/e/"):
        assert allowed(node, "s3:ListBucket", data, **{"s3:prefix": prefix})
        assert allowed(node, "s3:GetObject", f"{data}/{prefix}x")
    for prefix in ("work/b/r/features/", "results/b/runs/r/features/", "models/e/m/"):
        for action in ("PutObject", "DeleteObject", "AbortMultipartUpload"):
            assert allowed(node, f"s3:{action}", f"{data}/{prefix}x")
    for action in ("PutObject", "PutObjectAcl", "AbortMultipartUpload"):
        assert allowed(node, f"s3:{action}", f"{logs}/emr/j-1/node/x.gz")


def test_nodes_may_read_exactly_what_they_are_told_to_run(
    fruits: Synthesis, deployed: Deployed, allowed: Callable[..., bool]
) -> None:
    artifacts = fruits.stack.artifacts
    for uri in (
        artifacts.job_zip_uri,
        artifacts.entry_point_uri,
        artifacts.bootstrap_uri,
        artifacts.wheelhouse_uri,
    ):
        where = deployed.resolve(fruits.stack.resolve(uri)).removeprefix("s3://")
        assert allowed("IdentityInstanceRole", "s3:GetObject", f"arn:aws:s3:::{where}")
        bucket = where.partition("/")[0]
        assert not allowed("IdentityInstanceRole", "s3:GetObject", f"arn:aws:s3:::{bucket}/x")


def test_nodes_may_read_the_certificates_and_nothing_beside_them(
    synthesize: Callable[..., Synthesis], simulator: Simulator
) -> None:
    deployed = Deployed(synthesize(tls_certificates="s3://keys/emr/a.zip").template, "Fruits")
    node = deployed.find("AWS::IAM::Role", "IdentityInstanceRole")
    for action, key, expected in (
        ("GetObject", "emr/a.zip", True),
        ("PutObject", "emr/a.zip", False),
        ("GetObject", "emr/b.zip", False),
    ):
        assert expected is simulator.allows(
            Permission(f"s3:{action}", f"arn:aws:s3:::keys/{key}"),
            principal=assumed_role(node, "test"),
            policies=deployed.policies(node),
        )


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:PutObject", "{data}/images/b/apple/1.jpg", {}),
        ("s3:DeleteObject", "{data}/images/b/apple/1.jpg", {}),
        ("s3:PutObject", "{data}/elsewhere", {}),
        ("s3:ListBucket", "{data}", {"s3:prefix": ""}),
        ("s3:ListBucket", "{data}", {}),
        ("s3:DeleteObjectVersion", "{data}/results/x", {}),
        ("s3:PutBucketPolicy", "{data}", {}),
        ("s3:GetObject", "{logs}/emr/j-1/x", {}),
        ("s3:PutObject", "{logs}/access/x", {}),
        ("s3:PutObjectAcl", "{data}/results/x", {}),
        ("s3:GetObject", "arn:aws:s3:::elsewhere/images/x", {}),
        ("s3:PutObject", "arn:aws:s3:::elsewhere/results/x", {}),
        ("sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:any", {}),
        ("elasticmapreduce:RunJobFlow", "*", BORN),
        ("ssmmessages:OpenDataChannel", "*", {}),
    ],
)
def test_nodes_may_do_nothing_else(
    deployed: Deployed,
    allowed: Callable[..., bool],
    action: str,
    resource: str,
    context: dict[str, str],
) -> None:
    data, logs = (deployed.arn(deployed.find("AWS::S3::Bucket", name)) for name in ("Data", "Logs"))
    where = resource.format(data=data, logs=logs)
    assert not allowed("IdentityInstanceRole", action, where, **context)


def test_a_key_is_usable_by_those_who_work_with_the_data(
    synthesize: Callable[..., Synthesis], simulator: Simulator
) -> None:
    stack = synthesize(kms=True)
    deployed = Deployed(stack.template, "Fruits")
    key = deployed.arn(deployed.find("AWS::KMS::Key"))
    # A key's own policy must let the account's policies decide, or they count for nothing.
    key_policy = deployed.resolve(stack.one("AWS::KMS::Key")["KeyPolicy"])

    def ask(role: str, action: str, **context: str) -> bool:
        logical_id = deployed.find("AWS::IAM::Role", role)
        return simulator.allows(
            Permission(action, key, context),
            principal=assumed_role(logical_id, "test"),
            policies=deployed.policies(logical_id),
            resource_policy=key_policy,
        )

    assert ask("IdentityInstanceRole", "kms:GenerateDataKey")
    assert ask("IdentityInstanceRole", "kms:Decrypt")
    assert ask("IdentityServiceRole", "kms:CreateGrant", **{"kms:GrantIsForAWSResource": "true"})
    assert not ask("IdentityServiceRole", "kms:CreateGrant")
    for role in ("WorkflowStateMachineRole", "RegistrarStateMachineRole"):
        assert not ask(role, "kms:Decrypt")
        assert not ask(role, "kms:Encrypt")
    assert not ask("IdentityInstanceRole", "kms:ScheduleKeyDeletion")


@pytest.mark.parametrize("kms", [True, False])
def test_what_is_encrypted_stays_readable_whatever_the_key_is_now(
    synthesize: Callable[..., Synthesis], kms: bool
) -> None:
    """By the statements themselves: the simulator does not know S3's encryption context."""
    deployed = Deployed(synthesize(kms=kms).template, "Fruits")
    data = deployed.arn(deployed.find("AWS::S3::Bucket", "Data"))
    for name in ("IdentityInstanceRole", "WorkflowStateMachineRole", "RegistrarStateMachineRole"):
        role = deployed.find("AWS::IAM::Role", name)
        statements = [s for policy in deployed.policies(role) for s in policy["Statement"]]
        of_data = [
            statement["Condition"]
            for statement in statements
            if listed(statement["Action"]) == ["kms:Decrypt"] and data in str(statement)
        ]
        assert of_data == [
            {
                "StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"},
                "StringLike": {"kms:EncryptionContext:aws:s3:arn": [data, f"{data}/*"]},
            }
        ]


def test_nodes_read_assets_that_the_bootstrap_encrypted_with_a_key_of_its_own(
    deployed: Deployed,
) -> None:
    """The statement for `cdk bootstrap --bootstrap-customer-key`: the key is nobody's here.

    By the statement itself, as above. It is bound to the asset bucket's objects, read through S3.
    """
    role = deployed.find("AWS::IAM::Role", "IdentityInstanceRole")
    statements = [s for policy in deployed.policies(role) for s in policy["Statement"]]
    (reads,) = (
        statement
        for statement in statements
        if listed(statement["Action"]) == ["s3:GetObject"] and ":::cdk-" in str(statement)
    )
    bucket = listed(reads["Resource"])[0].partition("/")[0]
    (decrypts,) = (
        statement
        for statement in statements
        if listed(statement["Action"]) == ["kms:Decrypt"] and bucket in str(statement)
    )
    assert decrypts["Effect"] == "Allow"
    assert decrypts["Resource"] == f"arn:aws:kms:{REGION}:{ACCOUNT}:key/*"
    assert decrypts["Condition"] == {
        "StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"},
        "StringLike": {"kms:EncryptionContext:aws:s3:arn": [bucket, f"{bucket}/*"]},
    }


def test_spot_nodes_can_have_disks_encrypted_with_the_key(
    synthesize: Callable[..., Synthesis], simulator: Simulator
) -> None:
    stack = synthesize(kms=True)
    deployed = Deployed(stack.template, "Fruits")
    key = deployed.arn(deployed.find("AWS::KMS::Key"))
    key_policy = deployed.resolve(stack.one("AWS::KMS::Key")["KeyPolicy"])

    def ask(role: str, action: str, **context: str) -> bool:
        arn = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{role}"
        caller = {"kms:CallerAccount": ACCOUNT, "aws:PrincipalArn": arn}
        return simulator.allows(
            Permission(action, key, caller | context),
            principal=assumed_role(role.partition("/")[2], "test"),
            policies=(),
            resource_policy=key_policy,
        )

    spot = "spot.amazonaws.com/AWSServiceRoleForEC2Spot"
    for_ebs = {"kms:GrantIsForAWSResource": "true"}
    assert ask(spot, "kms:GenerateDataKeyWithoutPlaintext")
    assert ask(spot, "kms:CreateGrant", **for_ebs)
    assert not ask(spot, "kms:CreateGrant")
    assert not ask(spot, "kms:ScheduleKeyDeletion")
    assert not ask("other.amazonaws.com/AWSServiceRoleForOther", "kms:Decrypt")
