"""The stack as a whole: where it may go, how it is tagged, and several of them side by side."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Environment

from orchard.health import STACK_VERSION
from spark_job import __version__
from stacks import artifacts
from stacks.artifacts import pack_job
from stacks.config import ConfigError, OrchardConfig
from stacks.pipeline_stack import PipelineStack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

# What CloudFormation cannot tag.
UNTAGGED = {
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Dashboard",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EMR::SecurityConfiguration",
    "AWS::Glue::Database",
    "AWS::Glue::Table",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::Policy",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}


def test_a_region_outside_the_allow_list_fails_at_synth(cdk_context: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r'region is "us-east-1"; allowed is one of eu-'):
        PipelineStack(
            App(context=cdk_context),
            "Fruits",
            config=OrchardConfig(),
            env=Environment(region="us-east-1"),
        )


def test_the_profiles_region_is_checked_too(
    cdk_context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDK_DEFAULT_REGION", "us-west-2")
    with pytest.raises(ConfigError, match="us-west-2"):
        PipelineStack(App(context=cdk_context), "Fruits", config=OrchardConfig())


def test_the_stack_works_in_an_app_that_sets_no_flags(wheelhouse: Path) -> None:
    app = App()
    PipelineStack(app, "Fruits", config=OrchardConfig(wheelhouse=str(wheelhouse)))
    template = app.synth().get_stack_by_name("Fruits").template
    for resource in template["Resources"].values():
        assert "AccessControl" not in resource.get("Properties", {})


def test_two_stacks_of_one_app_share_no_name(synthesize: Callable[..., Synthesis]) -> None:
    names = ("Fruits", "Flowers")
    app = synthesize(*names, alert_email="grower@example.com")
    fruits, flowers = (set(physical_names(app.templates[name])) for name in names)
    assert fruits
    assert not fruits & flowers


def physical_names(template: dict[str, Any]) -> list[str]:
    """Every name that the template itself gives a resource, and every export."""
    found = [
        json.dumps(value)
        for resource in template["Resources"].values()
        for key, value in resource.get("Properties", {}).items()
        if key.endswith("Name")
        and key not in ("ServiceName", "PolicyName", "InstanceProfileName", "MetricName")
        and isinstance(value, str)
    ]
    return found + [json.dumps(o["Export"]) for o in template["Outputs"].values() if "Export" in o]


def test_every_taggable_resource_bears_the_cost_tags(synthesize: Callable[..., Synthesis]) -> None:
    stack = synthesize(dataset="apples", alert_email="a@b.co", kms=True)
    wanted = {"project": "orchard", "dataset": "apples", "orchard-stack": "Fruits"}
    for name, resource in stack.template["Resources"].items():
        if resource["Type"] in UNTAGGED:
            continue
        tags = resource.get("Properties", {}).get("Tags", [])
        tags = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        assert wanted.items() <= tags.items(), f"{name} ({resource['Type']})"


def test_nothing_is_done_by_a_lambda_function(synthesize: Callable[..., Synthesis]) -> None:
    stack = synthesize(kms=True, ssm=True, alert_email="a@b.co")
    kinds = {resource["Type"] for resource in stack.template["Resources"].values()}
    assert not {kind for kind in kinds if "Lambda" in kind or kind.startswith("Custom::")}


def test_a_user_finds_the_buckets_and_the_state_machine(fruits: Synthesis) -> None:
    outputs = fruits.template["Outputs"]
    assert {"DataBucket", "LogBucket", "StateMachine"} <= set(outputs)
    assert outputs[STACK_VERSION]["Value"] == __version__, "which `orchard doctor` compares"


def test_a_stack_without_wheels_says_what_to_run(
    synthesize: Callable[..., Synthesis], tmp_path: Path
) -> None:
    stack = synthesize(wheelhouse=str(tmp_path), architecture="arm64")
    assert stack.template["Resources"]
    assert any("make wheelhouse ARCH=arm64" in message for message in stack.messages)
    errors = [
        entry
        for construct in stack.stack.artifacts.node.find_all()
        for entry in construct.node.metadata
        if entry.type == "aws:cdk:error"
    ]
    assert len(errors) == 1, "a warning would let `cdk deploy` go on without wheels"


def test_wheels_of_an_older_lock_are_refused(
    cdk_context: dict[str, Any], wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "WHEELHOUSES", tmp_path)
    shutil.copytree(wheelhouse, tmp_path / "x86_64")
    app = App(context=cdk_context, outdir=str(tmp_path / "out"))
    PipelineStack(app, "Fruits", config=OrchardConfig(), env=Environment(region="eu-west-1"))
    messages = [
        str(message.entry.data)
        for message in app.synth().get_stack_by_name("Fruits").messages
        if message.level.name == "ERROR"
    ]
    assert len(messages) == 1
    assert "is older than bootstrap/requirements.txt" in messages[0]
    assert "make wheelhouse ARCH=x86_64" in messages[0]


def test_the_jobs_zip_holds_the_package_and_its_network(tmp_path: Path) -> None:
    with zipfile.ZipFile(pack_job(tmp_path / "job.zip")) as archive:
        names = set(archive.namelist())
    assert {
        "spark_job/__init__.py",
        "spark_job/pipeline.py",
        "spark_job/networks/mobilenet_v2/network.tflite",
        "spark_job/networks/mobilenet_v2/card.json",
    } <= names
    assert all(name.startswith("spark_job/") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith("export.py")]


def test_the_same_code_is_the_same_asset(tmp_path: Path) -> None:
    first, second = (pack_job(tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == second
