"""What starts a run when a batch is said to be complete: writing ``images/<batch>/_READY``.

One run per batch at a time, and one per write of the marker, whatever the order, the number and
the moment in which events arrive. Execution names carry that: the runs of a batch are named
``<batch>.1``, ``<batch>.2`` and so on, and Step Functions gives a name out once. Whoever finds the
next name taken looks at who took it. A run still going on, or one that answered this very write,
means that there is nothing to do; a finished one means that the next number is to be tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import ArnFormat, Stack
from constructs import Construct

from spark_job.contract import IMAGES, READY, run_folder
from spark_job.run_input import NAME_IN_WORDS
from stacks.batch.run_input import is_name, measure_name
from stacks.states import (
    RETRY_BRIEFLY,
    catch,
    format_string,
    make_state_machine,
    notify_failure,
    record_failure,
    service,
    start_when_written,
)

if TYPE_CHECKING:
    from aws_cdk import aws_s3, aws_sns, aws_sqs
    from aws_cdk import aws_stepfunctions as sfn

    from stacks.config import OrchardConfig
    from stacks.states import State, States


class Trigger(Construct):
    """Starts an execution for each marker written, unless one for its batch is running.

    Attributes
    ----------
    state_machine
        The state machine that answers the marker.
    definition
        What it was made of, in the Amazon States Language.
    executions
        What the ARNs of the started machine's executions begin with.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        state_machine: sfn.StateMachine,
        bucket: aws_s3.IBucket,
        topic: aws_sns.ITopic,
        undelivered: aws_sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        self.executions = Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{state_machine.state_machine_name}:",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        self.definition: State = {
            "Comment": "Starts the run of a batch that is said to be complete.",
            "StartAt": "ReadMarker",
            "TimeoutSeconds": 3600,
            "States": {
                **_read_marker(),
                **_name_run(bucket),
                **_start_run(state_machine, self.executions),
                **notify_failure(topic, "Orchard: a batch was not started"),
            },
        }
        self.state_machine = make_state_machine(
            self, name="Trigger", definition=self.definition, config=config
        )
        start_when_written(
            self,
            "MarkerWritten",
            self.state_machine,
            undelivered,
            bucket=bucket,
            key=f"{IMAGES}/*/{READY}",
            description=f"A batch of images is complete: its {READY} marker was written.",
        )


def _read_marker() -> States:
    return {
        "ReadMarker": {
            "Type": "Pass",
            "Parameters": {
                # EventBridge gives the key as it is, unlike S3's older notifications.
                "key.$": "$.detail.object.key",
                "parts.$": "States.StringSplit($.detail.object.key, '/')",
                # Which write it was: an event that is delivered twice has both in common.
                "marker.$": format_string("{} {}", "$.time", "$.detail.object.sequencer"),
            },
            "Next": "CheckMarker",
        },
        "CheckMarker": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.parts[2]", "IsPresent": True},
                        {"Variable": "$.parts[3]", "IsPresent": False},
                    ],
                    "Next": "ReadBatch",
                }
            ],
            "Default": "TellBadMarker",
        },
        "ReadBatch": {
            "Type": "Pass",
            "Parameters": {
                "key.$": "$.key",
                "marker.$": "$.marker",
                "batch.$": "States.ArrayGetItem($.parts, 1)",
                "number": 1,
            },
            "Next": "MeasureBatch",
        },
        "MeasureBatch": {
            "Type": "Pass",
            "Parameters": {"batch.$": measure_name("$.batch")},
            "ResultPath": "$.checks",
            "Next": "CheckBatch",
        },
        "CheckBatch": {
            "Type": "Choice",
            "Choices": [{**is_name("$.batch", "$.checks.batch"), "Next": "NameRun"}],
            "Default": "TellBadMarker",
        },
        "TellBadMarker": record_failure(
            "NotifyFailure",
            "MarkerRefused",
            "The marker {} starts nothing; allowed is"
            f" {IMAGES}/<batch>/{READY}, where <batch> is up to 64 {NAME_IN_WORDS}; rename the"
            " folder and write the marker again.",
            "$.key",
        ),
    }


