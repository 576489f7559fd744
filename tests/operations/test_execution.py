"""CloudFormation's permissions: all that its handlers call for any template, and little beside it.

The schemas of the resources say what their handlers call, and the policy simulator whether the
policies allow it on what the template makes and refers to.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from operations.execution import CLUSTER
from operations.left_out import NEEDLESS, UNKNOWN, UNUSED
from operations.permissions import policies
from rehearsal.aws.calls import Permission
from rehearsal.aws.policies import Simulator, assumed_role
from stacks.config import STACK_TAG
from tests.operations.deployments import ACCOUNT, REGION, Deployment, Resource, synthesize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

pytestmark = pytest.mark.cdk

STACK = "Orchard"
VERBS = ("create", "read", "update", "delete")

EXISTING: dict[str, Any] = {
    "vpc_id": "vpc-0123456789abcdef0",
    "subnet_ids": ("subnet-0123456789abcdef0",),
    "availability_zones": ("eu-west-1a",),
}
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "kms": True,
        "ssm": True,
        "interactive": True,
        "alert_email": "grower@example.com",
        "spot": True,
        "tls_certificates": "s3://keys/emr/a.zip",
        "managed_scaling_min_units": 1,
        "managed_scaling_max_units": 8,
        "removal_policy": "destroy",
        "delete_data": True,
    },
    "little": {"trigger": False, "zones": 1},
    "an existing network": {**EXISTING, "ssm": True, "interactive": True},
    "a given key": {"kms": KEY, "ssm": True, "interactive": True},
    "the trial's": {"removal_policy": "destroy", "delete_data": True},
}

LEFT_TO_IAM = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ],
}
"""A key's policy that lets the account's policies decide."""

# Whom a role is passed to by the resource that names it.
PASSED_TO = {
    "AWS::Events::Rule": "events",
    "AWS::IAM::InstanceProfile": "ec2",
    "AWS::StepFunctions::StateMachine": "states",
}

# The types whose schemas say nothing of handlers.
WITHOUT_HANDLERS = {"AWS::EMR::Cluster"}

# What is allowed and no schema asks for.
BESIDE_THE_SCHEMAS = {
    "ec2:DescribeAccountAttributes": "Fn::GetAZs",
    "ec2:DescribeAvailabilityZones": "Fn::GetAZs",
    "route53:AssociateVPCWithHostedZone": "an interface endpoint's private names",
    "iam:CreateServiceLinkedRole": "the first cluster of an account",
    "elasticmapreduce:AddTags": "the notebook cluster",
    "elasticmapreduce:RunJobFlow": "the notebook cluster",
    **{f"elasticmapreduce:{action}": "the notebook cluster" for action in CLUSTER},
}


@pytest.fixture(scope="module")
def deployments() -> dict[str, Deployment]:
    return {
        variant: synthesize("OrchardAcceptance" if "trial" in variant else STACK, **knobs)
        for variant, knobs in VARIANTS.items()
    }


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def documents() -> tuple[dict[str, Any], ...]:
    made = policies(STACK, ACCOUNT, REGION)
    return tuple(document for name, document in made.items() if name != "deployer")


@pytest.fixture(scope="module")
def allows(simulator: Simulator, documents: tuple[dict[str, Any], ...]) -> Callable[..., bool]:
    def ask(action: str, resource: str, **context: str) -> bool:
        return simulator.allows(
            Permission(action, resource, context),
            principal=assumed_role("cdk-hnb659fds-cfn-exec-role", "AWSCloudFormation"),
            policies=documents,
            # Without one a key is nobody's, whatever their policies say.
            resource_policy=LEFT_TO_IAM if ":key/" in resource else None,
        )

    return ask


def schema(kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    return found


def called(kind: str) -> set[str]:
    """What the handlers of a type call."""
    handlers = schema(kind).get("handlers", {})
    return {action for verb in VERBS for action in handlers.get(verb, {}).get("permissions", ())}


def left_out(kind: str) -> set[str]:
    unused = {action for actions in UNUSED.get(kind, {}).values() for action in actions}
    return unused | set(NEEDLESS.get(kind, {})) | set(UNKNOWN)


def kinds(deployments: Mapping[str, Deployment]) -> set[str]:
    return {resource.kind for each in deployments.values() for resource in each.resources}


def context_of(action: str, resource: Resource, concerned: Resource) -> dict[str, str]:
    """The condition keys of a request."""
    if action == "iam:PassRole":
        return {"iam:PassedToService": f"{PASSED_TO[resource.kind]}.amazonaws.com"}
    if action in ("iam:AttachRolePolicy", "iam:DetachRolePolicy"):
        for policy in resource.properties.get("ManagedPolicyArns", ()):
            name = policy["Fn::Join"][1][-1].partition(":policy/")[2]
            return {"iam:PolicyARN": f"arn:aws:iam::aws:policy/{name}"}
    return {f"aws:ResourceTag/{key}": value for key, value in concerned.tags.items()}


def asked(deployment: Deployment, resource: Resource, action: str) -> Iterator[Permission]:
    """The action on the resource, on those that it refers to, and on what is not the stack's."""
    for concerned in deployment.concerned(resource):
        for arn in deployment.arns(concerned):
            yield Permission(action, arn, context_of(action, resource, concerned))
    for arn in deployment.existing(resource):
        yield Permission(action, arn)


