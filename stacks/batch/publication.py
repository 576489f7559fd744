"""The states that tell a published batch: to people by mail, and to CloudWatch in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Aws

from spark_job.contract import NONE, REPORT, RUN, run_folder
from stacks import grants
from stacks.states import RETRY_BRIEFLY, catch, format_string, service

if TYPE_CHECKING:
    from aws_cdk import aws_s3, aws_sns

    from stacks.states import State, States

_COMPUTED: Final = "$.receipt.run.counts.computed"
_CARRIED_OVER: Final = "$.receipt.run.counts.carried_over"
_FEATURIZED: Final = "$.counted.featurized"
_COMPONENTS: Final = "$.receipt.run.model.k"

METRICS: Final = {
    "Images": (_FEATURIZED, "Count"),
    "Computed": (_COMPUTED, "Count"),
    "Rejects": ("$.receipt.run.counts.rejected", "Count"),
    "Unsupported": ("$.receipt.run.counts.unsupported", "Count"),
    "ImagesPerSecond": ("$.receipt.run.images_per_second", "Count/Second"),
    "JobSeconds": ("$.receipt.run.seconds.total", "Seconds"),
}
"""What a run's receipt has to say, and its units: CloudWatch's. A run has all images of its batch,
also those that it knew from before and did not compute."""

DOLLARS: Final = "$.receipt.run.dollars.estimate"
"""What only a run has that was told its prices."""

DOLLARS_METRIC: Final = "Dollars"

_READ: Final = (
    *(path for path, _ in METRICS.values() if path != _FEATURIZED),
    _CARRIED_OVER,
    _COMPONENTS,
)


def tell_published(topic: aws_sns.ITopic, data: aws_s3.IBucket) -> States:
    """Return the states from ``ReadReceipt`` on. None of them can fail a batch that is published.

    Parameters
    ----------
    topic
        Where to publish.
    data
        The bucket of the results.
    """
    results = format_string(
        f"s3://{{}}/{run_folder('{}', '{}')}/",
        f"'{data.bucket_name}'",
        "$.settings.batch",
        "$.run",
    )
    return {
        "ReadReceipt": {
            "Type": "Task",
            "Resource": service("aws-sdk:s3:getObject"),
            "Parameters": {
                "Bucket": data.bucket_name,
                "Key.$": format_string(
                    f"{run_folder('{}', '{}')}/{RUN}", "$.settings.batch", "$.run"
                ),
            },
            "ResultSelector": {"run.$": "States.StringToJson($.Body)"},
            "ResultPath": "$.receipt",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("NotifySuccessBriefly"),
            "Next": "IsReceiptWhole",
        },
        "IsReceiptWhole": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        condition
                        for path in _READ
                        for condition in (
                            {"Variable": path, "IsPresent": True},
                            {"Variable": path, "IsNumeric": True},
                        )
                    ],
                    "Next": "CountImages",
                }
            ],
            "Default": "NotifySuccessBriefly",
        },
        "CountImages": {
            "Type": "Pass",
            "Parameters": {"featurized.$": f"States.MathAdd({_COMPUTED}, {_CARRIED_OVER})"},
            "ResultPath": "$.counted",
            "Next": "PutMetrics",
        },
        "PutMetrics": {
            "Type": "Task",
            "Resource": service("aws-sdk:cloudwatch:putMetricData"),
            "Parameters": {
                "Namespace": grants.METRICS,
                "MetricData": [
                    {**_metric(name, path), "Unit": unit} for name, (path, unit) in METRICS.items()
                ],
            },
            "ResultPath": None,
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("AreThereDollars"),
            "Next": "AreThereDollars",
        },
        "AreThereDollars": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": DOLLARS, "IsPresent": True},
                        {"Variable": DOLLARS, "IsNumeric": True},
                    ],
                    "Next": "PutDollars",
                }
            ],
            "Default": "NoDollars",
        },
        "PutDollars": {
            "Type": "Task",
            "Resource": service("aws-sdk:cloudwatch:putMetricData"),
            "Parameters": {
                "Namespace": grants.METRICS,
                "MetricData": [{**_metric(DOLLARS_METRIC, DOLLARS), "Unit": "None"}],
            },
            "ResultPath": None,
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("ReadDollars"),
            "Next": "ReadDollars",
        },
        "ReadDollars": {
            "Type": "Pass",
            "Parameters": {"text.$": format_string("about {} dollars (an estimate)", DOLLARS)},
            "ResultPath": "$.cost",
            "Next": "NotifySuccess",
        },
        "NoDollars": {
            "Type": "Pass",
            "Result": {"text": "no price is known for its nodes"},
            "ResultPath": "$.cost",
            "Next": "NotifySuccess",
        },
        "NotifySuccess": _publish(
            topic,
            format_string(
                "Batch {} is published: {} images ({} computed, {} known from before), {} rejected,"
                " {} in formats that are not taken; {} components; {} s of job, {} images a second;"
                " {}. Results: {} (vectors, features and rejects are tables there, and in Athena;"
                f" {REPORT}, unless findings are {NONE}, shows what a person should look at)",
                "$.settings.batch",
                _FEATURIZED,
                _COMPUTED,
                _CARRIED_OVER,
                METRICS["Rejects"][0],
                METRICS["Unsupported"][0],
                _COMPONENTS,
                METRICS["JobSeconds"][0],
                METRICS["ImagesPerSecond"][0],
                "$.cost.text",
                results,
            ),
        ),
        "NotifySuccessBriefly": _publish(
            topic, format_string("Batch {} is published: {}", "$.settings.batch", results)
        ),
        "Done": {
            "Type": "Pass",
            "Parameters": {"batch.$": "$.settings.batch", "run.$": "$.run", "results.$": results},
            "End": True,
        },
    }


def _metric(name: str, path: str) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Dimensions": [{"Name": "Stack", "Value": Aws.STACK_NAME}],
        "Value.$": path,
    }


def _publish(topic: aws_sns.ITopic, message: str) -> State:
    parameters: dict[str, Any] = {
        "TopicArn": topic.topic_arn,
        "Subject": "Orchard: a batch is published",
        "Message.$": message,
    }
    return {
        "Type": "Task",
        "Resource": service("sns:publish"),
        "Parameters": parameters,
        "ResultPath": None,
        "Retry": RETRY_BRIEFLY,
        # A published batch is a success, whether or not anyone could be told.
        "Catch": catch("Done"),
        "Next": "Done",
    }
