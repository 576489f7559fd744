"""What a run on a cluster costs: an estimate, from the prices that the run is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spark_job.settings import JobSettings

SHUT_DOWN_SECONDS = 180
"""Allowed for what follows the job until no node is paid for any more."""


@dataclass(frozen=True)
class Dollars:
    """An estimate, in US dollars: not what is billed.

    Attributes
    ----------
    estimate
        From the cluster's creation to its end, `SHUT_DOWN_SECONDS` after the job's.
    hours
        Of the cluster.
    nodes
        Beside the primary one.
    per_hour
        Of all nodes together, at list prices on demand.
    """

    estimate: float
    hours: float
    nodes: int
    per_hour: float


def estimate(settings: JobSettings, now: datetime) -> Dollars | None:
    """Estimate what a run costs that ends now; None where it was not told what it must know."""
    told = settings.billed_since, settings.nodes, settings.node_price, settings.primary_price
    since, nodes, node, primary = told
    if since is None or nodes is None or node is None or primary is None:
        return None
    seconds = (now - datetime.fromisoformat(since)).total_seconds() + SHUT_DOWN_SECONDS
    hours = max(0.0, seconds) / 3600
    per_hour = primary + nodes * node
    return Dollars(round(hours * per_hour, 2), round(hours, 3), nodes, round(per_hour, 4))
