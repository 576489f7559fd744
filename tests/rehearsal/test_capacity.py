"""Clusters that are late, or not to be had; batches that wait for each other; lost Spot nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from rehearsal.aws.faults import Effect, Fault
from rehearsal.emr.clusters import Shortage
from rehearsal.emr.yarn import wait_for
from tests.rehearsal.tables import Published
from tests.rehearsal.watching import alive, clusters_of, container, disturb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rehearsal.emr.clusters import Cluster
    from rehearsal.local_cloud import LocalCloud
    from rehearsal.pipeline import Outcome

pytestmark = pytest.mark.rehearsal

ON_DEMAND, SPOT = 1, 0
"""Which of YARN's nodes is which."""


@pytest.fixture(scope="module")
def batch(put: Callable[[str, dict[str, bytes]], None], photographs: dict[str, bytes]) -> str:
    """A batch that would run if EC2 had nodes."""
    put("capacity", photographs)
    return "capacity"


@pytest.fixture
def impatient(cloud: LocalCloud) -> Iterator[None]:
    """Runs that start within look at a cluster thrice before they call it late."""

    def hurry(definition: dict[str, Any]) -> None:
        late = definition["States"]["IsItReady"]["Choices"][-1]
        assert late["Next"] == "AskWhyItIsLate"
        late["NumericGreaterThanEquals"] = 2

    with cloud.changed(cloud.state_machine, hurry):
        yield


def types(cluster: Cluster) -> set[str]:
    """Return the types that a cluster's core fleet may have."""
    fleets = cluster.request["Instances"]["InstanceFleets"]
    (core,) = (fleet for fleet in fleets if fleet["InstanceFleetType"] == "CORE")
    return {config["InstanceType"] for config in core["InstanceTypeConfigs"]}


