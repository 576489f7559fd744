"""Deploying again, with other code or another knob: what must not vanish, and what must not change.

The local AWS would take any of these changes without a word, so the templates are held against each
other and against CloudFormation's own schemas of the resources.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Environment
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from rehearsal.aws.calls import Permission
from rehearsal.aws.policies import Simulator, assumed_role
from stacks.config import STACK_TAG, OrchardConfig
from stacks.notebooks.notebook_stack import InteractiveStack
from stacks.pipeline_stack import PipelineStack
from tests.stacks.policies import ACCOUNT, REGION, Deployed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

KNOBS: dict[str, dict[str, Any]] = {
    "kms": {"kms": True},
    "ssm": {"ssm": True},
    "trigger": {"trigger": False},
    "alert_email": {"alert_email": "grower@example.com"},
    "spot": {"spot": True},
    "max_concurrent_clusters": {"max_concurrent_clusters": 1},
    "instance_types": {"instance_types": ("m6i.xlarge",)},
    "retention": {"log_retention_days": 30, "noncurrent_days": 7},
    "removal": {"removal_policy": "destroy", "delete_data": True},
}

REPLACEABLE = {
    "AWS::EMR::SecurityConfiguration": "the old one is kept: clusters being made go on to name it"
}
"""What a knob may replace, and why that harms nothing."""

STATEFUL = ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Glue::Database", "AWS::SQS::Queue")


def replaced(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the type and the logical id of each resource that CloudFormation would make anew."""
    for logical_id, old in before["Resources"].items():
        new = after["Resources"].get(logical_id)
        if new is None:
            continue
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, old["Type"]).schema
        for pointer in schema.get("createOnlyProperties", ()):
            if _at(old, pointer) != _at(new, pointer):
                yield old["Type"], logical_id


def _at(resource: dict[str, Any], pointer: str) -> Any:
    value: Any = resource.get("Properties", {})
    for part in pointer.removeprefix("/properties/").split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def exports(template: dict[str, Any]) -> dict[str, Any]:
    return {
        output["Export"]["Name"]: output["Value"]
        for output in template["Outputs"].values()
        if "Export" in output
    }


def test_the_schemas_tell_a_replacement(fruits: Synthesis) -> None:
    """Else nothing below would find one."""
    renamed = json.loads(json.dumps(fruits.template))
    for resource in renamed["Resources"].values():
        if resource["Type"] == "AWS::S3::Bucket":
            resource["Properties"]["BucketName"] = "another"
    assert [kind for kind, _ in replaced(fruits.template, renamed)] == ["AWS::S3::Bucket"] * 2


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_turned_on_and_off_replaces_and_loses_nothing(
    fruits: Synthesis, synthesize: Callable[..., Synthesis], knob: str
) -> None:
    off, on = fruits.template, synthesize(**KNOBS[knob]).template
    for before, after in ((off, on), (on, off)):
        found = [each for each in replaced(before, after) if each[0] not in REPLACEABLE]
        assert found == []
        gone = {
            name: resource
            for name, resource in before["Resources"].items()
            if name not in after["Resources"] and resource["Type"] in STATEFUL
        }
        assert all(resource["DeletionPolicy"] == "Retain" for resource in gone.values())
        kept = [r for r in before["Resources"].values() if r["Type"] in REPLACEABLE]
        assert all(resource["UpdateReplacePolicy"] == "Retain" for resource in kept)
        # Another stack may import them, and CloudFormation refuses to change what is imported.
        assert exports(before) == exports(after)


