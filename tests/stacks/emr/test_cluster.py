"""The cluster that an execution asks for: its size, its safety, and how Spark divides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stacks.emr.spark_settings import PYTHON, NodeShape
from stacks.knobs import ConfigError
from tests.stacks.answers import CREATE, GOOD
from tests.stacks.definitions import execute, rendered, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk


def request(synthesis: Synthesis, **given: Any) -> dict[str, Any]:
    """Return the RunJobFlow of an execution; `execute` holds it against EMR's model."""
    definition = rendered(synthesis.template, "Workflow")
    outcome = execute(definition, {"batch": "b", **given}, GOOD)
    (asked,) = outcome.asked(CREATE)
    return asked


def core(asked: dict[str, Any]) -> dict[str, Any]:
    (fleet,) = (f for f in asked["Instances"]["InstanceFleets"] if f["InstanceFleetType"] == "CORE")
    return dict(fleet)


def types(fleet: dict[str, Any]) -> list[str]:
    return [config["InstanceType"] for config in fleet["InstanceTypeConfigs"]]


def properties(asked: dict[str, Any], classification: str) -> dict[str, str]:
    (found,) = (c for c in asked["Configurations"] if c["Classification"] == classification)
    return dict(found["Properties"])


def mib(text: str) -> int:
    assert text.endswith("m")
    return int(text[:-1])


def test_an_execution_sizes_its_cluster_and_its_spark_alike(fruits: Synthesis) -> None:
    asked = request(fruits, core_instances=7, instance_type="m6i.xlarge")
    fleet = core(asked)
    assert (fleet["TargetOnDemandCapacity"], fleet["TargetSpotCapacity"]) == (7, 0)
    assert types(fleet) == ["m6i.xlarge"]
    assert properties(asked, "spark-defaults")["spark.executor.instances"] == "7"


def test_spot_nodes_come_from_several_pools_and_the_primary_stays_on_demand(
    fruits: Synthesis,
) -> None:
    asked = request(fruits, spot=True)
    fleet = core(asked)
    assert (fleet["TargetOnDemandCapacity"], fleet["TargetSpotCapacity"]) == (0, 2)
    assert len(set(types(fleet))) >= 3
    assert fleet["LaunchSpecifications"]["SpotSpecification"]["TimeoutAction"]
    primary = asked["Instances"]["InstanceFleets"][0]
    assert primary["InstanceFleetType"] == "MASTER"
    assert primary["TargetOnDemandCapacity"] == 1
    assert "TargetSpotCapacity" not in primary


def test_a_chosen_type_is_kept_on_spot_too(fruits: Synthesis) -> None:
    assert types(core(request(fruits, spot=True, instance_type="m6a.xlarge"))) == ["m6a.xlarge"]


