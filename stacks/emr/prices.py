"""What a node costs an hour: EC2 on demand, EMR's part and its disks, from a list with sources.

`prices.json` names the source of every group of its figures, with the date where that has one.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

_HOURS_PER_MONTH: Final = 730
_ROOT_GIB: Final = 32


@cache
def _prices() -> dict[str, Any]:
    return dict(json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8")))


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
