"""One deployed stack, one local AWS and one YARN for all tests of this folder."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image

from rehearsal.emr.yarn import wait_for
from rehearsal.local_cloud import LocalCloud
from tests.rehearsal.tables import Published
from tests.rehearsal.watching import alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rehearsal.pipeline import Outcome

PACE = 60
"""Waits between retries and looks are this many times shorter than deployed."""

IMAGES = 40


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """The deployed pipeline; after the last test, nothing of it may be left."""
    warnings.filterwarnings("ignore", module="moto")
    folder = tmp_path_factory.mktemp("cloud")
    with LocalCloud(folder, pace=PACE) as running:
        yield running
        port = int(running.endpoint.url.rpartition(":")[2])
    left = [p for p in psutil.Process().children(recursive=True) if _works_in(p, folder)]
    assert not left, "processes are left after the rehearsal"
    assert port not in _listening(), "the endpoint's port is still taken"


@pytest.fixture(autouse=True)
def _undisturbed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, afterwards no cluster lives and no fault is pending."""
    yield
    if "cloud" not in request.fixturenames:
        return
    cloud: LocalCloud = request.getfixturevalue("cloud")
    cloud.endpoint.faults.clear()
    for arn in cloud.executions():
        if cloud.outcome(arn).status == "RUNNING":
            cloud.abort(arn)
    wait_for(lambda: not cloud.emr.alive(), 60, "The end of every cluster")
    wait_for(lambda: not cloud.yarn.containers(), 20, "The end of every container")


@pytest.fixture(scope="session")
def photographs() -> dict[str, bytes]:
    """Images by path: labels that differ in colour, so that a model has something to find."""
    rng = np.random.default_rng(7)
    made = {}
    for number in range(IMAGES):
        label = f"fruit {number % 4}"
        pixels = rng.normal(60 * (number % 4) + 30, 25, (100, 100, 3)).clip(0, 255)
        stream = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG")
        made[f"{label}/{number:02d} é.jpg"] = stream.getvalue()
    return made


@pytest.fixture(scope="session")
def put(cloud: LocalCloud) -> Callable[[str, dict[str, bytes]], None]:
    """Upload a batch given as content by path."""

    def upload(batch: str, files: dict[str, bytes]) -> None:
        s3 = cloud.endpoint.client("s3")
        for path, content in files.items():
            s3.put_object(Bucket=cloud.bucket, Key=f"images/{batch}/{path}", Body=content)

    return upload


@pytest.fixture(scope="session")
def reference(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Published:
    """What an undisturbed run publishes, started by the marker."""
    put("reference", photographs)
    cloud.mark_ready("reference")
    arn = cloud.first_execution("reference")
    cloud.mark_ready("reference")  # Once more, by someone who is impatient.
    outcome = cloud.wait(arn)
    assert outcome.status == "SUCCEEDED", outcome
    assert any(message.startswith("Batch reference is published") for message in cloud.messages())
    return Published.of(cloud, "reference", tmp_path_factory.mktemp("reference"))


@pytest.fixture
def failed(cloud: LocalCloud) -> Callable[[str], Outcome]:
    """Wait for an execution that must fail, leaving no cluster and publishing nothing."""

    def wait(arn: str) -> Outcome:
        outcome = cloud.wait(arn)
        assert outcome.status == "FAILED", outcome
        assert outcome.cause.rstrip().endswith((".", ")")), outcome.cause
        assert any(outcome.cause in message for message in cloud.messages()), "nobody was told"
        wait_for(lambda: not alive(cloud, arn), 30, "The end of the execution's cluster")
        return outcome

    return wait


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return any(str(folder) in part for part in (process.cwd(), *process.cmdline()))
    except psutil.Error:
        return False


def _listening() -> set[int]:
    connections = psutil.Process().net_connections(kind="tcp")
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
