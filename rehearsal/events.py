"""EventBridge as the rehearsal runs it: moto's rules and patterns, delivered to state machines."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from moto.events.models import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rehearsal.endpoint import Endpoint


@contextlib.contextmanager
def state_machine_targets(
    endpoint: Endpoint, on_delivery: Callable[[str, str], object] = lambda *_: None
) -> Iterator[None]:
    """Let rules start executions in the name of the target's role.

    moto knows no state machine as a target, and applies no input transformer to events of S3.

    Parameters
    ----------
    endpoint
        Where executions are started.
    on_delivery
        Called with the rule's name and the execution's ARN, or the error's text.
    """

    def send(rule: Rule, event: dict[str, Any], transform_input: bool = True) -> None:
        del transform_input
        event = json.loads(json.dumps(event, default=str))
        event["time"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if rule.state != "ENABLED" or not rule.event_pattern.matches_event(event):
            return
        for target in rule.targets:
            on_delivery(rule.name, _start(endpoint, target, event))

    original = Rule.send_to_targets
    Rule.send_to_targets = send
    try:
        yield
    finally:
        Rule.send_to_targets = original


def _start(endpoint: Endpoint, target: dict[str, Any], event: dict[str, Any]) -> str:
    if ":stateMachine:" not in target["Arn"]:
        raise NotImplementedError(f"The rehearsal has no target of the kind {target['Arn']}.")
    states = endpoint.client("stepfunctions", endpoint.assume(target["RoleArn"], "events"))
    try:
        started = states.start_execution(
            stateMachineArn=target["Arn"], name=str(uuid.uuid4()), input=target_input(target, event)
        )
    except ClientError as error:
        return str(error)
    return str(started["executionArn"])


def target_input(target: dict[str, Any], event: dict[str, Any]) -> str:
    """Return the text that `target` receives for `event`."""
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return json.dumps(_at(event, target["InputPath"]))
    transformer = target.get("InputTransformer")
    if not transformer:
        return json.dumps(event)
    values = {name: _at(event, path) for name, path in transformer.get("InputPathsMap", {}).items()}
    return _fill(transformer["InputTemplate"], values)


def _fill(template: str, values: dict[str, Any]) -> str:
    """Fill ``<name>``: inside a JSON string as its text, elsewhere as JSON, as EventBridge does."""

    def in_place(match: re.Match[str]) -> str:
        value = values.get(match[1], "")
        inside = template[: match.start()].replace('\\"', "").count('"') % 2
        if inside:
            return json.dumps(value)[1:-1] if isinstance(value, str) else json.dumps(value)
        return json.dumps(value)

    return re.sub(r"<([\w.-]+)>", in_place, template)


def _at(event: Any, path: str) -> Any:
    for name in path.removeprefix("$").strip(".").split("."):
        if name:
            event = event.get(name, "") if isinstance(event, dict) else ""
    return event
