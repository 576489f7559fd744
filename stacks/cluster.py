"""The EMR cluster of one execution, as the request that creates it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Stack, aws_emr
from constructs import Construct

from stacks.config import cluster_name_prefix, cluster_tags
from stacks.identity import EMR_LOGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_kms

    from stacks.artifacts import Artifacts
    from stacks.config import OrchardConfig
    from stacks.identity import Identity
    from stacks.network import Network
    from stacks.storage import Storage

PYTHON: Final = "/opt/orchard/bin/python"
"""The interpreter that the bootstrap action makes; driver and executors use it."""

_MIB: Final = 1024
_DRIVER_HEAP_MIB: Final = 2 * _MIB
_DRIVER_PYTHON_MIB: Final = 2 * _MIB
_EXECUTOR_HEAP_MIB: Final = 3 * _MIB // 2
# EC2's memory for each vCPU, by the first letter of the family.
_GIB_PER_VCPU: Final = {"c": 2, "m": 4, "r": 8}


class Cluster(Construct):
    """What the clusters of a stack have in common, and the request that creates one.

    Attributes
    ----------
    request
        EMR's RunJobFlow, in the words of its API. What an execution may choose comes by JSONPath:
        ``$.run``, ``$.settings`` and ``$.capacity`` (see :func:`capacity`).
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
    ) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        security = aws_emr.CfnSecurityConfiguration(
            self, "Security", security_configuration=security_configuration(storage.key)
        )
        tags = cluster_tags(stack.stack_name, config)
        self.request: dict[str, Any] = {
            # The janitor finds the cluster of an execution that is gone by this name.
            "Name.$": f"States.Format('{cluster_name_prefix(stack.stack_name)}{{}}', $.run)",
            "ReleaseLabel": config.emr_release,
            "Applications": [{"Name": "Spark"}],
            "ServiceRole": identity.service_role.role_arn,
            "JobFlowRole": identity.instance_profile.ref,
            "SecurityConfiguration": security.ref,
            "LogUri": f"s3://{storage.logs.bucket_name}/{EMR_LOGS}",
            "Instances": {
                # The step comes after the cluster, and the state machine ends the cluster itself.
                "KeepJobFlowAliveWhenNoSteps": True,
                # Protection would only stand in the way of every net that ends a cluster.
                "TerminationProtected": False,
                # EMR takes the subnet that can give the whole fleet.
                "Ec2SubnetIds": network.subnet_ids,
                "EmrManagedMasterSecurityGroup": network.primary_group.security_group_id,
                "EmrManagedSlaveSecurityGroup": network.core_group.security_group_id,
                "ServiceAccessSecurityGroup": network.service_group.security_group_id,
                "InstanceFleets": [
                    {
                        "Name": "Primary",
                        "InstanceFleetType": "MASTER",
                        # Never on Spot: losing it loses the cluster.
                        "TargetOnDemandCapacity": 1,
                        "InstanceTypeConfigs": [_instances(config.primary_type, config)],
                    },
                    {
                        "Name": "Core",
                        "InstanceFleetType": "CORE",
                        "TargetOnDemandCapacity.$": "$.capacity.on_demand",
                        "TargetSpotCapacity.$": "$.capacity.spot",
                        "InstanceTypeConfigs.$": "$.capacity.instances",
                        "LaunchSpecifications.$": "$.capacity.launch",
                    },
                ],
            },
            # One job for one cluster: what it may use is what the settings below divide.
            "StepConcurrencyLevel": 1,
            # The second net: a cluster that nothing terminated ends itself.
            "AutoTerminationPolicy": {"IdleTimeout": 60 * config.idle_timeout_minutes},
            # A node that scaling takes away ends its tasks first.
            "ScaleDownBehavior": "TERMINATE_AT_TASK_COMPLETION",
            # Room for the Python environment beside the system.
            "EbsRootVolumeSize": 32,
            "BootstrapActions": [
                {
                    "Name": "Install the job's Python packages",
                    "ScriptBootstrapAction": {
                        "Path": artifacts.bootstrap_uri,
                        "Args": [artifacts.wheelhouse_uri],
                    },
                }
            ],
            "Configurations": _configurations(config, stack.region),
            "Tags": [
                *({"Key": key, "Value": value} for key, value in tags.items()),
                {"Key": "orchard-batch", "Value.$": "$.settings.batch"},
                {"Key": "orchard-run", "Value.$": "$.run"},
            ],
        }
        if config.managed_scaling:
            self.request["ManagedScalingPolicy"] = {
                "ComputeLimits": {
                    "UnitType": "InstanceFleetUnits",
                    "MinimumCapacityUnits": config.managed_scaling_min_units,
                    "MaximumCapacityUnits": config.managed_scaling_max_units,
                }
            }


