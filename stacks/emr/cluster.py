"""The EMR cluster of one execution, as the request that creates it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_cdk import RemovalPolicy, Stack, aws_emr, aws_ssm
from constructs import Construct

from stacks.config import cluster_name_prefix, cluster_tags
from stacks.emr.spark_settings import PYTHON as PYTHON
from stacks.emr.spark_settings import configurations
from stacks.identity import EMR_LOGS

if TYPE_CHECKING:
    from stacks.artifacts import Artifacts
    from stacks.config import OrchardConfig
    from stacks.identity import Identity
    from stacks.network import Network
    from stacks.storage import Storage


class Cluster(Construct):
    """What the clusters of a stack have in common, and the request that creates one.

    Attributes
    ----------
    request
        EMR's RunJobFlow, in the words of its API. What an execution may choose comes by JSONPath:
        ``$.run``, ``$.settings``, ``$.shape`` and ``$.capacity`` (see :mod:`stacks.emr.capacity`),
        and ``$.security.name`` (see :mod:`stacks.emr.creation`).
    security_parameter
        The parameter that names the security configuration that is deployed now. An execution that
        waited for its turn reads it when it creates its cluster: what the one it was started with
        needs, a key and a way to KMS, may be gone by then.
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
            self,
            "Security",
            security_configuration=security_configuration(
                storage.key.key_arn if storage.key else None, config.tls_certificates
            ),
        )
        # A cluster that is being made as another one is deployed goes on to name it.
        security.apply_removal_policy(RemovalPolicy.RETAIN)
        self.security_parameter = aws_ssm.StringParameter(
            self,
            "SecurityParameter",
            parameter_name=security_parameter(stack.stack_name),
            string_value=security.ref,
        )
        tags = cluster_tags(stack.stack_name, config)
        self.request: dict[str, Any] = {
            # The janitor finds the cluster of an execution that is gone by this name.
            "Name.$": f"States.Format('{cluster_name_prefix(stack.stack_name)}{{}}', $.run)",
            "ReleaseLabel": config.emr_release,
            "Applications": [{"Name": "Spark"}],
            "ServiceRole": identity.service_role.role_arn,
            "JobFlowRole": identity.instance_profile.ref,
            "SecurityConfiguration.$": "$.security.name",
            "LogUri": f"s3://{storage.logs.bucket_name}/{EMR_LOGS}",
            "Instances": {
                # The step comes after the cluster, and the state machine ends the cluster itself.
                "KeepJobFlowAliveWhenNoSteps": True,
                # Protection would only stand in the way of every net that ends a cluster.
                "TerminationProtected": False,
                # EMR takes the zone that can give the whole fleet.
                "Ec2SubnetIds": network.subnet_ids,
                "EmrManagedMasterSecurityGroup": network.primary_group.security_group_id,
                "EmrManagedSlaveSecurityGroup": network.core_group.security_group_id,
                "ServiceAccessSecurityGroup": network.service_group.security_group_id,
                "InstanceFleets.$": "$.capacity.fleets",
            },
            # One job for one cluster: what it may use is what the settings below divide.
            "StepConcurrencyLevel": 1,
            # The second net: a cluster that nothing terminated ends itself. Whether that works in a
            # subnet without internet AWS does not say, and it is not tried there: hence a third.
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
            "Configurations": configurations(config, stack.region, storage.logs),
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


def security_parameter(stack_name: str) -> str:
    """Return the name of the parameter that names a stack's security configuration."""
    return f"/orchard/{stack_name}/security"


def security_configuration(key: str | None, certificates: str | None) -> dict[str, Any]:
    """Return EMR's security configuration: encryption, and IMDSv2 only.

    Without a key, S3 encrypts what EMR writes, and Spark what it spills (``spark.io.encryption``).
    With one, S3 and the nodes' disks use it. EMR's own switch for encryption in transit wants
    certificates whose private key someone must keep; Spark's (``spark.network.crypto``) does not,
    and the buckets take TLS only, so no image and no result crosses the network in the clear.
    With certificates, Hadoop's own services use them, beside Spark's encryption.

    Parameters
    ----------
    key
        The ARN of the data's key, if they have one.
    certificates
        The zip of PEM certificates in S3, if there is one.
    """
    at_rest: dict[str, Any] = {
        "S3EncryptionConfiguration": {"EncryptionMode": "SSE-S3"}
        if key is None
        else {"EncryptionMode": "SSE-KMS", "AwsKmsKey": key}
    }
    if key is not None:
        at_rest["LocalDiskEncryptionConfiguration"] = {
            "EncryptionKeyProviderType": "AwsKms",
            "AwsKmsKey": key,
            "EnableEbsEncryption": True,
        }
    encryption: dict[str, Any] = {
        "EnableAtRestEncryption": True,
        "EnableInTransitEncryption": certificates is not None,
        "AtRestEncryptionConfiguration": at_rest,
    }
    if certificates is not None:
        encryption["InTransitEncryptionConfiguration"] = {
            "TLSCertificateConfiguration": {
                "CertificateProviderType": "PEM",
                "S3Object": certificates,
            }
        }
    return {
        "EncryptionConfiguration": encryption,
        "InstanceMetadataServiceConfiguration": {
            "MinimumInstanceMetadataServiceVersion": 2,
            "HttpPutResponseHopLimit": 1,
        },
    }
