"""The acceptance test for a real account, run against the local AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from operations.acceptance import Acceptance, AcceptanceError, Place

if TYPE_CHECKING:
    from pathlib import Path

    from rehearsal.local_cloud import LocalCloud
    from tests.rehearsal.tables import Published

pytestmark = pytest.mark.rehearsal


class Deployments:
    """Deploys a second time a template whose batches no execution could run."""

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        self._cloud = cloud
        self._broken = _changed(cloud.assembly, folder, "--max-reject-rate", "--another")
        self.count = 0
        self.destroyed = 0

    def deploy(self, again: bool) -> None:
        self.count += 1
        if again:
            self._cloud.deploy(self._broken)

    def restore(self) -> None:
        self._cloud.deploy(self._cloud.assembly)

    def destroy(self) -> None:
        self.destroyed += 1


def _changed(assembly: Path, folder: Path, old: str, new: str) -> Path:
    """Return an assembly like another one, but for some words of the template."""
    for path in assembly.iterdir():
        (folder / path.name).symlink_to(path)
    template = folder / "Orchard.template.json"
    text = template.read_text()
    assert old in text
    template.unlink()
    template.write_text(text.replace(old, new))
    return folder


def place(cloud: LocalCloud, deployments: Deployments, **changed: Any) -> Place:
    return Place(
        **{
            "client": cloud.endpoint.client,
            "deploy": deployments.deploy,
            "destroy": deployments.destroy,
            "stack": "Orchard",
            "poll_seconds": 0.5,
            "patience_seconds": 300.0,
            "real": False,
            **changed,
        }
    )


def test_it_finds_a_good_deployment_good(
    cloud: LocalCloud, reference: Published, tmp_path: Path
) -> None:
    del reference  # The other tests' first batch must have fitted its model before.
    deployments, said = Deployments(cloud, tmp_path), list[str]()
    try:
        Acceptance(place(cloud, deployments), said.append).run()
    finally:
        deployments.restore()
    assert (deployments.count, deployments.destroyed) == (2, 1)
    text = "\n".join(said)
    for words in (
        "acceptance.1 succeeded",
        "features and vectors of 284 images",
        "partition of runs",
        "the batch was told",
        "no cluster is left",
        "a second execution was aborted",
        "the janitor saw to it",
        "removed",
    ):
        assert words in text, text
    assert "(request " in text
    cloud.settle(120)


def test_it_finds_what_is_missing(cloud: LocalCloud, tmp_path: Path) -> None:
    deployments = Deployments(cloud, tmp_path)
    trial = Acceptance(place(cloud, deployments, patience_seconds=1.0), print)
    trial._outputs = dict(cloud.deployment.outputs)
    with pytest.raises(AcceptanceError, match="partition did not come"):
        trial._check_partitions("no-such-run")
