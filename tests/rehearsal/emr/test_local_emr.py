"""What the local EMR does as EMR does it, where the other tests rely on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from rehearsal.emr.yarn import wait_for

if TYPE_CHECKING:
    from rehearsal.local_cloud import LocalCloud

pytestmark = pytest.mark.rehearsal


def run_cluster(cloud: LocalCloud, **request: Any) -> str:
    """Create a cluster that bootstraps nothing, and return its id."""
    emr = cloud.endpoint.client("emr")
    created = emr.run_job_flow(
        Name="a cluster",
        ServiceRole=cloud.role("ServiceRole"),
        JobFlowRole=cloud.role("InstanceRole"),
        Instances={"KeepJobFlowAliveWhenNoSteps": True},
        **request,
    )
    return str(created["JobFlowId"])


def test_a_cluster_that_idles_ends_itself(cloud: LocalCloud) -> None:
    cluster = run_cluster(cloud, AutoTerminationPolicy={"IdleTimeout": 1})
    wait_for(lambda: not cloud.emr.clusters[cluster].alive, 15, "The end of an idle cluster")
    emr = cloud.endpoint.client("emr")
    status = emr.describe_cluster(ClusterId=cluster)["Cluster"]["Status"]
    assert status["State"] == "TERMINATED"
    assert "idle" in status["StateChangeReason"]["Message"]


def test_a_cluster_that_has_ended_takes_no_step(cloud: LocalCloud) -> None:
    emr = cloud.endpoint.client("emr")
    cluster = run_cluster(cloud)
    emr.terminate_job_flows(JobFlowIds=[cluster])
    step = {"Name": "late", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}
    with pytest.raises(ClientError, match="shutting down"):
        emr.add_job_flow_steps(JobFlowId=cluster, Steps=[step])


def test_a_step_that_waits_is_cancelled_with_its_cluster(cloud: LocalCloud) -> None:
    emr = cloud.endpoint.client("emr")
    cluster = run_cluster(cloud)
    step = {"Name": "early", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}
    (added,) = emr.add_job_flow_steps(JobFlowId=cluster, Steps=[step])["StepIds"]
    emr.terminate_job_flows(JobFlowIds=[cluster])
    wait_for(lambda: not cloud.emr.clusters[cluster].alive, 15, "The end of the cluster")
    described = emr.describe_step(ClusterId=cluster, StepId=added)["Step"]
    assert described["Status"]["State"] == "CANCELLED"


def test_what_it_does_not_know_it_refuses_by_name(cloud: LocalCloud) -> None:
    with pytest.raises(ClientError, match="does not know ListStudios"):
        cloud.endpoint.client("emr").list_studios()
