"""The state machine that runs one batch: check, create a cluster, run the job, end the cluster.

    CheckInput -> CheckImages -> CreateCluster -> RunJob -> TerminateCluster -> NotifySuccess

with a way from every state to words about what failed, and from every state after the cluster's
creation through its termination. `docs/state-machine.svg` is drawn from what this module makes.

The tests run it in moto's interpreter and hold its calls against AWS's own models. What neither
shows, such as the texts of EMR's errors, is from AWS's documentation and not tried on AWS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from constructs import Construct

from spark_job.contract import EXTENSIONS, run_folder
from stacks.batch.run_input import check_input
from stacks.emr.cluster import Cluster
from stacks.emr.creation import create_cluster
from stacks.emr.failures import describe_failure
from stacks.states import (
    RETRY_BRIEFLY,
    RETRY_PATIENTLY,
    catch,
    format_string,
    make_state_machine,
    notify_failure,
    record_failure,
    service,
)

if TYPE_CHECKING:
    from aws_cdk import aws_s3, aws_sns

    from stacks.artifacts import Artifacts
    from stacks.config import OrchardConfig
    from stacks.identity import Identity
    from stacks.network import Network
    from stacks.states import State, States
    from stacks.storage import Storage

_LOOKED_AT: Final = 100
"""Names that the image check lists: enough to find an image, small enough for a state."""


class Workflow(Construct):
    """The state machine of a stack's batches.

    An execution's input is ``{"batch": "2026-11-20"}`` and whatever of
    :func:`stacks.batch.run_input.input_fields` it says differently from the deployment. The
    execution's name is the run's.

    Attributes
    ----------
    state_machine
        The state machine.
    definition
        What it was made of, in the Amazon States Language.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        storage: Storage,
        artifacts: Artifacts,
        identity: Identity,
        network: Network,
        topic: aws_sns.ITopic,
    ) -> None:
        super().__init__(scope, construct_id)
        cluster = Cluster(
            self,
            "Cluster",
            config=config,
            storage=storage,
            artifacts=artifacts,
            identity=identity,
            network=network,
        )
        states: States = {
            **check_input(config, then="CheckImages", refused="NotifyFailure"),
            **_check_images(storage.data),
            **create_cluster(config, cluster.request, then="RunJob"),
            **_run_job(config, _arguments(artifacts, storage.data)),
            **describe_failure(
                config, data=storage.data, logs=storage.logs, then="TerminateFailedCluster"
            ),
            **_terminate_failed_cluster(config),
            **_notify_success(topic, storage.data),
            **notify_failure(topic, "Orchard: a batch failed"),
        }
        self.definition: State = {
            "Comment": "Runs one batch of images on a cluster of its own.",
            "StartAt": "CheckInput",
            "TimeoutSeconds": 60 * config.execution_timeout_minutes,
            "States": states,
        }
        self.state_machine = make_state_machine(
            self, name="Workflow", definition=self.definition, config=config
        )


def _check_images(data: aws_s3.IBucket) -> States:
    listing = "$.listing.text"
    return {
        "CheckImages": {
            "Type": "Task",
            "Resource": service("aws-sdk:s3:listObjectsV2"),
            "Parameters": {
                "Bucket": data.bucket_name,
                "Prefix.$": "$.settings.images",
                "MaxKeys": _LOOKED_AT,
            },
            # As text, which can be searched for a suffix; the marker and folders have none.
            "ResultSelector": {
                "text.$": "States.JsonToString($)",
                "more.$": "$.IsTruncated",
            },
            "ResultPath": "$.listing",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("TellImagesUnreadable"),
            "Next": "AreThereImages",
        },
        "AreThereImages": {
            "Type": "Choice",
            "Choices": [
                {
                    "Or": [
                        *(
                            {"Variable": listing, "StringMatches": f"*.{suffix}*"}
                            for lower in EXTENSIONS
                            for suffix in (lower, lower.upper())
                        ),
                        # No image among the first names proves nothing: the job lists them all.
                        {"Variable": "$.listing.more", "BooleanEquals": True},
                    ],
                    "Next": "ChooseCapacity",
                }
            ],
            "Default": "TellNoImages",
        },
        "TellNoImages": record_failure(
            "NotifyFailure",
            "NoImages",
            "Batch {} has no images: s3://{}/{} holds none that is taken"
            f" ({', '.join(EXTENSIONS)}; no HEIC, no raw files); put them under a folder for each"
            " label there, and then start the batch again.",
            "$.settings.batch",
            f"'{data.bucket_name}'",
            "$.settings.images",
        ),
        "TellImagesUnreadable": record_failure(
            "NotifyFailure",
            "ImagesUnreadable",
            "Batch {} was not started, for s3://{}/{} cannot be listed: {}",
            "$.settings.batch",
            f"'{data.bucket_name}'",
            "$.settings.images",
            "$.error.Cause",
        ),
    }


