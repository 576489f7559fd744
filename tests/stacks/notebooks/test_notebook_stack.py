"""The notebook cluster: the pipeline's own parts, one way in, and an end after an idle hour."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Environment, Validations
from cdk_nag import AwsSolutionsChecks
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from rehearsal.aws.calls import Permission
from rehearsal.aws.policies import Simulator, assumed_role
from stacks.config import EMR_TAG, STACK_TAG, ConfigError, OrchardConfig
from stacks.emr.cluster import PYTHON
from stacks.notebooks import jupyter
from stacks.notebooks.notebook_stack import InteractiveStack
from stacks.pipeline_stack import PipelineStack
from tests.aws_commands import check
from tests.stacks.definitions import resolve
from tests.stacks.policies import Deployed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cdk


class Interactive:
    """The synthesized stack, its references to the pipeline's resources filled in."""

    def __init__(self, app: App) -> None:
        assembly = app.synth()
        self.pipeline: dict[str, Any] = assembly.get_stack_by_name("Fruits").template
        self.template: dict[str, Any] = assembly.get_stack_by_name("Notebooks").template
        self.deployed = Deployed(self.pipeline, "Fruits")

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = (r for r in self.template["Resources"].values() if r["Type"] == kind)
        properties: dict[str, Any] = self._import(found["Properties"])
        return properties

    @property
    def cluster(self) -> dict[str, Any]:
        return self.one("AWS::EMR::Cluster")

    def configuration(self, name: str) -> dict[str, str]:
        (found,) = (c for c in self.cluster["Configurations"] if c["Classification"] == name)
        properties: dict[str, str] = found["ConfigurationProperties"]
        return properties

    def _import(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._import(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "Fn::ImportValue" in value:
            (exported,) = (
                output["Value"]
                for output in self.pipeline["Outputs"].values()
                if output.get("Export", {}).get("Name") == value["Fn::ImportValue"]
            )
            return self.deployed.resolve(exported)
        if "Fn::Join" in value:
            separator, parts = value["Fn::Join"]
            parts = self._import(parts)
            if all(isinstance(part, str) for part in parts):
                return separator.join(parts)
        return {key: self._import(item) for key, item in value.items()}


def build(context: dict[str, Any], outdir: Path, wheelhouse: Path, **values: Any) -> App:
    app = App(context=context, outdir=str(outdir))
    config = OrchardConfig(**{"wheelhouse": str(wheelhouse), "ssm": True, **values})
    env = Environment(region="eu-west-1")
    pipeline = PipelineStack(app, "Fruits", config=config, env=env)
    InteractiveStack(app, "Notebooks", config=config, pipeline=pipeline, env=env)
    return app


@pytest.fixture(scope="module")
def interactive(
    cdk_context: dict[str, Any], wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Interactive:
    return Interactive(build(cdk_context, tmp_path_factory.mktemp("cdk"), wheelhouse))


def test_it_has_notebooks_and_spark(interactive: Interactive) -> None:
    assert {"JupyterHub", "Spark"} <= {a["Name"] for a in interactive.cluster["Applications"]}


def test_it_ends_itself_after_an_idle_hour_and_nothing_stands_in_the_way(
    interactive: Interactive,
) -> None:
    assert interactive.cluster["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert interactive.cluster["Instances"]["TerminationProtected"] is False
    # EMR takes a Spark application that a forgotten notebook holds for work.
    livy = interactive.configuration("livy-conf")
    assert livy["livy.server.session.timeout"] == "30m"
    assert livy["livy.server.session.timeout-check"] == "true"
    assert livy["livy.server.session.timeout-check.skip-busy"] == "true"


def test_nodes_install_what_the_pipelines_nodes_install(interactive: Interactive) -> None:
    (action,) = interactive.cluster["BootstrapActions"]
    script = interactive.deployed.resolve(action["ScriptBootstrapAction"])
    definitions = [json.dumps(d) for _, _, d in interactive.deployed.state_machines()]
    (pipeline,) = (definition for definition in definitions if "createCluster" in definition)
    assert script["Path"].endswith(".sh")
    assert script["Path"] in pipeline
    assert [argument in pipeline for argument in script["Args"]] == [True]


def test_every_way_to_python_leads_to_what_was_installed(interactive: Interactive) -> None:
    spark = interactive.configuration("spark-defaults")
    assert {value for key, value in spark.items() if "python" in key.lower()} == {PYTHON}
    (environment,) = (
        c["Configurations"][0]["ConfigurationProperties"]
        for c in interactive.cluster["Configurations"]
        if c["Classification"] == "spark-env"
    )
    assert environment == {"PYSPARK_PYTHON": PYTHON}


def test_it_uses_the_pipelines_roles_network_and_logs(interactive: Interactive) -> None:
    cluster, find = interactive.cluster, interactive.deployed.find
    assert cluster["ServiceRole"] == find("AWS::IAM::Role", "ServiceRole")
    assert cluster["JobFlowRole"] == find("AWS::IAM::InstanceProfile")
    assert cluster["LogUri"] == f"s3://{find('AWS::S3::Bucket', 'Logs').lower()}/emr/"
    subnets = {n for n, r in interactive.pipeline["Resources"].items() if "Subnet" in r["Type"]}
    assert set(cluster["Instances"]["Ec2SubnetIds"]) <= subnets
    kinds = {resource["Type"] for resource in interactive.template["Resources"].values()}
    assert kinds == {
        "AWS::EMR::Cluster",
        "AWS::EMR::SecurityConfiguration",
        "AWS::IAM::Policy",
    }, "no role, no security group and no bucket of its own"


def test_session_manager_is_the_only_way_in(interactive: Interactive) -> None:
    assert "Ec2KeyName" not in interactive.cluster["Instances"]
    rules = [
        rule
        for resource in interactive.pipeline["Resources"].values()
        if resource["Type"] == "AWS::EC2::SecurityGroup"
        and EMR_TAG in json.dumps(resource["Properties"].get("Tags"))
        for rule in resource["Properties"].get("SecurityGroupIngress", ())
    ]
    assert [rule for rule in rules if "CidrIp" in rule or "CidrIpv6" in rule] == []
    outputs = interactive.template["Outputs"]
    connect, password = (
        resolve(interactive.template, outputs[name]["Value"]) for name in ("Connect", "Password")
    )
    for output in (connect, password):
        (inner,) = re.findall(r"\$\((.*)\)", output)
        check(inner)
        check(output.replace(f"$({inner})", "i-1"))
    assert "ssm start-session" in connect
    assert "AWS-StartPortForwardingSession" in connect
    assert "portNumber=9443,localPortNumber=9443" in connect


def test_without_session_manager_it_is_refused_in_a_sentence(
    cdk_context: dict[str, Any], wheelhouse: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"orchard\.ssm is false; allowed is true together with"):
        build(cdk_context, tmp_path, wheelhouse, ssm=False)


def test_it_is_encrypted_as_the_pipeline_and_its_container_reaches_credentials(
    interactive: Interactive,
) -> None:
    (pipelines,) = (
        resource["Properties"]["SecurityConfiguration"]
        for resource in interactive.pipeline["Resources"].values()
        if resource["Type"] == "AWS::EMR::SecurityConfiguration"
    )
    own = interactive.one("AWS::EMR::SecurityConfiguration")["SecurityConfiguration"]
    assert own["EncryptionConfiguration"] == pipelines["EncryptionConfiguration"]
    assert own["InstanceMetadataServiceConfiguration"] == {
        "MinimumInstanceMetadataServiceVersion": 2,
        "HttpPutResponseHopLimit": 2,
    }
    spark = interactive.configuration("spark-defaults")
    for switch in ("authenticate", "network.crypto.enabled", "io.encryption.enabled"):
        assert spark[f"spark.{switch}"] == "true"


def test_notebooks_are_kept_and_nothing_else_is_given(interactive: Interactive) -> None:
    data = interactive.deployed.find("AWS::S3::Bucket", "Data").lower()
    kept = interactive.configuration("jupyter-s3-conf")
    assert kept == {"s3.persistence.enabled": "true", "s3.persistence.bucket": data}
    policy = interactive.one("AWS::IAM::Policy")
    role = interactive.deployed.find("AWS::IAM::Role", "InstanceRole")
    assert policy["Roles"] == [role]

    bucket = f"arn:aws:s3:::{data}"
    with Simulator() as simulator:

        def allowed(action: str, resource: str, **context: str) -> bool:
            return simulator.allows(
                Permission(action, resource, context),
                principal=assumed_role(role, "i-0123456789abcdef0"),
                policies=(policy["PolicyDocument"],),
            )

        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
            assert allowed(action, f"{bucket}/jupyter/jovyan/results.ipynb")
            assert not allowed(action, f"{bucket}/images/2026-11-20/Banana/1.jpg")
        assert allowed("s3:ListBucket", bucket, **{"s3:prefix": "jupyter/jovyan/"})
        assert not allowed("s3:ListBucket", bucket, **{"s3:prefix": "images/"})


def test_the_pipelines_state_machines_cannot_act_on_it(interactive: Interactive) -> None:
    tags = {tag["Key"]: tag["Value"] for tag in interactive.cluster["Tags"]}
    assert tags[EMR_TAG] == "true", "EMR's own policy acts on what bears it"
    assert tags[STACK_TAG] == "Notebooks"
    assert interactive.cluster["Name"].startswith("orchard/Notebooks/")


def test_the_password_is_replaced_before_anyone_comes(
    interactive: Interactive, tmp_path: Path
) -> None:
    (step,) = interactive.cluster["Steps"]
    assert step["ActionOnFailure"] == "TERMINATE_CLUSTER"
    assert step["HadoopJarStep"]["Jar"] == "command-runner.jar"
    # The node's side of it, run here: the container alone is played.
    seen, password = tmp_path / "seen", tmp_path / "password"
    sudo = tmp_path / "sudo"
    sudo.write_text(f'#!/bin/sh\necho "$@" > {seen}\ncat >> {seen}\n')
    sudo.chmod(0o755)
    command = [
        a.replace(jupyter.PASSWORD_FILE, str(password)) for a in step["HadoopJarStep"]["Args"]
    ]
    passwords = set()
    for _ in range(2):
        subprocess.run(command, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
        new = password.read_text().strip()
        assert len(new) >= 20
        assert seen.read_text() == f"docker exec -i jupyterhub chpasswd\njovyan:{new}\n"
        assert stat.S_IMODE(password.stat().st_mode) == 0o600
        passwords.add(new)
    assert len(passwords) == 2, "each cluster has another one"
    shown = json.dumps(interactive.template["Outputs"]["Password"]["Value"])
    assert f"sudo cat {jupyter.PASSWORD_FILE}" in shown


@pytest.mark.parametrize(
    "values",
    [{}, {"kms": True, "architecture": "arm64", "tls_certificates": "s3://keys/a.zip"}],
)
def test_linters_find_nothing_without_its_evidence(
    cdk_context: dict[str, Any], wheelhouse: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    app = build(cdk_context, tmp_path, wheelhouse, **values)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    template = Interactive(app).template
    found = lint(json.dumps(template), config=ManualArgs(regions=["eu-west-1"]))
    assert [f"{match.rule.id} {match.message}" for match in found] == []
