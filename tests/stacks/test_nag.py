"""What linters for CDK and CloudFormation find: nothing without its evidence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Environment, Validations
from cdk_nag import AwsSolutionsChecks
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from stacks import pipeline_stack
from stacks.acknowledgements import findings
from stacks.config import OrchardConfig
from stacks.pipeline_stack import PipelineStack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

EXISTING: dict[str, Any] = {
    "vpc_id": "vpc-0123456789abcdef0",
    "subnet_ids": ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1"),
    "availability_zones": ("eu-west-1a", "eu-west-1b"),
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "Graviton": {"architecture": "arm64"},
    "Spot": {"spot": True},
    "existing VPC": EXISTING,
    "managed scaling": {
        **EXISTING,
        "managed_scaling_min_units": 1,
        "managed_scaling_max_units": 8,
    },
    "everything": {
        "kms": True,
        "tls_certificates": "s3://keys/certificates.zip",
        "ssm": True,
        "alert_email": "grower@example.com",
        "removal_policy": "destroy",
        "delete_data": True,
    },
    "no trigger": {"trigger": False},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_cfn_lint_finds_nothing(synthesize: Callable[..., Synthesis], name: str) -> None:
    template = synthesize(**CONFIGURATIONS[name]).template
    # W3005: CDK itself writes a DependsOn beside the reference that already says so.
    found = lint(
        json.dumps(template), config=ManualArgs(regions=["eu-west-1"], ignore_checks=["W3005"])
    )
    assert [f"{match.rule.id} {match.message}" for match in found] == []


@pytest.mark.parametrize("name", ["defaults", "everything"])
def test_every_finding_of_cdk_nag_has_its_evidence_and_no_evidence_is_stale(
    cdk_context: dict[str, Any],
    wheelhouse: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(pipeline_stack, "acknowledge", lambda _: None)
    app = App(context=cdk_context, outdir=str(tmp_path))
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    stack = PipelineStack(
        app,
        "Fruits",
        config=OrchardConfig(wheelhouse=str(wheelhouse), **CONFIGURATIONS[name]),
        env=Environment(region="eu-west-1"),
    )
    explained = {(finding.where.node.path, finding.rule) for finding in findings(stack)}
    assert all(len(finding.evidence) > 30 for finding in findings(stack))

    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    (report,) = (
        report
        for report in json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"]
        if report["pluginName"] == "AwsSolutions"
    )
    found = {
        (construct["constructPath"], violation["ruleName"].removeprefix("AwsSolutions-"))
        for violation in report["violations"]
        for construct in violation["violatingConstructs"]
    }
    assert found, "cdk-nag did not look"
    unexplained = {
        finding for finding in found if not any(covers(evidence, finding) for evidence in explained)
    }
    stale = {
        evidence
        for evidence in explained
        if not any(covers(evidence, finding) for finding in found)
    }
    assert (unexplained, stale) == (set(), set())


def covers(evidence: tuple[str, str], finding: tuple[str, str]) -> bool:
    (where, rule), (path, found) = evidence, finding
    return rule == found and (path == where or path.startswith(f"{where}/"))


@pytest.mark.parametrize("account", [None, "123456789012"])
def test_the_evidence_silences_cdk_nag(
    cdk_context: dict[str, Any], wheelhouse: Path, tmp_path: Path, account: str | None
) -> None:
    app = App(context=cdk_context, outdir=str(tmp_path))
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    config = OrchardConfig(wheelhouse=str(wheelhouse), **CONFIGURATIONS["everything"])
    env = Environment(account=account, region="eu-west-1")
    PipelineStack(app, "Fruits", config=config, env=env)
    app.synth()
