"""Deploys the synthesized template into the local AWS, as ``cdk deploy`` does into a real one.

The stacks are `rehearsal.aws.cloudformation`'s, and what that drops is made by
`rehearsal.aws.completion`.
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

from bootstrap import wheelhouse
from rehearsal.aws import cloudformation, completion
from rehearsal.aws.calls import ACCOUNT
from rehearsal.aws.policies import NODE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rehearsal.aws.endpoint import Endpoint

REPOSITORY = Path(__file__).resolve().parents[2]


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
    """Publish the assets of a stack, create or update the stack, and return it.

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

    Raises
    ------
    StackError
        If CloudFormation would refuse it.
    """
    template = json.loads((assembly / f"{stack}.template.json").read_text(encoding="utf-8"))
    _publish_assets(endpoint, assembly, json.loads((assembly / f"{stack}.assets.json").read_text()))
    before: completion.Resolved = {}
    if cloudformation.exists(endpoint, stack):
        before = _completed(endpoint, stack)
        cloudformation.update(endpoint, stack, template)
    else:
        cloudformation.create(endpoint, stack, template)
    completion.complete(endpoint, before, _completed(endpoint, stack), pace)
    endpoint.forget_policies()
    client = endpoint.client("cloudformation")
    (described,) = client.describe_stacks(StackName=stack)["Stacks"]
    resources = client.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    return Deployment(
        template,
        {entry["OutputKey"]: entry["OutputValue"] for entry in described.get("Outputs", [])},
        {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in resources},
    )


def destroy(endpoint: Endpoint, stack: str) -> None:
    """Delete a stack, as ``cdk destroy`` does; where there is none, nothing is done.

    Raises
    ------
    StackError
        If it could not be deleted, or not whole.
    """
    if not cloudformation.exists(endpoint, stack):
        return
    before = _completed(endpoint, stack)
    cloudformation.refuse_lost_exports(endpoint, stack)
    completion.complete(endpoint, before, {}, 1)
    try:
        cloudformation.delete(endpoint, stack)
    finally:
        endpoint.forget_policies()


def _completed(endpoint: Endpoint, stack: str) -> completion.Resolved:
    """Return the resources of a stack that moto does not make, or not whole."""
    found = cloudformation.find(endpoint, stack)
    return completion.resolve(json.loads(found.template)["Resources"], found.resource_map)


def _publish_assets(endpoint: Endpoint, assembly: Path, manifest: Mapping[str, Any]) -> None:
    s3 = endpoint.client("s3")
    for asset in manifest["files"].values():
        path = assembly / asset["source"]["path"]
        for destination in asset["destinations"].values():
            bucket = _plain(destination["bucketName"], endpoint)
            key = _plain(destination["objectKey"], endpoint)
            _ensure_bucket(endpoint, bucket)
            # Its key is the asset's hash.
            if s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"]:
                continue
            with TemporaryDirectory() as scratch:
                if asset["source"].get("packaging") == "zip":
                    path = _zip(path, Path(scratch) / "asset.zip")
                s3.upload_file(str(path), bucket, key)


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
