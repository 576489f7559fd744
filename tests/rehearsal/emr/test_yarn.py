"""What is read of containers whose folders YARN deletes at the same time."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rehearsal.emr.yarn import Container, Yarn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION = "application_1700000000000_0001"
DRIVER = Container("container_1700000000000_0001_01_000001", node=0, pid=0)
SECONDS = 2.0


def write_logs(application: Path, container: str) -> Path:
    folder = application / container
    folder.mkdir(parents=True)
    (folder / "stdout").write_text(f"{container} speaks\n")
    (folder / "stderr").write_text("")
    (folder / "prelaunch.out").write_text("not the container's own")
    return folder


@contextmanager
def coming_and_going(root: Path) -> Iterator[list[int]]:
    """Create and delete applications' folders below `root` meanwhile; yields how many so far."""
    ended = threading.Event()
    rounds: list[int] = []

    def churn() -> None:
        while not ended.is_set():
            for node in range(4):
                application = root / f"node-{node}" / "logs" / APPLICATION
                write_logs(application, f"container_1700000000000_0001_01_{node + 2:06d}")
                local = root / f"node-{node}" / "usercache" / "hadoop" / "appcache" / APPLICATION
                write_logs(local, f"container_1700000000000_0001_01_{node + 6:06d}")
            for node in range(4):
                shutil.rmtree(root / f"node-{node}")
            rounds.append(1)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield rounds
    finally:
        ended.set()
        thread.join()


def test_logs_are_read_while_folders_come_and_go(tmp_path: Path) -> None:
    yarn = Yarn(tmp_path)
    root = tmp_path / "target" / "orchard"
    write_logs(root / "stays" / "logs" / APPLICATION, DRIVER.container_id)
    said = f"{DRIVER.container_id} speaks\n"
    expected = {
        (DRIVER.container_id, "stderr", b""),
        (DRIVER.container_id, "stdout", said.encode()),
    }
    until = time.monotonic() + SECONDS
    with coming_and_going(root) as rounds:
        while time.monotonic() < until:
            assert yarn.output(DRIVER) == said
            assert expected <= set(yarn.container_logs(APPLICATION))
    assert len(rounds) > 10
    assert set(yarn.container_logs(APPLICATION)) == expected


def test_what_has_no_folder_has_no_logs(tmp_path: Path) -> None:
    yarn = Yarn(tmp_path)
    assert yarn.output(DRIVER) == ""
    assert list(yarn.container_logs(APPLICATION)) == []
    (tmp_path / "target" / APPLICATION / DRIVER.container_id).mkdir(parents=True)
    assert yarn.output(DRIVER) == ""
    assert list(yarn.container_logs(APPLICATION)) == []
