"""Every knob of a deployment, with its default, its meaning and what it accepts."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_type_hints

if TYPE_CHECKING:
    from constructs import Node

CONTEXT_KEY: Final = "orchard"

# EMR's managed service policy acts only on what bears this tag.
EMR_TAG: Final = "for-use-with-amazon-emr-managed-policies"
# The state machine's role acts only on clusters that bear its own stack's name under this tag.
STACK_TAG: Final = "orchard-stack"

EU_REGIONS: Final = (
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
)

# Four vCPUs and 16 GiB each, so that one unit of fleet capacity is one node, whichever Spot gives.
_INSTANCE_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "x86_64": ("m5.xlarge", "m5a.xlarge", "m5d.xlarge", "m6a.xlarge", "m6i.xlarge"),
    "arm64": ("m6g.xlarge", "m6gd.xlarge", "m7g.xlarge", "m7gd.xlarge"),
}
# A Graviton type has a "g" after its generation: m6g, c7gn, r8gd.
_GRAVITON: Final = re.compile(r"[a-z]+\d+g[a-z]*\.")

# The periods that CloudWatch Logs accepts, in days.
_LOG_RETENTION: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
)  # fmt: skip

# What a cluster needs to start and to end, on top of the job's own time.
_CLUSTER_OVERHEAD_MINUTES: Final = 30


class ConfigError(ValueError):
    """A configuration value that cannot be deployed; the message is one sentence."""


@dataclass(frozen=True)
class Check:
    """What a knob accepts: in words, for the error, and as a predicate."""

    allowed: str
    accepts: Callable[[Any], bool]


def _knob(default: Any, doc: str, check: Check) -> Any:
    return dataclasses.field(default=default, metadata={"doc": doc, "check": check})


def _whole(low: int, high: int) -> Check:
    return Check(
        f"a whole number from {low:,} to {high:,}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
    )


def _number(low: float, high: float, *, above: bool = False) -> Check:
    return Check(
        f"a number {'above' if above else 'from'} {low:g} {'and up ' if above else ''}to {high:g}",
        lambda v: (
            isinstance(v, (int, float))
            and not isinstance(v, bool)
            and (low < v if above else low <= v)
            and v <= high
        ),
    )


def _one_of(*values: str | int) -> Check:
    return Check("one of " + ", ".join(map(str, values)), lambda v: v in values)


def _text(pattern: str, allowed: str) -> Check:
    return Check(allowed, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None)


def _list_of(check: Check, *, empty: bool = False) -> Check:
    return Check(
        f"a list of {'at least one value' if not empty else 'values'}, each {check.allowed}",
        lambda v: isinstance(v, tuple) and (empty or len(v) > 0) and all(map(check.accepts, v)),
    )


def _or_none(check: Check) -> Check:
    return Check(f"{check.allowed}, or nothing at all", lambda v: v is None or check.accepts(v))


_YES_NO = Check("true or false", lambda v: isinstance(v, bool))
_INSTANCE_TYPE = _text(r"[a-z0-9-]+\.[a-z0-9]+", "an EC2 instance type such as m5.xlarge")
_KEY_ARN = r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+"


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
    name: str = _knob(
        "Orchard",
        "Name of the stack; a second name is a second, independent deployment.",
        _text(r"[A-Za-z][A-Za-z0-9-]{0,39}", "a letter, then up to 39 letters, digits or hyphens"),
    )
    dataset: str = _knob(
        "fruits",
        "Value of the `dataset` cost tag.",
        _text(r"[A-Za-z0-9][A-Za-z0-9 ._:/=+@-]{0,127}", "up to 128 characters that a tag accepts"),
    )
    region: str | None = _knob(
        None,
        "Region to deploy to; the AWS CLI profile's when not set, eu-west-1 without one.",
        _or_none(_text(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as eu-west-1")),
    )
    allowed_regions: tuple[str, ...] = _knob(
        EU_REGIONS,
        "Regions that images may live in; any other fails at synth.",
        _list_of(_text(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as eu-west-1")),
    )

    # -- The cluster ---------------------------------------------------------------------------
    emr_release: str = _knob(
        "emr-7.14.0",
        "EMR release; 7.x carries Spark 3.5 and Python 3.11.",
        _text(r"emr-7\.\d+\.\d+", "an EMR 7 release label such as emr-7.14.0"),
    )
    architecture: Literal["x86_64", "arm64"] = _knob(
        "x86_64",
        "Processor of the nodes; arm64 is Graviton. The wheelhouse follows it.",
        _one_of("x86_64", "arm64"),
    )
    primary_instance_type: str | None = _knob(
        None,
        "Instance type of the primary node; m5.xlarge or m6g.xlarge when not set.",
        _or_none(_INSTANCE_TYPE),
    )
    core_instance_types: tuple[str, ...] = _knob(
        (),
        "Instance types of the core fleet, all of one size, the preferred first; one type on"
        " demand and several on Spot when not set. An execution may choose any of them.",
        _list_of(_INSTANCE_TYPE, empty=True),
    )
    core_instances: int = _knob(2, "Core nodes of a cluster.", _whole(1, 500))
    max_core_instances: int = _knob(
        20, "The most core nodes that one execution may ask for.", _whole(1, 500)
    )
    spot: bool = _knob(False, "Core nodes on Spot; an execution may choose otherwise.", _YES_NO)
    managed_scaling_min_units: int | None = _knob(
        None,
        "Fewest nodes under EMR managed scaling; off when not set.",
        _or_none(_whole(1, 500)),
    )
    managed_scaling_max_units: int | None = _knob(
        None,
        "Most nodes under EMR managed scaling; off when not set.",
        _or_none(_whole(1, 500)),
    )
    node_volume_gib: int = _knob(64, "EBS volume of each node, in GiB.", _whole(16, 16_384))
    idle_timeout_minutes: int = _knob(
        15, "Minutes of idleness after which EMR itself ends a cluster.", _whole(1, 10_080)
    )
    job_timeout_minutes: int = _knob(
        240, "Minutes that the job may take, cluster start included.", _whole(10, 43_200)
    )
    execution_timeout_minutes: int = _knob(
        300,
        "Minutes that a whole execution may take; at least 30 more than the job's.",
        _whole(40, 44_640),
    )

    # -- The job's defaults --------------------------------------------------------------------
    pca: Literal["auto", "fit"] = _knob(
        "auto",
        "Fit a new model (fit), or only when there is none yet (auto).",
        _one_of("auto", "fit"),
    )
    variance: float = _knob(
        0.80, "Share of the variance that the vectors keep.", _number(0, 1, above=True)
    )
    max_reject_rate: float = _knob(
        0.05, "Share of unreadable images above which a run fails.", _number(0, 1)
    )

    # -- Storage -------------------------------------------------------------------------------
    kms: bool | str = _knob(
        False,
        "Encrypt with KMS instead of SSE-S3: true for a key of the stack's own, or a key's ARN.",
        Check(
            "true, false or the ARN of a KMS key",
            lambda v: (
                isinstance(v, bool)
                or (isinstance(v, str) and re.fullmatch(_KEY_ARN, v) is not None)
            ),
        ),
    )
    log_retention_days: int = _knob(
        90, "Days that logs are kept, in S3 and in CloudWatch.", _one_of(*_LOG_RETENTION)
    )
    noncurrent_days: int = _knob(
        30, "Days that overwritten or deleted data can still be restored.", _whole(1, 3_650)
    )
    removal_policy: Literal["retain", "destroy"] = _knob(
        "retain",
        "What happens to the buckets when the stack is deleted; destroy needs `delete_data` too.",
        _one_of("retain", "destroy"),
    )
    delete_data: bool = _knob(
        False, "The second key to deleting the buckets with the stack.", _YES_NO
    )

    # -- Network -------------------------------------------------------------------------------
    vpc_cidr: str = _knob(
        "10.40.0.0/20",
        "Address range of the stack's own VPC.",
        _text(
            r"(\d{1,3}\.){3}\d{1,3}/(1[6-9]|2[0-4])",
            "an IPv4 range from /16 to /24 such as 10.40.0.0/20",
        ),
    )
    vpc_id: str | None = _knob(
        None,
        "An existing VPC to use instead of an own one.",
        _or_none(_text(r"vpc-[0-9a-f]+", "a VPC id such as vpc-0abc")),
    )
    subnet_ids: tuple[str, ...] = _knob(
        (),
        "The existing VPC's private subnets; they need a route to S3 and EMR's tag.",
        _list_of(_text(r"subnet-[0-9a-f]+", "a subnet id such as subnet-0abc"), empty=True),
    )
    availability_zones: tuple[str, ...] = _knob(
        (),
        "The zone of each of `subnet_ids`, in the same order.",
        _list_of(_text(r"[a-z]{2}(-[a-z]+)+-\d[a-z]", "a zone such as eu-west-1a"), empty=True),
    )
    ssm: bool = _knob(
        False,
        "Let an engineer open a shell on a node through Session Manager (adds three endpoints).",
        _YES_NO,
    )

    # -- Operation -----------------------------------------------------------------------------
    trigger: bool = _knob(
        True, "Start an execution when images/<batch>/_READY is written.", _YES_NO
    )
    alert_email: str | None = _knob(
        None,
        "Address for failures, alarms and the budget; none are sent when not set.",
        _or_none(_text(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+", "an e-mail address")),
    )
    monthly_budget_usd: int = _knob(
        50, "Monthly budget in US dollars, alerted at 80 and 100 %.", _whole(1, 1_000_000)
    )
    cluster_alive_alarm_minutes: int = _knob(
        330, "Minutes after which a living cluster raises an alarm.", _whole(10, 44_640)
    )
    interactive: bool = _knob(False, "Deploy the notebook cluster's stack too.", _YES_NO)
    wheelhouse: str | None = _knob(
        None,
        "Folder of wheels that nodes install; build/wheelhouse/<architecture> when not set.",
        _or_none(_text(r".+", "a folder")),
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check: Check = field.metadata["check"]
            if not check.accepts(getattr(self, field.name)):
                raise _refusal(field.name, getattr(self, field.name), check.allowed)
        _check_combinations(self)

    @classmethod
    def from_context(cls, node: Node) -> OrchardConfig:
        """Read the ``orchard`` block of ``cdk.json`` and the ``-c key=value`` overrides.

        Raises
        ------
        ConfigError
            For an unknown key, a value of the wrong kind, or one that is not allowed.
        """
        block = node.try_get_context(CONTEXT_KEY) or {}
        if not isinstance(block, Mapping):
            raise _refusal(CONTEXT_KEY, block, "a block of keys and values")
        block = {key: value for key, value in block.items() if key != "//"}
        for key in block:
            _refuse_unknown(key)
        overrides = node.get_all_context()
        for key in overrides:
            _refuse_misspelt(key)
        given = {**block, **{k: v for k, v in overrides.items() if k in _kinds()}}
        values: dict[str, Any] = {key: _parse(key, value) for key, value in given.items()}
        return cls(**values)

    @property
    def primary_type(self) -> str:
        """Instance type of the primary node, its default filled in."""
        return self.primary_instance_type or _INSTANCE_TYPES[self.architecture][0]

    @property
    def core_types(self) -> tuple[str, ...]:
        """Instance types that a core fleet may use, the preferred first."""
        return self.core_instance_types or _INSTANCE_TYPES[self.architecture]

    @property
    def managed_scaling(self) -> bool:
        """Whether EMR managed scaling sizes the clusters."""
        return self.managed_scaling_max_units is not None

    @property
    def deletes_data(self) -> bool:
        """Whether both keys are turned, so that the buckets go with the stack."""
        return self.removal_policy == "destroy" and self.delete_data


def cluster_name_prefix(stack_name: str) -> str:
    """Return what the names of a stack's clusters begin with, and no other stack's do.

    A slash cannot occur in a stack's name, so ``orchard/Fruits/`` is never a prefix of another
    stack's clusters, which events can then tell apart by name alone.
    """
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
        raise _refusal("region", region, "one of " + ", ".join(config.allowed_regions))


def _check_combinations(config: OrchardConfig) -> None:
    if config.region is not None:
        check_region(config.region, config)
    if config.core_instances > config.max_core_instances:
        raise _refusal(
            "core_instances",
            config.core_instances,
            f"at most max_core_instances, {config.max_core_instances}",
        )
    graviton = config.architecture == "arm64"
    for key, types in (
        ("primary_instance_type", (config.primary_type,)),
        ("core_instance_types", config.core_types),
    ):
        for instance_type in types:
            if (_GRAVITON.match(instance_type) is not None) != graviton:
                raise _refusal(key, instance_type, f"an {config.architecture} instance type")
    if len({t.partition(".")[2] for t in config.core_types}) > 1:
        raise _refusal(
            "core_instance_types",
            config.core_types,
            "types of one size, since a unit of fleet capacity is one node",
        )
    low, high = config.managed_scaling_min_units, config.managed_scaling_max_units
    if (low is None) != (high is None) or (low is not None and high is not None and low > high):
        raise _refusal(
            "managed_scaling_min_units",
            low,
            f"at most managed_scaling_max_units ({high}), and set with it",
        )
    if high is not None and config.vpc_id is None:
        # https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-managed-scaling.html
        raise _refusal(
            "managed_scaling_max_units",
            high,
            "a number only in a VPC of your own (vpc_id) with a route to the internet, since EMR"
            " managed scaling reports to a public endpoint",
        )
    needed = config.job_timeout_minutes + _CLUSTER_OVERHEAD_MINUTES
    if config.execution_timeout_minutes < needed:
        raise _refusal(
            "execution_timeout_minutes",
            config.execution_timeout_minutes,
            f"at least {needed}, {_CLUSTER_OVERHEAD_MINUTES} more than job_timeout_minutes",
        )
    if config.vpc_id is None and (config.subnet_ids or config.availability_zones):
        raise _refusal("vpc_id", None, "a VPC id when subnet_ids or availability_zones are set")
    if config.vpc_id is not None and not config.subnet_ids:
        raise _refusal("subnet_ids", (), "the private subnets to use in vpc_id")
    if len(config.subnet_ids) != len(config.availability_zones):
        raise _refusal(
            "availability_zones", config.availability_zones, "one zone for each of subnet_ids"
        )


def _refusal(key: str, value: object, allowed: str) -> ConfigError:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return ConfigError(
        f"{CONTEXT_KEY}.{key} is {json.dumps(shown, default=str)}; allowed is {allowed}."
    )


def _kinds() -> dict[str, Any]:
    return get_type_hints(OrchardConfig)


def _refuse_unknown(key: str) -> None:
    if key not in _kinds():
        near = difflib.get_close_matches(key, _kinds(), n=1)
        hint = f"did you mean {near[0]}?" if near else "see stacks/config.py for the keys."
        raise ConfigError(f"{CONTEXT_KEY}.{key} is not a configuration key; {hint}")


def _refuse_misspelt(key: str) -> None:
    # Other keys in the context are CDK's own: only a near miss of one of ours is an error.
    if key not in _kinds() and difflib.get_close_matches(key, _kinds(), n=1, cutoff=0.85):
        _refuse_unknown(key)


def _parse(key: str, value: object) -> object:
    """Give a JSON value or a command line's text the knob's type; leave the rest to its check."""
    kind = str(_kinds()[key])
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if "tuple" in kind:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if "None" in kind and not text:
        return None
    if "bool" in kind and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        if number.__name__ in kind:
            try:
                return number(text)
            except ValueError:
                continue
    return text
