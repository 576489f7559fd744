"""What EMR knows of a cluster and of its steps, and how it describes them."""

from __future__ import annotations

import enum
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass
class Step:
    """One step of a cluster."""

    step_id: str
    request: Mapping[str, Any]
    state: str = "PENDING"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    failure: dict[str, str] = field(default_factory=dict)
    cancelled: bool = False

    def describe(self) -> dict[str, Any]:
        """Return it as ``DescribeStep`` does."""
        jar = self.request["HadoopJarStep"]
        status: dict[str, Any] = {
            "State": self.state,
            "StateChangeReason": {},
            "Timeline": _timeline(
                CreationDateTime=self.created,
                StartDateTime=self.started,
                EndDateTime=self.ended,
            ),
        }
        if self.failure:
            status["FailureDetails"] = self.failure
        return {
            "Id": self.step_id,
            "Name": self.request["Name"],
            "Config": {"Jar": jar["Jar"], "Args": jar.get("Args", []), "Properties": {}},
            "ActionOnFailure": self.request.get("ActionOnFailure", "TERMINATE_CLUSTER"),
            "Status": status,
        }


class Shortage(enum.Enum):
    """What a cluster meets where EC2 has no instances."""

    LATE = "it stays STARTING"
    ENDED = "it ends, and its details say why"


@dataclass
class Cluster:
    """One cluster."""

    cluster_id: str
    request: Mapping[str, Any]
    state: str = "STARTING"
    reason: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, str]] = field(default_factory=list)
    created: float = field(default_factory=time.time)
    ready: float | None = None
    ended: float | None = None
    steps: list[Step] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    idle_timeout_s: float | None = None
    idle_since: float = field(default_factory=time.time)
    terminate: threading.Event = field(default_factory=threading.Event)
    shortage: Shortage | None = None

    @property
    def arn_suffix(self) -> str:
        """The resource's part of its ARN."""
        return f"cluster/{self.cluster_id}"

    @property
    def alive(self) -> bool:
        """Whether it still costs money."""
        return not self.state.startswith("TERMINATED")

    def describe(self) -> dict[str, Any]:
        """Return it as ``DescribeCluster`` does."""
        instances = self.request.get("Instances", {})
        return {
            "Id": self.cluster_id,
            "Name": self.request["Name"],
            "Status": {
                "State": self.state,
                "StateChangeReason": self.reason,
                **({"ErrorDetails": self.errors} if self.errors else {}),
                "Timeline": _timeline(
                    CreationDateTime=self.created,
                    ReadyDateTime=self.ready,
                    EndDateTime=self.ended,
                ),
            },
            "LogUri": self.request.get("LogUri"),
            "ReleaseLabel": self.request.get("ReleaseLabel"),
            "AutoTerminate": not instances.get("KeepJobFlowAliveWhenNoSteps", False),
            "TerminationProtected": instances.get("TerminationProtected", False),
            "ServiceRole": self.request["ServiceRole"],
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
        }

    def describe_fleets(self) -> list[dict[str, Any]]:
        """Return its fleets as ``ListInstanceFleets`` does, of which EC2 gave all or none."""
        late = self.state == "STARTING"
        status = {
            "State": "PROVISIONING" if late else "RUNNING",
            "StateChangeReason": {"Message": "No instance could be had."} if late else {},
        }
        return [
            {
                "Id": f"if-{number}",
                "Name": fleet.get("Name"),
                "InstanceFleetType": fleet["InstanceFleetType"],
                "Status": status,
            }
            for number, fleet in enumerate(self.request["Instances"].get("InstanceFleets", []))
        ]

    def describe_instances(self, states: Collection[str]) -> list[dict[str, Any]]:
        """Return as many as its fleets want as ``ListInstances`` does, with the wanted states."""
        up = "TERMINATED" if not self.alive else "RUNNING" if self.ready else "BOOTSTRAPPING"
        state = "PROVISIONING" if self.state == "STARTING" else up
        if states and state not in states:
            return []
        return [
            {
                "Id": f"ci-{kind}{market}{number}",
                "InstanceType": fleet["InstanceTypeConfigs"][0]["InstanceType"],
                "Market": market,
                "Status": {"State": state},
            }
            for kind, fleet in enumerate(self.request["Instances"].get("InstanceFleets", []))
            for market, wanted in (
                ("ON_DEMAND", fleet.get("TargetOnDemandCapacity", 0)),
                ("SPOT", fleet.get("TargetSpotCapacity", 0)),
            )
            for number in range(wanted)
        ]

    def state_change(self) -> dict[str, Any]:
        """Return the detail of the event by which EMR reports its state."""
        return {
            "clusterId": self.cluster_id,
            "name": self.request["Name"],
            "state": self.state,
            "stateChangeReason": json.dumps(
                {"code": self.reason.get("Code", ""), "message": self.reason.get("Message", "")}
            ),
        }


def _timeline(**moments: float | None) -> dict[str, float]:
    return {name: moment for name, moment in moments.items() if moment is not None}
