"""Every knob of a deployment, with its default, its meaning and what it accepts."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_type_hints

from spark_job.contract import IMAGES, PCA, READY
from spark_job.deployed import cluster_name_prefix
from stacks.emr.instances import NodeShape, fitting, is_graviton
from stacks.knobs import (
    Check,
    ConfigError,
    check_each,
    describe,
    keep,
    knob,
    list_of,
    number,
    one_of,
    or_none,
    read_context,
    refusal,
    text,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Node

__all__ = [
    "EMR_TAG",
    "EU_REGIONS",
    "STACK_TAG",
    "ConfigError",
    "OrchardConfig",
    "asset_prefix",
    "check_region",
    "cluster_name_prefix",
    "cluster_tags",
]

# EMR's managed service policy acts only on what bears this tag.
EMR_TAG: Final = "for-use-with-amazon-emr-managed-policies"
# The state machine's role acts only on clusters that bear its own stack's name under this tag.
STACK_TAG: Final = "orchard-stack"

EU_REGIONS: Final = (
    "eu-central-1",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-3",
)

# The periods that CloudWatch Logs accepts, in days.
_LOG_RETENTION: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
)  # fmt: skip

# What else an execution needs than for its clusters' start and its job.
_OVERHEAD_MINUTES: Final = 30


_YES_NO = Check("true or false", lambda v: isinstance(v, bool))
_INSTANCE_TYPE = text(r"[a-z0-9-]+\.[a-z0-9]+", "an EC2 instance type such as m5.xlarge")
_KEY_ARN = r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/(mrk-[0-9a-f]{32}|[0-9a-f-]{36})"


@dataclass(frozen=True)
class OrchardConfig:
    """The configuration of one :class:`~stacks.pipeline_stack.PipelineStack`.

    Set a knob in the ``orchard`` block of ``cdk.json``, override it with ``-c key=value`` on the
    command line (lists as ``a,b,c``), or construct the class in ``app.py``.

    Raises
    ------
    ConfigError
        When a value, or a combination of values, cannot be deployed.
    """

    # -- What and where ------------------------------------------------------------------------
    name: str = knob(
        "Orchard",
        "Name of the stack; a second name is a second, independent deployment.",
        text(r"[A-Za-z][A-Za-z0-9-]{0,39}", "a letter, then up to 39 letters, digits or hyphens"),
    )
    dataset: str = knob(
        "fruits",
        "Value of the `dataset` cost tag.",
        text(r"[A-Za-z0-9][A-Za-z0-9 ._:/=+@-]{0,127}", "up to 128 characters that a tag accepts"),
    )
    region: str | None = knob(
        None,
        "Region to deploy to; the AWS CLI profile's when not set, eu-west-1 without one.",
        or_none(text(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as eu-west-1")),
    )
    allowed_regions: tuple[str, ...] = knob(
        EU_REGIONS,
        "Regions that images may live in; any other fails at synth.",
        list_of(text(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as eu-west-1")),
    )

    # -- The cluster ---------------------------------------------------------------------------
    emr_release: str = knob(
        "emr-7.14.0",
        "EMR release; 7.x carries Spark 3.5 and Python 3.11.",
        # Before 7.2 nodes have no labels of their markets, which Spot relies on.
        text(r"emr-7\.([2-9]|\d\d+)\.\d+", "an EMR 7 release from emr-7.2.0 on such as emr-7.14.0"),
    )
    architecture: Literal["x86_64", "arm64"] = knob(
        "x86_64",
        "Processor of the nodes; arm64 is Graviton. The wheelhouse follows it.",
        one_of("x86_64", "arm64"),
    )
    primary_instance_type: str | None = knob(
        None,
        "Instance type of the primary node, or its like; m5.xlarge or m6g.xlarge when not set.",
        or_none(_INSTANCE_TYPE),
    )
    instance_types: tuple[str, ...] = knob(
        (),
        "Instance types that an execution may choose for its nodes, the first when it says none;"
        " every one that fits when not set. A node's like stands in where EC2 has none.",
        list_of(_INSTANCE_TYPE, empty=True),
    )
    unoffered_types: tuple[str, ...] = knob(
        (),
        "Types that the region does not offer and that stand in for none; `make deploy` fills it.",
        list_of(_INSTANCE_TYPE, empty=True),
    )
    core_instances: int = knob(2, "Nodes of a cluster beside the primary one.", whole(1, 500))
    max_core_instances: int = knob(
        20, "The most nodes that one execution may ask for.", whole(1, 500)
    )
    spot: bool = knob(
        False, "All nodes but one on Spot; an execution may choose otherwise.", _YES_NO
    )
    max_concurrent_clusters: int = knob(
        3, "The most batches that have a cluster at a time; the others wait.", whole(1, 20)
    )
    wait_timeout_minutes: int = knob(
        1440, "Minutes that a batch may wait for others to end.", whole(2, 2_000)
    )
    start_timeout_minutes: int = knob(
        25, "Minutes that a cluster may take to start before others are tried.", whole(20, 120)
    )
    managed_scaling_min_units: int | None = knob(
        None,
        "Fewest nodes under EMR managed scaling; off when not set.",
        or_none(whole(1, 500)),
    )
    managed_scaling_max_units: int | None = knob(
        None,
        "Most nodes under EMR managed scaling; off when not set.",
        or_none(whole(1, 500)),
    )
    node_volume_gib: int = knob(64, "EBS volume of each node, in GiB.", whole(16, 16_384))
    idle_timeout_minutes: int = knob(
        15, "Minutes of idleness after which EMR itself ends a cluster.", whole(1, 10_080)
    )
    job_timeout_minutes: int = knob(
        240, "Minutes that the job may take on a cluster that is ready.", whole(10, 43_200)
    )
    execution_timeout_minutes: int = knob(
        330,
        "Minutes that an execution may take beside wait_timeout_minutes; at least 30 more than"
        " job_timeout_minutes and twice start_timeout_minutes.",
        whole(40, 44_640),
    )

    # -- The job's defaults --------------------------------------------------------------------
    pca: Literal["auto", "fit", "reuse", "update"] = knob(
        "auto",
        "Fit a new model (fit), or only when there is none yet (auto); reuse the current one"
        " (reuse), or make it anew with each batch (update).",
        one_of(*PCA),
    )
    variance: float = knob(
        0.80, "Share of the variance that the vectors keep.", number(0, 1, above=True)
    )
    max_reject_rate: float = knob(
        0.05, "Share of unreadable images above which a run fails.", number(0, 1)
    )

    # -- Storage -------------------------------------------------------------------------------
    kms: bool | str = knob(
        False,
        "Encrypt with KMS instead of SSE-S3: true for a key of the stack's own, or the ARN of one"
        " whose policy leaves it to IAM and, for Spot nodes, lets AWSServiceRoleForEC2Spot use it.",
        Check(
            "true, false or the ARN of a KMS key",
            lambda v: (
                isinstance(v, bool)
                or (isinstance(v, str) and re.fullmatch(_KEY_ARN, v) is not None)
            ),
        ),
    )
    tls_certificates: str | None = knob(
        None,
        "Zip by which EMR itself encrypts what its nodes send each other, in a bucket of this"
        " account and region: privateKey.pem and certificateChain.pem for the nodes' domain, and"
        " trustedCertificates.pem for an authority of your own; when not set, Spark alone does.",
        or_none(
            text(
                # No wildcard: the nodes' role may read just this object.
                r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9!_.()/=+@-]+\.zip",
                "the s3:// URI of a zip such as s3://my-bucket/emr/certificates.zip",
            )
        ),
    )
    log_retention_days: int = knob(
        90, "Days that logs are kept, in S3 and in CloudWatch.", one_of(*_LOG_RETENTION)
    )
    noncurrent_days: int = knob(
        30, "Days that overwritten or deleted data can still be restored.", whole(1, 3_650)
    )
    removal_policy: Literal["retain", "destroy"] = knob(
        "retain",
        "What happens to the buckets when the stack is deleted; destroy needs `delete_data` too.",
        one_of("retain", "destroy"),
    )
    delete_data: bool = knob(
        False, "The second key to deleting the buckets with the stack.", _YES_NO
    )

    # -- Network -------------------------------------------------------------------------------
    zones: int = knob(
        3, "Availability zones of the own VPC; clusters take whichever has nodes.", whole(1, 6)
    )
    vpc_cidr: str = knob(
        "10.40.0.0/20",
        "Address range of the stack's own VPC.",
        text(
            r"(\d{1,3}\.){3}\d{1,3}/(1[6-9]|2[0-4])",
            "an IPv4 range from /16 to /24 such as 10.40.0.0/20",
        ),
    )
    vpc_id: str | None = knob(
        None,
        "An existing VPC to use instead of an own one.",
        or_none(text(r"vpc-[0-9a-f]{8,17}", "a VPC id such as vpc-0123456789abcdef0")),
    )
    subnet_ids: tuple[str, ...] = knob(
        (),
        "The existing VPC's private subnets; they need a route to S3 and EMR's tag.",
        list_of(
            text(r"subnet-[0-9a-f]{8,17}", "a subnet id such as subnet-0123456789abcdef0"),
            empty=True,
        ),
    )
    availability_zones: tuple[str, ...] = knob(
        (),
        "The zone of each of `subnet_ids`, in the same order.",
        list_of(text(r"[a-z]{2}(-[a-z]+)+-\d[a-z]", "a zone such as eu-west-1a"), empty=True),
    )
    ssm: bool = knob(
        False,
        "Let an engineer open a shell on a node through Session Manager (adds three endpoints).",
        _YES_NO,
    )

    # -- Operation -----------------------------------------------------------------------------
    trigger: bool = knob(
        True, f"Start an execution when {IMAGES}/<batch>/{READY} is written.", _YES_NO
    )
    alert_email: str | None = knob(
        None,
        "Address for failures, alarms and the budget; none are sent when not set.",
        or_none(text(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+", "an e-mail address")),
    )
    monthly_budget_usd: int = knob(
        50, "Monthly budget in US dollars, alerted at 80 and 100 %.", whole(1, 1_000_000)
    )
    cluster_alive_alarm_minutes: int = knob(
        330, "Minutes after which a living cluster raises an alarm.", whole(10, 44_640)
    )
    interactive: bool = knob(False, "Deploy the notebook cluster's stack too.", _YES_NO)
    wheelhouse: str | None = knob(
        None,
        "Folder of wheels that nodes install; build/wheelhouse/<architecture> when not set.",
        or_none(text(r".+", "a folder")),
    )

    def __post_init__(self) -> None:
        check_each(self)
        _check_combinations(self)

    @classmethod
    def from_context(cls, node: Node) -> OrchardConfig:
        """Read the ``orchard`` block of ``cdk.json`` and the ``-c key=value`` overrides.

        Raises
        ------
        ConfigError
            For an unknown key, a value of the wrong kind, or one that is not allowed.
        """
        return cls(**read_context(node, get_type_hints(cls)))

    @property
    def primary_type(self) -> str:
        """Instance type of the primary node, its default filled in."""
        return self.primary_instance_type or fitting(self.architecture)[0]

    @property
    def types(self) -> tuple[str, ...]:
        """Instance types that an execution may choose from, the default first."""
        return self.instance_types or tuple(
            name for name in fitting(self.architecture) if name not in self.unoffered_types
        )

    @property
    def managed_scaling(self) -> bool:
        """Whether EMR managed scaling sizes the clusters."""
        return self.managed_scaling_max_units is not None

    @property
    def deletes_data(self) -> bool:
        """Whether both keys are turned, so that the buckets go with the stack."""
        return self.removal_policy == "destroy" and self.delete_data


def asset_prefix(stack_name: str) -> str:
    """Return what the keys of a stack's assets begin with, and no other stack's do."""
    return f"orchard/{stack_name}/"


def cluster_tags(stack_name: str, config: OrchardConfig) -> dict[str, str]:
    """Return the tags of every cluster of a stack: policies and the bill rely on them."""
    return {EMR_TAG: "true", STACK_TAG: stack_name, "project": "orchard", "dataset": config.dataset}


def check_region(region: str, config: OrchardConfig) -> None:
    """Refuse a region outside the allow-list.

    Raises
    ------
    ConfigError
        Naming the region and those allowed.
    """
    if region not in config.allowed_regions:
        raise refusal(
            "region",
            region,
            f"one of {', '.join(config.allowed_regions)} (allowed_regions), chosen by"
            f" `make deploy SET=region={config.allowed_regions[0]}` or by the AWS profile",
        )


def _check_combinations(config: OrchardConfig) -> None:
    if config.region is not None:
        check_region(config.region, config)
    _check_instances(config)
    _check_scaling(config)
    _check_network(config)
    needed = config.job_timeout_minutes + 2 * config.start_timeout_minutes + _OVERHEAD_MINUTES
    if config.execution_timeout_minutes < needed:
        raise refusal(
            "execution_timeout_minutes",
            config.execution_timeout_minutes,
            f"at least {needed}: job_timeout_minutes, twice start_timeout_minutes and"
            f" {_OVERHEAD_MINUTES} more",
        )


def _check_instances(config: OrchardConfig) -> None:
    if config.core_instances > config.max_core_instances:
        raise refusal(
            "core_instances",
            config.core_instances,
            f"at most max_core_instances, {config.max_core_instances}",
        )
    graviton = config.architecture == "arm64"
    for key, types in (
        ("primary_instance_type", (config.primary_type,)),
        ("instance_types", config.types),
    ):
        for instance_type in types:
            if is_graviton(instance_type) != graviton:
                raise refusal(key, instance_type, f"an {config.architecture} instance type")
    for instance_type in (config.primary_type, *config.types):
        NodeShape.of(instance_type)


def _check_scaling(config: OrchardConfig) -> None:
    low, high = config.managed_scaling_min_units, config.managed_scaling_max_units
    if (low is None) != (high is None) or (low is not None and high is not None and low > high):
        raise refusal(
            "managed_scaling_min_units",
            low,
            f"at most managed_scaling_max_units ({high}), and set with it",
        )


def _check_network(config: OrchardConfig) -> None:
    if config.vpc_id is None and (config.subnet_ids or config.availability_zones):
        raise refusal("vpc_id", None, "a VPC id when subnet_ids or availability_zones are set")
    if config.vpc_id is not None and not config.subnet_ids:
        raise refusal("subnet_ids", (), "the private subnets to use in vpc_id")
    if len(config.subnet_ids) != len(config.availability_zones):
        raise refusal(
            "availability_zones", config.availability_zones, "one zone for each of subnet_ids"
        )


def _main(arguments: Sequence[str]) -> None:
    """Print the table of knobs, or keep choices in `cdk.json`."""
    if not arguments:
        print(describe(OrchardConfig))
        return
    try:
        keep(Path(__file__).parents[1] / "cdk.json", OrchardConfig, arguments)
    except ConfigError as error:
        sys.exit(f"orchard: {error}")


if __name__ == "__main__":
    _main(sys.argv[1:])
