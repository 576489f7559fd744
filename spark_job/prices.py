"""What a node costs an hour: EC2 on demand, EMR's part and its disks, from a list with sources.

`prices.json` names the source of every group of its figures, with the date where that has one.
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
    """Return the day of the youngest figures of the list."""
    dates = (source["date"] for source in _prices()["sources"])
    return max(str(date) for date in dates if date)


def priced_types(region: str) -> list[str]:
    """Return the types, as xlarge, that the list has for a region; none where it has not that."""
    listed = _prices()["ec2"].get(region, {})
    return [name for name, price in listed.items() if price is not None]


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
    listed = _prices()
    ec2 = listed["ec2"].get(region, {}).get(f"{family}.xlarge")
    if ec2 is None:
        return None
    emr = listed["emr"][f"{family}.xlarge"]
    # Disks are a twentieth of a node's price: where theirs is not listed, the dearest stands in.
    disk = listed["gp3_gib_month"].get(region, max(listed["gp3_gib_month"].values()))
    disks = (volume_gib + _ROOT_GIB) * disk / _HOURS_PER_MONTH
    return float(round(times * (ec2 + emr) + disks, 4))
