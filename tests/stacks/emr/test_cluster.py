"""The cluster that an execution asks for: its size, its safety, and how Spark divides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from stacks.config import OrchardConfig
from stacks.emr.instances import NodeShape, alike, fitting, larger
from stacks.emr.spark_settings import PYTHON
from stacks.knobs import ConfigError
from tests.stacks.answers import (
    CREATE,
    DESCRIBE,
    GOOD,
    PARAMETER,
    cluster_ended,
    cluster_is,
    first,
    gives,
    refuses,
)
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


def fleets(asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {fleet["InstanceFleetType"]: fleet for fleet in asked["Instances"]["InstanceFleets"]}


def types(fleet: dict[str, Any]) -> list[str]:
    preferred = sorted(fleet["InstanceTypeConfigs"], key=lambda config: config["Priority"])
    return [config["InstanceType"] for config in preferred]


def properties(asked: dict[str, Any], classification: str) -> dict[str, str]:
    (found,) = (c for c in asked["Configurations"] if c["Classification"] == classification)
    return dict(found["Properties"])


def mib(text: str) -> int:
    assert text.endswith("m")
    return int(text[:-1])


def test_an_execution_sizes_its_cluster_and_its_spark_alike(fruits: Synthesis) -> None:
    asked = request(fruits, core_instances=7, instance_type="m6i.2xlarge")
    core = fleets(asked)["CORE"]
    assert core["TargetOnDemandCapacity"] == 7
    assert types(core)[0] == "m6i.2xlarge"
    spark = properties(asked, "spark-defaults")
    assert (spark["spark.executor.instances"], spark["spark.executor.cores"]) == ("7", "8")


def test_every_fleet_has_types_of_one_size_and_every_zone(fruits: Synthesis) -> None:
    asked = request(fruits, spot=True)
    for fleet in fleets(asked).values():
        assert len(set(types(fleet))) >= 4
        assert len({(name[0], name.partition(".")[2]) for name in types(fleet)}) == 1
        assert {config["WeightedCapacity"] for config in fleet["InstanceTypeConfigs"]} == {1}
    assert len(asked["Instances"]["Ec2SubnetIds"]) == 3


def test_on_spot_one_core_node_and_the_primary_stay_on_demand(fruits: Synthesis) -> None:
    asked = request(fruits, spot=True, core_instances=5)
    of = fleets(asked)
    assert set(of) == {"MASTER", "CORE", "TASK"}
    for kind in ("MASTER", "CORE"):
        assert of[kind]["TargetOnDemandCapacity"] == 1
        assert "TargetSpotCapacity" not in of[kind]
    assert (of["TASK"].get("TargetOnDemandCapacity"), of["TASK"]["TargetSpotCapacity"]) == (None, 4)
    assert of["TASK"]["LaunchSpecifications"]["SpotSpecification"]["TimeoutAction"]
    yarn = properties(asked, "yarn-site")
    assert yarn["yarn.node-labels.enabled"] == "true"
    assert yarn["yarn.node-labels.am.default-node-label-expression"] == "ON_DEMAND"
    label = "spark.yarn.am.nodeLabelExpression"
    assert properties(asked, "spark-defaults")[label] == "ON_DEMAND"
    assert "yarn.node-labels.enabled" not in properties(request(fruits), "yarn-site")
    assert properties(request(fruits), "spark-defaults")[label] == ""


def test_one_node_on_spot_is_one_on_demand(fruits: Synthesis) -> None:
    of = fleets(request(fruits, spot=True, core_instances=1))
    assert set(of) == {"MASTER", "CORE"}


def test_a_chosen_type_is_preferred_on_spot_too(fruits: Synthesis) -> None:
    of = fleets(request(fruits, spot=True, instance_type="m6a.xlarge"))
    assert types(of["TASK"])[0] == types(of["CORE"])[0] == "m6a.xlarge"


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_what_stands_in_for_a_type_holds_what_was_divided_for_it(
    architecture: Literal["x86_64", "arm64"],
) -> None:
    config = OrchardConfig(architecture=architecture)
    for name in fitting(architecture):
        shape = NodeShape.of(name)
        for other in alike(name, config):
            assert NodeShape.of(other) == shape
        others = larger(name, config)
        assert others
        assert name not in others
        for other in others:
            # An r type's stand-in has twice its vCPUs and as much memory: up to 8xlarge.
            twice = other.replace("8xlarge", "4xlarge")
            factor = 2 if twice != other else 1
            assert factor * NodeShape.of(twice).vcpus >= shape.vcpus
            assert factor * NodeShape.of(twice).yarn >= shape.yarn


def test_what_the_region_lacks_stands_in_for_nothing(synthesize: Callable[..., Synthesis]) -> None:
    asked = request(synthesize(unoffered_types=("m6a.xlarge", "m7i.xlarge")))
    for fleet in fleets(asked).values():
        assert not {"m6a.xlarge", "m7i.xlarge"} & set(types(fleet))


def test_the_machine_has_a_state_for_each_type_that_fits(fruits: Synthesis) -> None:
    states = rendered(fruits.template, "Workflow")["States"]
    for name in fitting("x86_64"):
        chosen = states[f"Prefer {name}"]["Parameters"]
        assert chosen["types"][0]["InstanceType"] == name
        assert chosen["shape"] == NodeShape.of(name).settings()
    assert {"c6i.xlarge", "m7i.4xlarge"} <= set(fitting("x86_64"))
    assert {"c7g.xlarge", "m7g.4xlarge"} <= set(fitting("arm64"))


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


def test_a_cluster_has_the_security_that_is_deployed_when_it_is_made(
    fruits: Synthesis, synthesize: Callable[..., Synthesis]
) -> None:
    """Whatever was deployed when its execution began: that may have turned `kms` off meanwhile."""
    definition = rendered(fruits.template, "Workflow")
    for synthesis in (fruits, synthesize(kms=True)):
        parameter = synthesis.one("AWS::SSM::Parameter", "ClusterSecurity")
        (configuration,) = synthesis.resources("AWS::EMR::SecurityConfiguration")
        assert parameter["Value"] == {"Ref": configuration}
        outcome = execute(definition, {"batch": "b"}, GOOD)
        assert outcome.asked(PARAMETER) == [{"Name": parameter["Name"]}]
        (asked,) = outcome.asked(CREATE)
        assert asked["SecurityConfiguration"] == "a-security-configuration"
    late = {**GOOD, CREATE: first(refuses("Rate exceeded"), GOOD[CREATE])}
    assert len(execute(definition, {"batch": "b"}, late).asked(PARAMETER)) == 1
    again = {
        **GOOD,
        PARAMETER: first(*(gives({"Parameter": {"Value": name}}) for name in ("old", "new"))),
        DESCRIBE: first(cluster_ended("INSTANCE_FLEET_TIMEOUT", "none"), cluster_is("WAITING")),
    }
    asked_for = execute(definition, {"batch": "b"}, again).asked(CREATE)
    assert [request["SecurityConfiguration"] for request in asked_for] == ["old", "new"]


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
    "instance_type",
    ["c6i.xlarge", "c7g.xlarge", "m5.xlarge", "m6g.2xlarge", "r5.xlarge", "c5.4xlarge"],
)
def test_a_node_holds_its_executor_and_the_driver(
    synthesize: Callable[..., Synthesis], instance_type: str
) -> None:
    architecture = "arm64" if "g." in instance_type else "x86_64"
    asked = request(synthesize(architecture=architecture), instance_type=instance_type)
    spark, yarn = properties(asked, "spark-defaults"), properties(asked, "yarn-site")
    executor = mib(spark["spark.executor.memory"]) + mib(spark["spark.executor.memoryOverhead"])
    driver = mib(spark["spark.driver.memory"]) + mib(spark["spark.driver.memoryOverhead"])
    assert executor + driver <= int(yarn["yarn.nodemanager.resource.memory-mb"])
    assert executor <= int(yarn["yarn.scheduler.maximum-allocation-mb"])
    # Each task is a Python process with the network and an image of 64 megapixels.
    tasks = int(spark["spark.executor.cores"]) // int(spark["spark.task.cpus"])
    assert mib(spark["spark.executor.memoryOverhead"]) >= tasks * 832
    assert spark["spark.executorEnv.OMP_NUM_THREADS"] == spark["spark.task.cpus"]


@pytest.mark.parametrize(
    "instance_type", ["c5.large", "m5.large", "t3.xlarge", "m5.metal", "c5.9xlarge"]
)
def test_a_node_that_cannot_hold_the_job_is_refused_in_a_sentence(instance_type: str) -> None:
    with pytest.raises(ConfigError, match=rf'instance_types is "{instance_type}"; allowed is'):
        NodeShape.of(instance_type)


def test_managed_scaling_lets_spark_grow_with_the_cluster(
    synthesize: Callable[..., Synthesis],
) -> None:
    asked = request(synthesize(managed_scaling_min_units=2, managed_scaling_max_units=8))
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
