"""What an execution of the deployed state machine may say, and within which bounds.

The stack makes conditions of the States Language of it, and `orchard start` checks by it before
anything is sent: neither knows a field, a bound or a word that the other does not. What a
deployment decides of it is in its output `deployed.RUN_INPUT`. Standard library only, so that
anyone may import it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from spark_job import contract
from spark_job.contract import IMAGES, LONGEST_BATCH, NONE, PCA, WHICH_FINDINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_IN_WORDS: Final = "letters, digits, dots, underscores and hyphens, first a letter or digit"

NETWORKS: Final = tuple(
    sorted(card.parent.name for card in Path(contract.__file__).parent.glob("networks/*/card.json"))
)
"""The networks that are shipped with the job."""

NO_BATCH: Final = "The input is {}; allowed is an object with a batch, a text such as 2026-11-20."
UNKNOWN_FIELD: Final = (
    "The input {} has a field that is unknown, perhaps a misspelt one; allowed are "
)
NOT_ALLOWED: Final = "{name} is {{}}; allowed is {allowed}."
TWO_RULES: Final = (
    "variance is {} and components is {}; each says how many components to keep: say one of them."
)
MODEL_ALONE: Final = (
    "model is {} and pca is {}; a model is named with pca reuse alone: say that too, or no model."
)
"""How an input is refused, here and by the state machine; braces are for what it says."""

FOR_CLUSTERS: Final = ("core_instances", "instance_type", "spot")
"""Fields that the job knows nothing of."""


class Kind(Protocol):
    """A kind of value."""

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""

    def accepts(self, value: Any) -> bool:
        """Whether a value, as JSON has it, is allowed."""

    def read(self, text: str) -> Any:
        """Make a value of what was said on a command line; a text where it is of another kind."""


class _Text:
    """A kind whose values are texts."""

    def read(self, text: str) -> Any:
        """Make a value of what was said."""
        return text


@dataclass(frozen=True)
class Name(_Text):
    """A name that a folder may have.

    Attributes
    ----------
    longest
        Most characters; the States Language cannot measure a text, and leaves it to the job.
    """

    allowed: str
    longest: int

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        return (
            isinstance(value, str)
            and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) is not None
            and len(value) <= self.longest
        )


@dataclass(frozen=True)
class Folder(_Text):
    """A folder of the data bucket below that of all images."""

    allowed: str = (
        f"a folder of the data bucket, from {IMAGES}/ to a last slash, such as {IMAGES}/2026-11-20/"
    )

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        return isinstance(value, str) and re.fullmatch(rf"{IMAGES}/.*/", value, re.S) is not None


@dataclass(frozen=True)
class File(_Text):
    """A file of the data bucket, where the job may read."""

    what: str
    example: str
    suffixes: tuple[str, ...]
    bucket: str

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        where = f"s3://DATA_BUCKET/{IMAGES}/{self.example}"
        return f"a {self.what} of the data bucket below {IMAGES}/, such as {where}"

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        start = f"s3://{self.bucket}/{IMAGES}/"
        return (
            isinstance(value, str)
            and value.startswith(start)
            and any(value[len(start) :].endswith(f".{suffix}") for suffix in self.suffixes)
        )


@dataclass(frozen=True)
class Choice(_Text):
    """One of some words."""

    values: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return "one of " + ", ".join(self.values)

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        return value in self.values


@dataclass(frozen=True)
class Number:
    """A number from `low`, or above it, to `high`."""

    low: float
    high: float
    above: bool = False

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.above:
            return f"a number above {self.low:g} and at most {self.high:g}"
        return f"a number from {self.low:g} to {self.high:g}"

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and not (self.above and value == self.low)

    def read(self, text: str) -> Any:
        """Make a value of what was said."""
        try:
            return float(text)
        except ValueError:
            return text


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return f"a whole number from {self.low} to {self.high}"

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )

    def read(self, text: str) -> Any:
        """Make a value of what was said."""
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        return text


@dataclass(frozen=True)
class Truth:
    """True or false."""

    allowed: str = "true or false"

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        return isinstance(value, bool)

    def read(self, text: str) -> Any:
        """Make a value of what was said."""
        return {"true": True, "false": False}.get(text.lower(), text)


@dataclass(frozen=True)
class Anything(_Text):
    """Any text."""

    allowed: str = "a text"

    def accepts(self, value: Any) -> bool:
        """Whether a value is allowed."""
        return isinstance(value, str)


@dataclass(frozen=True)
class Field:
    """A field of the input.

    Attributes
    ----------
    default
        What it is where an execution does not say it; None where that follows from the batch.
    """

    name: str
    kind: Kind
    default: Any = NONE

    @property
    def optional(self) -> bool:
        """Whether it may be `NONE`, which is the job's own default."""
        return bool(self.default == NONE)

    def accepts(self, value: Any) -> bool:
        """Whether an execution may say a value."""
        return (self.optional and value == NONE) or self.kind.accepts(value)


