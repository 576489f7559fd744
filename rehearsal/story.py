"""Tells how an execution goes, while it goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rehearsal.emr.yarn import Container
    from rehearsal.local_cloud import LocalCloud

JOB = "orchard: "
"""How the lines begin that the job writes for people."""


class Story:
    """What has been told of one execution so far.

    Parameters
    ----------
    cloud
        Where it runs.
    arn
        The execution.
    say
        Receives each line.
    """

    INTERVAL_S = 0.5

    def __init__(self, cloud: LocalCloud, arn: str, say: Callable[[str], object]) -> None:
        self._cloud = cloud
        self._arn = arn
        self._say = say
        self._states: set[str] = set()
        self._lines = 0
        self._containers: set[str] = set()

    def follow(self) -> None:
        """Tell of states, containers and the job's own progress, until the execution ends."""
        running = True
        while running:
            running = self._cloud.outcome(self._arn).status == "RUNNING"
            for name in dict.fromkeys(self._cloud.states(self._arn)):
                # What is entered again and again, waiting, is told once.
                if name not in self._states:
                    self._states.add(name)
                    self._say(f"state {name}")
            for container in self._cloud.yarn.containers():
                self._tell_container(container)
            if running:
                time.sleep(self.INTERVAL_S)

    def _tell_container(self, container: Container) -> None:
        if container.container_id not in self._containers:
            self._containers.add(container.container_id)
            kind = "driver" if container.is_driver else "executor"
            self._say(f"{kind} on node {container.node}: {container.container_id}")
        if container.is_driver:
            # What follows the last line's end is a line that is still being written.
            whole, _, _ = self._cloud.yarn.output(container).rpartition("\n")
            lines = whole.splitlines()
            told = [line.removeprefix(JOB) for line in lines if line.startswith(JOB)]
            for line in told[self._lines :]:
                self._say(f"job: {line}")
            self._lines = len(told)
