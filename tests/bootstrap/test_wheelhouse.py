"""The wheelhouse fits the node it is for, and is what the lock says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from bootstrap import wheelhouse

REPOSITORY = Path(__file__).parents[2]
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}


@pytest.fixture(scope="module", params=sorted(MACHINES))
def any_built(request: pytest.FixtureRequest) -> Path:
    """The wheelhouses of both architectures, whichever one these tests run on."""
    return wheelhouse.build(request.param)


def test_every_wheel_runs_on_the_node(any_built: Path) -> None:
    machine = MACHINES[any_built.name]
    for wheel in any_built.glob("*.whl"):
        _, _, _, tags = parse_wheel_filename(wheel.name)
        fits = [tag for tag in tags if _runs_on(machine, tag.interpreter, tag.abi, tag.platform)]
        assert fits, f"{wheel.name} does not install on CPython 3.11, glibc 2.34, {machine}"


def test_every_package_of_the_lock_is_there_in_its_locked_bytes(any_built: Path) -> None:
    lock = (REPOSITORY / "bootstrap" / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+) (?!.*win32)", lock, flags=re.MULTILINE))
    found = {}
    for wheel in any_built.glob("*.whl"):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        found[str(name)] = str(version)
        if name != "pip":
            assert hashlib.sha256(wheel.read_bytes()).hexdigest() in lock
    assert found.pop("pip")
    assert found == locked


def test_the_job_needs_no_tensorflow_there(any_built: Path) -> None:
    assert not list(any_built.glob("tensorflow*"))
    assert sum(path.stat().st_size for path in any_built.iterdir()) < 200e6


def test_building_again_downloads_nothing_and_changes_nothing(
    built: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    before = {path: path.stat().st_mtime_ns for path in built.iterdir()}
    assert wheelhouse.build(architecture) == built
    assert {path: path.stat().st_mtime_ns for path in built.iterdir()} == before


def test_two_builds_from_one_lock_are_the_same_bytes_whatever_was_there(tmp_path: Path) -> None:
    lock = _lock(tmp_path, "six", "tqdm", "colorama")
    builds = []
    for name in ("first", "second"):
        folder = tmp_path / name
        wheelhouse.build("arm64", lock=lock, destination=folder)
        next(folder.glob("six-*")).write_bytes(b"damaged")
        (folder / "left-over-1.0-py3-none-any.whl").touch()
        wheelhouse.build("arm64", lock=lock, destination=folder)
        builds.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert builds[0] == builds[1]
    assert sorted(name.split("-")[0] for name in builds[0] if name.endswith(".whl")) == [
        "pip",
        "six",
        "tqdm",
    ]


def test_markers_are_the_nodes_and_not_this_machines(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    digest = f" \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n"
    lock.write_text(
        "# a comment\n"
        f"always==1.0{digest}"
        f"windows==1.0 ; sys_platform == 'win32'{digest}"
        f"graviton==1.0 ; platform_machine == 'aarch64' and sys_platform == 'linux'{digest}"
        f"intel==1.0 ; platform_machine == 'x86_64'{digest}"
        f"newer==1.0 ; python_full_version >= '3.12'{digest}"
    )
    names = {
        machine: [pin.requirement for pin in wheelhouse.node_pins(lock, machine)]
        for machine in MACHINES.values()
    }
    assert names == {
        "x86_64": ["always==1.0", "intel==1.0"],
        "aarch64": ["always==1.0", "graviton==1.0"],
    }
    assert wheelhouse.node_pins(lock, "x86_64")[0].hashes == ("0" * 64, "1" * 64)


@pytest.mark.parametrize("line", ["six==1.17.0", "six>=1 --hash=sha256:00", "six --hash=sha256:00"])
def test_a_lock_that_does_not_pin_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "lock.txt").write_text(line)
    with pytest.raises(wheelhouse.WheelhouseError, match="does not pin six to one version"):
        wheelhouse.node_pins(tmp_path / "lock.txt", "x86_64")


def test_a_package_without_a_wheel_for_the_node_is_named(tmp_path: Path) -> None:
    # The index has pyspark as source only.
    lock = tmp_path / "lock.txt"
    lock.write_text(f"pyspark==3.5.9 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(wheelhouse.WheelhouseError, match=r"x86_64[\s\S]*pyspark==3\.5\.9"):
        wheelhouse.build("x86_64", lock=lock, destination=tmp_path / "wheelhouse")
    assert not (tmp_path / "wheelhouse").exists()


def test_a_file_that_the_lock_does_not_know_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(wheelhouse.WheelhouseError, match="HASHES"):
        wheelhouse.build("x86_64", lock=lock, destination=tmp_path / "wheelhouse")
    assert not (tmp_path / "wheelhouse").exists()


def _runs_on(machine: str, interpreter: str, abi: str, platform: str) -> bool:
    if interpreter in {"py3", "py311"} and abi == "none" and platform == "any":
        return True
    python = re.fullmatch(r"cp3(\d+)", interpreter)
    glibc = re.fullmatch(rf"manylinux_2_(\d+)_{machine}", platform)
    return (
        python is not None
        and (interpreter == abi == "cp311" or (abi == "abi3" and int(python[1]) <= 11))
        and (
            (glibc is not None and int(glibc[1]) <= 34)
            or platform in {f"manylinux2014_{machine}", f"manylinux2010_{machine}"}
        )
    )


def _lock(folder: Path, *names: str) -> Path:
    """Copy some packages' lines of the real lock, each with its hashes."""
    text = (REPOSITORY / "bootstrap" / "requirements.txt").read_text()
    blocks = re.findall(r"^[a-z0-9-]+==.*(?:\n    .*)*", text, flags=re.MULTILINE)
    lock = folder / "lock.txt"
    lock.write_text("".join(f"{b}\n" for b in blocks if b.partition("==")[0] in names))
    return lock
