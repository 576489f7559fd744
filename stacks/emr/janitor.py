"""The third net: a state machine that ends the clusters of executions that could not.

An execution that is aborted, or that times out as a whole, runs no Catch, and what it created
lives on. One that failed has ended its cluster, unless that was refused again and again, or
creating it seemed to fail and did not. The janitor looks after all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Stack
from aws_cdk import aws_events as events
from constructs import Construct

from stacks.config import cluster_name_prefix
from stacks.states import (
    RETRY_BRIEFLY,
    RETRY_PATIENTLY,
    catch,
    format_string,
    make_state_machine,
    notify_failure,
    on_event,
    record_failure,
    service,
)

if TYPE_CHECKING:
    from aws_cdk import aws_sns, aws_sqs
    from aws_cdk import aws_stepfunctions as sfn

    from stacks.config import OrchardConfig
    from stacks.states import State, States

_ALIVE: Final = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
_LOOKS: Final = 4
_SECONDS_BETWEEN_LOOKS: Final = 60


class Janitor(Construct):
    """Terminates the cluster of every execution that was aborted, timed out or failed.

    It finds the cluster by its name, which the execution's own name determines, and not in the
    execution's history: an execution aborted while EMR was answering its request never recorded
    the cluster's id. For the same reason it looks several times: such a cluster may only appear
    after the first look.

    Attributes
    ----------
    state_machine
        The janitor.
    definition
        What it was made of, in the Amazon States Language.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        state_machine: sfn.IStateMachine,
        topic: aws_sns.ITopic,
        undelivered: aws_sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        prefix = cluster_name_prefix(Stack.of(self).stack_name)
        self.definition: State = {
            "Comment": "Terminates the cluster of an execution that ended without doing so.",
            "StartAt": "ReadEvent",
            # Longer than all looks and all their retries.
            "TimeoutSeconds": 7200,
            "States": {
                **_look(prefix),
                **_tell_once(config, topic),
                **_look_again(),
                **notify_failure(topic, "Orchard: a cluster may have been left"),
            },
        }
        self.state_machine = make_state_machine(
            self, name="Janitor", definition=self.definition, config=config
        )
        events.Rule(
            self,
            "ExecutionEnded",
            description="An execution ended in a way that may have left its cluster.",
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "status": ["ABORTED", "FAILED", "TIMED_OUT"],
                    "stateMachineArn": [state_machine.state_machine_arn],
                },
            ),
            targets=[on_event(self.state_machine, undelivered)],
        )


def _look(prefix: str) -> States:
    def page(**parameters: str) -> State:
        return {
            "Type": "Task",
            "Resource": service("aws-sdk:emr:listClusters"),
            "Parameters": {"ClusterStates": _ALIVE, **parameters},
            "ResultPath": "$.page",
            "Retry": RETRY_PATIENTLY,
            "Catch": catch("TellLeft"),
            "Next": "TerminateOwn",
        }

    return {
        "ReadEvent": {
            "Type": "Pass",
            "Parameters": {
                "run.$": "$.detail.name",
                "status.$": "$.detail.status",
                "execution.$": "$.detail.executionArn",
                "cluster.$": format_string(f"{prefix}{{}}", "$.detail.name"),
                "looks": 1,
            },
            "Next": "ListClusters",
        },
        "ListClusters": page(),
        "ListMoreClusters": page(**{"Marker.$": "$.page.Marker"}),
        "TerminateOwn": {
            "Type": "Map",
            "ItemsPath": "$.page.Clusters",
            "ItemSelector": {"found.$": "$$.Map.Item.Value", "cluster.$": "$.cluster"},
            "MaxConcurrency": 5,
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "IsItOwn",
                "States": {
                    "IsItOwn": {
                        "Type": "Choice",
                        "Choices": [
                            {
                                "Variable": "$.found.Name",
                                "StringEqualsPath": "$.cluster",
                                "Next": "TerminateCluster",
                            }
                        ],
                        "Default": "LetItBe",
                    },
                    "TerminateCluster": {
                        "Type": "Task",
                        "Resource": service("elasticmapreduce:terminateCluster"),
                        "Parameters": {"ClusterId.$": "$.found.Id"},
                        "Retry": RETRY_PATIENTLY,
                        "End": True,
                    },
                    "LetItBe": {"Type": "Pass", "Result": {}, "End": True},
                },
            },
            "ResultPath": None,
            "Catch": catch("TellLeft"),
            "Next": "AreThereMore",
        },
        "AreThereMore": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.page.Marker", "IsPresent": True, "Next": "ListMoreClusters"}
            ],
            "Default": "WasItTold",
        },
        "TellLeft": record_failure(
            "NotifyFailure",
            "ClusterNotTerminated",
            "Run {} ended as {}, and its cluster {}, if it has one, could not be terminated ({})."
            " It is paid for until its idle minutes are over, so look for it with"
            " `aws emr list-clusters --active` and terminate it.",
            "$.run",
            "$.status",
            "$.cluster",
            "$.error.Cause",
        ),
    }


def _tell_once(config: OrchardConfig, topic: aws_sns.ITopic) -> States:
    """Return the states that say what the ended execution could not say itself."""

    def publish(template: str) -> State:
        return {
            "Type": "Task",
            "Resource": service("sns:publish"),
            "Parameters": {
                "TopicArn": topic.topic_arn,
                "Subject": "Orchard: a batch was stopped",
                "Message.$": format_string(template, "$.run", "$.execution"),
            },
            "ResultPath": None,
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("IsItEnough", "$.unsent"),
            "Next": "IsItEnough",
        }

    minutes = config.wait_timeout_minutes + config.execution_timeout_minutes
    first = {"Variable": "$.looks", "NumericEquals": 1}

    def ended(status: str, then: str) -> State:
        return {
            "And": [first, {"Variable": "$.status", "StringEquals": status}],
            "Next": then,
        }

    return {
        "WasItTold": {
            "Type": "Choice",
            "Choices": [ended("ABORTED", "TellAborted"), ended("TIMED_OUT", "TellTimedOut")],
            "Default": "IsItEnough",
        },
        "TellAborted": publish(
            "Run {} was aborted, nothing of it is published, and its cluster, if it had one, is"
            " terminated; start the batch again when it is wanted. Execution: {}"
        ),
        "TellTimedOut": publish(
            f"Run {{}} took longer than {minutes} minutes, its waiting for other batches included,"
            " and was stopped, nothing of it is published, and its cluster, if it had one, is"
            " terminated; give the batch more core_instances, or the deployment a longer"
            " execution_timeout_minutes."
            " Execution: {}"
        ),
    }


def _look_again() -> States:
    return {
        "IsItEnough": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.looks", "NumericLessThan": _LOOKS, "Next": "WaitForLateClusters"}
            ],
            "Default": "Clean",
        },
        "WaitForLateClusters": {
            "Type": "Wait",
            "Seconds": _SECONDS_BETWEEN_LOOKS,
            "Next": "CountLook",
        },
        "CountLook": {
            "Type": "Pass",
            "Parameters": {
                "run.$": "$.run",
                "status.$": "$.status",
                "execution.$": "$.execution",
                "cluster.$": "$.cluster",
                "looks.$": "States.MathAdd($.looks, 1)",
            },
            "Next": "ListClusters",
        },
        "Clean": {"Type": "Succeed"},
    }
