"""Clusters that are late, or not to be had; batches that wait for each other; lost Spot nodes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from bootstrap.wheelhouse import WHEELHOUSES
from rehearsal.aws.deployment import synthesize
from rehearsal.aws.faults import Effect, Fault
from rehearsal.emr.clusters import Shortage
from rehearsal.emr.yarn import wait_for
from rehearsal.local_cloud import REGION, UNHURRIED
from stacks.emr.instances import is_graviton
from tests.rehearsal.partitions import assert_partitions_follow, partitions
from tests.rehearsal.tables import Published
from tests.rehearsal.watching import alive, clusters_of, container, disturb, types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


@pytest.fixture
def graviton(cloud: LocalCloud, tmp_path: Path) -> Iterator[None]:
    """The stack as for Graviton, but for the wheels: its nodes are this machine."""
    context = {
        **UNHURRIED,
        "architecture": "arm64",
        "wheelhouse": str(WHEELHOUSES / cloud.architecture),
    }
    cloud.deploy(synthesize(tmp_path / "cdk.out", context, REGION))
    yield
    cloud.deploy(cloud.assembly)


def test_one_node_of_the_smallest_type_is_enough(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    graviton: None,
    tmp_path: Path,
) -> None:
    """Of Graviton, which is chosen as deployed: memory and processor are this machine's.

    With much else that is odd: extensions are in capitals, an image vanishes before it is read,
    and a step is throttled.
    """
    del graviton
    renamed = {path.replace(".jpg", ".Jpg"): content for path, content in photographs.items()}
    put("scarce", renamed)
    gone = sorted(renamed)[5]
    cloud.endpoint.faults.add(Fault("elasticmapreduce:AddJobFlowSteps", Effect.THROTTLED))
    cloud.endpoint.faults.add(
        Fault(
            "s3:GetObject",
            resource=(key := f"images/scarce/{gone}"),
            before=lambda _: cloud.endpoint.client("s3").delete_object(
                Bucket=cloud.bucket, Key=key
            ),
        )
    )
    small = "c7g.xlarge"
    given = {"batch": "scarce", "pca": "fit", "instance_type": small, "core_instances": 1}
    arn = cloud.start_execution({**given, "components": reference.receipt["model"]["k"]})
    outcome = cloud.wait(arn)
    assert outcome.status == "SUCCEEDED", outcome
    (cluster,) = clusters_of(cloud, arn)
    assert small in types(cluster)
    assert all(is_graviton(each) for each in types(cluster))
    assert len(cluster.steps) == 1
    published = Published.of(cloud, "scarce", tmp_path)
    assert published.rejects.select(["path", "stage"]).to_pylist() == [
        {"path": gone, "stage": "read"}
    ]
    assert len(published.features) == len(reference.features) - 1
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
    """Killed, not decommissioned: on demand, a lost node is no other thing.

    It proves YARN with EMR's labels, and not EMR. The batch's model is named.
    """
    put("spot", photographs)
    driver_on: list[int] = []

    def lose() -> None:
        driver_on.append(container(cloud, driver=True).node)
        cloud.yarn.lose_node(SPOT)

    cloud.yarn.restart({ON_DEMAND: "ON_DEMAND", SPOT: "SPOT"})
    disturb(cloud, "spot", lose)
    try:
        arn = cloud.start_execution(
            {
                "batch": "spot",
                "pca": "reuse",
                "model": reference.receipt["model"]["model"],
                "spot": True,
                "core_instances": 3,
            }
        )
        outcome = cloud.wait(arn)
    finally:
        cloud.yarn.restart()
    assert outcome.status == "SUCCEEDED", outcome
    assert driver_on == [ON_DEMAND]
    (cluster,) = clusters_of(cloud, arn)
    fleets = {f["InstanceFleetType"]: f for f in cluster.request["Instances"]["InstanceFleets"]}
    assert fleets["TASK"]["TargetSpotCapacity"] == 2
    published = Published.of(cloud, "spot", tmp_path)
    reference.assert_same(published)
    assert published.receipt["model"]["reused"], "it was told which model"


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
    """After a rerun, and after two at once, they do in `test_runs`."""
    del reference
    assert_partitions_follow(cloud, "reference")


def test_a_moved_pointer_moves_them_and_glues_refusal_is_told(
    cloud: LocalCloud, reference: Published
) -> None:
    s3 = cloud.endpoint.client("s3")
    key = "results/reference/current.json"
    published = s3.get_object(Bucket=cloud.bucket, Key=key)["Body"].read()
    del reference
    run = json.loads(published)["run"].encode()
    assert_partitions_follow(cloud, "reference")
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
    assert_partitions_follow(cloud, "reference")
