"""The acceptance test for a real account, run against the local AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from operations import acceptance
from operations.acceptance import Acceptance, AcceptanceError, Place
from rehearsal.emr.yarn import wait_for
from tests.rehearsal.athena import LocalAthena
from tests.rehearsal.watching import clusters_of

if TYPE_CHECKING:
    from pathlib import Path

    from rehearsal.local_cloud import LocalCloud
    from tests.rehearsal.tables import Published

pytestmark = pytest.mark.rehearsal


class Deployments:
    """Deploys a second time a template, and a job, by which no execution could run a batch."""

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        self._cloud = cloud
        self.broken = _broken(cloud.assembly, folder)
        self.count = 0
        self.destroyed = 0

    def deploy(self, again: bool) -> None:
        self.count += 1
        if again:
            self._cloud.deploy(self.broken)

    def restore(self) -> None:
        self._cloud.deploy(self._cloud.assembly)

    def destroy(self) -> None:
        self.destroyed += 1


def _broken(assembly: Path, folder: Path) -> Path:
    """Return an assembly like another one, whose step has a wrong option, and whose job is none."""
    for path in assembly.iterdir():
        (folder / path.name).symlink_to(path)
    assets = json.loads((folder / "Orchard.assets.json").read_text())
    (job,) = (
        key for key, asset in assets["files"].items() if "JobZip" in asset.get("displayName", "")
    )
    other = "0" * len(job)
    asset = json.loads(json.dumps(assets["files"][job]).replace(job, other))
    assets["files"][other] = asset
    (folder / asset["source"]["path"]).write_bytes(b"This is no zip.")
    template = (folder / "Orchard.template.json").read_text()
    assert "--max-reject-rate" in template
    changed = template.replace("--max-reject-rate", "--another").replace(job, other)
    for name, text in (("template", changed), ("assets", json.dumps(assets))):
        (folder / f"Orchard.{name}.json").unlink()
        (folder / f"Orchard.{name}.json").write_text(text)
    return folder


def place(
    cloud: LocalCloud, deployments: Deployments, athena: LocalAthena | None = None, **changed: Any
) -> Place:
    def client(service: str) -> Any:
        return athena if service == "athena" else cloud.endpoint.client(service)

    return Place(
        **{
            "client": client,
            "deploy": deployments.deploy,
            "destroy": deployments.destroy,
            "stack": "Orchard",
            "poll_seconds": 0.5,
            "patience_seconds": 300.0,
            **changed,
        }
    )


def test_it_finds_a_good_deployment_good(
    cloud: LocalCloud, reference: Published, tmp_path: Path
) -> None:
    del reference  # The other tests' first batch must have fitted its model before.
    (tmp_path / "assembly").mkdir()
    deployments, said = Deployments(cloud, tmp_path / "assembly"), list[str]()
    athena = LocalAthena(cloud, tmp_path / "athena")
    wait_for(lambda: not ringing(cloud), 30, "The silence of what other tests provoked")
    before, job = listeners(cloud), cloud.job
    try:
        Acceptance(place(cloud, deployments, athena), said.append).run()
        assert cloud.job != job, "what was deployed meanwhile had the same job"
    finally:
        deployments.restore()
    (cluster,) = clusters_of(cloud, "acceptance.1")
    (step,) = cluster.steps
    assert job in str(step), "the batch that ran meanwhile did not keep its job"
    assert listeners(cloud) == before, "its queue and its subscription are left"
    assert (deployments.count, deployments.destroyed) == (2, 1)
    text = "\n".join(said)
    for words in (
        "acceptance.1 succeeded",
        "280 features, 280 vectors and 4 rejects of 284 images",
        "partition of runs",
        "Athena counts 280 images in the view images",
        "the mail about the batch came",
        "no alarm rings",
        "no cluster is left",
        "a second execution was aborted",
        "the alarm about it rings",
        "the mail of that alarm came",
        "the janitor saw to it",
        "the janitor's mail came",
        "removed",
    ):
        assert words in text, text
    local = ("uploaded", "deployed again", "no cluster is left", "removed")
    for line in said:
        assert "(request " in line or any(words in line for words in local), line
    cloud.settle(120)


def ringing(cloud: LocalCloud) -> list[str]:
    found = cloud.endpoint.client("cloudwatch").describe_alarms(StateValue="ALARM")
    return [alarm["AlarmName"] for alarm in found["MetricAlarms"]]


def listeners(cloud: LocalCloud) -> set[str]:
    """Return the queues and the subscriptions that there are."""
    queues = cloud.endpoint.client("sqs").list_queues().get("QueueUrls", [])
    subscriptions = cloud.endpoint.client("sns").list_subscriptions()["Subscriptions"]
    return {*queues, *(found["SubscriptionArn"] for found in subscriptions)}


@pytest.fixture
def trial(cloud: LocalCloud, reference: Published, tmp_path: Path) -> Acceptance:
    """A trial that has no patience, of what there is."""
    del reference
    (tmp_path / "assembly").mkdir()
    deployments = Deployments(cloud, tmp_path / "assembly")
    athena = LocalAthena(cloud, tmp_path / "athena")
    trial = Acceptance(place(cloud, deployments, athena, patience_seconds=1.0), print)
    trial._outputs = dict(cloud.deployment.outputs)
    return trial


def test_it_finds_what_is_missing(cloud: LocalCloud, trial: Acceptance) -> None:
    with pytest.raises(AcceptanceError, match="partition did not come"):
        trial._check_partitions("no-such-run")
    with pytest.raises(AcceptanceError, match=r"Athena counts \d+ images of 7  \(request"):
        trial._check_athena(7)
    before = listeners(cloud)
    with trial._listening() as hear:
        assert listeners(cloud) != before
        cloud.endpoint.client("sns").publish(
            TopicArn=trial._resource("AWS::SNS::Topic"), Message="Batch another is published: 7"
        )
        with pytest.raises(AcceptanceError, match="the mail about the batch did not come"):
            trial._check_told(7, hear)
    assert listeners(cloud) == before
    assert trial._mails == ["Batch another is published: 7"]


def test_it_finds_tables_that_lack_rows(
    cloud: LocalCloud, trial: Acceptance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "BATCH", "reference")
    run = cloud.first_execution("reference").rpartition(":")[2]
    assert trial._check_tables(run, 40) == 40
    counted = trial._rows
    for missing in ("features", "vectors", "rejects"):
        monkeypatch.setattr(
            trial, "_rows", lambda prefix, gone=missing: counted(prefix) - (gone in prefix)
        )
        with pytest.raises(AcceptanceError, match=rf"there are .*'{missing}': (39|-1)"):
            trial._check_tables(run, 40)
