"""The templates of a deployment, and the ARNs that its resources would have in an account."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aws_cdk import App, Environment

from stacks.config import OrchardConfig
from stacks.notebooks.notebook_stack import InteractiveStack
from stacks.pipeline_stack import PipelineStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-west-1"

_SUFFIX: Final = "A1B2C3D4E5F6"
"""What CloudFormation ends a name with."""

# The kinds of things that EC2 gives ids to.
_EC2: Final = {
    "AWS::EC2::FlowLog": "vpc-flow-log",
    "AWS::EC2::RouteTable": "route-table",
    "AWS::EC2::SecurityGroup": "security-group",
    "AWS::EC2::SecurityGroupEgress": "security-group-rule",
    "AWS::EC2::SecurityGroupIngress": "security-group-rule",
    "AWS::EC2::Subnet": "subnet",
    "AWS::EC2::VPC": "vpc",
    "AWS::EC2::VPCEndpoint": "vpc-endpoint",
}

# CloudFormation names these `stack-resource-suffix`.
_NAMED: Final = {
    "AWS::CloudWatch::Alarm": "cloudwatch:{region}:{account}:alarm:{name}",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{name}",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
}

# And these `resource-suffix`, or as it likes.
_NAMED_WITHOUT_STACK: Final = {
    "AWS::Budgets::Budget": "budgets::{account}:budget/{name}",
    "AWS::CloudWatch::Dashboard": "cloudwatch::{account}:dashboard/{name}",
    "AWS::EMR::Cluster": "elasticmapreduce:{region}:{account}:cluster/{name}",
    "AWS::KMS::Key": "kms:{region}:{account}:key/{name}",
    "AWS::StepFunctions::StateMachine": "states:{region}:{account}:stateMachine:{name}",
}


@dataclass(frozen=True)
class Resource:
    """A resource of a stack, as its template has it."""

    stack: str
    logical_id: str
    body: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.body["Type"])

    @property
    def properties(self) -> Mapping[str, Any]:
        """Its properties."""
        found: Mapping[str, Any] = self.body.get("Properties", {})
        return found

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        tags = self.properties.get("Tags", [])
        if isinstance(tags, dict):
            return tags
        return {tag["Key"]: tag["Value"] for tag in tags if isinstance(tag["Value"], str)}


class Deployment:
    """The stacks of one configuration."""

    def __init__(self, templates: Mapping[str, Mapping[str, Any]]) -> None:
        self.templates = templates
        self.resources = [
            Resource(stack, logical_id, body)
            for stack, template in templates.items()
            for logical_id, body in template["Resources"].items()
        ]
        self._exports = {
            output["Export"]["Name"]: (stack, output["Value"])
            for stack, template in templates.items()
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    def of(self, kind: str) -> list[Resource]:
        """Return the resources of a type."""
        return [resource for resource in self.resources if resource.kind == kind]

    def concerned(self, resource: Resource) -> list[Resource]:
        """Return a resource and those that its properties refer to."""
        found = {(resource.stack, resource.logical_id): resource}
        for stack, logical_id in self._referred(resource.stack, resource.properties):
            for other in self.resources:
                if (other.stack, other.logical_id) == (stack, logical_id):
                    found[stack, logical_id] = other
        return list(found.values())

    def arns(self, resource: Resource) -> list[str]:
        """Return what a resource may be called in a policy: a bucket's objects belong to it."""
        return [f"arn:aws:{end}" for end in self._ends(resource)]

    def existing(self, resource: Resource) -> list[str]:
        """Return the ARN of the VPC that is named to a resource, and not made with it."""
        vpc = resource.properties.get("VpcId")
        return [f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/{vpc}"] if isinstance(vpc, str) else []

    def _ends(self, resource: Resource) -> list[str]:
        place = f"{REGION}:{ACCOUNT}"
        kind, given = resource.kind, resource.properties
        if kind in _NAMED:
            name = f"{resource.stack}-{resource.logical_id}-{_SUFFIX}"
            return [_NAMED[kind].format(region=REGION, account=ACCOUNT, name=name)]
        if kind in _NAMED_WITHOUT_STACK:
            name = f"{resource.logical_id}-{_SUFFIX}"
            return [_NAMED_WITHOUT_STACK[kind].format(region=REGION, account=ACCOUNT, name=name)]
        if kind in _EC2:
            return [f"ec2:{place}:{_EC2[kind]}/x-0123456789abcdef0"]
        if kind == "AWS::S3::Bucket":
            name = f"{resource.stack}-{resource.logical_id}-{_SUFFIX}".lower()
            return [f"s3:::{name}", f"s3:::{name}/athena/x"]
        if kind == "AWS::IAM::InstanceProfile":
            (role,) = (r for r in self.concerned(resource) if r.kind == "AWS::IAM::Role")
            (end,) = self._ends(role)
            return [end.replace(":role/", ":instance-profile/")]
        if kind == "AWS::Logs::LogGroup":
            return [f"logs:{place}:log-group:{given['LogGroupName']}"]
        if kind == "AWS::SSM::Parameter":
            return [f"ssm:{place}:parameter{given['Name']}"]
        if kind == "AWS::Athena::WorkGroup":
            return [f"athena:{place}:workgroup/{given['Name']}"]
        if kind.startswith("AWS::Glue::"):
            return [f"glue:{place}:{end}" for end in _glue(given)]
        return []

    def _referred(self, stack: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, list):
            for item in value:
                yield from self._referred(stack, item)
        elif isinstance(value, dict):
            for key, item in value.items():
                if key == "Ref":
                    yield stack, item
                elif key == "Fn::GetAtt":
                    yield stack, item[0]
                elif key == "Fn::ImportValue":
                    yield from self._referred(*self._exports[item])
                else:
                    yield from self._referred(stack, item)


def _glue(given: Mapping[str, Any]) -> list[str]:
    if "DatabaseInput" in given:
        database = given["DatabaseInput"]["Name"]
        inner = (f"{kind}/{database}/x" for kind in ("table", "userDefinedFunction"))
        return ["catalog", f"database/{database}", *inner]
    database = given["DatabaseName"]
    return ["catalog", f"database/{database}", f"table/{database}/{given['TableInput']['Name']}"]


def synthesize(name: str, **knobs: Any) -> Deployment:
    """Return the stacks of a configuration as `app.py` makes them."""
    context = json.loads((Path(__file__).parents[2] / "cdk.json").read_text())["context"]
    with tempfile.TemporaryDirectory() as scratch:
        wheelhouse = Path(scratch) / "wheelhouse"
        wheelhouse.mkdir()
        (wheelhouse / "fruit-1.0-py3-none-any.whl").write_bytes(b"")
        (wheelhouse / "requirements.txt").write_text("fruit==1.0 --hash=sha256:0\n")
        app = App(context=context, outdir=str(Path(scratch) / "cdk.out"))
        config = OrchardConfig(name=name, wheelhouse=str(wheelhouse), **knobs)
        env = Environment(region=REGION)
        pipeline = PipelineStack(app, name, config=config, env=env)
        if config.interactive:
            notebooks = f"{name}-notebooks"
            InteractiveStack(app, notebooks, config=config, pipeline=pipeline, env=env)
        return Deployment({stack.stack_name: stack.template for stack in app.synth().stacks})
