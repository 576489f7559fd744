"""The few phrases of the Amazon States Language that every definition here repeats."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Aws, aws_iam
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_stepfunctions as sfn

from stacks.identity import trusted
from stacks.logs import state_machine_log

if TYPE_CHECKING:
    from aws_cdk import aws_s3, aws_sns, aws_sqs
    from constructs import Construct

    from stacks.config import OrchardConfig

State = dict[str, Any]
States = dict[str, State]

RETRY_BRIEFLY: Final = [
    {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 2, "BackoffRate": 2.0, "MaxAttempts": 2}
]
"""Retry what is safe to repeat and nice to have."""

RETRY_PATIENTLY: Final = [
    {
        "ErrorEquals": ["States.ALL"],
        "IntervalSeconds": 5,
        "BackoffRate": 2.0,
        "MaxDelaySeconds": 120,
        "MaxAttempts": 8,
    }
]
"""Retry what must succeed, for some eight minutes."""


def make_state_machine(
    scope: Construct, *, name: str, definition: State, config: OrchardConfig
) -> sfn.StateMachine:
    """Return a state machine made from its definition, with its role, its log and its trace.

    Every event is logged, for a failed run is understood by the way it went; the data in them are
    not, for they name images, and the execution's own history keeps them for those who may see it.
    """
    return sfn.StateMachine(
        scope,
        "StateMachine",
        # Written in the States Language itself: what a reader sees here is what the console
        # shows. (`to_json_string` would drop the nulls that mean "keep the input".)
        definition_body=sfn.DefinitionBody.from_string(json.dumps(definition)),
        # The role that CDK makes itself is trusted to any account's machines.
        role=aws_iam.Role(
            scope, "StateMachineRole", assumed_by=trusted(scope, "states", "stateMachine:*")
        ),
        comment=definition["Comment"],
        tracing_enabled=True,
        logs=sfn.LogOptions(
            destination=state_machine_log(scope, f"{name}Log", config=config),
            level=sfn.LogLevel.ALL,
            include_execution_data=False,
        ),
    )


def on_event(machine: sfn.StateMachine, undelivered: aws_sqs.IQueue) -> targets.SfnStateMachine:
    """Return the target by which an event starts a state machine.

    Its role is trusted to this account's rules; the one that CDK makes itself is to anyone's.

    Parameters
    ----------
    machine
        What is started.
    undelivered
        Where an event goes that could not start it within a day.
    """
    role = aws_iam.Role(machine, "EventsRole", assumed_by=trusted(machine, "events", "rule/*"))
    return targets.SfnStateMachine(machine, role=role, dead_letter_queue=undelivered)


def start_when_written(
    scope: Construct,
    construct_id: str,
    machine: sfn.StateMachine,
    undelivered: aws_sqs.IQueue,
    *,
    bucket: aws_s3.IBucket,
    key: str,
    description: str,
) -> None:
    """Start a state machine whenever an object is written whose key a wildcard matches."""
    events.Rule(
        scope,
        construct_id,
        description=description,
        event_pattern=events.EventPattern(
            source=["aws.s3"],
            detail_type=["Object Created"],
            detail={
                "bucket": {"name": [bucket.bucket_name]},
                "object": {"key": [{"wildcard": key}]},
            },
        ),
        targets=[on_event(machine, undelivered)],
    )


def service(action: str) -> str:
    """Return the resource by which a Task calls a service, such as ``sns:publish``."""
    return f"arn:{Aws.PARTITION}:states:::{action}"


def catch(then: str, result_path: str = "$.error") -> list[State]:
    """Return a Catch of every error, which keeps the state's input and adds the error to it."""
    return [{"ErrorEquals": ["States.ALL"], "ResultPath": result_path, "Next": then}]


def format_string(template: str, *arguments: str) -> str:
    """Return the expression that puts arguments, each a path or an expression, into a text.

    Raises
    ------
    ValueError
        For a quote, a backslash or a lone brace: how these are escaped within an expression
        within JSON is told differently by every reader of the language.
    """
    if re.search(r"['\"\\]", template) or re.search(r"[{}]", template.replace("{}", "")):
        raise ValueError(f"{template} has a quote, a backslash or a brace; say it without.")
    return "States.Format(" + ", ".join((f"'{template}'", *arguments)) + ")"


def failure(error: str, template: str, *arguments: str) -> State:
    """Return what a state machine says when it fails: a name for programs, words for people."""
    return {"error": error, "message.$": format_string(template, *arguments)}


def record_failure(then: str, error: str, template: str, *arguments: str) -> State:
    """Return the state that leaves a failure in ``$.failure``, beside its input."""
    return {
        "Type": "Pass",
        "Parameters": failure(error, template, *arguments),
        "ResultPath": "$.failure",
        "Next": then,
    }


def notify_failure(topic: aws_sns.ITopic, subject: str) -> States:
    """Return the states ``NotifyFailure``, which publishes ``$.failure``, and ``Failed``.

    Parameters
    ----------
    topic
        Where to publish.
    subject
        At most 100 printable characters, so nothing that an input may have chosen.
    """
    return {
        "NotifyFailure": {
            "Type": "Task",
            "Resource": service("sns:publish"),
            "Parameters": {
                "TopicArn": topic.topic_arn,
                "Subject": subject,
                "Message.$": format_string(
                    "{} Execution: {}", "$.failure.message", "$$.Execution.Id"
                ),
            },
            "ResultPath": None,
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("Failed", "$.unsent"),
            "Next": "Failed",
        },
        "Failed": {
            "Type": "Fail",
            "ErrorPath": "$.failure.error",
            "CausePath": "$.failure.message",
        },
    }


def either(*conditions: State) -> State:
    """Return the condition that holds when any of some does."""
    return {"Or": list(conditions)}


def neither(*conditions: State) -> State:
    """Return the condition that holds when none of some does."""
    return {"Not": either(*conditions) if len(conditions) > 1 else conditions[0]}
