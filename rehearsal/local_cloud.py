"""The deployed pipeline on this machine: all of a rehearsal, started and stopped together."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from rehearsal.aws.alarms import Alarms
from rehearsal.aws.deployment import build_wheelhouse, deploy, synthesize
from rehearsal.aws.endpoint import Endpoint
from rehearsal.aws.events import state_machine_targets
from rehearsal.aws.step_functions import StatusEvents, integrations
from rehearsal.emr.api import LocalEmr
from rehearsal.emr.yarn import Yarn
from rehearsal.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

REGION = "eu-west-1"

UNHURRIED: Mapping[str, object] = {
    "start_timeout_minutes": 120,
    "execution_timeout_minutes": 600,
}
"""Waits are shortened and bootstrapping is not, so that a cluster here has more looks to start."""

EXECUTION_EVENT = "Step Functions Execution Status Change"
EMR_EVENT = "EMR Cluster State Change"


class LocalCloud(Pipeline):
    """A local AWS with one deployed stack, a YARN and an EMR. Use as a context manager.

    Parameters
    ----------
    folder
        Where everything that is written goes.
    context
        Overrides of the ``orchard`` block of ``cdk.json``.
    narrate
        Receives a line about each thing that happens.
    assembly
        A cloud assembly to deploy; synthesized from the checkout when not given.
    pace
        How many times shorter than deployed the state machines' waits are.

    Attributes
    ----------
    assembly
        The cloud assembly that was deployed first.
    """

    def __init__(
        self,
        folder: Path,
        *,
        context: Mapping[str, object] | None = None,
        narrate: Callable[[str], object] = lambda _: None,
        assembly: Path | None = None,
        pace: int = 1,
    ) -> None:
        self.folder = folder
        self.endpoint = Endpoint(REGION)
        self.yarn = Yarn(folder / "yarn")
        self._context = dict(context or {})
        self._narrate = narrate
        self._assembly = assembly
        self._pace = pace
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> LocalCloud:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all of it and deploy the stack."""
        self.architecture = build_wheelhouse()
        context: dict[str, object] = {"architecture": self.architecture, **UNHURRIED}
        context |= self._context
        self.assembly = self._assembly or synthesize(self.folder / "cdk.out", context, REGION)
        # A state that fails is part of the story, not an error of the interpreter's.
        logging.getLogger("moto").setLevel(logging.CRITICAL)
        enter = self._stack.enter_context
        enter(self.endpoint)
        enter(self.yarn)
        self._narrate(f"YARN is up: a ResourceManager and {self.yarn.nodes} NodeManagers")
        self.emr = enter(
            LocalEmr(
                self.endpoint,
                self.yarn,
                self.folder / "emr",
                narrate=self._narrate,
                publish=lambda detail: self._publish("aws.emr", EMR_EVENT, detail),
            )
        )
        enter(integrations(self.endpoint))
        enter(state_machine_targets(self.endpoint, self._delivered))
        self.deploy(self.assembly)
        events = StatusEvents(REGION, self._execution_changed)
        events.start()
        self._stack.callback(events.stop)
        alarms = Alarms(self.endpoint, self._pace)
        alarms.start()
        self._stack.callback(alarms.stop)
        self._stack.callback(self._abort_all)

    def deploy(self, assembly: Path) -> None:
        """Deploy the stack of a cloud assembly, or deploy it again from another one."""
        name = str(self._context.get("name", "Orchard"))
        self.deployment = deploy(self.endpoint, assembly, name, self._pace)
        self._narrate(f"{name} is deployed: {len(self.deployment.physical)} resources")

    def stop(self) -> None:
        """Stop all of it. Safe to call twice."""
        self._stack.close()

    def _execution_changed(self, detail: dict[str, Any]) -> None:
        name = detail["executionArn"].rpartition(":")[2]
        machines = {arn: logical for logical, arn in self.machines().items()}
        # A logical id is the construct's path and a hash.
        machine = machines[detail["stateMachineArn"]].partition("StateMachine")[0]
        self._narrate(f"{machine} {name} is {detail['status']}")
        self._publish("aws.states", EXECUTION_EVENT, detail)

    def _publish(self, source: str, kind: str, detail: dict[str, Any]) -> None:
        entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}
        self.endpoint.client("events").put_events(Entries=[entry])

    def _abort_all(self) -> None:
        for machine in self.machines().values():
            # Another user of moto in this process may have emptied its memory meanwhile.
            with contextlib.suppress(ClientError, BotoCoreError):
                for arn in self.executions(machine):
                    if self.outcome(arn).status == "RUNNING":
                        self.abort(arn)

    def _delivered(self, rule: str, result: str) -> None:
        self._narrate(f"rule {rule.split('-')[1]} starts {result.rpartition(':')[2]}")
