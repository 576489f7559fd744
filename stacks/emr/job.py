"""The states that run the job as a step of a cluster, and that end the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_job.contract import SPARK_EVENTS
from stacks.emr.failures import was_throttled
from stacks.states import (
    RETRY_PATIENTLY,
    catch,
    format_string,
    record_failure,
    service,
)

if TYPE_CHECKING:
    from aws_cdk import aws_s3

    from stacks.config import OrchardConfig
    from stacks.states import State, States


def run_job(config: OrchardConfig, arguments: str, logs: aws_s3.IBucket, *, then: str) -> States:
    """Return the states from ``BeginJob`` on.

    Parameters
    ----------
    config
        The deployment's configuration.
    arguments
        The expression of the step's command line.
    logs
        The bucket of Spark's event logs.
    then
        The state that follows a job that succeeded, once its cluster is ended; another one's is
        ``DescribeFailure``.
    """
    return {
        "BeginJob": {
            "Type": "Pass",
            "Result": {"count": 0},
            "ResultPath": "$.throttled",
            "Next": "MakeEventFolder",
        },
        # Spark does not start without the folder of its event logs, and does not make it.
        "MakeEventFolder": {
            "Type": "Task",
            "Resource": service("aws-sdk:s3:putObject"),
            "Parameters": {"Bucket": logs.bucket_name, "Key": f"{SPARK_EVENTS}/", "Body": ""},
            "ResultPath": None,
            "Retry": RETRY_PATIENTLY,
            "Catch": catch("DescribeFailure"),
            "Next": "RunJob",
        },
        "RunJob": {
            "Type": "Task",
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
            # No Retry: it would run a job that failed a second time, at full price.
            "Catch": catch("WasStepThrottled"),
            "Next": "TerminateCluster",
        },
        **_add_step_again(),
        "TerminateCluster": {
            **_terminate(),
            "Catch": catch("TellClusterLeft"),
            "Next": then,
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


def _add_step_again() -> States:
    """Return what follows a RunJob that failed: again, where EMR turned it away unheard."""
    return {
        "WasStepThrottled": {
            "Type": "Choice",
            "Choices": [{**was_throttled(), "Next": "LookForStep"}],
            "Default": "DescribeFailure",
        },
        # What was throttled may have been a look at a step that runs: then there is one.
        "LookForStep": {
            "Type": "Task",
            "Resource": service("aws-sdk:emr:listSteps"),
            "Parameters": {"ClusterId.$": "$.cluster.id"},
            "ResultPath": "$.listed",
            "Retry": RETRY_PATIENTLY,
            "Catch": catch("DescribeFailure", "$.unread"),
            "Next": "IsThereAStep",
        },
        "IsThereAStep": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.listed.Steps[0]", "IsPresent": True, "Next": "DescribeFailure"}
            ],
            "Default": "WaitToAddStep",
        },
        "WaitToAddStep": {"Type": "Wait", "Seconds": 15, "Next": "CountStepAttempt"},
        "CountStepAttempt": {
            "Type": "Pass",
            "Parameters": {"count.$": "States.MathAdd($.throttled.count, 1)"},
            "ResultPath": "$.throttled",
            "Next": "RunJob",
        },
    }


def terminate_failed_cluster(config: OrchardConfig) -> States:
    """Return the states from ``TerminateFailedCluster`` on, which keep ``$.failure``."""
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
