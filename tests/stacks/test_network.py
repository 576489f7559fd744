"""The network: private, with S3 as its only way out, and EMR's tags and rules."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import pytest

from stacks.config import EMR_TAG
from tests.stacks.policies import Deployed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

EXISTING: dict[str, Any] = {
    "vpc_id": "vpc-0123456789abcdef0",
    "subnet_ids": ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1"),
    "availability_zones": ("eu-west-1a", "eu-west-1b"),
}


def tags(resource: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


def test_there_is_no_way_to_the_internet(fruits: Synthesis) -> None:
    kinds = {resource["Type"] for resource in fruits.template["Resources"].values()}
    assert kinds.isdisjoint(
        {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::EIP", "AWS::EC2::Route"}
    )
    subnets = fruits.resources("AWS::EC2::Subnet")
    assert len(subnets) == 3
    assert all(subnet["MapPublicIpOnLaunch"] is False for subnet in subnets.values())
    assert len({json.dumps(subnet["AvailabilityZone"]) for subnet in subnets.values()}) == 3


def test_every_subnet_reaches_s3_through_the_endpoint(fruits: Synthesis) -> None:
    endpoint = fruits.one("AWS::EC2::VPCEndpoint")
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert endpoint["ServiceName"]["Fn::Join"][1][-1] == ".s3"
    associated = {
        r["RouteTableId"]["Ref"]
        for r in fruits.resources("AWS::EC2::SubnetRouteTableAssociation").values()
    }
    assert {table["Ref"] for table in endpoint["RouteTableIds"]} == associated
    assert len(associated) == 3


def test_the_endpoint_carries_no_images_to_a_foreign_bucket(fruits: Synthesis) -> None:
    for statement in fruits.one("AWS::EC2::VPCEndpoint")["PolicyDocument"]["Statement"]:
        own = statement.get("Condition") == {
            "StringEquals": {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}
        }
        assert own or "*" not in (statement["Resource"], *statement["Resource"])
        assert statement["Action"] != "*"


@pytest.mark.parametrize(
    ("region", "logs"),
    [("eu-west-1", "aws157-logs-prod-eu-west-1"), ("us-east-1", "aws157-logs-prod")],
)
def test_the_endpoint_leads_to_the_buckets_that_emr_itself_needs(
    synthesize: Callable[..., Synthesis], region: str, logs: str
) -> None:
    stack = synthesize(region=region, allowed_regions=(region,))
    policy = Deployed(stack.template, "Fruits").resolve(stack.one("AWS::EC2::VPCEndpoint"))

    def passes(action: str, bucket: str) -> bool:
        return any(
            f"arn:aws:s3:::{bucket}/*" in statement["Resource"]
            and any(fnmatch(action, allowed) for allowed in listed(statement["Action"]))
            for statement in policy["PolicyDocument"]["Statement"]
        )

    assert passes("s3:GetObject", f"al2023-repos-{region}-de612dc2")
    assert passes("s3:GetObject", f"repo.{region}.emr.amazonaws.com")
    # EMR documents `Put*`: a log may come with an access control list of its own.
    for action in ("s3:PutObject", "s3:PutObjectAcl"):
        assert passes(action, logs)
        assert passes(action, f"prod.{region}.appinfo.src")


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_emrs_policy_may_act_on_the_network(fruits: Synthesis) -> None:
    for kind in ("AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::SecurityGroup"):
        found = fruits.resources(kind)
        assert found
        assert all(tags(resource).get(EMR_TAG) == "true" for resource in found.values()), kind


def test_no_port_is_open_to_an_address(synthesize: Callable[..., Synthesis]) -> None:
    for stack in (synthesize(), synthesize(ssm=True)):
        for rule in stack.resources("AWS::EC2::SecurityGroupIngress").values():
            assert "SourceSecurityGroupId" in rule
            assert "CidrIp" not in rule
        for group in stack.resources("AWS::EC2::SecurityGroup").values():
            assert "SecurityGroupIngress" not in group


def test_nodes_talk_to_each_other_and_to_emr(fruits: Synthesis) -> None:
    def end(value: dict[str, Any]) -> str:
        name: str = value["Fn::GetAtt"][0]
        return next(part for part in ("Primary", "Core", "Service") if part in name)

    rules = {
        (end(r["SourceSecurityGroupId"]), end(r["GroupId"]), r["IpProtocol"], r["ToPort"])
        for r in fruits.resources("AWS::EC2::SecurityGroupIngress").values()
    }
    expected = {("Service", node, "tcp", 8443) for node in ("Primary", "Core")}
    expected.add(("Primary", "Service", "tcp", 9443))
    for source in ("Primary", "Core"):
        for target in ("Primary", "Core"):
            expected |= {
                (source, target, "tcp", 65535),
                (source, target, "udp", 65535),
                (source, target, "icmp", -1),
            }
    assert rules == expected


def test_traffic_is_logged(fruits: Synthesis) -> None:
    log = fruits.one("AWS::EC2::FlowLog")
    assert log["TrafficType"] == "ALL"
    assert log["LogDestinationType"] == "s3"
    policy = fruits.one("AWS::S3::BucketPolicy", "Logs")["PolicyDocument"]["Statement"]
    writers = [s for s in policy if s["Principal"] == {"Service": "delivery.logs.amazonaws.com"}]
    assert any(s["Action"] == "s3:PutObject" for s in writers)


def test_paid_endpoints_come_only_when_asked_for(synthesize: Callable[..., Synthesis]) -> None:
    def services(stack: Synthesis) -> set[str]:
        return {
            endpoint["ServiceName"].rpartition(".")[2]
            for endpoint in stack.resources("AWS::EC2::VPCEndpoint").values()
            if endpoint["VpcEndpointType"] == "Interface"
        }

    assert services(synthesize()) == set()
    assert services(synthesize(ssm=True)) == {"ssm", "ssmmessages", "ec2messages"}
    assert services(synthesize(kms=True)) == {"kms"}


def test_an_existing_vpc_is_used_as_it_is(synthesize: Callable[..., Synthesis]) -> None:
    stack = synthesize(**EXISTING)
    for kind in ("VPC", "Subnet", "VPCEndpoint", "FlowLog"):
        assert stack.resources(f"AWS::EC2::{kind}") == {}
    groups = stack.resources("AWS::EC2::SecurityGroup").values()
    assert {group["VpcId"] for group in groups} == {"vpc-0123456789abcdef0"}
    assert stack.stack.network.subnet_ids == [
        "subnet-0123456789abcdef0",
        "subnet-0123456789abcdef1",
    ]
    assert any(
        "vpc-0123456789abcdef0" in message and EMR_TAG in message for message in stack.messages
    )
