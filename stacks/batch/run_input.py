"""What an execution may be started with, and the states that check it before anything is paid.

The States Language has no regular expressions and cannot list an object's keys. Two of its
functions do instead: splitting a name at every allowed character leaves what is not allowed, and
merging the input into the defaults adds a field for every key that is not among them. It cannot
leave an argument of the job out either: what an execution does not say is `NONE`.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spark_job import contract
from spark_job.contract import IMAGES, NONE, PCA, WHICH_FINDINGS
from stacks.states import either, failure, format_string, neither

if TYPE_CHECKING:
    from aws_cdk import aws_s3

    from stacks.config import OrchardConfig
    from stacks.states import State, States

_NAME_CHARACTERS: Final = string.ascii_letters + string.digits + "._-"
NAME_IN_WORDS: Final = "letters, digits, dots, underscores and hyphens, first a letter or digit"
REFUSED: Final = "InputRefused"
NETWORKS: Final = tuple(
    sorted(card.parent.name for card in Path(contract.__file__).parent.glob("networks/*/card.json"))
)
"""The networks that are shipped with the job."""


@dataclass(frozen=True)
class Field:
    """A field of the input: the deployment's default, and what an execution may say instead.

    Attributes
    ----------
    default
        A value, or with `computed` an expression.
    allowed
        In words, for the error.
    accepted
        A condition of the States Language over ``$.settings.<name>`` or ``$.checks``.
    """

    name: str
    default: Any
    allowed: str
    accepted: State
    computed: bool = False


def input_fields(config: OrchardConfig, data: aws_s3.IBucket) -> tuple[Field, ...]:
    """Return the allow-list: an execution can say this, within these bounds, and no more."""
    return (
        Field(
            "batch",
            "",
            f"up to 64 {NAME_IN_WORDS}",
            is_name("$.settings.batch", "$.checks.batch"),
        ),
        Field(
            "images",
            format_string(f"{IMAGES}/{{}}/", "$.batch"),
            f"a folder of the data bucket, from {IMAGES}/ to a last slash, such as"
            f" {IMAGES}/2026-11-20/",
            _all({"Variable": "$.settings.images", "StringMatches": f"{IMAGES}/*/"}),
            computed=True,
        ),
        Field("pca", config.pca, "one of " + ", ".join(PCA), _one_of("$.settings.pca", PCA)),
        Field(
            "model",
            NONE,
            "the id of a model, with pca reuse",
            _all(
                {"Variable": "$.settings.model", "IsString": True},
                is_name("$.settings.model", "$.checks.model", parts_of_a_name=3),
            ),
        ),
        # What is not said is the job's --default-variance: a model that is reused has its own rule.
        Field(
            "variance",
            NONE,
            "a number above 0 and at most 1",
            either(
                _none("variance"),
                _number("$.settings.variance", NumericGreaterThan=0, NumericLessThanEquals=1),
            ),
        ),
        Field(
            "components",
            NONE,
            "a whole number from 1 to 100000",
            either(_none("components"), _whole("components", 1, 100_000)),
        ),
        _truth("standardize"),
        Field(
            "network",
            NONE,
            "one of " + ", ".join(NETWORKS),
            _one_of("$.settings.network", (NONE, *NETWORKS)),
        ),
        _truth("full_decode"),
        _file("manifest", data, "CSV or Parquet", "2026-11-20.csv", ("csv", "parquet")),
        _file("corrections", data, "CSV", "2026-11-20-corrections.csv", ("csv",)),
        Field(
            "max_pixels",
            NONE,
            "a whole number from 1 to 1000000000",
            either(_none("max_pixels"), _whole("max_pixels", 1, 1_000_000_000)),
        ),
        _truth("allow_unsupported"),
        _truth("again"),
        Field(
            "findings",
            WHICH_FINDINGS[0],
            "one of " + ", ".join(WHICH_FINDINGS),
            _one_of("$.settings.findings", WHICH_FINDINGS),
        ),
        _truth("csv"),
        Field(
            "max_reject_rate",
            config.max_reject_rate,
            "a number from 0 to 1",
            _number(
                "$.settings.max_reject_rate", NumericGreaterThanEquals=0, NumericLessThanEquals=1
            ),
        ),
        Field(
            "core_instances",
            config.core_instances,
            f"a whole number from 1 to {config.max_core_instances}",
            _all({"Variable": "$.checks.core_instances", "BooleanEquals": True}),
        ),
        Field(
            "instance_type",
            config.types[0],
            "one of " + ", ".join(config.types),
            _one_of("$.settings.instance_type", config.types),
        ),
        Field(
            "spot",
            config.spot,
            "true or false",
            _all({"Variable": "$.settings.spot", "IsBoolean": True}),
        ),
        # Which write of the _READY marker started the execution; the trigger fills it in.
        Field("marker", "", "a text", _all({"Variable": "$.settings.marker", "IsString": True})),
    )


def check_input(config: OrchardConfig, data: aws_s3.IBucket, *, then: str, refused: str) -> States:
    """Return the states from ``CheckInput`` on.

    Parameters
    ----------
    config
        The deployment's configuration.
    data
        The bucket of the images.
    then
        The state that follows an input in order, with ``$.run`` (the run's name, which is the
        execution's), ``$.input`` and ``$.settings`` (the input over the defaults).
    refused
        The state that follows any other, with ``$.failure``.
    """
    fields = input_fields(config, data)
    return {
        "CheckInput": {
            "Type": "Choice",
            "Choices": [
                {
                    **_all(
                        {"Variable": "$.batch", "IsPresent": True},
                        {"Variable": "$.batch", "IsString": True},
                    ),
                    "Next": "ReadInput",
                }
            ],
            "Default": "RefuseInput",
        },
        "RefuseInput": _refuse(
            refused,
            "The input is {}; allowed is an object with a batch, a text such as 2026-11-20.",
            "States.JsonToString($)",
        ),
        "ReadInput": {
            "Type": "Pass",
            "Parameters": {
                "run.$": "$$.Execution.Name",
                "input.$": "$",
                "defaults": {
                    f"{field.name}.$" if field.computed else field.name: field.default
                    for field in fields
                },
            },
            "Next": "MergeInput",
        },
        "MergeInput": {
            "Type": "Pass",
            "Parameters": {
                "run.$": "$.run",
                "input.$": "$.input",
                "settings.$": "States.JsonMerge($.defaults, $.input, false)",
            },
            "Next": "MeasureInput",
        },
        "MeasureInput": {
            "Type": "Pass",
            "Parameters": {
                "fields.$": "$.settings.*",
                "batch.$": measure_name("$.settings.batch"),
                "run.$": measure_name("$.run"),
                # In quotation marks, two more parts: what is no text cannot be put into one.
                "model.$": measure_name("States.JsonToString($.settings.model)"),
                "core_instances.$": (
                    f"States.ArrayContains(States.ArrayRange(1, {config.max_core_instances}, 1),"
                    " $.settings.core_instances)"
                ),
                # As texts, of which a whole number is one without a dot or an exponent.
                **{
                    f"{name}.$": f"States.JsonToString($.settings.{name})"
                    for name in ("components", "max_pixels")
                },
            },
            "ResultPath": "$.checks",
            "Next": "CheckSettings",
        },
        "CheckSettings": {
            "Type": "Choice",
            "Choices": [
                {
                    # One more than the defaults have.
                    "Variable": f"$.checks.fields[{len(fields)}]",
                    "IsPresent": True,
                    "Next": "RefuseFields",
                },
                {**neither(is_name("$.run", "$.checks.run")), "Next": "RefuseRun"},
                *({**neither(field.accepted), "Next": _refuser(field.name)} for field in fields),
                {
                    "And": [
                        {"Variable": "$.settings.variance", "IsNumeric": True},
                        {"Variable": "$.settings.components", "IsNumeric": True},
                    ],
                    "Next": "RefuseTwoRules",
                },
                {
                    "And": [
                        neither(_none("model")),
                        {"Not": {"Variable": "$.settings.pca", "StringEquals": "reuse"}},
                    ],
                    "Next": "RefuseModelAlone",
                },
            ],
            "Default": then,
        },
        "RefuseModelAlone": _refuse(
            refused,
            "model is {} and pca is {}; a model is named with pca reuse alone: say that too, or no"
            " model.",
            "$.settings.model",
            "$.settings.pca",
        ),
        "RefuseTwoRules": _refuse(
            refused,
            "variance is {} and components is {}; each says how many components to keep: say one"
            " of them.",
            "$.settings.variance",
            "$.settings.components",
        ),
        **{
            _refuser(field.name): _refuse(
                refused,
                f"{field.name} is {{}}; allowed is {field.allowed}.",
                f"States.JsonToString($.settings.{field.name})",
            )
            for field in fields
        },
        "RefuseRun": _refuse(
            refused,
            f"The name of the execution is {{}}; allowed are, as for a run, {NAME_IN_WORDS}.",
            "$.run",
        ),
        "RefuseFields": _refuse(
            refused,
            "The input {} has a field that is unknown, perhaps a misspelt one; allowed are "
            + ", ".join(field.name for field in fields)
            + ".",
            "States.JsonToString($.input)",
        ),
    }


def _refuse(then: str, template: str, *arguments: str) -> State:
    return {
        "Type": "Pass",
        "Parameters": {"failure": failure(REFUSED, template, *arguments)},
        "Next": then,
    }


def _refuser(field: str) -> str:
    return "Refuse" + "".join(part.capitalize() for part in field.split("_"))


def measure_name(path: str) -> str:
    """Return the expression that measures a name for :func:`is_name`."""
    # The first two characters leave one part, even of an empty name; a second part is an alien.
    padded = format_string("!a{}", path)
    return f"States.ArrayLength(States.StringSplit({padded}, '{_NAME_CHARACTERS}'))"


def is_name(path: str, parts: str, parts_of_a_name: int = 1) -> State:
    """Return the condition that a name, measured into `parts`, is one that the job accepts."""
    # No function of JSONPath's measures a text, and of JSONata's, which one does, there is no
    # interpreter here to try it in: a name that is too long is the job's to refuse.
    return _all(
        {"Variable": parts, "NumericEquals": parts_of_a_name},
        neither(
            {"Variable": path, "StringEquals": ""},
            *({"Variable": path, "StringMatches": f"{first}*"} for first in "._-"),
        ),
    )


def _truth(name: str) -> Field:
    """Return a field that the job has a default for."""
    return Field(
        name,
        NONE,
        "true or false",
        either(_none(name), {"Variable": f"$.settings.{name}", "IsBoolean": True}),
    )


def _file(
    name: str, data: aws_s3.IBucket, kind: str, example: str, suffixes: tuple[str, ...]
) -> Field:
    """Return a field that names a file of the data bucket, where the job may read."""
    return Field(
        name,
        NONE,
        f"a {kind} of the data bucket below {IMAGES}/, such as s3://DATA_BUCKET/{IMAGES}/{example}",
        either(
            _none(name),
            *(
                {
                    "Variable": f"$.settings.{name}",
                    "StringMatches": f"s3://{data.bucket_name}/{IMAGES}/*.{suffix}",
                }
                for suffix in suffixes
            ),
        ),
    )


def _none(name: str) -> State:
    return {"Variable": f"$.settings.{name}", "StringEquals": NONE}


def _whole(name: str, low: int, high: int) -> State:
    text = f"$.checks.{name}"
    return _all(
        {"Variable": f"$.settings.{name}", "IsNumeric": True},
        {"Variable": f"$.settings.{name}", "NumericGreaterThanEquals": low},
        {"Variable": f"$.settings.{name}", "NumericLessThanEquals": high},
        neither(*({"Variable": text, "StringMatches": f"*{sign}*"} for sign in (".", "e", "E"))),
    )


def _number(path: str, **bounds: float) -> State:
    return _all(
        {"Variable": path, "IsNumeric": True},
        *({"Variable": path, comparison: bound} for comparison, bound in bounds.items()),
    )


def _one_of(path: str, values: tuple[str, ...]) -> State:
    conditions = [{"Variable": path, "StringEquals": value} for value in values]
    return {"Or": conditions} if len(conditions) > 1 else conditions[0]


def _all(*conditions: State) -> State:
    return {"And": list(conditions)} if len(conditions) > 1 else conditions[0]
