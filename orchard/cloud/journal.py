"""How an execution goes, read from its history: states, and the clusters that it made.

The history grows to thousands of events; only those that are new are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchard.cloud.session import client, in_sentences

if TYPE_CHECKING:
    from datetime import datetime

    from orchard.cloud.stack import Stack

CREATE_CLUSTER = "CreateCluster"
"""The state that makes a cluster."""

CLUSTER_ID = "ClusterId"

PAGE = 100
"""Events of a request, the latest first."""


@dataclass(frozen=True)
class Entered:
    """A state that was entered."""

    name: str
    at: datetime


@dataclass
class Journal:
    """What is known of an execution's way.

    Attributes
    ----------
    states
        Entered so far, in order.
    clusters
        Ids of the clusters that it made, in order.
    """

    stack: Stack
    run: str
    states: list[Entered] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    _last: int = 0

    @property
    def state(self) -> str | None:
        """The state that was entered last."""
        return self.states[-1].name if self.states else None

    def update(self) -> list[Entered]:
        """Read what is new, and return the states entered since."""
        new: list[Entered] = []
        for event in self._new_events():
            entered = event.get("stateEnteredEventDetails")
            if entered:
                new.append(Entered(entered["name"], event["timestamp"]))
            cluster = _cluster_of(event)
            if cluster is not None and cluster not in self.clusters:
                self.clusters.append(cluster)
        self.states += new
        return new

    def _new_events(self) -> list[dict[str, Any]]:
        states = client("stepfunctions")
        asked: dict[str, Any] = {
            "executionArn": self.stack.execution(self.run),
            "reverseOrder": True,
            "maxResults": PAGE,
        }
        found: list[dict[str, Any]] = []
        while True:
            with in_sentences(f"read how the run {self.run} goes"):
                page = states.get_execution_history(**asked)
            new = [event for event in page["events"] if event["id"] > self._last]
            found += new
            if len(new) < len(page["events"]) or not page.get("nextToken"):
                break
            asked["nextToken"] = page["nextToken"]
        found.sort(key=lambda event: int(event["id"]))
        if found:
            self._last = found[-1]["id"]
        return found


def _cluster_of(event: dict[str, Any]) -> str | None:
    """Read the id of the cluster that a task has just made; None for any other event."""
    details = event.get("taskSucceededEventDetails") or {}
    if CLUSTER_ID not in (details.get("output") or ""):
        return None
    try:
        made = json.loads(details["output"])
    except ValueError:  # cut short
        return None
    found = made.get(CLUSTER_ID) if isinstance(made, dict) else None
    return found if isinstance(found, str) else None