def test_no_cluster_is_created_to_stay(fruits: Synthesis) -> None:
    asked = request(fruits)
    assert asked["AutoTerminationPolicy"]["IdleTimeout"] == 15 * 60
    assert asked["Instances"]["TerminationProtected"] is False
    # The step is added after the cluster's creation: it must still be there.
    assert asked["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True
    assert asked["StepConcurrencyLevel"] == 1


def test_no_key_and_no_port_leads_into_a_cluster(fruits: Synthesis) -> None:
    instances = request(fruits)["Instances"]
    assert "Ec2KeyName" not in instances
    assert not any(name.startswith("Additional") for name in instances)
    assert len(instances["Ec2SubnetIds"]) == 2


def test_the_cluster_bears_what_policies_bills_and_people_look_for(fruits: Synthesis) -> None:
    tags = {tag["Key"]: tag["Value"] for tag in request(fruits)["Tags"]}
    assert tags["for-use-with-amazon-emr-managed-policies"] == "true"
    assert tags["orchard-stack"] == "Fruits"
    assert tags["dataset"] == "fruits"
    assert (tags["orchard-batch"], tags["orchard-run"]) == ("b", "run-1")


def test_instances_use_version_2_of_the_metadata_service_only(fruits: Synthesis) -> None:
    security = fruits.one("AWS::EMR::SecurityConfiguration")["SecurityConfiguration"]
    metadata = security["InstanceMetadataServiceConfiguration"]
    assert metadata["MinimumInstanceMetadataServiceVersion"] == 2
    assert metadata["HttpPutResponseHopLimit"] == 1
    assert request(fruits)["SecurityConfiguration"]


def test_what_emr_writes_and_the_disks_are_encrypted_with_the_stack_s_key(
    fruits: Synthesis, synthesize: Callable[..., Synthesis]
) -> None:
    def at_rest(synthesis: Synthesis) -> dict[str, Any]:
        security = synthesis.one("AWS::EMR::SecurityConfiguration")["SecurityConfiguration"]
        encryption = resolve(synthesis.template, security)["EncryptionConfiguration"]
        assert encryption["EnableAtRestEncryption"] is True
        return dict(encryption["AtRestEncryptionConfiguration"])

    assert at_rest(fruits) == {"S3EncryptionConfiguration": {"EncryptionMode": "SSE-S3"}}
    with_key = at_rest(synthesize(kms=True))
    assert with_key["S3EncryptionConfiguration"]["EncryptionMode"] == "SSE-KMS"
    assert with_key["LocalDiskEncryptionConfiguration"]["EnableEbsEncryption"] is True


def test_emr_encrypts_in_transit_too_with_certificates(
    fruits: Synthesis, synthesize: Callable[..., Synthesis]
) -> None:
    def encryption(synthesis: Synthesis) -> dict[str, Any]:
        security = synthesis.one("AWS::EMR::SecurityConfiguration")["SecurityConfiguration"]
        return dict(security["EncryptionConfiguration"])

    assert encryption(fruits)["EnableInTransitEncryption"] is False
    assert "InTransitEncryptionConfiguration" not in encryption(fruits)
    with_certificates = synthesize(tls_certificates="s3://keys/certificates.zip")
    assert encryption(with_certificates)["EnableInTransitEncryption"] is True
    assert encryption(with_certificates)["InTransitEncryptionConfiguration"] == {
        "TLSCertificateConfiguration": {
            "CertificateProviderType": "PEM",
            "S3Object": "s3://keys/certificates.zip",
        }
    }
    spark = properties(request(with_certificates), "spark-defaults")
    assert spark["spark.network.crypto.enabled"] == "true"


def test_spark_encrypts_what_it_sends_and_spills(fruits: Synthesis) -> None:
    asked = request(fruits)
    spark = properties(asked, "spark-defaults")
    for name in (
        "spark.authenticate",
        "spark.network.crypto.enabled",
        "spark.io.encryption.enabled",
    ):
        assert spark[name] == "true"
    # An executor that authenticates needs a shuffle service that does.
    assert properties(asked, "yarn-site")["spark.authenticate"] == "true"


def test_driver_and_executors_use_the_installed_python_in_the_stack_s_region(
    fruits: Synthesis,
) -> None:
    spark = properties(request(fruits), "spark-defaults")
    for process in ("spark.yarn.appMasterEnv.", "spark.executorEnv."):
        assert spark[process + "PYSPARK_PYTHON"] == PYTHON
        assert spark[process + "AWS_REGION"] == "eu-west-1"


def test_spark_fetches_its_code_from_the_stack_s_region(
    synthesize: Callable[..., Synthesis],
) -> None:
    asked = request(synthesize(region="eu-central-1"))
    assert properties(asked, "core-site") == {"fs.s3a.endpoint.region": "eu-central-1"}


def test_the_driver_takes_no_executor_s_place_for_its_vcpu(fruits: Synthesis) -> None:
    (calculator,) = properties(request(fruits), "capacity-scheduler").values()
    assert calculator.endswith(".DefaultResourceCalculator")


def test_the_bootstrap_action_installs_the_wheelhouse(fruits: Synthesis) -> None:
    (action,) = request(fruits)["BootstrapActions"]
    script = action["ScriptBootstrapAction"]
    assert script["Path"].endswith(".sh")
    assert [a.rpartition(".")[2] for a in script["Args"]] == ["zip"]


@pytest.mark.parametrize(
    "instance_type", ["m5.xlarge", "m6g.2xlarge", "r5.xlarge", "r6g.4xlarge", "c5.4xlarge"]
)
def test_a_node_holds_its_executor_and_the_driver(
    synthesize: Callable[..., Synthesis], instance_type: str
) -> None:
    architecture = "arm64" if "g." in instance_type else "x86_64"
    asked = request(synthesize(core_instance_types=(instance_type,), architecture=architecture))
    spark, yarn = properties(asked, "spark-defaults"), properties(asked, "yarn-site")
    executor = mib(spark["spark.executor.memory"]) + mib(spark["spark.executor.memoryOverhead"])
    driver = mib(spark["spark.driver.memory"]) + mib(spark["spark.driver.memoryOverhead"])
    assert executor + driver <= int(yarn["yarn.nodemanager.resource.memory-mb"])
    assert executor <= int(yarn["yarn.scheduler.maximum-allocation-mb"])
    # Each task is a Python process with the network and an image of 64 megapixels.
    tasks = int(spark["spark.executor.cores"]) // int(spark["spark.task.cpus"])
    assert mib(spark["spark.executor.memoryOverhead"]) >= tasks * 1024
    assert spark["spark.executorEnv.OMP_NUM_THREADS"] == spark["spark.task.cpus"]


@pytest.mark.parametrize("instance_type", ["c5.xlarge", "m5.large", "t3.xlarge", "m5.metal"])
def test_a_node_that_cannot_hold_the_job_is_refused_in_a_sentence(instance_type: str) -> None:
    with pytest.raises(ConfigError, match=rf'core_instance_types is "{instance_type}"; allowed is'):
        NodeShape.of(instance_type)


def test_managed_scaling_lets_spark_grow_with_the_cluster(
    synthesize: Callable[..., Synthesis],
) -> None:
    asked = request(
        synthesize(
            managed_scaling_min_units=2,
            managed_scaling_max_units=8,
            vpc_id="vpc-0123456789abcdef0",
            subnet_ids=("subnet-0123456789abcdef0",),
            availability_zones=("eu-west-1a",),
        )
    )
    limits = asked["ManagedScalingPolicy"]["ComputeLimits"]
    assert (limits["MinimumCapacityUnits"], limits["MaximumCapacityUnits"]) == (2, 8)
    assert limits["UnitType"] == "InstanceFleetUnits"
    spark = properties(asked, "spark-defaults")
    assert spark["spark.dynamicAllocation.enabled"] == "true"
    assert spark["spark.dynamicAllocation.maxExecutors"] == "8"
    assert "spark.executor.instances" not in spark


def test_without_it_the_cluster_is_taken_whole_and_kept(fruits: Synthesis) -> None:
    asked = request(fruits)
    assert "ManagedScalingPolicy" not in asked
    spark = properties(asked, "spark-defaults")
    assert spark["spark.dynamicAllocation.enabled"] == "false"
    assert spark["spark.speculation"] == "false"
