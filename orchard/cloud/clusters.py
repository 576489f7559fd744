"""EMR's clusters of a stack: which live, what they are made of, ending them.

A cluster is named after its stack and its run, so that it is found where its execution is gone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchard.cloud.session import client, in_sentences
from spark_job.deployed import cluster_name_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from orchard.cloud.stack import Stack

ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING")
"""States in which a cluster is paid for."""

TERMINATING = "TERMINATING"

NODES_ALIVE = ("PROVISIONING", "BOOTSTRAPPING", "RUNNING")


@dataclass(frozen=True)
class Cluster:
    """A cluster: EMR's id and word for its state, and since when it is paid for."""

    id: str
    run: str
    state: str
    since: datetime


@dataclass(frozen=True)
class Nodes:
    """A cluster's nodes: how many are up, how many are on their way, and of which types."""

    up: int
    coming: int
    types: dict[str, int]
    spot: int

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.types.items())
        spot = f", {self.spot} of them on Spot" if self.spot else ""
        coming = f", and {self.coming} on their way" if self.coming else ""
        return f"{self.up} nodes are up{coming}{f' ({kinds}{spot})' if kinds else ''}"


def clusters(stack: Stack, states: Sequence[str] = ALIVE) -> list[Cluster]:
    """List a stack's clusters in some states, in no order that EMR promises."""
    prefix = cluster_name_prefix(stack.name)
    return [
        Cluster(
            id=found["Id"],
            run=found["Name"].removeprefix(prefix),
            state=found["Status"]["State"],
            since=found["Status"]["Timeline"]["CreationDateTime"],
        )
        for found in _listed(states)
        if found["Name"].startswith(prefix)
    ]


def nodes_of(cluster: str) -> Nodes:
    """Count a cluster's nodes."""
    emr = client("emr")
    found: list[dict[str, Any]] = []
    with in_sentences(f"look at the nodes of the cluster {cluster}"):
        pages = emr.get_paginator("list_instances").paginate(
            ClusterId=cluster, InstanceStates=list(NODES_ALIVE)
        )
        for page in pages:
            found += page["Instances"]
    up = [one for one in found if one["Status"]["State"] == "RUNNING"]
    types = Counter(str(one["InstanceType"]) for one in up if "InstanceType" in one)
    spot = sum(one.get("Market") == "SPOT" for one in up)
    return Nodes(len(up), len(found) - len(up), dict(types.most_common()), spot)


def terminate(found: Sequence[Cluster]) -> None:
    """End clusters; ending one twice is no error."""
    ids = [one.id for one in found]
    with in_sentences(f"end the cluster {', '.join(ids)}"):
        client("emr").terminate_job_flows(JobFlowIds=ids)


def _listed(states: Sequence[str]) -> Iterator[dict[str, Any]]:
    with in_sentences("list the clusters"):
        pages = client("emr").get_paginator("list_clusters").paginate(ClusterStates=list(states))
        for page in pages:
            yield from page["Clusters"]
