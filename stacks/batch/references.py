"""The states that see whether what an input names is there: a manifest, corrections, a model.

The States Language cannot take a key out of a URI, nor match with a pattern that it computes. So a
URI is split at its slashes and put together again, for the depths that are usual; and a model is
looked for below every extractor, for an extractor's name has a hash that only the job knows. A
listing finds both, for it needs no right that the look for images does not. What these states
cannot see is left to the job, which refuses it on the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spark_job.contract import MODELS, NONE
from stacks.batch.run_input import REFUSED
from stacks.states import RETRY_BRIEFLY, catch, format_string, record_failure, service

if TYPE_CHECKING:
    from aws_cdk import aws_s3

    from stacks.states import State, States

_FILES: Final = ("manifest", "corrections")
_DEPTHS: Final = (2, 3, 4)
"""How many parts the keys have that are looked for: `images/a.csv` has two."""
_MISSING: Final = "FileNotThere"


def check_references(data: aws_s3.IBucket, *, then: str, unreadable: str) -> States:
    """Return the states from ``NameFiles`` on.

    Parameters
    ----------
    data
        The bucket in which files and models lie.
    then
        The state that follows where all that is named is there.
    unreadable
        The state that follows with ``$.error`` where the bucket cannot be listed.
    """
    return {
        **_check_files(data, then="IsAModelNamed", unreadable=unreadable),
        **_check_model(data, then=then, unreadable=unreadable),
    }


def _check_files(data: aws_s3.IBucket, *, then: str, unreadable: str) -> States:
    return {
        "NameFiles": {
            "Type": "Pass",
            "Parameters": {
                "uris.$": f"States.Array({', '.join(f'$.settings.{name}' for name in _FILES)})"
            },
            "ResultPath": "$.files",
            "Next": "LookForFiles",
        },
        "LookForFiles": {
            "Type": "Map",
            "ItemsPath": "$.files.uris",
            "MaxConcurrency": 1,
            "ItemSelector": {"uri.$": "$$.Map.Item.Value"},
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "IsAFileNamed",
                "States": _look_for_file(data),
            },
            "ResultPath": None,
            "Catch": catch("IsAFileMissing"),
            "Next": then,
        },
        "IsAFileMissing": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.error.Error", "StringEquals": _MISSING, "Next": "TellNoFile"}
            ],
            "Default": unreadable,
        },
        "TellNoFile": record_failure(
            "NotifyFailure",
            REFUSED,
            "Batch {} was not started, for {} is not there: upload it, or correct its name, and"
            " start the batch again.",
            "$.settings.batch",
            "$.error.Cause",
        ),
    }


def _look_for_file(data: aws_s3.IBucket) -> States:
    left_to_the_job = "NothingToLookFor"
    # A URI's first two parts are its scheme and its bucket.
    depths = [
        {"Variable": f"$.parts[{depth + 1}]", "IsPresent": True, "Next": _namer(depth)}
        for depth in reversed(_DEPTHS)
    ]
    deeper: State = {
        "Variable": f"$.parts[{_DEPTHS[-1] + 2}]",
        "IsPresent": True,
        "Next": left_to_the_job,
    }
    return {
        "IsAFileNamed": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.uri", "StringEquals": NONE, "Next": left_to_the_job},
                # Splitting would lose an empty part.
                {"Variable": "$.uri", "StringMatches": "s3://*//*", "Next": left_to_the_job},
            ],
            "Default": "SplitUri",
        },
        "NothingToLookFor": {"Type": "Succeed"},
        "SplitUri": {
            "Type": "Pass",
            "Parameters": {"uri.$": "$.uri", "parts.$": "States.StringSplit($.uri, '/')"},
            "Next": "HowDeepIsIt",
        },
        "HowDeepIsIt": {
            "Type": "Choice",
            "Choices": [deeper, *depths],
            "Default": left_to_the_job,
        },
        **{_namer(depth): _name_key(depth) for depth in _DEPTHS},
        "FindFile": {
            **_list(data, "$.key.name"),
            "ResultPath": "$.listing",
            "Retry": RETRY_BRIEFLY,
            "Next": "IsThereAKey",
        },
        "IsThereAKey": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.listing.Contents[0]", "IsPresent": True, "Next": "TakeKey"}
            ],
            "Default": "FileIsMissing",
        },
        "TakeKey": {
            "Type": "Pass",
            "Parameters": {"object.$": "States.ArrayGetItem($.listing.Contents, 0)"},
            "ResultPath": "$.first",
            "Next": "IsItThere",
        },
        "IsItThere": {
            "Type": "Choice",
            "Choices": [
                {
                    # The first key with a name as its prefix is that name itself, if it is one.
                    "Variable": "$.first.object.Key",
                    "StringEqualsPath": "$.key.name",
                    "Next": "FileIsThere",
                }
            ],
            "Default": "FileIsMissing",
        },
        "FileIsThere": {"Type": "Succeed"},
        "FileIsMissing": {"Type": "Fail", "Error": _MISSING, "CausePath": "$.uri"},
    }


def _namer(depth: int) -> str:
    return f"NameKeyOf{depth}Parts"


def _name_key(depth: int) -> State:
    parts = (f"States.ArrayGetItem($.parts, {number + 2})" for number in range(depth))
    return {
        "Type": "Pass",
        "Parameters": {"name.$": format_string("/".join(["{}"] * depth), *parts)},
        "ResultPath": "$.key",
        "Next": "FindFile",
    }


def _check_model(data: aws_s3.IBucket, *, then: str, unreadable: str) -> States:
    prefixes = "$.extractors.CommonPrefixes"
    return {
        "IsAModelNamed": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.settings.model", "StringEquals": NONE, "Next": then}],
            "Default": "ListExtractors",
        },
        "ListExtractors": {
            "Type": "Task",
            "Resource": service("aws-sdk:s3:listObjectsV2"),
            "Parameters": {
                "Bucket": data.bucket_name,
                "Prefix": f"{MODELS}/",
                "Delimiter": "/",
            },
            "ResultPath": "$.extractors",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch(unreadable),
            "Next": "AreThereModels",
        },
        "AreThereModels": {
            "Type": "Choice",
            "Choices": [{"Variable": f"{prefixes}[0]", "IsPresent": True, "Next": "LookForModel"}],
            "Default": "TellNoModel",
        },
        "LookForModel": {
            "Type": "Map",
            "ItemsPath": prefixes,
            "MaxConcurrency": 1,
            "ItemSelector": {
                "extractor.$": "$$.Map.Item.Value.Prefix",
                "model.$": "$.settings.model",
            },
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "FindModel",
                "States": {
                    "FindModel": {
                        # As a prefix, for a model may be named by its first digits.
                        **_list(data, format_string("{}{}", "$.extractor", "$.model")),
                        "ResultSelector": {"count.$": "$.KeyCount"},
                        "Retry": RETRY_BRIEFLY,
                        "End": True,
                    }
                },
            },
            "ResultPath": "$.found",
            "Catch": catch(unreadable),
            "Next": "CountModels",
        },
        "CountModels": {
            "Type": "Pass",
            "Parameters": {"any.$": "States.ArrayContains($.found[*].count, 1)"},
            "ResultPath": "$.models",
            "Next": "IsThereAModel",
        },
        "IsThereAModel": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.models.any", "BooleanEquals": True, "Next": then}],
            "Default": "TellNoModel",
        },
        "TellNoModel": record_failure(
            "NotifyFailure",
            REFUSED,
            f"Batch {{}} was not started, for s3://{{}}/{MODELS}/ has no model {{}}; start it again"
            " with one that orchard models list shows.",
            "$.settings.batch",
            f"'{data.bucket_name}'",
            "$.settings.model",
        ),
    }


def _list(data: aws_s3.IBucket, prefix: str) -> State:
    return {
        "Type": "Task",
        "Resource": service("aws-sdk:s3:listObjectsV2"),
        "Parameters": {"Bucket": data.bucket_name, "Prefix.$": prefix, "MaxKeys": 1},
    }
