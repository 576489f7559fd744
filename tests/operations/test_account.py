"""What is said before a deployment, and what is kept of what was chosen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from operations.account import (
    CDK_JSON,
    Account,
    AccountError,
    check_bootstrapped,
    configured,
    find_account,
    find_unoffered,
)
from operations.destroy import remove
from stacks.config import ConfigError, OrchardConfig
from stacks.emr.instances import fitting
from stacks.knobs import keep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.cdk

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with mock_aws():
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        yield find_account(OrchardConfig(region="eu-west-1"))


def test_without_a_region_it_says_so() -> None:
    with pytest.raises(AccountError, match=r"No region is chosen.*SET=region=eu-west-1"):
        find_account(OrchardConfig())


def test_a_profiles_region_outside_the_eu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(AccountError, match=r"us-east-1.*eu-west-1"):
        find_account(OrchardConfig())


def test_without_credentials_it_says_so() -> None:
    with pytest.raises(AccountError, match="AWS_PROFILE"):
        find_account(OrchardConfig(region="eu-west-1"))


def test_an_account_that_is_not_prepared_is_told_how(account: Account) -> None:
    with pytest.raises(AccountError, match="make bootstrap-account"):
        check_bootstrapped(account)
    account.session.client("ssm").put_parameter(
        Name="/cdk-bootstrap/hnb659fds/version", Value="21", Type="String"
    )
    check_bootstrapped(account)


def test_make_deploy_says_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "operations.account"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("orchard: No region is chosen")


def test_types_that_the_region_lacks_are_found(account: Account) -> None:
    found = find_unoffered(OrchardConfig(), account)
    assert found is not None
    offered = boto3.client("ec2", region_name="eu-west-1").describe_instance_type_offerings(
        LocationType="region"
    )["InstanceTypeOfferings"]
    names = {each["InstanceType"] for each in offered}
    assert "m5.xlarge" in names
    assert set(found) == set(fitting("x86_64")) - names


@pytest.mark.parametrize("target", ["bootstrap-account", "deploy", "destroy", "acceptance"])
def test_make_stops_where_something_is_missing(target: str) -> None:
    """With `export NAME=$(command)` it would go on: that succeeds even where the command fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    up_to_date = ("-o", "wheelhouse", "-o", ".venv/all.installed")
    python = f"BIN={Path(sys.executable).parent}"
    done = subprocess.run(
        ["make", *up_to_date, python, "CDK=echo CDK runs", target],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "No region is chosen" in done.stderr
    assert "CDK runs" not in done.stdout


@pytest.fixture
def cdk_json(tmp_path: Path) -> Path:
    return Path(shutil.copy(CDK_JSON, tmp_path / "cdk.json"))


def block(file: Path) -> dict[str, object]:
    return dict(json.loads(file.read_text())["context"]["orchard"])


def test_what_is_chosen_is_kept_and_can_be_taken_back(cdk_json: Path) -> None:
    before = block(cdk_json)
    keep(cdk_json, OrchardConfig, ["alert_email=you@example.com", "spot=true", "core_instances=4"])
    assert block(cdk_json) == before | {
        "alert_email": "you@example.com",
        "spot": True,
        "core_instances": 4,
    }
    keep(cdk_json, OrchardConfig, ["instance_types=m6i.xlarge,m5.xlarge", "alert_email="])
    assert block(cdk_json)["instance_types"] == ["m6i.xlarge", "m5.xlarge"]
    assert "alert_email" not in block(cdk_json)


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("spott=true", "did you mean spot"),
        ("variance=2", "up to 1"),
        ("core_instances=21", "max_core_instances"),
        ("spot", "say spot=value"),
    ],
)
def test_what_cannot_be_deployed_is_not_kept(cdk_json: Path, choice: str, says: str) -> None:
    before = cdk_json.read_text()
    with pytest.raises(ConfigError, match=says):
        keep(cdk_json, OrchardConfig, ["kms=true", choice])
    assert cdk_json.read_text() == before