@dataclass(frozen=True)
class Bounds:
    """What a deployment decides of its executions' input.

    Attributes
    ----------
    variance
        The default that the job is given; an execution that says none has it for a new model alone.
    instance_types
        The default first.
    """

    pca: str
    variance: float
    max_reject_rate: float
    core_instances: int
    max_core_instances: int
    instance_types: tuple[str, ...]
    spot: bool

    def to_json(self) -> str:
        """Write them as a stack's output has them."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Bounds:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            Where it is something else.
        """
        try:
            known = {name: json.loads(text)[name] for name in cls.__dataclass_fields__}
        except (KeyError, TypeError) as error:
            raise ValueError(f"no bounds: {text[:80]}") from error
        return cls(**{**known, "instance_types": tuple(known["instance_types"])})


def input_fields(bounds: Bounds, bucket: str) -> tuple[Field, ...]:
    """Return the allow-list: an execution can say this, within these bounds, and no more.

    Parameters
    ----------
    bounds
        The deployment's.
    bucket
        The data bucket's name.
    """
    return (
        Field("batch", Name(f"up to {LONGEST_BATCH} {NAME_IN_WORDS}", LONGEST_BATCH), ""),
        Field("images", Folder(), None),
        Field("pca", Choice(PCA), bounds.pca),
        Field("model", Name("the id of a model, with pca reuse", LONGEST_BATCH)),
        # What is not said is the job's --default-variance: a model that is reused has its own rule.
        Field("variance", Number(0, 1, above=True)),
        Field("components", Whole(1, 100_000)),
        Field("standardize", Truth()),
        Field("network", Choice(NETWORKS)),
        Field("full_decode", Truth()),
        Field(
            "manifest", File("CSV or Parquet", "2026-11-20.csv", ("csv", "parquet"), bucket=bucket)
        ),
        Field("corrections", File("CSV", "2026-11-20-corrections.csv", ("csv",), bucket=bucket)),
        Field("max_pixels", Whole(1, 1_000_000_000)),
        Field("allow_unsupported", Truth()),
        Field("again", Truth()),
        Field("findings", Choice(WHICH_FINDINGS), WHICH_FINDINGS[0]),
        Field("csv", Truth()),
        Field("max_reject_rate", Number(0, 1), bounds.max_reject_rate),
        Field("core_instances", Whole(1, bounds.max_core_instances), bounds.core_instances),
        Field("instance_type", Choice(bounds.instance_types), bounds.instance_types[0]),
        Field("spot", Truth(), bounds.spot),
        # Which write of the _READY marker started the execution; the trigger fills it in.
        Field("marker", Anything(), ""),
    )


def refusal(given: Mapping[str, Any], bounds: Bounds, bucket: str) -> str | None:
    """Say why the state machine would refuse an input; None where it would not.

    The sentence is the state machine's, and so is the order in which it looks.
    """
    if not isinstance(given.get("batch"), str):
        return NO_BATCH.format(_shown(given))
    fields = input_fields(bounds, bucket)
    if given.keys() - {field.name for field in fields}:
        allowed = ", ".join(field.name for field in fields)
        return f"{UNKNOWN_FIELD.format(_shown(given))}{allowed}."
    for field in fields:
        if field.name in given and not field.accepts(given[field.name]):
            told = NOT_ALLOWED.format(name=field.name, allowed=field.kind.allowed)
            return told.format(_shown(given[field.name]))
    settings = {field.name: field.default for field in fields} | dict(given)
    variance, components, model = (settings[name] for name in ("variance", "components", "model"))
    if NONE not in (variance, components):
        return TWO_RULES.format(variance, components)
    if model != NONE and settings["pca"] != "reuse":
        return MODEL_ALONE.format(model, settings["pca"])
    return None


def _shown(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
