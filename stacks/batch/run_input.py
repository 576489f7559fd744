"""What an execution may be started with, and the states that check it before anything is paid.

The States Language has no regular expressions and cannot list an object's keys. Two of its
functions do instead: splitting a name at every allowed character leaves what is not allowed, and
merging the input into the defaults adds a field for every key that is not among them. It cannot
leave an argument of the job out either: what an execution does not say is `NONE`.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spark_job import run_input
from spark_job.contract import IMAGES, NONE
from spark_job.run_input import (
    MODEL_ALONE,
    NAME_IN_WORDS,
    NO_BATCH,
    NOT_ALLOWED,
    TWO_RULES,
    UNKNOWN_FIELD,
    Bounds,
    Choice,
    File,
    Folder,
    Name,
    Number,
    Truth,
    Whole,
)
from stacks.states import either, failure, format_string, neither

if TYPE_CHECKING:
    from aws_cdk import aws_s3

    from stacks.config import OrchardConfig
    from stacks.states import State, States

_NAME_CHARACTERS: Final = string.ascii_letters + string.digits + "._-"
REFUSED: Final = "InputRefused"


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


def bounds_of(config: OrchardConfig) -> Bounds:
    """Return what a deployment decides of its executions' input."""
    return Bounds(
        pca=config.pca,
        variance=config.variance,
        max_reject_rate=config.max_reject_rate,
        core_instances=config.core_instances,
        max_core_instances=config.max_core_instances,
        instance_types=config.types,
        spot=config.spot,
    )


def input_fields(config: OrchardConfig, data: aws_s3.IBucket) -> tuple[Field, ...]:
    """Return the allow-list, :mod:`spark_job.run_input`'s, with conditions of the States Language.

    An execution can say this, within these bounds, and no more.
    """
    return tuple(map(_field, run_input.input_fields(bounds_of(config), data.bucket_name)))


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
            NO_BATCH,
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
                # As texts, of which a whole number is one without a dot or an exponent.
                **{
                    f"{name}.$": f"States.JsonToString($.settings.{name})"
                    for name in ("components", "max_pixels", "core_instances")
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
            MODEL_ALONE,
            "$.settings.model",
            "$.settings.pca",
        ),
        "RefuseTwoRules": _refuse(
            refused,
            TWO_RULES,
            "$.settings.variance",
            "$.settings.components",
        ),
        **{
            _refuser(field.name): _refuse(
                refused,
                NOT_ALLOWED.format(name=field.name, allowed=field.allowed),
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
            f"{UNKNOWN_FIELD}{', '.join(field.name for field in fields)}.",
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


def _field(field: run_input.Field) -> Field:
    """Put a field into the States Language."""
    computed = field.default is None
    default = format_string(f"{IMAGES}/{{}}/", "$.batch") if computed else field.default
    accepted = _accepted(field.name, field.kind)
    if field.optional:
        accepted = either(_none(field.name), accepted)
    return Field(field.name, default, field.kind.allowed, accepted, computed)


def _accepted(name: str, kind: run_input.Kind) -> State:
    """Return the condition that a field's value is of a kind."""
    path = f"$.settings.{name}"
    match kind:
        case Name():
            # The model is measured within quotation marks; see `MeasureInput`.
            parts = 3 if name == "model" else 1
            text = {"Variable": path, "IsString": True}
            return _all(text, is_name(path, f"$.checks.{name}", parts_of_a_name=parts))
        case Folder():
            return {"Variable": path, "StringMatches": f"{IMAGES}/*/"}
        case File(suffixes=suffixes, bucket=bucket):
            where = f"s3://{bucket}/{IMAGES}/"
            return _any(
                *({"Variable": path, "StringMatches": f"{where}*.{end}"} for end in suffixes)
            )
        case Choice(values=values):
            return _any(*({"Variable": path, "StringEquals": value} for value in values))
        case Number(low=low, high=high, above=above):
            least = "NumericGreaterThan" if above else "NumericGreaterThanEquals"
            return _number(path, **{least: low, "NumericLessThanEquals": high})
        case Whole(low=low, high=high):
            return _whole(name, low, high)
        case Truth():
            return {"Variable": path, "IsBoolean": True}
        case _:
            return {"Variable": path, "IsString": True}


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


def _any(*conditions: State) -> State:
    return either(*conditions) if len(conditions) > 1 else conditions[0]


def _all(*conditions: State) -> State:
    return {"And": list(conditions)} if len(conditions) > 1 else conditions[0]
