"""Spark's and YARN's settings on a cluster, each value with its reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spark_job.contract import NODE_PREFIX
from stacks.knobs import refusal

if TYPE_CHECKING:
    from stacks.config import OrchardConfig

PYTHON: Final = f"{NODE_PREFIX}/bin/python"
"""The interpreter that the bootstrap action makes; driver and executors use it."""

_MIB: Final = 1024
_DRIVER_HEAP_MIB: Final = 2 * _MIB
_DRIVER_PYTHON_MIB: Final = 2 * _MIB
_EXECUTOR_HEAP_MIB: Final = 3 * _MIB // 2
# EC2's memory for each vCPU, by the first letter of the family.
_GIB_PER_VCPU: Final = {"c": 2, "m": 4, "r": 8}


def configurations(config: OrchardConfig, region: str) -> list[dict[str, Any]]:
    """Return EMR's configurations; paths in them are into the state machine's data."""
    node = NodeShape.of(config.core_types[0])
    return [
        {
            "Classification": "yarn-site",
            "Properties": {
                # Stated, and not left to EMR's table of types, because the executors fill it.
                "yarn.nodemanager.resource.memory-mb": str(node.yarn),
                "yarn.scheduler.maximum-allocation-mb": str(node.yarn),
                # The shuffle service of the nodes must ask for the secret that executors give.
                "spark.authenticate": "true",
            },
        },
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
        {"Classification": "spark-defaults", "Properties": _spark(config, node, region)},
    ]


def s3a(region: str) -> dict[str, str]:
    """Return what S3A, through which Spark fetches its code, must know in the stack's network.

    Left to itself it may ask for a bucket's region elsewhere, and the S3 endpoint of the network
    leads to the buckets of its own region only.
    """
    return {"fs.s3a.endpoint.region": region}


@dataclass(frozen=True)
class NodeShape:
    """How the memory of a core node is divided, in MiB.

    The images, the network and the PCA live in Python, so most of an executor's memory is
    overhead in Spark's terms, and its Java heap is small.
    """

    vcpus: int
    yarn: int
    executor_heap: int
    executor_python: int

    @classmethod
    def of(cls, instance_type: str) -> NodeShape:
        """Divide a node between one executor and, on whichever node it lands, the driver.

        Raises
        ------
        ConfigError
            For a type too small for the job, or whose name does not tell its memory.
        """
        found = re.fullmatch(r"([cmr])\w*\.(\d*)(x?large)", instance_type)
        if found is None or (found[3] == "large" and found[2]):
            raise refusal(
                "core_instance_types",
                instance_type,
                "types of the families c, m and r, whose memory is known, such as m5.xlarge",
            )
        vcpus = 2 if found[3] == "large" else 4 * int(found[2] or 1)
        # A quarter stays for the system and the daemons of EMR and HDFS.
        yarn = vcpus * _GIB_PER_VCPU[found[1]] * _MIB * 3 // 4
        python = yarn - _DRIVER_HEAP_MIB - _DRIVER_PYTHON_MIB - _EXECUTOR_HEAP_MIB
        if python < vcpus * _MIB:
            raise refusal(
                "core_instance_types",
                instance_type,
                "types with 1 GiB for each vCPU beside the driver, such as m5.xlarge",
            )
        return cls(vcpus, yarn, _EXECUTOR_HEAP_MIB, python)


def _spark(config: OrchardConfig, node: NodeShape, region: str) -> dict[str, str]:
    return {
        # One executor per node and one task per vCPU: a task is one Python process that decodes
        # and infers on one core. The network is loaded once per process.
        "spark.executor.cores": str(node.vcpus),
        "spark.task.cpus": "1",
        "spark.executorEnv.OMP_NUM_THREADS": "1",
        # Java only passes part numbers and moments around.
        "spark.executor.memory": f"{node.executor_heap}m",
        # The Python processes: each holds the network's runtime (300 MB), 64 megapixels decoded
        # (192 MB, twice while converting) and the files read ahead (128 MB).
        "spark.executor.memoryOverhead": f"{node.executor_python}m",
        # The driver merges moments (7 MB each, 32 at most) and solves the PCA in Python.
        "spark.driver.memory": f"{_DRIVER_HEAP_MIB}m",
        "spark.driver.memoryOverhead": f"{_DRIVER_PYTHON_MIB}m",
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
