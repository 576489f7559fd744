"""Deploying, deploying again and removing a stack in the local AWS, without clusters that run."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_cdk import App, Environment
from moto.emr.models import emr_backends

from operations import destroy as operation
from operations.account import Account
from rehearsal.aws import cloudformation, deployment
from rehearsal.aws.calls import Permission
from rehearsal.aws.cloudformation import StackError
from rehearsal.aws.endpoint import Endpoint
from stacks.config import OrchardConfig
from stacks.notebooks.notebook_stack import InteractiveStack
from stacks.pipeline_stack import PipelineStack
from tests.stacks.policies import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rehearsal.aws.deployment import Deployment
    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

STACK = "Fruits"
NOTEBOOKS = f"{STACK}-notebooks"
IMAGE = "images/apples/1.jpg"

KNOBS: dict[str, dict[str, Any]] = {
    "kms": {"kms": True},
    "ssm": {"ssm": True},
    "trigger": {"trigger": False},
    "alert_email": {"alert_email": "grower@example.com"},
}
BOTH_KEYS: dict[str, Any] = {"removal_policy": "destroy", "delete_data": True}

RETAINED = {"AWS::S3::Bucket", "AWS::KMS::Key", "AWS::EMR::SecurityConfiguration"}
"""What may be left when a stack is removed."""

ANEW = {"AWS::Events::Rule", "AWS::IAM::Role", "AWS::StepFunctions::StateMachine"}
"""What turning `trigger` off and on makes anew, under other names."""


class Place:
    """A local AWS, what is deployed in it, and who deploys there."""

    def __init__(self, endpoint: Endpoint, assemble: Callable[..., Path]) -> None:
        self.endpoint = endpoint
        self._assemble = assemble
        self._before: set[tuple[str, str]] = set()
        self._bucket = ""
        self.ran: list[str] = []
        self.late: list[str] = []

    def stand(self) -> None:
        """Have the defaults deployed, with an image, whatever a test before has left."""
        if not cloudformation.exists(self.endpoint, STACK):
            self._before = inventory(self.endpoint)
        self.deploy()
        self.put("DataBucket", IMAGE)
        self.ran.clear()
        self.late.clear()

    def deploy(self, stack: str = STACK, **knobs: Any) -> Deployment:
        return deployment.deploy(self.endpoint, self._assemble(**knobs), stack)

    @property
    def account(self) -> Account:
        session = boto3.Session("engineer", "secret", region_name=REGION)
        return Account(ACCOUNT, REGION, session)

    def remove(self, **knobs: Any) -> int:
        """Run ``make destroy`` with the configuration of some knobs."""

        def run(command: Sequence[str]) -> int:
            verb, stack = command[1:3]
            self.ran.append(verb)
            try:
                if verb == "deploy":
                    deployment.deploy(self.endpoint, self._assemble(**knobs), stack)
                    return 0
                if self.late:
                    self.put("LogBucket", self.late.pop())
                deployment.destroy(self.endpoint, stack)
            except StackError as error:
                print(error)
                return 1
            return 0

        config = OrchardConfig(name=STACK, **knobs)
        return operation.remove(config, self.account, ["cdk"], ask=lambda _: STACK, run=run)

    def outputs(self) -> dict[str, str]:
        return operation.find_outputs(self.account, STACK) or {}

    def put(self, bucket: str, key: str) -> None:
        self.endpoint.client("s3").put_object(Bucket=self.outputs()[bucket], Key=key, Body=b"1")

    def has_image(self) -> bool:
        self._bucket = self.outputs().get("DataBucket", self._bucket)
        found = self.endpoint.client("s3").list_objects_v2(Bucket=self._bucket)
        return [entry["Key"] for entry in found.get("Contents", [])] == [IMAGE]

    def exports(self) -> dict[str, str]:
        pages = self.endpoint.client("cloudformation").list_exports()["Exports"]
        return {export["Name"]: export["Value"] for export in pages}

    def new(self) -> set[tuple[str, str]]:
        """What there is that was not there before the stack, but for the bucket of the assets."""
        new = inventory(self.endpoint) - self._before
        return {(kind, name) for kind, name in new if not name.startswith("cdk-")}


def inventory(endpoint: Endpoint) -> set[tuple[str, str]]:
    """Return the type and the name of everything in the local AWS that a stack may have made."""
    client = endpoint.client
    ec2, glue = client("ec2"), client("glue")
    named: dict[str, Sequence[str]] = {
        "AWS::StepFunctions::StateMachine": [
            found["stateMachineArn"]
            for found in client("stepfunctions").list_state_machines()["stateMachines"]
        ],
        "AWS::Events::Rule": [found["Name"] for found in client("events").list_rules()["Rules"]],
        "AWS::IAM::Role": [found["RoleName"] for found in client("iam").list_roles()["Roles"]],
        "AWS::IAM::InstanceProfile": [
            found["InstanceProfileName"]
            for found in client("iam").list_instance_profiles()["InstanceProfiles"]
        ],
        "AWS::SNS::Topic": [found["TopicArn"] for found in client("sns").list_topics()["Topics"]],
        "AWS::SNS::Subscription": [
            found["Endpoint"] for found in client("sns").list_subscriptions()["Subscriptions"]
        ],
        "AWS::CloudWatch::Alarm": [
            found["AlarmName"] for found in client("cloudwatch").describe_alarms()["MetricAlarms"]
        ],
        "AWS::SQS::Queue": client("sqs").list_queues().get("QueueUrls", []),
        "AWS::Logs::LogGroup": [
            found["logGroupName"] for found in client("logs").describe_log_groups()["logGroups"]
        ],
        "AWS::S3::Bucket": [found["Name"] for found in client("s3").list_buckets()["Buckets"]],
        "AWS::KMS::Key": [found["KeyId"] for found in client("kms").list_keys()["Keys"]],
        "AWS::SSM::Parameter": [
            found["Name"] for found in client("ssm").describe_parameters()["Parameters"]
        ],
        # moto does not list them.
        "AWS::EMR::SecurityConfiguration": list(
            emr_backends[ACCOUNT][REGION].security_configurations
        ),
        "AWS::Glue::Database": [found["Name"] for found in glue.get_databases()["DatabaseList"]],
        "AWS::Glue::Table": [
            found["Name"]
            for database in glue.get_databases()["DatabaseList"]
            for found in glue.get_tables(DatabaseName=database["Name"])["TableList"]
        ],
        "AWS::EC2::VPC": [found["VpcId"] for found in ec2.describe_vpcs()["Vpcs"]],
        "AWS::EC2::Subnet": [found["SubnetId"] for found in ec2.describe_subnets()["Subnets"]],
        "AWS::EC2::RouteTable": [
            found["RouteTableId"]
            for found in ec2.describe_route_tables()["RouteTables"]
            # A VPC's main one comes and goes with it.
            if not any(association["Main"] for association in found["Associations"])
        ],
        "AWS::EC2::SecurityGroup": [
            found["GroupId"]
            for found in ec2.describe_security_groups()["SecurityGroups"]
            if found["GroupName"] != "default"
        ],
        "AWS::EC2::VPCEndpoint": [
            found["VpcEndpointId"]
            for found in ec2.describe_vpc_endpoints()["VpcEndpoints"]
            if found["State"] != "deleted"
        ],
    }
    return {(kind, name) for kind, names in named.items() for name in names}


def only(things: set[tuple[str, str]], kinds: set[str]) -> set[tuple[str, str]]:
    return {thing for thing in things if thing[0] in kinds}


@pytest.fixture(scope="module")
def assemble(
    synthesize: Callable[..., Synthesis],
    cdk_context: dict[str, Any],
    wheelhouse: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """The folder of the cloud assembly of some knobs."""
    made: dict[str, Path] = {}

    def build(**knobs: Any) -> Path:
        if not knobs.get("interactive"):
            synthesis = synthesize(**knobs)
            assert synthesis.template
            return Path(synthesis.app.outdir)
        key = repr(sorted(knobs.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("interactive")
            app = App(context=cdk_context, outdir=str(folder))
            config = OrchardConfig(wheelhouse=str(wheelhouse), **knobs)
            pipeline = PipelineStack(app, STACK, config=config, env=Environment(region=REGION))
            InteractiveStack(app, NOTEBOOKS, config=config, pipeline=pipeline)
            app.synth()
            made[key] = folder
        return made[key]

    return build


@pytest.fixture(scope="module")
def local(assemble: Callable[..., Path]) -> Iterator[Place]:
    warnings.filterwarnings("ignore", module="moto")
    with Endpoint(REGION) as endpoint:
        yield Place(endpoint, assemble)


@pytest.fixture
def place(local: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The defaults, deployed, with an image in the data bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", local.endpoint.url)
    local.stand()
    return local


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_goes_on_and_off_and_on_again(place: Place, knob: str) -> None:
    exports, outputs, standing = place.exports(), place.outputs(), inventory(place.endpoint)
    for knobs in (KNOBS[knob], {}, KNOBS[knob], {}):
        deployed = place.deploy(**knobs)
        assert place.exports() == exports
        # With an address there is a budget, too.
        assert {name: place.outputs().get(name) for name in outputs} == outputs
        assert place.has_image()
        now = inventory(place.endpoint)
        for kind in {kind for kind, _ in now}:
            # A queue's physical id is its URL, in which moto names AWS' host.
            there = {name.rpartition("/")[2] for _, name in only(now, {kind})}
            made = {name.rpartition("/")[2] for name in deployed.of_type(kind).values()}
            assert made <= there, f"{kind} is not there with {knobs}"
        if not knobs:
            assert place.outputs() == outputs
            changed = standing ^ now
            assert changed == only(changed, RETAINED | ANEW), "something was lost, or left"


def test_the_parameter_names_the_security_that_is_deployed(place: Place) -> None:
    def security() -> dict[str, Any]:
        (machine,) = (
            found["stateMachineArn"]
            for found in place.endpoint.client("stepfunctions").list_state_machines()[
                "stateMachines"
            ]
            if "Workflow" in found["name"]
        )
        described = place.endpoint.client("stepfunctions").describe_state_machine(
            stateMachineArn=machine
        )
        asked = json.loads(described["definition"])["States"]["ReadSecurity"]["Parameters"]
        found = place.endpoint.client("ssm").get_parameter(**asked)["Parameter"]["Value"]
        made = emr_backends[ACCOUNT][REGION].security_configurations[found]
        content: dict[str, Any] = made.security_configuration
        return content

    for kms in (True, False, True):
        place.deploy(kms=kms)
        assert ("AwsKmsKey" in str(security())) is kms


def test_what_a_notebook_cluster_imports_stays_until_it_goes(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    notebooks: dict[str, Any] = {"ssm": True, "interactive": True}
    for knobs in (notebooks, {}, notebooks):
        place.deploy(**knobs)
        place.deploy(NOTEBOOKS, **notebooks)
    place.deploy()
    with pytest.raises(StackError, match=f"{NOTEBOOKS} imports it"):
        deployment.destroy(place.endpoint, STACK)
    assert place.has_image()
    assert place.remove() == 0
    assert place.ran == ["destroy"]
    assert "deleting Fruits-notebooks" in capsys.readouterr().out
    assert place.new() == only(place.new(), RETAINED)
    assert len(only(place.new(), {"AWS::S3::Bucket"})) == 2
    assert place.has_image()
    assert place.remove() == 0
    assert "There is no stack Fruits" in capsys.readouterr().out


def test_with_both_keys_the_data_go_too_however_late_a_log_arrives(place: Place) -> None:
    vpc = next(name for kind, name in place.new() if kind == "AWS::EC2::VPC")
    place.endpoint.client("ec2").create_vpc_endpoint(
        VpcId=vpc,
        ServiceName=f"com.amazonaws.{REGION}.elasticmapreduce",
        VpcEndpointType="Interface",
    )
    place.late = ["access/1", "access/2"]
    assert place.remove(**BOTH_KEYS) == 0
    assert place.ran == ["deploy", "destroy", "destroy", "destroy"]
    assert place.new() == only(place.new(), {"AWS::EMR::SecurityConfiguration"})


def test_a_removal_that_failed_can_be_tried_again(place: Place) -> None:
    place.late = [f"access/{number}" for number in range(4)]
    assert place.remove(**BOTH_KEYS) == 1
    with pytest.raises(StackError, match="DELETE_FAILED"):
        place.deploy(**BOTH_KEYS)
    place.ran.clear()
    assert place.remove(**BOTH_KEYS) == 0
    assert place.ran == ["destroy"]
    assert place.new() == only(place.new(), {"AWS::EMR::SecurityConfiguration"})


def test_a_role_is_judged_by_what_was_deployed_last(place: Place) -> None:
    role = next(
        name
        for logical, name in place.deploy().of_type("AWS::IAM::Role").items()
        if logical.startswith("IdentityInstanceRole")
    )
    opening = Permission("ssmmessages:OpenDataChannel", "*", {})
    for on in (True, False):
        place.deploy(ssm=on)
        assert place.endpoint.allows(role, opening) is on
