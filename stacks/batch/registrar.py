"""What keeps Athena's partitions with the pointers: started by every write of a `current.json`.

Events may come late, twice, or in another order than the writes. So an event only says which batch
to look at: the partitions go where the pointer says at that moment, and where it has moved on
meanwhile, they follow. Nothing is undone when Glue refuses: the run stays published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from constructs import Construct

from spark_job.contract import CURRENT, RESULTS, results_folder, run_folder
from stacks.batch.catalog import TABLES, storage_descriptor
from stacks.states import (
    RETRY_BRIEFLY,
    RETRY_PATIENTLY,
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

    from stacks.batch.catalog import Catalog
    from stacks.config import OrchardConfig
    from stacks.states import State, States

_ROUNDS: Final = 10
_TELL_AGAIN: Final = (
    "When that is mended, run: aws s3 cp s3://{}/{} s3://{}/{} --metadata-directive REPLACE"
)


class Registrar(Construct):
    """Points a batch's partitions at its published run.

    Attributes
    ----------
    state_machine
        The registrar.
    definition
        What it was made of, in the Amazon States Language.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        bucket: aws_s3.IBucket,
        catalog: Catalog,
        topic: aws_sns.ITopic,
        undelivered: aws_sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        self.definition: State = {
            "Comment": "Points the partitions of a batch at its published run.",
            "StartAt": "ReadEvent",
            "TimeoutSeconds": 3600,
            "States": {
                **_read_pointer(bucket),
                **_point_partitions(bucket, catalog.database),
                **_look_again(bucket),
                **notify_failure(topic, "Orchard: Athena does not see a batch"),
            },
        }
        self.state_machine = make_state_machine(
            self, name="Registrar", definition=self.definition, config=config
        )
        start_when_written(
            self,
            "PointerWritten",
            self.state_machine,
            undelivered,
            bucket=bucket,
            key=f"{RESULTS}/*/{CURRENT}",
            description="Another run of a batch is published.",
        )


def _read_pointer(bucket: aws_s3.IBucket) -> States:
    return {
        "ReadEvent": {
            "Type": "Pass",
            "Parameters": {
                "parts.$": "States.StringSplit($.detail.object.key, '/')",
                "key.$": "$.detail.object.key",
                "rounds": {"count": 0},
            },
            "Next": "IsItAPointer",
        },
        "IsItAPointer": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.parts[2]", "IsPresent": True},
                        {"Variable": "$.parts[3]", "IsPresent": False},
                    ],
                    "Next": "ReadPointer",
                }
            ],
            # Something below a batch's folder has the pointer's name.
            "Default": "NoPointer",
        },
        "NoPointer": {"Type": "Succeed"},
        "ReadPointer": {
            **_get(bucket),
            "ResultPath": "$.pointer",
            "Catch": catch("TellUnreadable"),
            "Next": "HasItARun",
        },
        "HasItARun": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.pointer.read.run", "IsPresent": True},
                        {"Variable": "$.pointer.read.run", "IsString": True},
                    ],
                    "Next": "PointPartitions",
                }
            ],
            "Default": "TellNoRun",
        },
        "TellUnreadable": record_failure(
            "NotifyFailure",
            "PointerUnreadable",
            "Athena does not see what batch {} published, for its pointer {} cannot be read ({})."
            f" {_TELL_AGAIN}",
            "States.ArrayGetItem($.parts, 1)",
            "$.key",
            "$.error.Cause",
            *_pointer(bucket),
        ),
        "TellNoRun": record_failure(
            "NotifyFailure",
            "PointerUnreadable",
            "Athena does not see what batch {} published, for its pointer {} names no run. Start"
            " the batch again, which writes it anew.",
            "States.ArrayGetItem($.parts, 1)",
            "$.key",
        ),
    }


