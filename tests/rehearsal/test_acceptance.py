"""The acceptance test for a real account, run against the local AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from operations.acceptance import Acceptance, AcceptanceError, Place

if TYPE_CHECKING:
    from rehearsal.local_cloud import LocalCloud
    from tests.rehearsal.tables import Published

pytestmark = pytest.mark.rehearsal


class Deployments:
    """Deploys a second time by giving every machine a definition that no execution could run."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._client = cloud.endpoint.client("stepfunctions")
        self._machine = cloud.state_machine
        self._deployed = ""
        self.count = 0
        self.destroyed = 0

    def deploy(self, again: bool) -> None:
        self.count += 1
        if again:
            found = self._client.describe_state_machine(stateMachineArn=self._machine)
            self._deployed = found["definition"]
            broken = self._deployed.replace("--max-reject-rate", "--another")
            assert broken != self._deployed
            self._client.update_state_machine(stateMachineArn=self._machine, definition=broken)

    def restore(self) -> None:
        if self._deployed:
            self._client.update_state_machine(
                stateMachineArn=self._machine, definition=self._deployed
            )

    def destroy(self) -> None:
        self.destroyed += 1


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


def test_it_finds_a_good_deployment_good(cloud: LocalCloud, reference: Published) -> None:
    del reference  # The other tests' first batch must have fitted its model before.
    deployments, said = Deployments(cloud), list[str]()
    try:
        Acceptance(place(cloud, deployments), said.append).run()
    finally:
        deployments.restore()
    assert (deployments.count, deployments.destroyed) == (2, 1)
    text = "\n".join(said)
    for words in (
        "acceptance.1 succeeded",
        "features and vectors of 292 images",
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


def test_it_finds_what_is_missing(cloud: LocalCloud) -> None:
    deployments = Deployments(cloud)
    trial = Acceptance(place(cloud, deployments, patience_seconds=1.0), print)
    trial._outputs = dict(cloud.deployment.outputs)
    with pytest.raises(AcceptanceError, match="partition did not come"):
        trial._check_partitions("no-such-run")
