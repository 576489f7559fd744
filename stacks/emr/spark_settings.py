"""Spark's and YARN's settings on a cluster, each value with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from spark_job.contract import NODE_PREFIX, SPARK_EVENTS

if TYPE_CHECKING:
    from aws_cdk import aws_s3

    from stacks.config import OrchardConfig

PYTHON: Final = f"{NODE_PREFIX}/bin/python"
"""The interpreter that the bootstrap action makes; driver and executors use it."""


def configurations(
    config: OrchardConfig, region: str, logs: aws_s3.IBucket
) -> list[dict[str, Any]]:
    """Return EMR's configurations; paths in them are into the state machine's data."""
    return [
        # Of the fleets that were chosen: see `stacks.emr.capacity`.
        {"Classification": "yarn-site", "Properties.$": "$.capacity.yarn"},
        {
            "Classification": "capacity-scheduler",
            "Properties": {
                # By memory alone, as NodeShape divides a node: counting vCPUs too, the driver's one
                # would leave no room for the executor beside it, and its node with nothing to do.
                "yarn.scheduler.capacity.resource-calculator": (
                    "org.apache.hadoop.yarn.util.resource.DefaultResourceCalculator"
                ),
            },
        },
        {"Classification": "core-site", "Properties": s3a(region)},
        {
            "Classification": "spark-defaults",
            "Properties": {**_spark(config, region), **_event_logs(logs)},
        },
    ]


def s3a(region: str) -> dict[str, str]:
    """Return what S3A, through which Spark fetches its code, must know in the stack's network.

    Left to itself it may ask for a bucket's region elsewhere, and the S3 endpoint of the network
    leads to the buckets of its own region only.
    """
    return {"fs.s3a.endpoint.region": region}


def _spark(config: OrchardConfig, region: str) -> dict[str, str]:
    return {
        # One executor per node and one task per vCPU: a task is one Python process that decodes
        # and infers on one core. The network is loaded once per process.
        "spark.executor.cores.$": "$.shape.cores",
        "spark.task.cpus": "1",
        "spark.executorEnv.OMP_NUM_THREADS": "1",
        # Java only passes part numbers and moments around.
        "spark.executor.memory.$": "$.shape.executor_heap",
        # The Python processes, one for each vCPU.
        "spark.executor.memoryOverhead.$": "$.shape.executor_python",
        # The driver merges moments (7 MB each, 32 at most) and solves the PCA in Python.
        "spark.driver.memory.$": "$.shape.driver_heap",
        "spark.driver.memoryOverhead.$": "$.shape.driver_python",
        # On Spot the driver starts on the node on demand; else there are no labels.
        "spark.yarn.am.nodeLabelExpression.$": "$.capacity.drivers_label",
        # The environment that the bootstrap action made, not the nodes' Python 3.9.
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": PYTHON,
        "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
        # The job's S3 client would take us-east-1, to which the network has no way.
        "spark.yarn.appMasterEnv.AWS_REGION": region,
        "spark.executorEnv.AWS_REGION": region,
        # YARN cannot tell a job that refused its batch from one that lost its node, and would run
        # both again, at full price. Starting over is the operator's choice.
        "spark.yarn.maxAppAttempts": "1",
        # A task may fail three times, for instance with S3 busy, before it fails the run.
        "spark.task.maxFailures": "4",
        # A part is written once; a second copy of a slow task would only double the reading.
        "spark.speculation": "false",
        # Between nodes and on their disks, encrypted with a secret that lives as long as the job.
        "spark.authenticate": "true",
        "spark.network.crypto.enabled": "true",
        "spark.io.encryption.enabled": "true",
        **(_elastic(config) if config.managed_scaling else _FIXED),
    }


def _event_logs(logs: aws_s3.IBucket) -> dict[str, str]:
    """Return what keeps the events of a run for Spark's history server, rolling while it runs.

    S3 shows a file when it is closed: rolled ones are there before the run has ended, or when it
    was cut short.
    """
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"s3://{logs.bucket_name}/{SPARK_EVENTS}",
        "spark.eventLog.rolling.enabled": "true",
        "spark.eventLog.rolling.maxFileSize": "10m",
        "spark.eventLog.compress": "true",
    }


# The cluster is the job's alone: take all of it at once and keep it. No shuffle outlives its
# executor, so the nodes' shuffle service has nothing to serve.
_FIXED: Final = {
    "spark.dynamicAllocation.enabled": "false",
    "spark.shuffle.service.enabled": "false",
    "spark.executor.instances.$": "States.Format('{}', $.settings.core_instances)",
}


def _elastic(config: OrchardConfig) -> dict[str, str]:
    # Waiting tasks ask for executors, and YARN's waiting containers are what EMR scales by.
    return {
        "spark.dynamicAllocation.enabled": "true",
        "spark.shuffle.service.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(config.managed_scaling_min_units),
        "spark.dynamicAllocation.maxExecutors": str(config.managed_scaling_max_units),
        "spark.dynamicAllocation.initialExecutors.$": (
            "States.Format('{}', $.settings.core_instances)"
        ),
    }
