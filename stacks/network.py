"""The private network that clusters live in: no internet, S3 through an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Annotations, Aws, Stack, Tags, aws_ec2, aws_iam
from constructs import Construct

from stacks.config import EMR_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_s3

    from stacks.config import OrchardConfig

# The ports on which EMR's control plane and the cluster's own manager talk to each other.
_TO_NODES: Final = 8443
_TO_SERVICE: Final = 9443


class Network(Construct):
    """A VPC of the stack's own, or an existing one, and EMR's three security groups.

    Attributes
    ----------
    vpc
        The VPC.
    subnet_ids
        Its private subnets; a cluster takes one of them.
    primary_group, core_group, service_group
        EMR's managed security groups: the primary node, the other nodes, and EMR's own interface
        in a private subnet. They hold the rules that EMR would otherwise add by itself, which
        would keep the stack from deleting them.
    groups
        All three.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: OrchardConfig) -> None:
        super().__init__(scope, construct_id)
        # Without it AWS would rewrite the log bucket's policy to let flow logs in.
        self.node.set_context("@aws-cdk/aws-s3:createDefaultLoggingPolicy", True)
        if config.managed_scaling and config.vpc_id is None:
            Annotations.of(self).add_info(
                "EMR managed scaling in a network without internet is not tried on AWS yet; EMR's"
                " documentation asks for port 9443 to its service alone, which is open."
            )
        if config.vpc_id is None:
            own = _own_vpc(self, config)
            self.vpc: aws_ec2.IVpc = own
            self.subnet_ids = [subnet.subnet_id for subnet in own.isolated_subnets]
        else:
            self.vpc = aws_ec2.Vpc.from_vpc_attributes(
                self,
                "Vpc",
                vpc_id=config.vpc_id,
                availability_zones=list(config.availability_zones),
                isolated_subnet_ids=list(config.subnet_ids),
            )
            self.subnet_ids = list(config.subnet_ids)
            Annotations.of(self).add_info(
                f"{config.vpc_id} is not Orchard's own: its subnets need a route to S3 and the tag"
                f" {EMR_TAG}=true."
            )
        self.primary_group = self._group("Primary", "Primary nodes of Orchard clusters")
        self.core_group = self._group("Core", "Core and task nodes of Orchard clusters")
        self.service_group = self._group("Service", "EMR interface to Orchard clusters")
        self.groups = (self.primary_group, self.core_group, self.service_group)
        _let_emr_work(*self.groups)
        if config.vpc_id is None:
            self._add_paid_endpoints(config)

    def log_flows_to(self, bucket: aws_s3.IBucket) -> None:
        """Write the VPC's flow logs under ``flow/`` of a bucket; an existing VPC has its own."""
        if isinstance(self.vpc, aws_ec2.Vpc):
            self.vpc.add_flow_log(
                "FlowLog",
                destination=aws_ec2.FlowLogDestination.to_s3(bucket, "flow/"),
                traffic_type=aws_ec2.FlowLogTrafficType.ALL,
            )

    def _add_paid_endpoints(self, config: OrchardConfig) -> None:
        for name, service in _interface_endpoints(config):
            endpoint = self.vpc.add_interface_endpoint(name, service=service, open=False)
            for group in (self.primary_group, self.core_group):
                endpoint.connections.allow_default_port_from(group, "From the nodes of a cluster")

    def _group(self, name: str, description: str) -> aws_ec2.SecurityGroup:
        group = aws_ec2.SecurityGroup(
            self,
            f"{name}Group",
            vpc=self.vpc,
            description=description,
            allow_all_outbound=name != "Service",
        )
        Tags.of(group).add(EMR_TAG, "true")
        return group


