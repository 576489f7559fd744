"""The states that name the unknown fields of an input, in a language that cannot list keys.

The input's JSON is split at its quotes, and of the words between them each is tried: it is one of
the input's keys when adding it as a key adds no field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stacks.states import neither, text

if TYPE_CHECKING:
    from stacks.states import States


def name_unknown_fields(allowed: list[str], *, then: str) -> States:
    """Return the states from ``ReadFields`` on, which leave the unknown fields in ``$.words``.

    Parameters
    ----------
    allowed
        The fields that are known.
    then
        The state that follows, with ``$.words[*].unknown``.
    """
    return {
        "ReadFields": {
            "Type": "Pass",
            "Parameters": {"input.$": "$.input", "fields.$": "$.input.*", "empty": ""},
            "Next": "SplitInput",
        },
        "SplitInput": {
            "Type": "Pass",
            "Parameters": {
                "input.$": "$.input",
                "fields.$": "States.ArrayLength($.fields)",
                # An empty text in JSON is two quotes: each is what to split at.
                "words.$": (
                    "States.StringSplit(States.JsonToString($.input), States.JsonToString($.empty))"
                ),
            },
            "Next": "FindUnknownFields",
        },
        "FindUnknownFields": {
            "Type": "Map",
            "ItemsPath": "$.words",
            "ItemSelector": {
                "word.$": "$$.Map.Item.Value",
                "input.$": "$.input",
                "fields.$": "$.fields",
                # A text in an expression cannot hold these, a field can.
                "before": "{",
                "after": ": 0}",
            },
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "AddWord",
                "States": {
                    "AddWord": {
                        "Type": "Pass",
                        "Parameters": {
                            "word.$": "$.word",
                            "fields.$": "$.fields",
                            "with_word.$": "States.JsonMerge($.input, States.StringToJson("
                            + text("{}{}{}", "$.before", "States.JsonToString($.word)", "$.after")
                            + "), false)",
                        },
                        "Next": "ReadFieldsWithWord",
                    },
                    "ReadFieldsWithWord": {
                        "Type": "Pass",
                        "Parameters": {
                            "word.$": "$.word",
                            "fields.$": "$.fields",
                            "fields_with_word.$": "$.with_word.*",
                        },
                        "Next": "CountFields",
                    },
                    "CountFields": {
                        "Type": "Pass",
                        "Parameters": {
                            "word.$": "$.word",
                            "fields.$": "$.fields",
                            "fields_with_word.$": "States.ArrayLength($.fields_with_word)",
                        },
                        "Next": "IsUnknownField",
                    },
                    "IsUnknownField": {
                        "Type": "Choice",
                        "Choices": [
                            {
                                "And": [
                                    {
                                        "Variable": "$.fields",
                                        "NumericEqualsPath": "$.fields_with_word",
                                    },
                                    neither(
                                        *(
                                            {"Variable": "$.word", "StringEquals": name}
                                            for name in allowed
                                        )
                                    ),
                                ],
                                "Next": "UnknownField",
                            }
                        ],
                        "Default": "NotAnUnknownField",
                    },
                    "UnknownField": {
                        "Type": "Pass",
                        "Parameters": {"unknown.$": "$.word"},
                        "End": True,
                    },
                    "NotAnUnknownField": {"Type": "Pass", "Result": {}, "End": True},
                },
            },
            "ResultPath": "$.words",
            "Next": then,
        },
    }
