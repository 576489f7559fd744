"""A real YARN on this machine: a ResourceManager and two NodeManagers in one Java process.

The classes are Hadoop's own (``MiniYARNCluster``), and py4j starts them: no Java source is here.
Containers are separate processes, started by the NodeManagers, each in its node's own folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import psutil
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from rehearsal.emr import java

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CAPACITY_MB = 6144
"""Memory that each NodeManager offers: a driver and an executor, with their overheads."""

CAPACITY_CORES = 4

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0

JAVA_OPTIONS = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # The web page of Hadoop 3.3's ResourceManager is older than Java's modules.
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
]

SETTINGS: Mapping[str, str] = {
    "yarn.scheduler.capacity.root.queues": "default",
    "yarn.scheduler.capacity.root.default.capacity": "100",
    # Two batches at once: two drivers must fit beside each other.
    "yarn.scheduler.capacity.maximum-am-resource-percent": "0.8",
    "yarn.scheduler.minimum-allocation-mb": "128",
    "yarn.scheduler.maximum-allocation-mb": str(CAPACITY_MB),
    "yarn.nodemanager.resource.cpu-vcores": str(CAPACITY_CORES),
    "yarn.nodemanager.vmem-check-enabled": "false",
    "yarn.nodemanager.pmem-check-enabled": "false",
    "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99",
    # Container logs stay where they are until the local EMR has copied them to the log bucket.
    "yarn.log-aggregation-enable": "false",
    "yarn.nodemanager.delete.debug-delay-sec": "600",
    # Heartbeats and expiry at a rehearsal's pace: a lost node is noticed in seconds, not minutes.
    "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": "200",
    "yarn.nm.liveness-monitor.expiry-interval-ms": "8000",
    "yarn.resourcemanager.am.max-attempts": "2",
}


@dataclass(frozen=True)
class Container:
    """One running container: its id, the node that runs it, and its first process."""

    container_id: str
    node: int
    pid: int

    @property
    def application(self) -> str:
        """The id of the application that it works for."""
        epoch, application = self.container_id.split("_")[-4:-2]
        return f"application_{epoch}_{application}"

    @property
    def is_driver(self) -> bool:
        """Whether it is the first container of an attempt, in which Spark's driver runs."""
        return self.container_id.endswith("_000001")