def is_called(resource: Resource, action: str) -> bool:
    """Whether a role without a managed policy has one attached: not even tried."""
    return not action.endswith("tachRolePolicy") or "ManagedPolicyArns" in resource.properties


def judge(allows: Callable[..., bool], permission: Permission) -> bool | None:
    """Whether it is allowed; None where the action is not one on such a resource."""
    try:
        return allows(permission.action, permission.resource, **permission.context)
    except ValueError as error:
        if "no.resource.types" in str(error) or "must.use.wildcard" in str(error):
            return None
        raise


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_handlers_call_is_allowed_on_the_stacks_resources(
    deployments: dict[str, Deployment], allows: Callable[..., bool], variant: str
) -> None:
    deployment, denied, answered = deployments[variant], [], 0
    for resource in deployment.resources:
        for action in sorted(called(resource.kind) - left_out(resource.kind)):
            if not is_called(resource, action):
                continue
            questions = list(asked(deployment, resource, action))
            answers = [(each, judge(allows, each)) for each in questions]
            if all(answer is None for _, answer in answers):
                anything = Permission(action, "*")
                answers = [(anything, judge(allows, anything))]
            denied += [f"{resource.kind}: {each}" for each, answer in answers if answer is False]
            answered += sum(answer is True for _, answer in answers)
    assert not denied, "\n".join(sorted(set(denied)))
    assert answered > 300


def test_every_type_has_a_schema_of_its_handlers_or_is_named(
    deployments: dict[str, Deployment],
) -> None:
    assert {kind for kind in kinds(deployments) if not called(kind)} == WITHOUT_HANDLERS


def test_the_notebook_cluster_can_be_started_and_ended(
    deployments: dict[str, Deployment], allows: Callable[..., bool]
) -> None:
    deployment = deployments["everything"]
    (cluster,) = deployment.of("AWS::EMR::Cluster")
    (arn,) = deployment.arns(cluster)
    born = {f"aws:RequestTag/{key}": value for key, value in cluster.tags.items()}
    own = {f"elasticmapreduce:ResourceTag/{key}": value for key, value in cluster.tags.items()}
    foreign = {f"elasticmapreduce:ResourceTag/{STACK_TAG}": "Other-notebooks"}
    assert allows("elasticmapreduce:RunJobFlow", "*", **born)
    assert not allows("elasticmapreduce:RunJobFlow", "*")
    assert allows("elasticmapreduce:AddTags", arn, **born)
    for action in CLUSTER:
        assert allows(f"elasticmapreduce:{action}", arn, **own), action
        assert not allows(f"elasticmapreduce:{action}", arn, **foreign), action
    emr = "elasticmapreduce.amazonaws.com"
    passed = {"IdentityInstanceRole": "ec2.amazonaws.com", "IdentityServiceRole": emr}
    for name, service in passed.items():
        (role,) = (r for r in deployment.of("AWS::IAM::Role") if r.logical_id.startswith(name))
        (role_arn,) = deployment.arns(role)
        assert allows("iam:PassRole", role_arn, **{"iam:PassedToService": service})
    cleanup = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{emr}/AWSServiceRoleForEMRCleanup"
    assert allows("iam:CreateServiceLinkedRole", cleanup, **{"iam:AWSServiceName": emr})


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_template_asks_for_itself_is_allowed(
    deployments: dict[str, Deployment], allows: Callable[..., bool], variant: str
) -> None:
    for template in deployments[variant].templates.values():
        parameters = [
            each["Default"]
            for each in template["Parameters"].values()
            if each["Type"].startswith("AWS::SSM::Parameter::Value")
        ]
        assert parameters
        for name in parameters:
            assert allows("ssm:GetParameters", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}")
    if "Fn::GetAZs" in json.dumps(list(deployments[variant].templates.values())):
        for what in ("AccountAttributes", "AvailabilityZones", "Subnets"):
            assert allows(f"ec2:Describe{what}", "*")


def test_no_template_has_what_is_left_out_as_unused(deployments: dict[str, Deployment]) -> None:
    for kind, properties in UNUSED.items():
        for path, actions in properties.items():
            assert set(actions) <= called(kind), f"{kind} calls no more for {path}"
            assert path.split(".")[0] in schema(kind)["properties"], f"{kind} has no {path}"
            for deployment in deployments.values():
                for resource in deployment.of(kind):
                    value: Any = resource.properties
                    for part in path.split("."):
                        value = value.get(part) if isinstance(value, dict) else None
                    assert value is None, f"{resource.logical_id} has {path}: allow {actions}"


