"""What a run's cluster left in the log bucket: which files, and the lines in them that matter.

EMR delivers logs every five minutes, and once more when the cluster ends::

    emr/<cluster>/steps/<step>/stdout.gz, stderr.gz          spark-submit
    emr/<cluster>/containers/<application>/<container>/...   the driver and the executors
    emr/<cluster>/node/<instance>/bootstrap-actions/...      what a node did before
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from orchard.cloud.clusters import ALIVE, clusters
from orchard.cloud.journal import Journal
from spark_job.deployed import EMR_LOGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchard.cloud.executions import Execution
    from orchard.cloud.stack import Stack

DELIVERED_EVERY = 5
"""Minutes between two deliveries of a living cluster's logs."""

MOST_LINES = 40
"""Lines of a file that are shown where not all are asked for, the last ones."""

EVERY_STATE = (*ALIVE, "TERMINATED", "TERMINATED_WITH_ERRORS")


class Kind(StrEnum):
    """Of what a file is the log."""

    BOOTSTRAP = "bootstrap"
    STEP = "step"
    DRIVER = "driver"
    EXECUTOR = "executor"


@dataclass(frozen=True)
class LogFile:
    """A log: its kind, its name below its cluster's folder, its size, packed."""

    cluster: str
    kind: Kind
    name: str
    bytes: int


PATTERNS = {
    Kind.BOOTSTRAP: re.compile(r"node/[^/]+/bootstrap-actions/.*(stdout|stderr|controller)"),
    Kind.STEP: re.compile(r"steps/[^/]+/(stdout|stderr|controller)"),
    Kind.DRIVER: re.compile(r"containers/[^/]+/container_\w+_000001/(stdout|stderr)"),
    Kind.EXECUTOR: re.compile(r"containers/[^/]+/container_\w+/(stdout|stderr)"),
}
"""By which a file's kind is told, the first that fits; YARN's first container is the driver's."""

OURS = re.compile(r"^orchard: ")
ERROR = re.compile(
    r"^\s*(Exception in thread |Caused by: |[\w.]*(Error|Exception)\b)|\b(ERROR|FATAL)\b|"
    r"^(error|fatal|ERROR): |No space left on|\bKilled\b|\bOutOfMemoryError\b|"
    r"Cannot allocate memory|[Ee]xit(ed)?( with)? code:? [1-9]"
)
TRACEBACK = "Traceback (most recent call last)"


def clusters_of(stack: Stack, execution: Execution) -> list[str]:
    """Find the clusters of a run: in its history, or by their name where EMR still knows them."""
    journal = Journal(stack, execution.run)
    journal.update()
    if journal.clusters:
        return journal.clusters
    found = [one for one in clusters(stack, EVERY_STATE) if one.run == execution.run]
    return [one.id for one in sorted(found, key=lambda one: one.since)]


def find_logs(stack: Stack, cluster: str) -> list[LogFile]:
    """Find a cluster's logs that were delivered so far."""
    found = []
    for entry in (stack.logs / f"{EMR_LOGS}{cluster}").entries():
        for kind, pattern in PATTERNS.items():
            if pattern.match(entry.name):
                found.append(LogFile(cluster, kind, entry.name, entry.bytes or 0))
                break
    order = list(PATTERNS)
    return sorted(found, key=lambda one: (order.index(one.kind), one.name))


def read_lines(stack: Stack, file: LogFile) -> Iterator[str]:
    """Unpack a log, line by line; one that was cut off ends where it does."""
    content = (stack.logs / f"{EMR_LOGS}{file.cluster}").read(file.name)
    if file.name.endswith(".gz"):
        content = _unpack(content)
    yield from content.decode(errors="replace").splitlines()


def pick(lines: Iterator[str]) -> list[str]:
    """Pick the lines that matter: the job's own, the last traceback, and errors; the last of them.

    A line that says the same as the one before but for its digits is left out.
    """
    ours: deque[tuple[int, str]] = deque(maxlen=MOST_LINES)
    errors: deque[tuple[int, str]] = deque(maxlen=MOST_LINES)
    traceback: list[tuple[int, str]] = []
    inside, before = False, ""
    for number, line in enumerate(lines):
        if TRACEBACK in line:
            traceback, inside = [], True
        if inside:
            traceback.append((number, line))
            # It goes on indented, and ends with the error itself.
            inside = TRACEBACK in line or line.startswith((" ", "\t")) or not line.strip()
            continue
        same = re.sub(r"\d+", "0", line)
        if same == before:
            continue
        before = same
        if OURS.search(line):
            ours.append((number, line))
        elif ERROR.search(line):
            errors.append((number, line))
    picked = dict([*ours, *errors, *traceback[-MOST_LINES:]])
    return [picked[number] for number in sorted(picked)]


def wanted(files: Sequence[LogFile], kinds: Sequence[Kind]) -> list[LogFile]:
    """Choose logs of some kinds; of none, all but the executors', which are many."""
    chosen = kinds or (Kind.BOOTSTRAP, Kind.STEP, Kind.DRIVER)
    return [one for one in files if one.kind in chosen]


def _unpack(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, OSError):
        # Delivered while it was written.
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content)