def test_the_repositorys_own_choices_are_read() -> None:
    assert configured() == OrchardConfig()


class Deployed:
    """A stack of two buckets in the local AWS, and what was run to remove it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.ran: list[Sequence[str]] = []
        template = {
            "Resources": {
                name: {
                    "Type": "AWS::S3::Bucket",
                    "Properties": {"BucketName": f"orchard-{name.lower()}"},
                }
                for name in ("Data", "Logs")
            }
            | {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}},
            "Outputs": {
                "DataBucket": {"Value": {"Ref": "Data"}},
                "LogBucket": {"Value": {"Ref": "Logs"}},
            },
        }
        formation = account.session.client("cloudformation")
        formation.create_stack(StackName="Orchard", TemplateBody=json.dumps(template))
        self.s3 = account.session.client("s3")
        self.s3.put_bucket_versioning(
            Bucket="orchard-data", VersioningConfiguration={"Status": "Enabled"}
        )
        for content in (b"1", b"2"):
            self.s3.put_object(Bucket="orchard-data", Key="images/b/1.jpg", Body=content)
        self.s3.put_object(Bucket="orchard-logs", Key="emr/j-1/log.gz", Body=b"")
        self.vpc = next(
            resource["PhysicalResourceId"]
            for resource in formation.list_stack_resources(StackName="Orchard")[
                "StackResourceSummaries"
            ]
            if resource["ResourceType"] == "AWS::EC2::VPC"
        )

    def remove(self, config: OrchardConfig, answer: str) -> int:
        def run(command: Sequence[str]) -> int:
            self.ran.append(command)
            return 0

        return remove(config, self.account, ["cdk"], ask=lambda _: answer, run=run)

    @property
    def versions(self) -> int:
        return len(self.s3.list_object_versions(Bucket="orchard-data").get("Versions", []))


def test_nothing_is_removed_without_the_stacks_name(account: Account) -> None:
    deployed = Deployed(account)
    assert deployed.remove(OrchardConfig(), "yes") == 1
    assert deployed.ran == []


def test_data_stay_unless_both_keys_are_turned(account: Account) -> None:
    deployed = Deployed(account)
    assert deployed.remove(OrchardConfig(removal_policy="destroy"), "Orchard") == 0
    assert deployed.ran == [["cdk", "destroy", "Orchard", "--force"]]
    assert deployed.versions == 2
    both = OrchardConfig(removal_policy="destroy", delete_data=True)
    assert deployed.remove(both, "Orchard") == 0
    assert [command[1] for command in deployed.ran[1:]] == ["deploy", "destroy"]
    assert deployed.versions == 0


def test_what_emr_left_in_the_network_goes_too(account: Account) -> None:
    deployed = Deployed(account)
    ec2 = boto3.client("ec2", region_name="eu-west-1")
    ec2.create_vpc_endpoint(
        VpcId=deployed.vpc,
        ServiceName="com.amazonaws.eu-west-1.elasticmapreduce",
        VpcEndpointType="Interface",
    )
    assert deployed.remove(OrchardConfig(), "Orchard") == 0
    left = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [deployed.vpc]}])
    assert [e for e in left["VpcEndpoints"] if e["State"] != "deleted"] == []


def test_where_nothing_is_deployed_nothing_is_asked(account: Account) -> None:
    def ask(_: str) -> str:
        raise AssertionError("it asked")

    assert remove(OrchardConfig(), account, ["cdk"], ask=ask) == 0


def test_a_stack_whose_first_deployment_failed_can_be_removed(account: Account) -> None:
    """It has no outputs."""
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    account.session.client("cloudformation").create_stack(
        StackName="Orchard", TemplateBody=json.dumps(template)
    )
    ran: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> int:
        ran.append(command)
        return 0

    assert remove(OrchardConfig(), account, ["cdk"], ask=lambda _: "Orchard", run=run) == 0
    assert ran == [["cdk", "destroy", "Orchard", "--force"]]
