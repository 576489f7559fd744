"""Builds the wheelhouse: every package a cluster node installs, as files.

Nodes have no way to a package index, so the wheels travel with the deployment. They are chosen
for the node (CPython 3.11 on Amazon Linux 2023), never for the machine that downloads them, and
each has a hash in the lock. The folder holds

- the wheels, and pip's own among them, to install with;
- ``requirements.txt``: the lock's lines for that node, markers resolved, hashes kept;
- ``architecture``: what ``uname -m`` must answer on the node;
- ``SHA256SUMS``: of all of these.

The same lock gives the same bytes, so that a deployment uploads the wheelhouse once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import itertools
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

BOOTSTRAP = Path(__file__).parent
LOCK = BOOTSTRAP / "requirements.txt"
INSTALLER_LOCK = BOOTSTRAP / "installer.txt"
WHEELHOUSES = BOOTSTRAP.parent / "build" / "wheelhouse"

ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""EC2's name of an architecture -> the kernel's and the wheels' name of it."""

PYTHON = "3.11"
OLDEST_GLIBC, NODE_GLIBC = 5, 34
"""The manylinux_2_N platforms a node can run: from the first one to Amazon Linux 2023's glibc."""


class WheelhouseError(Exception):
    """The wheelhouse cannot be built or is not what the lock says; the message says why."""


@dataclass(frozen=True)
class Pin:
    """One line of a lock that applies to the node.

    Attributes
    ----------
    requirement
        ``name==version``.
    hashes
        The sha256 of each file of that version that may be installed.
    """

    requirement: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        return " \\\n    ".join([self.requirement, *(f"--hash=sha256:{h}" for h in self.hashes)])


def build(
    architecture: str,
    *,
    lock: Path = LOCK,
    installer_lock: Path = INSTALLER_LOCK,
    destination: Path | None = None,
) -> Path:
    """Download the wheels for one architecture and describe them.

    A wheelhouse that already is what the lock says is left alone, without touching the network.

    Parameters
    ----------
    architecture
        ``x86_64`` or ``arm64``.
    lock
        A hash-pinned requirements file, possibly universal (with markers).
    installer_lock
        The same for pip.
    destination
        The folder to write, by default ``build/wheelhouse/<architecture>``.

    Returns
    -------
    Path
        The wheelhouse's folder.

    Raises
    ------
    WheelhouseError
        When a lock cannot be read, or a package has no wheel for the node, or a file's hash is
        not in the lock.
    """
    machine = ARCHITECTURES[architecture]
    destination = destination or WHEELHOUSES / architecture
    pins = node_pins(lock, machine)
    installer = node_pins(installer_lock, machine)
    if _is_complete(destination, pins, installer, machine):
        return destination

    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".building-") as folder:
        building = Path(folder) / architecture
        building.mkdir()
        _download([*installer, *pins], machine, building)
        _verify_wheels(building, [*installer, *pins])
        _describe(building, pins, machine)
        shutil.rmtree(destination, ignore_errors=True)
        building.rename(destination)
    return destination


def node_pins(lock: Path, machine: str) -> list[Pin]:
    """Read the lines of a lock that apply to a node, in the lock's order.

    Parameters
    ----------
    lock
        A requirements file in which every line is ``name==version [; marker]`` with hashes.
    machine
        The node's ``platform_machine``.
    """
    if not lock.is_file():
        raise WheelhouseError(f"There is no lock at {lock}.")
    environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{PYTHON}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{PYTHON}.0",
        "python_version": PYTHON,
        "sys_platform": "linux",
    }
    pins = []
    for line in _logical_lines(lock.read_text(encoding="utf-8")):
        text, *options = line.split(" --hash=sha256:")
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise WheelhouseError(f"{lock} has a line that is no requirement: {text!r}.") from error
        if not str(requirement.specifier).startswith("==") or not options:
            raise WheelhouseError(
                f"{lock} does not pin {requirement.name} to one version with hashes: lock it "
                "again with --generate-hashes."
            )
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            pins.append(Pin(str(requirement), tuple(option.strip() for option in options)))
    return pins


def main(argv: list[str] | None = None) -> int:
    """Build one wheelhouse from the command line and say where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m bootstrap.wheelhouse",
        description="Collect the packages that a cluster node installs.",
    )
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="x86_64")
    arguments = parser.parse_args(argv)
    try:
        folder = build(arguments.architecture)
    except WheelhouseError as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 1
    wheels = list(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f"{folder}: {len(wheels)} wheels for {arguments.architecture}, {size:.0f} MB")
    return 0


def _logical_lines(text: str) -> list[str]:
    """Join continued lines; drop comments and blank lines."""
    kept = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = "\n".join(kept).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]


def _download(pins: list[Pin], machine: str, folder: Path) -> None:
    """Fetch each pin's wheel for the node with pip, which also checks its hash."""
    if importlib.util.find_spec("pip") is None:
        raise WheelhouseError(
            f"{sys.executable} has no pip to download wheels with: install the development "
            "requirements, or run `python -m ensurepip`."
        )
    glibcs = range(NODE_GLIBC, OLDEST_GLIBC - 1, -1)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in glibcs]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
        requirements.write(_requirements(pins))
        requirements.flush()
        download = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download"),
                *("--quiet", "--dest", str(folder)),
                *("--requirement", requirements.name, "--require-hashes", "--no-deps"),
                *("--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON),
                *itertools.chain.from_iterable(("--platform", name) for name in platforms),
            ],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    if download.returncode != 0:
        raise WheelhouseError(
            f"The wheels for {machine} could not be downloaded. pip says: "
            f"{download.stderr.strip() or 'nothing'}"
        )


def _verify_wheels(folder: Path, pins: list[Pin]) -> None:
    """Check that there is one file per pin and that each one's hash is in the lock."""
    allowed = {digest for pin in pins for digest in pin.hashes}
    wheels = sorted(folder.iterdir())
    for wheel in wheels:
        if wheel.suffix != ".whl":
            raise WheelhouseError(f"{wheel.name} is no wheel: nodes have nothing to build it with.")
        if _sha256(wheel) not in allowed:
            raise WheelhouseError(f"{wheel.name} does not have a hash of the lock.")
    if len(wheels) != len(pins):
        raise WheelhouseError(f"{len(wheels)} wheels came for {len(pins)} pinned packages.")


def _describe(folder: Path, pins: list[Pin], machine: str) -> None:
    (folder / "requirements.txt").write_text(_requirements(pins), encoding="utf-8")
    (folder / "architecture").write_text(f"{machine}\n", encoding="utf-8")
    (folder / "SHA256SUMS").write_text(_checksums(folder), encoding="utf-8")


def _is_complete(folder: Path, pins: list[Pin], installer: list[Pin], machine: str) -> bool:
    """Whether a folder is, byte for byte, what a build from these pins would give."""
    try:
        described = (
            (folder / "requirements.txt").read_text(encoding="utf-8") == _requirements(pins)
            and (folder / "architecture").read_text(encoding="utf-8") == f"{machine}\n"
            and (folder / "SHA256SUMS").read_text(encoding="utf-8") == _checksums(folder)
        )
    except OSError:
        return False
    digests = {_sha256(wheel) for wheel in folder.glob("*.whl")}
    return described and all(digests.intersection(pin.hashes) for pin in [*pins, *installer])


def _requirements(pins: list[Pin]) -> str:
    return "".join(f"{pin}\n" for pin in pins)


def _checksums(folder: Path) -> str:
    """List the folder's files as ``sha256sum`` would, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    return "".join(f"{_sha256(path)}  {path.name}\n" for path in files)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