def _run_job(config: OrchardConfig, arguments: str) -> States:
    return {
        "RunJob": {
            "Type": "Task",
            # Steps may be added while the cluster starts; the wait is for both.
            "Resource": service("elasticmapreduce:addStep.sync"),
            "Parameters": {
                "ClusterId.$": "$.cluster.id",
                "Step": {
                    "Name.$": format_string("Batch {}", "$.settings.batch"),
                    # The cluster stays for the failure to be described; this machine ends it.
                    "ActionOnFailure": "CONTINUE",
                    "HadoopJarStep": {"Jar": "command-runner.jar", "Args.$": arguments},
                },
            },
            "TimeoutSeconds": 60 * config.job_timeout_minutes,
            "ResultPath": None,
            "Catch": catch("DescribeFailure"),
            "Next": "TerminateCluster",
        },
        "TerminateCluster": {
            **_terminate(),
            "Catch": catch("TellClusterLeft"),
            "Next": "NotifySuccess",
        },
        "TellClusterLeft": record_failure(
            "NotifyFailure",
            "ClusterNotTerminated",
            "Batch {} is done and published, but its cluster {} could not be terminated ({}). It is"
            f" paid for until the janitor ends it, or itself after {config.idle_timeout_minutes}"
            " idle minutes; to be sure, run: aws emr terminate-clusters --cluster-ids {}",
            "$.settings.batch",
            "$.cluster.id",
            "$.error.Cause",
            "$.cluster.id",
        ),
    }


def _arguments(artifacts: Artifacts, data: aws_s3.IBucket) -> str:
    """Return the step's command line, whose reader is `spark_job.settings`."""
    bucket = f"'{data.bucket_name}'"
    command = (
        "'spark-submit'",
        # The driver lives in a container of its own, whose log YARN collects and whose memory
        # NodeShape reckons with.
        "'--deploy-mode'",
        "'cluster'",
        "'--name'",
        format_string("orchard {} {}", "$.settings.batch", "$.run"),
        "'--py-files'",
        f"'{artifacts.job_zip_uri}'",
        f"'{artifacts.entry_point_uri}'",
        "'--images'",
        format_string("s3://{}/{}", bucket, "$.settings.images"),
        "'--output'",
        format_string("s3://{}", bucket),
        "'--batch'",
        "$.settings.batch",
        "'--run'",
        "$.run",
        "'--pca'",
        "$.settings.pca",
        "'--variance'",
        format_string("{}", "$.settings.variance"),
        "'--max-reject-rate'",
        format_string("{}", "$.settings.max_reject_rate"),
    )
    return f"States.Array({', '.join(command)})"


def _terminate_failed_cluster(config: OrchardConfig) -> States:
    return {
        "TerminateFailedCluster": {
            **_terminate(),
            "Catch": catch("TellFailedClusterLeft"),
            "Next": "NotifyFailure",
        },
        "TellFailedClusterLeft": record_failure(
            "NotifyFailure",
            "ClusterNotTerminated",
            "{} Moreover, cluster {} could not be terminated ({}). It is paid for until the janitor"
            f" ends it, or itself after {config.idle_timeout_minutes} idle minutes; to be sure,"
            " run: aws emr terminate-clusters --cluster-ids {}",
            "$.failure.message",
            "$.cluster.id",
            "$.error.Cause",
            "$.cluster.id",
        ),
    }


def _terminate() -> State:
    # Terminating a cluster twice, or one that has ended, is no error: it may be retried at will.
    return {
        "Type": "Task",
        "Resource": service("elasticmapreduce:terminateCluster"),
        "Parameters": {"ClusterId.$": "$.cluster.id"},
        "ResultPath": None,
        "Retry": RETRY_PATIENTLY,
    }


def _notify_success(topic: aws_sns.ITopic, data: aws_s3.IBucket) -> States:
    results = format_string(
        f"s3://{{}}/{run_folder('{}', '{}')}/",
        f"'{data.bucket_name}'",
        "$.settings.batch",
        "$.run",
    )
    return {
        "NotifySuccess": {
            "Type": "Task",
            "Resource": service("sns:publish"),
            "Parameters": {
                "TopicArn": topic.topic_arn,
                "Subject": "Orchard: a batch is published",
                "Message.$": format_string(
                    "Batch {} is published: {}", "$.settings.batch", results
                ),
            },
            "ResultPath": None,
            "Retry": RETRY_BRIEFLY,
            # A published batch is a success, whether or not anyone could be told.
            "Catch": catch("Done"),
            "Next": "Done",
        },
        "Done": {
            "Type": "Pass",
            "Parameters": {"batch.$": "$.settings.batch", "run.$": "$.run", "results.$": results},
            "End": True,
        },
    }
