"""Deploys the synthesized template into the local AWS, as ``cdk deploy`` does into a real one.

moto's CloudFormation makes the resources. What it drops or does not know is added afterwards from
the same template, with the same references resolved:

- state machines, which it would make in a backend that executes nothing, are made again;
- bucket policies are handed to the endpoint, which judges requests by them;
- a bucket's notifications are set, and so is EventBridge's default bus as their target.

Not made at all: flow logs, log groups' contents, alarms, dashboards, budgets, X-Ray traces.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from moto.cloudformation.models import cloudformation_backends
from moto.cloudformation.parsing import clean_json
from moto.core.config import default_user_config

from bootstrap import wheelhouse
from rehearsal.aws.calls import ACCOUNT
from rehearsal.aws.policies import NODE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rehearsal.aws.endpoint import Endpoint

REPOSITORY = Path(__file__).resolve().parents[2]

NOT_REHEARSED = (
    "AWS::Athena::",
    "AWS::Budgets::",
    "AWS::CDK::Metadata",
    "AWS::CloudWatch::",
    "AWS::EC2::FlowLog",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::Glue::",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
)
"""Resource types that moto cannot make, or not whole, and that no other resource needs made."""


@dataclass(frozen=True)
class Deployment:
    """A deployed stack.

    Attributes
    ----------
    template
        Its template.
    outputs
        Its outputs, by name.
    physical
        The physical id of each resource, by logical id.
    """

    template: Mapping[str, Any]
    outputs: Mapping[str, str]
    physical: Mapping[str, str]

    def of_type(self, kind: str) -> dict[str, str]:
        """Return the physical ids of the resources of a CloudFormation type, by logical id."""
        return {
            logical: self.physical[logical]
            for logical, resource in self.template["Resources"].items()
            if resource["Type"] == kind and logical in self.physical
        }


def build_wheelhouse() -> str:
    """Build what this machine's nodes install, and return the architecture's name.

    Raises
    ------
    RuntimeError
        If no cluster node is like this machine.
    """
    machine = platform.machine() if sys.platform == "linux" else sys.platform
    names = {kernel: name for name, kernel in wheelhouse.ARCHITECTURES.items()}
    if machine not in names:
        raise RuntimeError(
            f"A rehearsal's nodes are this machine, and no cluster node is {machine}; "
            "run it on x86-64 or ARM Linux, or in a virtual machine with it."
        )
    wheelhouse.build(names[machine])
    return names[machine]


def synthesize(folder: Path, context: Mapping[str, object], region: str) -> Path:
    """Run ``app.py`` as the CDK's command line does, and return the cloud assembly's folder.

    Parameters
    ----------
    folder
        Where the assembly goes.
    context
        Overrides of the ``orchard`` block of ``cdk.json``, as ``-c key=value`` gives them.
    region
        The region to synthesize for.
    """
    environment = {
        **os.environ,
        "JSII_NODE": str(NODE),
        "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION": "1",
        "CDK_OUTDIR": str(folder),
        "CDK_DEFAULT_ACCOUNT": ACCOUNT,
        "CDK_DEFAULT_REGION": region,
        "CDK_CONTEXT_JSON": json.dumps(dict(context)),
    }
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"app.py could not be synthesized: {done.stderr.strip()[-2000:]}")
    return folder


def deploy(endpoint: Endpoint, assembly: Path, stack: str, pace: int = 1) -> Deployment:
    """Publish the assets of a stack, create the stack, and return it.

    Parameters
    ----------
    endpoint
        Where to.
    assembly
        The cloud assembly's folder.
    stack
        The stack's name.
    pace
        How many times shorter the state machines' waits, and those before retries, are to be.
        Their time limits stay.
    """
    template = json.loads((assembly / f"{stack}.template.json").read_text(encoding="utf-8"))
    _publish_assets(endpoint, assembly, json.loads((assembly / f"{stack}.assets.json").read_text()))
    made = {
        **template,
        "Resources": {
            logical: resource
            for logical, resource in template["Resources"].items()
            if not resource["Type"].startswith(NOT_REHEARSED)
        },
    }
    for part in ("Rules", "Parameters"):  # The check of the CDK's own bootstrap stack.
        made.pop(part, None)
    cloudformation = endpoint.client("cloudformation")
    cloudformation.create_stack(
        StackName=stack, TemplateBody=json.dumps(made), Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    if described["StackStatus"] != "CREATE_COMPLETE":
        raise RuntimeError(f"{stack} is {described['StackStatus']} in the local AWS.")
    backend = cloudformation_backends[ACCOUNT][endpoint.region]
    references = backend.get_stack(stack).resource_map
    resources = cloudformation.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    physical = {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in resources}
    _complete(endpoint, template["Resources"], references, pace)
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in described.get("Outputs", [])}
    return Deployment(template, outputs, physical)


def _publish_assets(endpoint: Endpoint, assembly: Path, manifest: Mapping[str, Any]) -> None:
    s3 = endpoint.client("s3")
    for asset in manifest["files"].values():
        path = assembly / asset["source"]["path"]
        for destination in asset["destinations"].values():
            bucket = _plain(destination["bucketName"], endpoint)
            _ensure_bucket(endpoint, bucket)
            with TemporaryDirectory() as scratch:
                if asset["source"].get("packaging") == "zip":
                    path = _zip(path, Path(scratch) / "asset.zip")
                s3.upload_file(str(path), bucket, _plain(destination["objectKey"], endpoint))


def _plain(name: str, endpoint: Endpoint) -> str:
    """Return a name of an asset manifest with its placeholders filled."""
    values = {"AWS::AccountId": ACCOUNT, "AWS::Region": endpoint.region, "AWS::Partition": "aws"}
    for placeholder, value in values.items():
        name = name.replace(f"${{{placeholder}}}", value)
    return name


def _ensure_bucket(endpoint: Endpoint, bucket: str) -> None:
    s3 = endpoint.client("s3")
    if bucket not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
        where = {"LocationConstraint": endpoint.region}
        s3.create_bucket(
            Bucket=bucket,
            **({} if endpoint.region == "us-east-1" else {"CreateBucketConfiguration": where}),
        )


def _zip(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target


def _complete(endpoint: Endpoint, resources: Mapping[str, Any], references: Any, pace: int) -> None:
    """Add what moto dropped of `resources`, in the order that they need one another."""
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    for logical, resource in resources.items():
        kind = resource["Type"]
        if kind == "AWS::StepFunctions::StateMachine":
            properties = clean_json(resource["Properties"], references)
            _make_state_machine(endpoint, properties, references[logical], pace)
        elif kind == "AWS::Glue::Database":
            properties = clean_json(resource["Properties"], references)
            endpoint.client("glue").create_database(DatabaseInput=properties["DatabaseInput"])
        elif kind == "AWS::Glue::Table":
            properties = clean_json(resource["Properties"], references)
            endpoint.client("glue").create_table(
                DatabaseName=properties["DatabaseName"], TableInput=properties["TableInput"]
            )
        elif kind == "AWS::S3::BucketPolicy":
            properties = clean_json(resource["Properties"], references)
            endpoint.bucket_policies[properties["Bucket"]] = properties["PolicyDocument"]
        elif kind == "AWS::S3::Bucket":
            wanted = resource.get("Properties", {}).get("NotificationConfiguration", {})
            if "EventBridgeConfiguration" in wanted:
                endpoint.client("s3").put_bucket_notification_configuration(
                    Bucket=references[logical].physical_resource_id,
                    NotificationConfiguration={"EventBridgeConfiguration": {}},
                )


def _make_state_machine(
    endpoint: Endpoint, properties: Mapping[str, Any], made: Any, pace: int
) -> None:
    """Make a state machine again under the name that other resources already refer to."""
    definition = properties.get("DefinitionString") or json.dumps(properties["Definition"])
    for name, value in properties.get("DefinitionSubstitutions", {}).items():
        definition = definition.replace(f"${{{name}}}", value)
    endpoint.client("stepfunctions").create_state_machine(
        name=made.name,
        definition=json.dumps(_hastened(json.loads(definition), pace)),
        roleArn=properties["RoleArn"],
        type=properties.get("StateMachineType", "STANDARD"),
    )


def _hastened(definition: Any, pace: int) -> Any:
    if isinstance(definition, list):
        return [_hastened(entry, pace) for entry in definition]
    if not isinstance(definition, dict):
        return definition
    waits = ("Seconds", "IntervalSeconds", "MaxDelaySeconds")
    return {
        name: max(1, value // pace)
        if name in waits and isinstance(value, int)
        else _hastened(value, pace)
        for name, value in definition.items()
    }
