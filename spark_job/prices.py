"""What a node costs an hour: EC2 on demand, EMR's part and its disks, from a dated list.

Standard library only, so that the stack may import it beside `contract`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Final

_HOURS_PER_MONTH: Final = 730
_ROOT_GIB: Final = 32


@cache
def _prices() -> dict[str, Any]:
    listed = resources.files("spark_job").joinpath("prices.json")
    return dict(json.loads(listed.read_text(encoding="utf-8")))


def as_of() -> str:
    """Return the month of the list."""
    return str(_prices()["as_of"])


def priced_types(region: str) -> list[str]:
    """Return the types, as xlarge, that the list has for a region; none where it has not that."""
    return list(_prices().get(region, ()))


def node_price(region: str, instance_type: str, volume_gib: int) -> float | None:
    """Return a node's price in US dollars an hour; None where the list does not have it.

    Larger sizes cost as many times more as they have vCPUs; Spot costs less, and EMR's part stays.

    Parameters
    ----------
    region
        Where.
    instance_type
        Its type.
    volume_gib
        Its EBS volume, beside the root's.
    """
    family, _, size = instance_type.partition(".")
    times = 1 if size == "xlarge" else int(size.removesuffix("xlarge"))
    found = _prices().get(region, {}).get(f"{family}.xlarge")
    disk = _prices()["gp3_gib_month"].get(region)
    if found is None or disk is None:
        return None
    disks = (volume_gib + _ROOT_GIB) * disk / _HOURS_PER_MONTH
    return float(round(times * (found["ec2"] + found["emr"]) + disks, 4))