def _own_vpc(scope: Construct, config: OrchardConfig) -> aws_ec2.Vpc:
    vpc = aws_ec2.Vpc(
        scope,
        "Vpc",
        ip_addresses=aws_ec2.IpAddresses.cidr(config.vpc_cidr),
        max_azs=config.zones,
        nat_gateways=0,
        subnet_configuration=[
            aws_ec2.SubnetConfiguration(
                name="Cluster", subnet_type=aws_ec2.SubnetType.PRIVATE_ISOLATED
            )
        ],
        # Emptying the default group takes a Lambda function; nothing of ours uses that group.
        restrict_default_security_group=False,
    )
    # By this tag EMR may, from release 7.5 on, also make an interface endpoint of its own here,
    # emr-service-vpce. It is not the stack's: it is billed until someone deletes it, which has to
    # be done before the stack can be deleted. That EMR does so here is not tried on AWS.
    # https://docs.aws.amazon.com/emr/latest/ManagementGuide/security-iam-awsmanpol-updates.html
    Tags.of(vpc).add(EMR_TAG, "true")
    endpoint = vpc.add_gateway_endpoint("S3", service=aws_ec2.GatewayVpcEndpointAwsService.S3)
    for statement in _s3_endpoint_policy(Stack.of(scope).region):
        endpoint.add_to_policy(statement)
    return vpc


def _interface_endpoints(
    config: OrchardConfig,
) -> Sequence[tuple[str, aws_ec2.InterfaceVpcEndpointAwsService]]:
    """Return the paid endpoints, each there only for the knob that needs it."""
    services = aws_ec2.InterfaceVpcEndpointAwsService
    endpoints = []
    if config.kms:
        # Nodes unlock their encrypted disks with the key.
        endpoints.append(("Kms", services.KMS))
    if config.ssm:
        endpoints += [
            ("Ssm", services.SSM),
            ("SsmMessages", services.SSM_MESSAGES),
            ("Ec2Messages", services.EC2_MESSAGES),
        ]
    return endpoints


def _s3_endpoint_policy(region: str) -> Sequence[aws_iam.PolicyStatement]:
    """Let nodes reach this account's buckets and those that EMR documents, and no other.

    Even code that went astray in a cluster could not carry images to a foreign bucket. The list
    is EMR's for release 7 in private subnets:
    https://docs.aws.amazon.com/emr/latest/ManagementGuide/private-subnet-iampolicy.html
    """
    arn = f"arn:{Aws.PARTITION}:s3:::"
    emr_logs = "aws157-logs-prod" + ("" if region == "us-east-1" else f"-{region}")
    anyone = [aws_iam.AnyPrincipal()]
    return (
        aws_iam.PolicyStatement(
            sid="OwnAccount",
            principals=anyone,
            actions=[
                "s3:Get*",
                "s3:List*",
                "s3:Put*",
                "s3:DeleteObject",
                "s3:AbortMultipartUpload",
            ],
            # Any bucket, as long as it is this account's; the role's policy narrows it further.
            resources=["*"],
            conditions={"StringEquals": {"aws:ResourceAccount": Aws.ACCOUNT_ID}},
        ),
        aws_iam.PolicyStatement(
            sid="PackageRepositories",
            principals=anyone,
            actions=["s3:GetObject"],
            resources=[
                f"{arn}al2023-repos-{region}-de612dc2/*",
                f"{arn}repo.{region}.emr.amazonaws.com/*",
            ],
        ),
        aws_iam.PolicyStatement(
            sid="EmrLogs",
            principals=anyone,
            actions=["s3:Put*"],
            resources=[f"{arn}{emr_logs}/*"],
        ),
        aws_iam.PolicyStatement(
            sid="EmrApplicationHistory",
            principals=anyone,
            actions=["s3:Put*", "s3:Get*", "s3:List*", "s3:Abort*"],
            resources=[f"{arn}prod.{region}.appinfo.src", f"{arn}prod.{region}.appinfo.src/*"],
        ),
    )


def _let_emr_work(
    primary: aws_ec2.SecurityGroup, core: aws_ec2.SecurityGroup, service: aws_ec2.SecurityGroup
) -> None:
    every_protocol = (aws_ec2.Port.all_tcp(), aws_ec2.Port.all_udp(), aws_ec2.Port.all_icmp())
    for group in (primary, core):
        for peer in (primary, core):
            for port in every_protocol:
                group.add_ingress_rule(peer, port, "Between the nodes of a cluster")
        group.add_ingress_rule(
            service, aws_ec2.Port.tcp(_TO_NODES), "From the control plane of EMR"
        )
        service.add_egress_rule(group, aws_ec2.Port.tcp(_TO_NODES), "To the manager of a cluster")
    service.add_ingress_rule(
        primary, aws_ec2.Port.tcp(_TO_SERVICE), "From the manager of a cluster"
    )
