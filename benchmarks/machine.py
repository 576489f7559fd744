"""The machine and the versions that a result holds for."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = (
    "pyspark", "ai-edge-litert", "numpy", "pillow", "pyarrow", "keras", "scikit-learn",
)  # fmt: skip


def describe_machine() -> dict[str, str]:
    """Cores, CPU, memory, operating system, and how busy the machine is by now."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "cores": str(core_count()),
        "CPU": _cpu_model(),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "load before the start": f"{os.getloadavg()[0]:.2f} (1 minute)",
    }


def describe_versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def core_count() -> int:
    """Cores that this process may use."""
    return len(psutil.Process().cpu_affinity())


def is_busy() -> bool:
    """Whether other programs already use a fifth of the cores or more."""
    return os.getloadavg()[0] > core_count() / 5


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
    return line.partition(":")[2].strip()
