"""Runs the bootstrap as a node does: wheels from S3, and no other way out of the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = Path(__file__).parents[2] / "bootstrap" / "install.sh"
STAND_IN = Path(__file__).parents[2] / "rehearsal" / "emr" / "node_bin"
UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
# Root of the namespace, but for what lets root write where a mode forbids it.
ORDINARY_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
# What root would do is done by opening the parent for a moment.
SUDO = """\
#!/bin/sh
shift
echo "$@" >> {log}
for prefix; do :; done
parent=$(dirname "$prefix")
chmod u+w "$parent" && "$@"
done=$?
chmod u-w "$parent"
exit $done
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nodes are Linux machines")


@dataclass(frozen=True)
class Node:
    """A network namespace with a loopback and S3 on it, and nothing else; an ordinary user in it.

    Attributes
    ----------
    pid
        A process in the namespace.
    tools
        The commands that a node has, as a search path.
    sudoed
        Where the node's sudo notes what it was asked to do.
    """

    pid: int
    tools: str
    sudoed: Path

    def run(
        self, *command: str, umask: int = 0o022, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", f"--target={self.pid}", "--user", "--net", "--preserve-credentials"]
        return subprocess.run(
            [*enter, *ORDINARY_USER, *command],
            env={
                "PATH": self.tools,
                "HOME": os.environ.get("HOME", "/"),
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                **environment,
            },
            capture_output=True,
            text=True,
            umask=umask,
            timeout=120,
            check=False,
        )

    def install(
        self, archive: str, prefix: Path, umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        return self.run(
            *("bash", str(INSTALL), f"s3://code/{archive}", str(prefix)),
            umask=umask,
            AWS_ENDPOINT_URL="http://127.0.0.1:5000",
            AWS_REGION="eu-west-1",
        )


@pytest.fixture(scope="module")
def archives(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the wheelhouse's archive as it is deployed, and the ones that must be refused."""
    folder = tmp_path_factory.mktemp("archives")
    files = {path.name: path.read_bytes() for path in sorted(built.iterdir())}
    six = next(name for name in files if name.startswith("six-"))
    damaged = bytearray(files[six])
    damaged[len(damaged) // 2] ^= 1
    described = {name: files[name] for name in files if not name.endswith(".whl")}
    other = b"aarch64\n" if platform.machine() == "x86_64" else b"x86_64\n"

    _zip(folder / "wheelhouse.zip", files)
    _zip(folder / "damaged.zip", {**files, six: bytes(damaged)})
    _zip(folder / "other-architecture.zip", {**described, "architecture": other})
    _zip(folder / "something-else.zip", {"photograph.jpg": b""})
    (folder / "cut.zip").write_bytes((folder / "wheelhouse.zip").read_bytes()[:100_000])

    # Wheel and checksums replaced together, as someone with access to the bucket could.
    swapped = {**files, six: bytes(damaged)}
    swapped["SHA256SUMS"] = files["SHA256SUMS"].replace(_sha256(files[six]), _sha256(damaged))
    _zip(folder / "swapped.zip", swapped)
    return folder


@pytest.fixture(scope="module")
def node(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    refusal = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if refusal.returncode != 0:
        pytest.skip(f"this kernel gives no network namespace: {refusal.stderr.strip()}")
    # What a node has: sudo, python3.11 and the AWS command line, a stand-in where there is none.
    played = tmp_path_factory.mktemp("bin")
    (played / "sudo").write_text(SUDO.format(log=played / "sudoed"))
    (played / "sudo").chmod(0o755)
    tools = f"{played}:{Path(sys.executable).parent}:{os.environ['PATH']}:{STAND_IN}"
    with subprocess.Popen(
        [*UNSHARE, sys.executable, str(Path(__file__).with_name("loopback.py")), str(archives)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        for line in server.stdout:
            if line == "ready\n":
                break
        yield Node(server.pid, tools, played / "sudoed")
        server.stdin.close()


@pytest.fixture(scope="module")
def installed(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A prefix like /opt/orchard: not there before, in a folder that belongs to root.

    The user who installs has a stingy umask, too.
    """
    opt = tmp_path_factory.mktemp("node") / "opt"
    opt.mkdir(mode=0o555)
    started = time.perf_counter()
    result = node.install("wheelhouse.zip", opt / "orchard", umask=0o077)
    print(f"\ninstall.sh took {time.perf_counter() - started:.1f} s")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "pyarrow" in result.stdout, "the versions are in the log"
    yield opt / "orchard"
    opt.chmod(0o755)


def test_the_node_of_these_tests_reaches_nothing_but_its_s3(node: Node) -> None:
    connect = "import socket; socket.create_connection(('192.0.2.1', 443), 5)"
    out = node.run(sys.executable, "-c", connect)
    assert "Network is unreachable" in out.stderr


def test_what_it_installs_runs_the_network(node: Node, installed: Path) -> None:
    model = Path(__file__).parents[2] / "spark_job" / "networks" / "mobilenet_v2" / "network.tflite"
    script = (
        "import sys, numpy, pandas, PIL.Image, pyarrow.fs, pyarrow.parquet\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "interpreter = Interpreter(model_path=sys.argv[1])\n"
        "index = interpreter.get_input_details()[0]['index']\n"
        "interpreter.resize_tensor_input(index, [1, 224, 224, 3])\n"
        "interpreter.allocate_tensors()\n"
        "interpreter.invoke()\n"
        "print(interpreter.get_output_details()[0]['shape'].tolist(), sys.prefix)\n"
    )
    out = node.run(str(installed / "bin" / "python"), "-I", "-c", script, str(model))
    assert out.stdout.split() == ["[1,", "1280]", str(installed)], out.stderr


def test_root_is_asked_for_the_prefix_and_for_nothing_else(node: Node, installed: Path) -> None:
    asked = node.sudoed.read_text().splitlines()
    assert all(line.startswith("install -d ") for line in asked)
    assert len([line for line in asked if line.endswith(f" {installed}")]) == 1


def test_every_user_of_the_node_can_read_it(installed: Path) -> None:
    hidden = [
        path
        for path in (installed, *installed.rglob("*"))
        if not path.stat().st_mode & stat.S_IROTH
        or (path.is_dir() and not path.stat().st_mode & stat.S_IXOTH)
    ]
    assert hidden == []


def test_users_who_may_not_write_there_need_not_compile_it(installed: Path) -> None:
    for package in ("numpy", "pandas", "pyarrow", "ai_edge_litert"):
        (folder,) = installed.glob(f"lib/python3.11/site-packages/{package}")
        assert (folder / "__pycache__" / "__init__.cpython-311.pyc").is_file()


def test_a_second_run_changes_nothing(node: Node, installed: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in installed.rglob("*")}
    result = node.install("wheelhouse.zip", installed)
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout
    assert {path: path.lstat().st_mtime_ns for path in installed.rglob("*")} == before


def test_a_broken_installation_is_replaced(node: Node, installed: Path) -> None:
    shutil.rmtree(next(installed.glob("lib/python3.11/site-packages/PIL")))
    result = node.install("wheelhouse.zip", installed)
    assert result.returncode == 0, result.stderr
    assert node.run(str(installed / "bin" / "python"), "-c", "import PIL.Image").returncode == 0


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        ("absent.zip", "cannot download s3://code/absent.zip"),
        ("cut.zip", "is not a whole zip archive"),
        ("something-else.zip", "is not a wheelhouse"),
        ("other-architecture.zip", "choose instances of that architecture"),
        ("damaged.zip", "is damaged (six-1"),
    ],
)
def test_a_wheelhouse_that_cannot_be_installed_is_refused_in_a_sentence(
    node: Node, tmp_path: Path, archive: str, sentence: str
) -> None:
    result = node.install(archive, tmp_path / "orchard")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("install.sh: ")
    assert sentence in last
    assert not (tmp_path / "orchard").exists()


def test_a_wheel_swapped_together_with_its_checksum_is_caught_by_the_lock(
    node: Node, tmp_path: Path
) -> None:
    result = node.install("swapped.zip", tmp_path / "orchard")
    assert "DO NOT MATCH THE HASHES" in result.stderr
    assert "pip could not install the wheelhouse" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("six.py"))


def test_without_a_region_it_asks_the_instance_for_its_own(node: Node, tmp_path: Path) -> None:
    result = node.run(
        *("bash", str(INSTALL), "s3://code/wheelhouse.zip", str(tmp_path / "orchard")),
        AWS_MAX_ATTEMPTS="1",
    )
    assert "s3.eu-south-1.amazonaws.com" in result.stderr, "that S3, which is not reachable here"
    assert "cannot download s3://code/wheelhouse.zip" in result.stderr.splitlines()[-1]


def test_a_directory_with_other_files_is_left_alone(node: Node, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    result = node.install("wheelhouse.zip", tmp_path)
    assert result.returncode == 1
    assert "empty it or give another prefix" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_prefix_that_cannot_be_made_is_named(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = node.install("wheelhouse.zip", tmp_path / "file" / "orchard")
    assert result.returncode == 1
    assert f"may not write to {tmp_path}/file/orchard" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["wheelhouse.zip"], ["s3://code/w.zip", "/a", "/b"]])
def test_wrong_arguments_say_what_to_give(node: Node, arguments: list[str]) -> None:
    result = node.run("bash", str(INSTALL), *arguments)
    assert result.returncode == 1
    assert "give s3://bucket/wheelhouse.zip" in result.stderr


def _sha256(content: bytes | bytearray) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