def test_no_capacity_once_costs_time_and_nothing_else(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    """On the smallest node, with capital extensions and a throttled step besides."""
    renamed = {path.replace(".jpg", ".Jpg"): content for path, content in photographs.items()}
    put("scarce", renamed)
    cloud.emr.shortages = [Shortage.ENDED]
    cloud.endpoint.faults.add(Fault("elasticmapreduce:AddJobFlowSteps", Effect.THROTTLED))
    small = "c6i.xlarge" if cloud.architecture == "x86_64" else "c7g.xlarge"
    given = {"batch": "scarce", "pca": "fit", "instance_type": small, "core_instances": 1}
    arn = cloud.start_execution({**given, "components": reference.receipt["model"]["k"]})
    outcome = cloud.wait(arn)
    assert outcome.status == "SUCCEEDED", outcome
    first, second = clusters_of(cloud, arn)
    assert first.errors
    assert first.state == "TERMINATED_WITH_ERRORS"
    assert small in types(first)
    assert not types(first) & types(second)
    assert len(second.steps) == 1
    published = Published.of(cloud, "scarce", tmp_path)
    assert len(published.features) == len(reference.features)
    assert published.receipt["settings"]["components"] == reference.receipt["model"]["k"]


def test_no_capacity_twice_is_told_in_ec2s_words(
    cloud: LocalCloud, batch: str, impatient: None, failed: Callable[[str], Outcome]
) -> None:
    del impatient
    cloud.emr.shortages = [Shortage.LATE, Shortage.LATE]
    outcome = failed(arn := cloud.start_execution({"batch": batch, "spot": True}))
    assert outcome.error == "NoCapacity"
    assert "No instance could be had." in outcome.cause
    assert "instance_type" in outcome.cause
    assert len(clusters_of(cloud, arn)) == 2
    assert alive(cloud, arn) == []


def test_an_internal_error_is_told_with_its_details(
    cloud: LocalCloud, batch: str, failed: Callable[[str], Outcome]
) -> None:
    cloud.emr.shortages = [Shortage.ENDED, Shortage.ENDED]
    outcome = failed(cloud.start_execution({"batch": batch}))
    assert outcome.error == "ClusterFailed"
    assert "internal error" in outcome.cause
    assert "m5.xlarge is not available in eu-west-1a now" in outcome.cause


def test_of_four_markers_at_once_two_have_clusters_and_the_others_wait(
    cloud: LocalCloud, put: Callable[[str, dict[str, bytes]], None], photographs: dict[str, bytes]
) -> None:
    cloud.emr.shortages = [Shortage.LATE] * 4
    batches = [f"night-{number}" for number in range(4)]
    path, content = next(iter(photographs.items()))

    def two_at_a_time(definition: dict[str, Any]) -> None:
        parameters = definition["States"]["FindOldest"]["Parameters"]
        parameters["oldest.$"] = parameters["oldest.$"].replace("[-3:]", "[-2:]")
        assert "[-2:]" in parameters["oldest.$"]

    with cloud.changed(cloud.state_machine, two_at_a_time):
        for batch in batches:
            put(batch, {path: content})
            cloud.mark_ready(batch)
        started = {cloud.first_execution(batch) for batch in batches}
    arns = [arn for arn in reversed(cloud.executions()) if arn in started]

    def with_cluster() -> list[str]:
        return [arn for arn in arns if alive(cloud, arn)]

    def told() -> list[str]:
        return [text for text in cloud.messages() if re.match(r"Batch night-\d waits:", text)]

    wait_for(lambda: len(with_cluster()) == 2 and len(told()) == 2, 60, "Two clusters")
    admitted = with_cluster()
    assert admitted == arns[:2], "the oldest go first"
    cloud.abort(arns[0])
    wait_for(lambda: arns[2] in with_cluster(), 60, "The third batch's turn")
    # The janitor may still be at the first one's.
    wait_for(lambda: with_cluster() == arns[1:3], 60, "The end of the first cluster")
    assert not clusters_of(cloud, arns[3])
    for arn in arns[1:]:
        cloud.abort(arn)
    cloud.settle(120)
    cloud.emr.shortages = []


def test_lost_spot_nodes_cost_time_and_nothing_else(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    """Killed, not decommissioned. It proves YARN with EMR's labels, and not EMR."""
    put("spot", photographs)
    driver_on: list[int] = []

    def lose() -> None:
        driver_on.append(container(cloud, driver=True).node)
        cloud.yarn.lose_node(SPOT)

    cloud.yarn.restart({ON_DEMAND: "ON_DEMAND", SPOT: "SPOT"})
    disturb(cloud, "spot", lose)
    try:
        arn = cloud.start_execution(
            {"batch": "spot", "pca": "fit", "spot": True, "core_instances": 3}
        )
        outcome = cloud.wait(arn)
    finally:
        cloud.yarn.restart()
    assert outcome.status == "SUCCEEDED", outcome
    assert driver_on == [ON_DEMAND]
    (cluster,) = clusters_of(cloud, arn)
    fleets = {f["InstanceFleetType"]: f for f in cluster.request["Instances"]["InstanceFleets"]}
    assert fleets["TASK"]["TargetSpotCapacity"] == 2
    reference.assert_same(Published.of(cloud, "spot", tmp_path))


def test_what_cannot_be_delivered_waits_in_the_queue_and_rings(
    cloud: LocalCloud, batch: str
) -> None:
    """The deployed alarm over the queue; see `rehearsal.aws.alarms` for what is not CloudWatch."""
    assert not cloud.rang("EventsUndelivered")
    before = cloud.executions()
    trigger = cloud.machine("Trigger")
    cloud.endpoint.faults.add(
        Fault("states:StartExecution", Effect.REFUSED, resource=trigger.rpartition(":")[2])
    )
    cloud.mark_ready(batch)
    queue = next(iter(cloud.deployment.of_type("AWS::SQS::Queue").values()))
    found: list[str] = []

    def arrived() -> bool:
        answer = cloud.endpoint.client("sqs").receive_message(QueueUrl=queue)
        found.extend(message["Body"] for message in answer.get("Messages", []))
        return bool(found)

    wait_for(lambda: cloud.rang("EventsUndelivered"), 20, "The alarm")
    wait_for(arrived, 20, "The event in the queue")
    assert f"images/{batch}/_READY" in found[0]
    assert cloud.executions() == before
    cloud.endpoint.client("sqs").purge_queue(QueueUrl=queue)


def test_partitions_follow_what_is_published(cloud: LocalCloud, reference: Published) -> None:
    run = reference.receipt["run"]
    wait_for(lambda: "reference" in partitions(cloud, "runs"), 30, "The partition")
    for table, folder in (("features", "features"), ("vectors", "vectors"), ("runs", "receipt")):
        location = partitions(cloud, table)["reference"]
        assert location == f"s3://{cloud.bucket}/results/reference/runs/{run}/{folder}/"
        assert cloud.objects(location.partition(f"{cloud.bucket}/")[2]), "nothing lies there"


def test_a_rerun_moves_them_and_glues_refusal_is_told(
    cloud: LocalCloud, reference: Published
) -> None:
    s3 = cloud.endpoint.client("s3")
    key = "results/reference/current.json"
    published = s3.get_object(Bucket=cloud.bucket, Key=key)["Body"].read()
    run = reference.receipt["run"].encode()
    wait_for(lambda: "reference" in partitions(cloud, "vectors"), 30, "The partition")
    # Refused once, it is made after all; what the pointer says counts, not which event came.
    cloud.endpoint.faults.add(Fault("glue:UpdatePartition", Effect.REFUSED))
    s3.put_object(Bucket=cloud.bucket, Key=key, Body=published.replace(run, b"another"))
    wait_for(
        lambda: "/another/" in partitions(cloud, "vectors")["reference"], 30, "The partition's move"
    )
    cloud.endpoint.faults.add(Fault("glue:UpdatePartition", Effect.REFUSED, times=999))
    s3.put_object(Bucket=cloud.bucket, Key=key, Body=published)
    registrar = cloud.machine("Registrar")
    outcome = cloud.wait(cloud.executions(registrar)[0])
    assert outcome.error == "PartitionsRefused"
    assert any(outcome.cause in message for message in cloud.messages())
    wait_for(lambda: cloud.rang("RegistrarFailed"), 20, "The alarm")
    cloud.endpoint.faults.clear()
    s3.put_object(Bucket=cloud.bucket, Key=key, Body=published)
    wait_for(lambda: run.decode() in partitions(cloud, "vectors")["reference"], 30, "The way back")


def partitions(cloud: LocalCloud, table: str) -> dict[str, str]:
    """Return the location of each batch's partition of a table."""
    found = cloud.endpoint.client("glue").get_partitions(
        DatabaseName=cloud.deployment.outputs["Database"], TableName=table
    )["Partitions"]
    return {entry["Values"][0]: entry["StorageDescriptor"]["Location"] for entry in found}
