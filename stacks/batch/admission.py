"""The states that let only so many batches at a time have a cluster.

Each execution looks at the machine's running ones: the oldest may go on, the others wait. Nothing
is locked, so nothing stays locked when an execution dies. Step Functions' listing may lag by a
moment: an execution that is not on it yet waits, but two that are started within that moment may
both take the last place. An execution that was aborted gives its place away at once, and its
cluster lives until the janitor has ended it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stacks.states import (
    RETRY_BRIEFLY,
    RETRY_PATIENTLY,
    catch,
    format_string,
    record_failure,
    service,
)

if TYPE_CHECKING:
    from aws_cdk import aws_sns

    from stacks.config import OrchardConfig
    from stacks.states import State, States

# An execution may have 25,000 events, of which each look takes 17.
_SECONDS_BETWEEN_LOOKS: Final = 120
# Enough for any day, and few enough for a state's data.
_PAGE: Final = 300


def admit(config: OrchardConfig, topic: aws_sns.ITopic, *, then: str) -> States:
    """Return the states from ``Admission`` on.

    Parameters
    ----------
    config
        The deployment's configuration.
    topic
        Where to say that a batch waits.
    then
        The state that follows when it is the execution's turn; else it is ``NotifyFailure``.
    """
    most = config.max_concurrent_clusters
    looks = 60 * config.wait_timeout_minutes // _SECONDS_BETWEEN_LOOKS
    return {
        "Admission": {
            "Type": "Pass",
            "Parameters": {"run.$": "$.run", "settings.$": "$.settings", "waited": {"count": 0}},
            "Next": "WaitToBeListed",
        },
        # Else it would look before it is listed itself, and wait a whole turn.
        "WaitToBeListed": {"Type": "Wait", "Seconds": 10, "Next": "ListRunning"},
        "ListRunning": _list(),
        # The newest come first: who may go on is at the end of the last page.
        "IsThereAnotherPage": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.running.NextToken", "IsPresent": True, "Next": "ListOlderRunning"}
            ],
            "Default": "FindOldest",
        },
        "ListOlderRunning": _list(**{"NextToken.$": "$.running.NextToken"}),
        "FindOldest": {
            "Type": "Pass",
            "Parameters": {"oldest.$": f"$.running.Executions[-{most}:].ExecutionArn"},
            "ResultPath": "$.running",
            "Next": "AmIAmongThem",
        },
        "AmIAmongThem": {
            "Type": "Pass",
            "Parameters": {"admitted.$": "States.ArrayContains($.running.oldest, $$.Execution.Id)"},
            "ResultPath": "$.running",
            "Next": "IsItMyTurn",
        },
        "IsItMyTurn": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.running.admitted", "BooleanEquals": True, "Next": then},
                {"Variable": "$.waited.count", "NumericEquals": 1, "Next": "TellWaiting"},
                {
                    "Variable": "$.waited.count",
                    "NumericGreaterThanEquals": looks,
                    "Next": "TellNoTurn",
                },
            ],
            "Default": "CountWait",
        },
        "TellWaiting": {
            "Type": "Task",
            "Resource": service("sns:publish"),
            "Parameters": {
                "TopicArn": topic.topic_arn,
                "Subject": "Orchard: a batch waits",
                "Message.$": format_string(
                    f"Batch {{}} waits: {most} batches have clusters already, which is the most at"
                    " a time (max_concurrent_clusters). It starts by itself when one of them ends."
                    " Execution: {}",
                    "$.settings.batch",
                    "$$.Execution.Id",
                ),
            },
            "ResultPath": None,
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("CountWait", "$.unsent"),
            "Next": "CountWait",
        },
        "CountWait": {
            "Type": "Pass",
            "Parameters": {"count.$": "States.MathAdd($.waited.count, 1)"},
            "ResultPath": "$.waited",
            "Next": "WaitForTurn",
        },
        "WaitForTurn": {
            "Type": "Wait",
            "Seconds": _SECONDS_BETWEEN_LOOKS,
            "Next": "ListRunning",
        },
        "TellNoTurn": record_failure(
            "NotifyFailure",
            "NoTurn",
            f"Batch {{}} was not run: for {config.wait_timeout_minutes} minutes {most} other"
            " batches had clusters, which is the most at a time; start it again when fewer wait,"
            " or give the deployment a larger max_concurrent_clusters or wait_timeout_minutes.",
            "$.settings.batch",
        ),
        "TellNotAdmitted": record_failure(
            "NotifyFailure",
            "NoTurn",
            "Batch {} was not run, for it could not be seen how many others run ({}). Start it"
            " again in a few minutes.",
            "$.settings.batch",
            "$.error.Cause",
        ),
    }


def _list(**parameters: str) -> State:
    return {
        "Type": "Task",
        "Resource": service("aws-sdk:sfn:listExecutions"),
        "Parameters": {
            "StateMachineArn.$": "$$.StateMachine.Id",
            "StatusFilter": "RUNNING",
            "MaxResults": _PAGE,
            **parameters,
        },
        "ResultPath": "$.running",
        "Retry": RETRY_PATIENTLY,
        "Catch": catch("TellNotAdmitted"),
        "Next": "IsThereAnotherPage",
    }