def capacity(config: OrchardConfig, *, spot: bool, instance_types: Sequence[str]) -> dict[str, Any]:
    """Return the core fleet's capacity, which :attr:`Cluster.request` reads from ``$.capacity``.

    Parameters
    ----------
    config
        The deployment's configuration.
    spot
        Whether the nodes are Spot ones.
    instance_types
        The types that EMR chooses from; one that begins with ``$`` is a JSONPath.
    """
    asked, none = ("spot", "on_demand") if spot else ("on_demand", "spot")
    return {
        f"{asked}.$": "$.settings.core_instances",
        none: 0,
        "instances": [_instances(instance_type, config) for instance_type in instance_types],
        "launch": _SPOT if spot else _ON_DEMAND,
    }


_ON_DEMAND: Final = {"OnDemandSpecification": {"AllocationStrategy": "lowest-price"}}
_SPOT: Final = {
    "SpotSpecification": {
        # The cheapest of the pools that are unlikely to be taken back.
        "AllocationStrategy": "price-capacity-optimized",
        "TimeoutDurationMinutes": 15,
        # A batch that costs more is better than one that never runs.
        "TimeoutAction": "SWITCH_TO_ON_DEMAND",
    }
}


def _instances(instance_type: str, config: OrchardConfig) -> dict[str, Any]:
    name = "InstanceType.$" if instance_type.startswith("$") else "InstanceType"
    return {
        name: instance_type,
        # All types of a fleet are of one size, so a unit of capacity is one node.
        "WeightedCapacity": 1,
        "EbsConfiguration": {
            "EbsBlockDeviceConfigs": [
                {
                    "VolumeSpecification": {
                        "VolumeType": "gp3",
                        "SizeInGB": config.node_volume_gib,
                    },
                    "VolumesPerInstance": 1,
                }
            ]
        },
    }


def security_configuration(key: aws_kms.IKey | None) -> dict[str, Any]:
    """Return EMR's security configuration: encryption at rest, and IMDSv2 only.

    Without a key, S3 encrypts what EMR writes, and Spark what it spills (``spark.io.encryption``).
    With one, S3 and the nodes' disks use it. EMR's own switch for encryption in transit wants a
    certificate whose private key someone must keep; Spark's (``spark.network.crypto``) does not,
    and S3 takes TLS only, so nothing of the job's crosses the network in the clear.
    """
    at_rest: dict[str, Any] = {
        "S3EncryptionConfiguration": {"EncryptionMode": "SSE-S3"}
        if key is None
        else {"EncryptionMode": "SSE-KMS", "AwsKmsKey": key.key_arn}
    }
    if key is not None:
        at_rest["LocalDiskEncryptionConfiguration"] = {
            "EncryptionKeyProviderType": "AwsKms",
            "AwsKmsKey": key.key_arn,
            "EnableEbsEncryption": True,
        }
    return {
        "EncryptionConfiguration": {
            "EnableAtRestEncryption": True,
            "EnableInTransitEncryption": False,
            "AtRestEncryptionConfiguration": at_rest,
        },
        "InstanceMetadataServiceConfiguration": {
            "MinimumInstanceMetadataServiceVersion": 2,
            "HttpPutResponseHopLimit": 1,
        },
    }


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
        ValueError
            For a type whose name does not tell its size.
        """
        found = re.fullmatch(r"([cmr])\w*\.(\d*)(x?large)", instance_type)
        if found is None or (found[3] == "large" and found[2]):
            raise ValueError(
                f"orchard.core_instance_types has {instance_type}, whose memory is not known here;"
                " allowed are types of the families c, m and r, from large up."
            )
        vcpus = 2 if found[3] == "large" else 4 * int(found[2] or 1)
        # A quarter stays for the system and the daemons of EMR and HDFS.
        yarn = vcpus * _GIB_PER_VCPU[found[1]] * _MIB * 3 // 4
        python = yarn - _DRIVER_HEAP_MIB - _DRIVER_PYTHON_MIB - _EXECUTOR_HEAP_MIB
        if python < vcpus * _MIB:
            raise ValueError(
                f"orchard.core_instance_types has {instance_type}, too small for the job;"
                " allowed are types with at least 1 GiB for each vCPU beside the driver, such as"
                " m5.xlarge."
            )
        return cls(vcpus, yarn, _EXECUTOR_HEAP_MIB, python)


def _configurations(config: OrchardConfig, region: str) -> list[dict[str, Any]]:
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
        {"Classification": "spark-defaults", "Properties": _spark(config, node, region)},
    ]


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
        # pyarrow's S3 client would otherwise ask for the bucket's region, outside the network.
        "spark.yarn.appMasterEnv.AWS_REGION": region,
        "spark.executorEnv.AWS_REGION": region,
        # The driver runs on a core node, where its log is collected and its life does not depend
        # on the process that submitted it.
        "spark.submit.deployMode": "cluster",
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
