"""What tests see of a rehearsal while it goes on, and how they disturb it at the right moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rehearsal.aws.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from rehearsal.emr.clusters import Cluster
    from rehearsal.emr.yarn import Container
    from rehearsal.local_cloud import LocalCloud

OUTSIDER = "outsider"
"""A role of the tests' own, which is denied things on purpose."""

OPERATOR, VIEWER = "operator", "viewer"
"""Roles of people's, with the policies that the stack makes for them and no other."""

FIRST_READS = 6
"""Images read before a run is disturbed: it is in full swing then."""


def disturb(cloud: LocalCloud, batch: str, disturbance: Callable[[], object]) -> None:
    """Call `disturbance` once, when a run of `batch` has read its first images."""
    cloud.endpoint.faults.add(
        Fault(
            "s3:GetObject",
            resource=f"/images/{batch}/",
            after=FIRST_READS,
            before=lambda _: threading.Thread(target=disturbance).start(),
        )
    )


def container(cloud: LocalCloud, *, driver: bool) -> Container:
    """Return the running driver, or an executor that is not on the driver's node if there is."""
    running = cloud.yarn.containers()
    of_driver = next(c for c in running if c.is_driver)
    if driver:
        return of_driver
    return max((c for c in running if not c.is_driver), key=lambda c: c.node != of_driver.node)


def clusters_of(cloud: LocalCloud, arn: str) -> list[Cluster]:
    """Return the clusters that an execution created."""
    run = arn.rpartition(":")[2]
    return [c for c in cloud.emr.clusters.values() if c.request["Name"].endswith(run)]


def alive(cloud: LocalCloud, arn: str) -> list[Cluster]:
    """Return the clusters of an execution that still cost money."""
    return [cluster for cluster in clusters_of(cloud, arn) if cluster.alive]


def types(cluster: Cluster) -> set[str]:
    """Return the types that a cluster's core fleet may have."""
    fleets = cluster.request["Instances"]["InstanceFleets"]
    (core,) = (fleet for fleet in fleets if fleet["InstanceFleetType"] == "CORE")
    return {config["InstanceType"] for config in core["InstanceTypeConfigs"]}