@pytest.mark.parametrize("kms", [False, True])
def test_a_cluster_goes_on_with_its_key_when_another_template_is_deployed(
    synthesize: Callable[..., Synthesis], kms: bool
) -> None:
    """With `kms` off, or on again with a second key: by the tag that the first key keeps."""
    on = synthesize(kms=True)
    first_key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/the-first"
    key = on.one("AWS::KMS::Key")
    policy = Deployed(on.template, "Fruits").resolve(key["KeyPolicy"])
    tags = {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in key["Tags"]}
    after = Deployed(synthesize(kms=kms).template, "Fruits")
    with Simulator() as simulator:

        def may(role: str, action: str, **context: str) -> bool:
            logical_id = after.find("AWS::IAM::Role", role)
            return simulator.allows(
                Permission(f"kms:{action}", first_key, {**tags, **context}),
                principal=assumed_role(logical_id, "test"),
                policies=after.policies(logical_id),
                resource_policy=policy,
            )

        for role in ("IdentityInstanceRole", "IdentityServiceRole"):
            for action in ("GenerateDataKey", "Decrypt", "Encrypt", "DescribeKey"):
                assert may(role, action), f"{role} {action}"
                another = {f"aws:ResourceTag/{STACK_TAG}": "Flowers"}
                assert not may(role, action, **another), f"{role} {action}"
            assert not may(role, "ScheduleKeyDeletion")
        service = "IdentityServiceRole"
        assert may(service, "CreateGrant", **{"kms:GrantIsForAWSResource": "true"})
        assert not may(service, "CreateGrant")
        assert not may("IdentityInstanceRole", "CreateGrant")


def test_a_notebook_cluster_imports_what_is_exported_without_it(
    cdk_context: dict[str, Any],
    wheelhouse: Path,
    tmp_path: Path,
    synthesize: Callable[..., Synthesis],
) -> None:
    app = App(context=cdk_context, outdir=str(tmp_path))
    knobs: dict[str, Any] = {"ssm": True, "interactive": True, "kms": True}
    config = OrchardConfig(wheelhouse=str(wheelhouse), **knobs)
    pipeline = PipelineStack(app, "Fruits", config=config, env=Environment(region=REGION))
    InteractiveStack(app, "Fruits-notebooks", config=config, pipeline=pipeline)
    notebooks = json.dumps(app.synth().get_stack_by_name("Fruits-notebooks").template)
    without = exports(synthesize(ssm=True).template)
    imported = {name for name in without if name in notebooks}
    assert imported
    assert notebooks.count("Fn::ImportValue") == sum(notebooks.count(f'"{n}"') for n in imported)


def test_nodes_may_read_what_they_were_started_with_after_a_deployment(
    cdk_context: dict[str, Any],
    wheelhouse: Path,
    tmp_path: Path,
) -> None:
    def deploy(folder: str) -> tuple[dict[str, Any], set[str]]:
        app = App(context=cdk_context, outdir=str(tmp_path / folder))
        config = OrchardConfig(wheelhouse=str(wheelhouse))
        PipelineStack(app, "Fruits", config=config, env=Environment(region=REGION))
        template = app.synth().get_stack_by_name("Fruits").template
        manifest = json.loads((tmp_path / folder / "Fruits.assets.json").read_text())
        return template, {
            destination["objectKey"]
            for asset in manifest["files"].values()
            for destination in asset["destinations"].values()
        }

    _, first = deploy("first")
    (wheelhouse / "plum-1.0-py3-none-any.whl").write_bytes(b"another")
    try:
        template, second = deploy("second")
    finally:
        (wheelhouse / "plum-1.0-py3-none-any.whl").unlink()
    assert first - second, "nothing has changed"
    assert all(key.startswith("orchard/Fruits/") for key in first | second)
    deployed = Deployed(template, "Fruits")
    role = deployed.find("AWS::IAM::Role", "IdentityInstanceRole")
    bucket = f"arn:aws:s3:::cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
    with Simulator() as simulator:

        def may_read(key: str) -> bool:
            return simulator.allows(
                Permission("s3:GetObject", f"{bucket}/{key}"),
                principal=assumed_role(role, "test"),
                policies=deployed.policies(role),
            )

        assert all(map(may_read, first | second))
        assert not may_read("orchard/Flowers/any.zip")
        assert not may_read("any.zip")
