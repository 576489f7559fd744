"""EventBridge as the rehearsal runs it: moto's rules and patterns, delivered to state machines."""

from __future__ import annotations

import contextlib
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from moto.events.models import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rehearsal.aws.endpoint import Endpoint


@contextlib.contextmanager
def state_machine_targets(
    endpoint: Endpoint, on_delivery: Callable[[str, str], object] = lambda *_: None
) -> Iterator[None]:
    """Let rules start executions in the name of the target's role.

    moto knows no state machine as a target. A target receives the whole event; the ways to change
    it first are not rehearsed, since no rule of the stack uses one. An event that cannot be
    delivered goes to the target's dead-letter queue at once.

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
    unknown = target.keys() - {"Id", "Arn", "RoleArn", "RetryPolicy", "DeadLetterConfig"}
    if ":stateMachine:" not in target["Arn"] or unknown:
        raise NotImplementedError(f"The rehearsal has no target such as {target}.")
    states = endpoint.client("stepfunctions", endpoint.assume(target["RoleArn"], "rule", "events"))
    try:
        started = states.start_execution(
            stateMachineArn=target["Arn"], name=str(uuid.uuid4()), input=json.dumps(event)
        )
    except ClientError as error:
        # AWS tries again for a day first.
        queue = target.get("DeadLetterConfig", {}).get("Arn", "")
        if queue:
            sqs = endpoint.client("sqs")
            url = sqs.get_queue_url(QueueName=queue.rpartition(":")[2])["QueueUrl"]
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
        return str(error)
    return str(started["executionArn"])
