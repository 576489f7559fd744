"""The nodes of a rehearsal's clusters: a folder for each, on this one machine.

Where a node differs from an EMR instance:

- A node is a folder. What a bootstrap action would write to an absolute path such as
  ``/opt/orchard`` goes under the node's folder; containers find their own node's by the
  NodeManager's port.
- There are two, whatever the fleets ask for; neither is the primary node.
- A cluster gets the nodes of one that ended, with what is installed on them. Its bootstrap action
  runs all the same and finds that there is nothing to do.
- The bootstrap action's ``aws`` is a few lines of boto3, its ``python3.11`` this machine's.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spark_job.contract import NODE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Node:
    """One node: its number, which is its NodeManager's, and its folder."""

    number: int
    folder: Path

    @property
    def instance_id(self) -> str:
        """The id that a log's path gives it."""
        return f"i-{self.number:017x}"

    @property
    def prefix(self) -> Path:
        """Where `NODE_PREFIX` is on this node."""
        return self.folder / NODE_PREFIX.lstrip("/")

    def run(
        self, script: bytes, arguments: list[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a bootstrap action's script here; its output is one stream.

        A script that is given no prefix is given this node's.
        """
        commands = self.folder / "bin"
        commands.mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        _link(commands / "python3.11", Path(sys.executable).resolve())
        _write_script(
            commands / "aws",
            f'exec "{sys.executable}" "{Path(__file__).parent / "node_bin" / "aws"}" "$@"',
        )
        path = self.folder / "bootstrap-action"
        path.write_bytes(script)
        if len(arguments) < 2:
            arguments = [*arguments, NODE_PREFIX]
        local = [argument.replace(NODE_PREFIX, str(self.prefix)) for argument in arguments]
        return subprocess.Popen(
            ["bash", str(path), *local],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                "PATH": os.pathsep.join((str(commands), "/usr/local/bin", "/usr/bin", "/bin")),
                "HOME": str(self.folder),
                "TMPDIR": str(self.folder / "tmp"),
                **environment,
            },
        )


class NodePool:
    """Lends nodes to clusters, the same ones again when they are free."""

    def __init__(self, folder: Path, size: int = 2) -> None:
        self._folder = folder
        self._size = size
        self._sets = 0
        self._free: list[list[Node]] = []
        self._lock = threading.Lock()

    def lend(self) -> list[Node]:
        """Return a node for each NodeManager, for one cluster alone."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self._sets += 1
            root = self._folder / f"nodes-{self._sets}"
            return [Node(number, root / f"node-{number}") for number in range(self._size)]

    def take_back(self, nodes: list[Node]) -> None:
        """Take the nodes of a cluster that ended."""
        with self._lock:
            self._free.append(nodes)


def write_python(path: Path, nodes: list[Node], ports: Mapping[int, int]) -> Path:
    """Write a command that is the Python of whichever node's container runs it, and return it."""
    cases = "\n".join(
        f'  {ports[node.number]}) exec "{node.prefix}/bin/python" "$@" ;;' for node in nodes
    )
    _write_script(path, f'case "$NM_PORT" in\n{cases}\nesac\necho "no node $NM_PORT" >&2; exit 1')
    return path


def _write_script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target)