def test_what_is_left_out_as_needless_is_so(deployments: dict[str, Deployment]) -> None:
    for kind, reasons in NEEDLESS.items():
        assert set(reasons) <= called(kind), f"{kind} calls them no more"
    keys = [key for each in deployments.values() for key in each.of("AWS::KMS::Key")]
    assert keys
    assert {key.body["DeletionPolicy"] for key in keys} == {"Retain"}


def test_what_schemas_call_actions_and_are_none(
    deployments: dict[str, Deployment], allows: Callable[..., bool]
) -> None:
    every = {action for kind in kinds(deployments) for action in called(kind)}
    assert set(UNKNOWN) <= every
    for action in UNKNOWN:
        with pytest.raises(ValueError, match=r"invalid\.action"):
            allows(action, "*")


def test_nothing_is_allowed_that_no_template_needs(
    deployments: dict[str, Deployment], documents: tuple[dict[str, Any], ...]
) -> None:
    needed = {action for kind in kinds(deployments) for action in called(kind) - left_out(kind)}
    granted = {action for each in documents for s in each["Statement"] for action in s["Action"]}
    surplus = {
        action
        for action in granted - set(BESIDE_THE_SCHEMAS)
        if not any(fnmatchcase(need, action) for need in needed)
    }
    assert not surplus
    assert set(BESIDE_THE_SCHEMAS) <= granted


OTHERS_TAG = {f"aws:ResourceTag/{STACK_TAG}": "Flowers"}
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
ADMINISTRATOR = {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"}


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/Orchard-x", {}),
        ("iam:CreateAccessKey", f"arn:aws:iam::{ACCOUNT}:user/Orchard-x", {}),
        ("iam:CreatePolicyVersion", f"arn:aws:iam::{ACCOUNT}:policy/any", {}),
        ("iam:AttachRolePolicy", f"{ROLE}/Admin", ADMINISTRATOR),
        ("iam:AttachRolePolicy", f"{ROLE}/Orchard-x", ADMINISTRATOR),
        ("iam:AttachRolePolicy", f"{ROLE}/Orchard-x", {}),
        ("iam:PutRolePolicy", f"{ROLE}/Admin", {}),
        ("iam:PutRolePolicy", f"{ROLE}/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}", {}),
        ("iam:UpdateAssumeRolePolicy", f"{ROLE}/Admin", {}),
        ("iam:DeleteRole", f"{ROLE}/Flowers-IdentityInstanceRole-A1", {}),
        ("iam:PassRole", f"{ROLE}/Admin", {"iam:PassedToService": "states.amazonaws.com"}),
        ("iam:PassRole", f"{ROLE}/Orchard-x", {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("iam:PassRole", f"{ROLE}/Orchard-x", {}),
        (
            "iam:CreateServiceLinkedRole",
            f"{ROLE}/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot",
            {"iam:AWSServiceName": "spot.amazonaws.com"},
        ),
        ("s3:DeleteBucket", "arn:aws:s3:::flowers-storagedata-a1", {}),
        ("s3:PutBucketPolicy", "arn:aws:s3:::orchard-reports", {}),
        ("s3:DeleteObject", "arn:aws:s3:::orchard-storagedata-a1/images/x", {}),
        ("s3:GetObject", "arn:aws:s3:::orchard-storagedata-a1/images/x", {}),
        ("s3:GetObject", "arn:aws:s3:::flowers-storagelogs-a1/athena/x", {}),
        ("kms:ScheduleKeyDeletion", KEY, {}),
        ("kms:Decrypt", KEY, {}),
        ("ec2:RunInstances", f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/*", {}),
        ("ec2:DeleteVpc", f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/vpc-1", {}),
        ("ec2:DeleteVpc", f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/vpc-1", OTHERS_TAG),
        ("ec2:DeleteVpcEndpoints", f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc-endpoint/v", OTHERS_TAG),
        ("ec2:CreateTags", f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-1", {}),
        ("glue:DeleteDatabase", f"arn:aws:glue:{REGION}:{ACCOUNT}:database/flowers", {}),
        ("athena:DeleteWorkGroup", f"arn:aws:athena:{REGION}:{ACCOUNT}:workgroup/primary", {}),
        ("sns:DeleteTopic", f"arn:aws:sns:{REGION}:{ACCOUNT}:Flowers-Alerts-A1", {}),
        ("sns:DeleteTopic", f"arn:aws:sns:eu-south-1:{ACCOUNT}:Orchard-Alerts-A1", {}),
        ("sqs:DeleteQueue", f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flowers-Undelivered-A1", {}),
        ("events:PutRule", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/Flowers-x", {}),
        ("states:DeleteStateMachine", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:Pay", {}),
        ("logs:DeleteLogGroup", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/x", {}),
        ("ssm:GetParameters", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/password", {}),
        ("ssm:PutParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/cdk-bootstrap/x", {}),
        ("lambda:CreateFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:Orchard-x", {}),
    ],
)
def test_nothing_foreign_is_allowed(
    allows: Callable[..., bool], action: str, resource: str, context: dict[str, str]
) -> None:
    assert not allows(action, resource, **context)