def _name_run(bucket: aws_s3.IBucket) -> States:
    return {
        "NameRun": {
            "Type": "Pass",
            "Parameters": {
                "key.$": "$.key",
                "marker.$": "$.marker",
                "batch.$": "$.batch",
                "number.$": "$.number",
                "name.$": format_string("{}.{}", "$.batch", "$.number"),
                "input": {"batch.$": "$.batch", "marker.$": "$.marker"},
            },
            "Next": "WriteInput",
        },
        "WriteInput": {
            "Type": "Pass",
            "Parameters": {"text.$": "States.JsonToString($.input)"},
            "ResultPath": "$.input",
            "Next": "LookForResults",
        },
        # Step Functions forgets a name after 90 days; what was settled under it stays, and is never
        # written over, not even if its settling was cut short: any file there takes the name. A run
        # that settled nothing leaves the name free once it is forgotten, when nothing else is left
        # of it: what lay in its work folder has expired long before.
        "LookForResults": {
            "Type": "Task",
            "Resource": service("aws-sdk:s3:listObjectsV2"),
            "Parameters": {
                "Bucket": bucket.bucket_name,
                "Prefix.$": format_string(f"{run_folder('{}', '{}')}/", "$.batch", "$.name"),
                "MaxKeys": 1,
            },
            "ResultSelector": {"files.$": "$.KeyCount"},
            "ResultPath": "$.results",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("TellNotStarted"),
            "Next": "AreThereResults",
        },
        "AreThereResults": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.results.files", "NumericEquals": 0, "Next": "StartRun"}],
            "Default": "DescribeRun",
        },
        "CountRun": {
            "Type": "Pass",
            "Parameters": {
                "key.$": "$.key",
                "marker.$": "$.marker",
                "batch.$": "$.batch",
                "number.$": "States.MathAdd($.number, 1)",
            },
            "Next": "NameRun",
        },
    }


def _start_run(started: sfn.IStateMachine, executions: str) -> States:
    return {
        "StartRun": {
            "Type": "Task",
            "Resource": service("aws-sdk:sfn:startExecution"),
            "Parameters": {
                "StateMachineArn": started.state_machine_arn,
                "Name.$": "$.name",
                "Input.$": "$.input.text",
            },
            "ResultPath": None,
            # The same name with the same input starts nothing twice, so it may be retried.
            "Retry": [
                {"ErrorEquals": ["Sfn.ExecutionAlreadyExistsException"], "MaxAttempts": 0},
                *RETRY_BRIEFLY,
            ],
            "Catch": catch("DescribeRun"),
            "Next": "Started",
        },
        "DescribeRun": {
            "Type": "Task",
            "Resource": service("aws-sdk:sfn:describeExecution"),
            "Parameters": {"ExecutionArn.$": format_string("{}{}", f"'{executions}'", "$.name")},
            "ResultSelector": {"status.$": "$.Status", "input.$": "$.Input"},
            "ResultPath": "$.taken",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("WasItRefused", "$.unknown"),
            "Next": "WhoTookTheName",
        },
        "WhoTookTheName": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.taken.status", "StringEquals": "RUNNING", "Next": "AlreadyRunning"},
                {
                    # Started for this very write, by an event that is now delivered again.
                    "Variable": "$.taken.input",
                    "StringEqualsPath": "$.input.text",
                    "Next": "AlreadyAnswered",
                },
            ],
            "Default": "CountRun",
        },
        "WasItRefused": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.error", "IsPresent": True, "Next": "TellNotStarted"}],
            # Results without an execution are those of a run whose name was forgotten.
            "Default": "CountRun",
        },
        "TellNotStarted": record_failure(
            "NotifyFailure",
            "RunNotStarted",
            "Batch {} was not started ({}); write {} again to try again.",
            "$.batch",
            "$.error.Cause",
            "$.key",
        ),
        "Started": {"Type": "Succeed"},
        "AlreadyRunning": {"Type": "Succeed"},
        "AlreadyAnswered": {"Type": "Succeed"},
    }