class Yarn:
    """A running YARN. Use as a context manager; `stop` leaves no process behind."""

    def __init__(self, folder: Path, *, nodes: int = 2) -> None:
        self.folder = folder
        self.nodes = nodes
        self._labels: Mapping[int, str] = {}
        self.conf_dir = folder / "conf"
        self._gateway: JavaGateway | None = None
        self._cluster: Any = None
        self._process: psutil.Process | None = None

    def __enter__(self) -> Yarn:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the ResourceManager and the NodeManagers, and write their addresses to `conf_dir`.

        Raises
        ------
        RuntimeError
            If the NodeManagers have not registered within a minute.
        """
        self.conf_dir.mkdir(parents=True, exist_ok=True)
        self._gateway, self._process = _start_jvm(self.folder)
        try:
            self._start_services()
        except BaseException:
            self.stop()
            raise

    def _start_services(self) -> None:
        jvm = self._jvm()
        conf = jvm.org.apache.hadoop.yarn.conf.YarnConfiguration()
        for name, value in {**SETTINGS, **self._label_settings()}.items():
            conf.set(name, value)
        self._cluster = jvm.org.apache.hadoop.yarn.server.MiniYARNCluster(
            "orchard", 1, self.nodes, 1, 1
        )
        # After the constructor, which knows only a fixed 4 GiB for each node.
        conf.set("yarn.nodemanager.resource.memory-mb", str(CAPACITY_MB))
        conf.set("yarn.minicluster.yarn.nodemanager.resource.memory-mb", str(CAPACITY_MB))
        self._cluster.init(conf)
        self._cluster.start()
        if not self._cluster.waitForNodeManagersToConnect(int(START_TIMEOUT_S * 1000)):
            raise RuntimeError(
                f"YARN's nodes did not come up in {START_TIMEOUT_S:.0f} s; "
                f"see {self.folder / 'yarn.log'}."
            )
        self._label_nodes()
        self._write_configuration()

    def _label_settings(self) -> dict[str, str]:
        """Return what makes labels count; unlike EMR's, Apache's YARN has none for drivers."""
        if not self._labels:
            return {}
        queue = "yarn.scheduler.capacity.root"
        whole = {
            f"{where}.accessible-node-labels.{label}.capacity": "100"
            for where in (queue, f"{queue}.default")
            for label in set(self._labels.values())
        }
        return {
            "yarn.node-labels.enabled": "true",
            "yarn.node-labels.fs-store.root-dir": (self.folder / "node-labels").as_uri(),
            f"{queue}.accessible-node-labels": "*",
            f"{queue}.default.accessible-node-labels": "*",
            **whole,
        }

    def _label_nodes(self) -> None:
        if not self._labels:
            return
        jvm = self._jvm()
        manager = self._cluster.getResourceManager().getRMContext().getNodeLabelManager()
        labels = jvm.java.util.HashSet()
        for label in set(self._labels.values()):
            # Not exclusive: who asks for no label may use what is idle, as on EMR.
            labels.add(jvm.org.apache.hadoop.yarn.api.records.NodeLabel.newInstance(label, False))
        manager.addToCluserNodeLabels(labels)
        of_nodes = jvm.java.util.HashMap()
        for node, label in self._labels.items():
            names = jvm.java.util.HashSet()
            names.add(label)
            of_nodes.put(self._cluster.getNodeManager(node).getNMContext().getNodeId(), names)
        manager.replaceLabelsOnNode(of_nodes)

    def stop(self) -> None:
        """Stop YARN and everything that it started. Safe to call twice."""
        if self._process is None:
            return
        # Nothing of it outlives its folder, so it is not asked to stop, which takes half a minute.
        # The JVM first: a NodeManager would start nothing more, but report what is killed.
        started = _family(self._process)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(started, timeout=10)
        if self._gateway is not None:
            with contextlib.suppress(Exception):  # Its other end is gone.
                self._gateway.shutdown()
        self._gateway = self._cluster = self._process = None
        # A YARN that starts again in this folder must not find the last one's containers.
        shutil.rmtree(self.folder / "target", ignore_errors=True)

    def restart(self, labels: Mapping[int, str] | None = None) -> None:
        """Start anew, with every node back and no application.

        Parameters
        ----------
        labels
            The label of each node, which EMR gives by the node's market; none when not given.
        """
        self.stop()
        self._labels = labels or {}
        shutil.rmtree(self.folder / "node-labels", ignore_errors=True)
        self.start()

    def ports(self) -> dict[int, int]:
        """Return the port of each NodeManager, which containers see as ``NM_PORT``, by node."""
        return {
            node: self._cluster.getNodeManager(node).getNMContext().getNodeId().getPort()
            for node in range(self.nodes)
        }

    def containers(self) -> list[Container]:
        """Return the containers that run now, drivers first."""
        if self._process is None:
            return []
        found: dict[str, Container] = {}
        for process in _family(self._process)[1:]:
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                container_id = environment.get("CONTAINER_ID")
                if container_id and container_id not in found:
                    node = _node_of(environment.get("LOCAL_DIRS", ""))
                    found[container_id] = Container(container_id, node, process.pid)
        return sorted(found.values(), key=lambda c: (not c.is_driver, c.container_id))

    def kill_container(self, container: Container) -> None:
        """Kill every process of `container`, as a machine's out-of-memory killer would."""
        with contextlib.suppress(psutil.NoSuchProcess):  # It may have ended since it was listed.
            for process in _family(psutil.Process(container.pid)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def lose_node(self, node: int) -> None:
        """Lose one NodeManager with its containers. It stays away until YARN starts again."""
        lost = [container for container in self.containers() if container.node == node]
        # Its heartbeats stop first, as when a machine's power does.
        self._cluster.getNodeManager(node).getNodeStatusUpdater().stop()
        for container in lost:
            self.kill_container(container)

    def kill_applications(self, tag: str) -> None:
        """Kill the applications with a tag, as ``yarn application -kill`` does, and wait for it."""
        jvm = self._jvm()
        client = jvm.org.apache.hadoop.yarn.client.api.YarnClient.createYarnClient()
        client.init(self._cluster.getConfig())
        client.start()
        try:
            for application in self.applications(tag):
                wanted = jvm.org.apache.hadoop.yarn.api.records.ApplicationId
                client.killApplication(wanted.fromString(application))
                with contextlib.suppress(TimeoutError):
                    self._wait_for_containers_of(application)
        finally:
            client.stop()

    def _wait_for_containers_of(self, application: str) -> None:
        wait_for(
            lambda: all(c.application != application for c in self.containers()),
            STOP_TIMEOUT_S,
            f"The end of {application}",
        )

    def _jvm(self) -> Any:
        if self._gateway is None:
            raise RuntimeError("YARN is not running.")
        return self._gateway.jvm

    def applications(self, tag: str) -> dict[str, str]:
        """Return the state of every application with a tag, by id."""
        apps = self._cluster.getResourceManager().getRMContext().getRMApps()
        return {
            str(app.getApplicationId()): str(app.getState())
            for app in apps.values()
            if tag in list(app.getApplicationTags())
        }

    def container_logs(self, application: str) -> Iterator[tuple[str, str, bytes]]:
        """Yield what each container of `application` logged: its id, the file's name, the content.

        Logs that YARN deletes meanwhile are left out.
        """
        for folder in self._container_folders(application):
            for name in ("stderr", "stdout"):
                with contextlib.suppress(FileNotFoundError):
                    yield folder.name, name, (folder / name).read_bytes()

    def output(self, container: Container) -> str:
        """Return what `container` has written to its standard output so far."""
        for folder in self._container_folders(container.application):
            if folder.name == container.container_id:
                with contextlib.suppress(FileNotFoundError):
                    return (folder / "stdout").read_text(encoding="utf-8", errors="replace")
        return ""

    def _container_folders(self, application: str) -> list[Path]:
        """Return the folders of an application's containers, for logs and for local files.

        Spark and YARN delete folders here at any moment. ``os.walk`` passes over one that vanishes
        before it is read; ``Path.glob`` raises FileNotFoundError.
        """
        found = []
        for folder, names, _ in os.walk(self.folder / "target"):
            if Path(folder).name == application:
                found += [Path(folder) / name for name in names if name.startswith("container_")]
                names.clear()  # Nothing below them is asked for.
        return sorted(found)

    def _write_configuration(self) -> None:
        root = ElementTree.Element("configuration")
        config = self._cluster.getConfig()
        wanted = {name: str(config.get(name)) for name in _client_addresses(config)}
        for name, value in {**SETTINGS, **wanted}.items():
            entry = ElementTree.SubElement(root, "property")
            ElementTree.SubElement(entry, "name").text = name
            ElementTree.SubElement(entry, "value").text = value
        ElementTree.ElementTree(root).write(self.conf_dir / "yarn-site.xml", encoding="utf-8")
        (self.conf_dir / "core-site.xml").write_text("<configuration/>\n", encoding="utf-8")


def _start_jvm(folder: Path) -> tuple[JavaGateway, psutil.Process]:
    jars = [*java.fetch(java.YARN), *sorted((java.PYSPARK_HOME / "jars").glob("*.jar"))]
    # Left open: threads of py4j write to it for as long as the process lives.
    log = (folder / "yarn.log").open("a", encoding="utf-8")
    port, token, started = launch_gateway(
        classpath=os.pathsep.join(map(str, jars)),
        java_path=str(java.java_home() / "bin" / "java"),
        javaopts=[*JAVA_OPTIONS, f"-Djava.io.tmpdir={folder}"],
        redirect_stdout=log,
        redirect_stderr=log,
        die_on_exit=True,
        enable_auth=True,
        cwd=folder,  # MiniYARNCluster writes to ./target.
        return_proc=True,
    )
    parameters = GatewayParameters(port=port, auth_token=token, auto_convert=True)
    return JavaGateway(gateway_parameters=parameters), psutil.Process(started.pid)


def _family(process: psutil.Process) -> list[psutil.Process]:
    """Return `process` and all its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _node_of(local_dirs: str) -> int:
    """Return the node's number from its folder's name, ``…-localDir-nm-<node>_<disk>``."""
    return int(local_dirs.rpartition("-nm-")[2].partition("_")[0] or -1)


def _client_addresses(config: Any) -> list[str]:
    names = ["address", "scheduler.address", "resource-tracker.address", "admin.address"]
    wanted = [f"yarn.resourcemanager.{name}" for name in (*names, "webapp.address")]
    return [name for name in wanted if config.get(name)]


def wait_for(condition: Any, timeout_s: float, what: str) -> None:
    """Wait until `condition()` is true; raise TimeoutError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s:.0f} s.")
        time.sleep(0.2)
