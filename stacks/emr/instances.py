"""Instance types: which ones fit the job, which ones may stand in for which, how memory is divided.

Types of one class (`m5.xlarge` and `m6i.xlarge`) have the same vCPUs and memory, so that one unit
of a fleet's capacity is one node, whichever of them EC2 has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stacks.knobs import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stacks.config import OrchardConfig

_FAMILIES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "x86_64": {
        "m": ("m5", "m6i", "m6a", "m5a", "m5d", "m7i"),
        "c": ("c6i", "c6a", "c5", "c7i"),
        "r": ("r5", "r6i", "r5a"),
    },
    "arm64": {
        "m": ("m6g", "m7g", "m6gd", "m7gd"),
        "c": ("c7g", "c6g", "c6gd"),
        "r": ("r6g", "r7g"),
    },
}
"""Families that EMR 7 has, by EC2's letter for their memory, the most common first."""

_SIZES: Final = ("xlarge", "2xlarge", "4xlarge")
_GIB_PER_VCPU: Final = {"c": 2, "m": 4, "r": 8}
_NAME: Final = re.compile(r"([cmr])(\w*)\.([24]?)xlarge")
# A Graviton family has a "g" after its generation: m6g, c7gn, r8gd.
_GRAVITON: Final = re.compile(r"\d+g")

_MIB: Final = 1024
_DRIVER_HEAP_MIB: Final = 1024
_DRIVER_PYTHON_MIB: Final = 1024
_EXECUTOR_HEAP_MIB: Final = 768
_TASK_MIB: Final = 832


@dataclass(frozen=True)
class NodeShape:
    """How the memory of a core node is divided between one executor and the driver, in MiB.

    The images, the network and the PCA live in Python, so most of an executor's memory is
    overhead in Spark's terms, and its Java heap is small. The driver, which lands on some node,
    holds moments and receipts, and no data.
    """

    vcpus: int
    yarn: int
    executor_heap: int
    executor_python: int
    driver_heap: int = _DRIVER_HEAP_MIB
    driver_python: int = _DRIVER_PYTHON_MIB

    @classmethod
    def of(cls, instance_type: str) -> NodeShape:
        """Divide a node.

        Raises
        ------
        ConfigError
            For a type too small for the job, or whose name does not tell its memory.
        """
        found = _NAME.fullmatch(instance_type)
        if found is None:
            raise refusal(
                "instance_types",
                instance_type,
                "types of the families c, m and r, from xlarge to 4xlarge, such as m5.xlarge",
            )
        vcpus = 4 * int(found[3] or 1)
        # A quarter stays for the system and the daemons of EMR and HDFS.
        yarn = vcpus * _GIB_PER_VCPU[found[1]] * _MIB * 3 // 4
        python = yarn - _DRIVER_HEAP_MIB - _DRIVER_PYTHON_MIB - _EXECUTOR_HEAP_MIB
        # A task's process holds the network's runtime (300 MB), 64 megapixels decoded (192 MB,
        # twice while converting) and the files read ahead (128 MB).
        if python < vcpus * _TASK_MIB:
            raise refusal(
                "instance_types",
                instance_type,
                "types of 8 GiB of memory or more, such as c6i.xlarge or c7g.xlarge",
            )
        return cls(vcpus, yarn, _EXECUTOR_HEAP_MIB, python)

    def settings(self) -> dict[str, str]:
        """Return the shape as the texts that EMR's configurations hold."""
        return {
            "yarn_mb": str(self.yarn),
            "cores": str(self.vcpus),
            "executor_heap": f"{self.executor_heap}m",
            "executor_python": f"{self.executor_python}m",
            "driver_heap": f"{self.driver_heap}m",
            "driver_python": f"{self.driver_python}m",
        }


def fitting(architecture: str) -> tuple[str, ...]:
    """Return every known type that fits the job, the most common family first, then by size."""
    families = _FAMILIES[architecture]
    return tuple(
        f"{family}.{size}"
        for size in _SIZES
        for letter in ("m", "c", "r")
        for family in families[letter]
    )


def is_graviton(instance_type: str) -> bool:
    """Return whether a type's processor is Graviton (arm64)."""
    return _GRAVITON.search(instance_type.partition(".")[0]) is not None


def alike(instance_type: str, config: OrchardConfig) -> tuple[str, ...]:
    """Return a type and those that have the same vCPUs and memory, itself first."""
    letter, size = instance_type[0], instance_type.partition(".")[2]
    others = (f"{family}.{size}" for family in _FAMILIES[config.architecture][letter])
    return (instance_type, *_offered(others, config, but=instance_type))


def larger(instance_type: str, config: OrchardConfig) -> tuple[str, ...]:
    """Return other types that have at least a type's vCPUs and memory, the cheapest first.

    The executors are divided for the smaller type, and fit.
    """
    letter, size = instance_type[0], instance_type.partition(".")[2]
    families = _FAMILIES[config.architecture]
    if letter == "r":
        doubled = "2xlarge" if size == "xlarge" else f"{2 * int(size.removesuffix('xlarge'))}xlarge"
        return _offered((f"{family}.{doubled}" for family in families["m"]), config)
    names = (f"{family}.{size}" for family in families["m" if letter == "c" else "r"])
    return _offered(names, config)


def _offered(names: Iterable[str], config: OrchardConfig, but: str = "") -> tuple[str, ...]:
    return tuple(name for name in names if name not in (*config.unoffered_types, but))


def fleet_types(instance_types: Sequence[str], volume_gib: int) -> list[dict[str, Any]]:
    """Return the types of a fleet as EMR's API has them, the first one preferred.

    Parameters
    ----------
    instance_types
        Types whose nodes are worth one unit of capacity each.
    volume_gib
        The EBS volume of a node.
    """
    return [
        {
            "InstanceType": instance_type,
            "WeightedCapacity": 1,
            "Priority": priority,
            "EbsConfiguration": {
                "EbsBlockDeviceConfigs": [
                    {
                        "VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": volume_gib},
                        "VolumesPerInstance": 1,
                    }
                ]
            },
        }
        for priority, instance_type in enumerate(instance_types)
    ]