def _point_partitions(bucket: aws_s3.IBucket, database: str) -> States:
    def task(action: str, **parameters: object) -> State:
        return {
            "Type": "Task",
            "Resource": service(f"aws-sdk:glue:{action}"),
            "Parameters": {
                "DatabaseName": database,
                "TableName.$": "$.table.name",
                **parameters,
                "PartitionInput": {
                    "Values.$": "States.Array($.batch)",
                    "StorageDescriptor": storage_descriptor("$.table.columns", "$.location.uri"),
                },
            },
            "ResultPath": None,
        }

    update = task("updatePartition", **{"PartitionValueList.$": "States.Array($.batch)"})
    return {
        "PointPartitions": {
            "Type": "Pass",
            "Parameters": {
                "key.$": "$.key",
                "parts.$": "$.parts",
                "pointer.$": "$.pointer",
                "rounds.$": "$.rounds",
                "tables": [
                    {"name": table.name, "folder": table.folder, "columns": table.glue_columns}
                    for table in TABLES
                ],
            },
            "Next": "ForEachTable",
        },
        "ForEachTable": {
            "Type": "Map",
            "ItemsPath": "$.tables",
            "MaxConcurrency": 1,
            "ItemSelector": {
                "table.$": "$$.Map.Item.Value",
                "batch.$": "States.ArrayGetItem($.parts, 1)",
                "run.$": "$.pointer.read.run",
            },
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "Locate",
                "States": {
                    "Locate": {
                        "Type": "Pass",
                        "Parameters": {
                            "uri.$": format_string(
                                f"s3://{{}}/{run_folder('{}', '{}')}/{{}}/",
                                f"'{bucket.bucket_name}'",
                                "$.batch",
                                "$.run",
                                "$.table.folder",
                            )
                        },
                        "ResultPath": "$.location",
                        "Next": "UpdatePartition",
                    },
                    # Whatever the error's name is: where there is no partition, one is made, and
                    # where Glue refuses, making one fails as well.
                    "UpdatePartition": {
                        **update,
                        "Catch": catch("CreatePartition"),
                        "End": True,
                    },
                    "CreatePartition": {
                        **task("createPartition"),
                        "Catch": catch("UpdatePartitionPatiently"),
                        "End": True,
                    },
                    # Another event may have made it in between.
                    "UpdatePartitionPatiently": {**update, "Retry": RETRY_PATIENTLY, "End": True},
                },
            },
            "ResultPath": None,
            "Catch": catch("TellRefused"),
            "Next": "ReadPointerAgain",
        },
        "TellRefused": record_failure(
            "NotifyFailure",
            "PartitionsRefused",
            "Athena does not see what batch {} published, which is all there: Glue refused ({})."
            f" {_TELL_AGAIN}",
            "States.ArrayGetItem($.parts, 1)",
            "$.error.Cause",
            *_pointer(bucket),
        ),
    }


def _pointer(bucket: aws_s3.IBucket) -> tuple[str, ...]:
    """Return the arguments of :data:`_TELL_AGAIN`."""
    return (f"'{bucket.bucket_name}'", "$.key") * 2


def _look_again(bucket: aws_s3.IBucket) -> States:
    return {
        "ReadPointerAgain": {
            **_get(bucket),
            "ResultPath": "$.now",
            "Catch": catch("Registered"),
            "Next": "HasItMoved",
        },
        "HasItMoved": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.now.read.run", "IsPresent": True},
                        {"Variable": "$.now.read.run", "StringEqualsPath": "$.pointer.read.run"},
                    ],
                    "Next": "Registered",
                },
                {
                    "Variable": "$.rounds.count",
                    "NumericGreaterThanEquals": _ROUNDS,
                    # Each of those writes has an event of its own.
                    "Next": "Registered",
                },
            ],
            "Default": "CountRound",
        },
        "CountRound": {
            "Type": "Pass",
            "Parameters": {"count.$": "States.MathAdd($.rounds.count, 1)"},
            "ResultPath": "$.rounds",
            "Next": "ReadPointer",
        },
        "Registered": {"Type": "Succeed"},
    }


def _get(bucket: aws_s3.IBucket) -> State:
    return {
        "Type": "Task",
        "Resource": service("aws-sdk:s3:getObject"),
        "Parameters": {
            "Bucket": bucket.bucket_name,
            "Key.$": format_string(
                f"{results_folder('{}')}/{CURRENT}", "States.ArrayGetItem($.parts, 1)"
            ),
        },
        "ResultSelector": {"read.$": "States.StringToJson($.Body)"},
        "Retry": RETRY_BRIEFLY,
    }
