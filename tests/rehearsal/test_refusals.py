"""What ends before anything is paid for, or before any step runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from rehearsal.aws.faults import Effect, Fault
from rehearsal.emr.yarn import wait_for
from tests.rehearsal.watching import clusters_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rehearsal.local_cloud import LocalCloud
    from rehearsal.pipeline import Outcome

pytestmark = pytest.mark.rehearsal


@pytest.fixture(scope="module")
def batch(put: Callable[[str, dict[str, bytes]], None], photographs: dict[str, bytes]) -> str:
    """A batch that would run if it were let."""
    put("refused", photographs)
    return "refused"


def test_a_batch_without_images_creates_no_cluster(
    cloud: LocalCloud, failed: Callable[[str], Outcome]
) -> None:
    arn = cloud.start_execution({"batch": "nobody-uploaded-this"})
    outcome = failed(arn)
    assert outcome.error == "NoImages"
    assert "nobody-uploaded-this" in outcome.cause
    assert clusters_of(cloud, arn) == []


def test_a_batch_of_heic_files_alone_creates_no_cluster(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    failed: Callable[[str], Outcome],
) -> None:
    put("phones", {f"apple/IMG_{number}.HEIC": b"....ftypheic" for number in range(200)})
    arn = cloud.start_execution({"batch": "phones"})
    outcome = failed(arn)
    assert outcome.error == "NoImages"
    assert "no HEIC" in outcome.cause
    assert clusters_of(cloud, arn) == []


def test_an_input_that_is_not_json_starts_nothing(cloud: LocalCloud) -> None:
    before = cloud.executions()
    with pytest.raises(ClientError):
        cloud.start_execution("batch: today")
    assert cloud.executions() == before


def test_a_marker_in_the_wrong_place_starts_nothing_and_says_why(cloud: LocalCloud) -> None:
    before = cloud.executions()
    cloud.mark_ready("two/levels")
    trigger = cloud.machine("Trigger")
    outcome = cloud.wait(cloud.executions(trigger)[0])
    assert outcome.status == "FAILED"
    assert "images/two/levels/_READY" in outcome.cause
    assert any(outcome.cause in message for message in cloud.messages())
    assert cloud.executions() == before
    wait_for(lambda: cloud.rang("TriggerFailed"), 20, "The alarm")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "allowed is an object with a batch"),
        ({"batch": 20261120}, "20261120"),
        ({"batch": "../secrets"}, "../secrets"),
        ({"batch": "refused", "core_instances": 100_000}, "core_instances is 100000"),
        ({"batch": "refused", "variance": 1.5}, "variance is 1.5"),
        ({"batch": "refused", "instance_type": "p5.48xlarge"}, "p5.48xlarge"),
        ({"batch": "refused", "colour": "red"}, "colour"),
        ({"batch": "refused", "variance": 0.9, "components": 10}, "say one of them"),
        ({"batch": "refused", "manifest": "s3://DATA/images/none.csv"}, "none.csv is not there"),
        ({"batch": "refused", "corrections": "s3://DATA/images/d/no.csv"}, "no.csv is not there"),
        ({"batch": "refused", "pca": "reuse", "model": "00none"}, "has no model 00none"),
    ],
)
def test_an_input_out_of_bounds_is_refused_in_words(
    cloud: LocalCloud,
    batch: str,
    failed: Callable[[str], Outcome],
    given: dict[str, Any],
    says: str,
) -> None:
    del batch
    arn = cloud.start_execution(json.dumps(given).replace("DATA", cloud.bucket))
    assert says in failed(arn).cause
    assert clusters_of(cloud, arn) == []


def test_a_refused_cluster_is_a_failure_in_words(
    cloud: LocalCloud, batch: str, failed: Callable[[str], Outcome]
) -> None:
    cloud.endpoint.faults.add(Fault("elasticmapreduce:RunJobFlow", Effect.REFUSED))
    arn = cloud.start_execution({"batch": batch})
    outcome = failed(arn)
    assert outcome.error == "ClusterNotCreated"
    assert "The request was refused." in outcome.cause
    assert clusters_of(cloud, arn) == []


def test_a_bootstrap_that_fails_on_one_node_ends_the_cluster(
    cloud: LocalCloud, batch: str, failed: Callable[[str], Outcome]
) -> None:
    # Only the node that asks first meets it.
    cloud.endpoint.faults.add(Fault("s3:GetObject", Effect.REFUSED, resource=cloud.wheelhouse))
    arn = cloud.start_execution({"batch": batch})
    outcome = failed(arn)
    assert "bootstrap" in outcome.cause
    assert cloud.objects(f"results/{batch}/") == []
    logs = "\n".join(cloud.logs(clusters_of(cloud, arn)[0].cluster_id, "bootstrap-actions"))
    assert "cannot download" in logs


def test_a_step_that_cannot_start_is_a_failure_and_termination_is_retried(
    cloud: LocalCloud, batch: str, failed: Callable[[str], Outcome]
) -> None:
    faults = cloud.endpoint.faults
    faults.add(Fault("s3:GetObject", Effect.REFUSED, resource=cloud.entry_point, times=99))
    faults.add(Fault("elasticmapreduce:TerminateJobFlows", Effect.REFUSED))
    arn = cloud.start_execution({"batch": batch})
    outcome = failed(arn)
    assert batch in outcome.cause
    assert "s3://" in outcome.cause, "the message does not say where the log is"
    assert cloud.objects(f"results/{batch}/") == []
    terminations = cloud.called("elasticmapreduce:TerminateJobFlows")
    assert [call.status for call in terminations][-2:] == [400, 200]


def test_a_step_that_takes_too_long_is_ended(
    cloud: LocalCloud, batch: str, failed: Callable[[str], Outcome]
) -> None:
    with cloud.time_limit(4, "RunJob"):
        arn = cloud.start_execution({"batch": batch})
        outcome = failed(arn)
    assert "4" in outcome.cause or "time" in outcome.cause
    assert cloud.objects(f"results/{batch}/") == []


def test_the_janitor_ends_the_cluster_of_an_aborted_execution(
    cloud: LocalCloud, batch: str
) -> None:
    cloud.settle()
    cloud.endpoint.faults.add(Fault("elasticmapreduce:ListClusters", Effect.REFUSED))
    arn = cloud.start_execution({"batch": batch})
    cloud.wait_for_cluster(arn, "BOOTSTRAPPING")
    cloud.abort(arn)
    assert cloud.wait(arn).status == "ABORTED"
    cloud.settle()
    assert not any(cluster.alive for cluster in clusters_of(cloud, arn))
    assert cloud.endpoint.faults.pending == 0, "the janitor's call was not refused"
    assert any("aborted" in message.lower() for message in cloud.messages())


def test_the_janitor_ends_the_cluster_of_an_execution_that_timed_out(
    cloud: LocalCloud, batch: str
) -> None:
    with cloud.time_limit(4):
        arn = cloud.start_execution({"batch": batch})
        assert cloud.wait(arn).status == "TIMED_OUT"
    cloud.settle()
    assert clusters_of(cloud, arn)
    assert not any(cluster.alive for cluster in clusters_of(cloud, arn))


def test_a_cluster_that_lives_too_long_is_an_alarm(cloud: LocalCloud, batch: str) -> None:
    def look_at_once(definition: dict[str, Any]) -> None:
        definition["States"]["WaitUntilLate"]["Seconds"] = 1

    watch = cloud.machine("Watch")
    with cloud.changed(watch, look_at_once):
        arn = cloud.start_execution({"batch": batch})
        cloud.wait_for_cluster(arn, "BOOTSTRAPPING")
    outcome = cloud.wait(cloud.executions(watch)[0])
    assert outcome.error == "ClusterAliveTooLong"
    assert any("still BOOTSTRAPPING" in message for message in cloud.messages())
