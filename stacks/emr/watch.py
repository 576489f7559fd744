"""A second look at every cluster, once it should long have ended.

EMR's own metrics know a cluster by its id alone, so that no alarm on them can be written before
the cluster exists. A state machine is started with each cluster instead, waits, and fails when
the cluster is still alive; an alarm on its failures is an alarm on clusters that live too long.
It needs nothing of the machines that end clusters, and so sees when they did not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Stack
from aws_cdk import aws_events as events
from constructs import Construct

from stacks.config import cluster_name_prefix
from stacks.states import (
    RETRY_PATIENTLY,
    catch,
    make_state_machine,
    notify_failure,
    on_event,
    record_failure,
    service,
)

if TYPE_CHECKING:
    from aws_cdk import aws_sns, aws_sqs

    from stacks.config import OrchardConfig
    from stacks.states import State, States

_ENDED: Final = ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")


class Watch(Construct):
    """Looks at each of the stack's clusters again after ``cluster_alive_alarm_minutes``.

    Attributes
    ----------
    state_machine
        The watch; it fails when the cluster is still alive, or cannot be looked at.
    definition
        What it was made of, in the Amazon States Language.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        topic: aws_sns.ITopic,
        undelivered: aws_sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        minutes = config.cluster_alive_alarm_minutes
        self.definition: State = {
            "Comment": "Looks at a cluster again once it should long have ended.",
            "StartAt": "WaitUntilLate",
            "TimeoutSeconds": 60 * minutes + 3600,
            "States": _states(minutes, topic),
        }
        self.state_machine = make_state_machine(
            self, name="Watch", definition=self.definition, config=config
        )
        self._start_with_clusters(undelivered)

    def _start_with_clusters(self, undelivered: aws_sqs.IQueue) -> None:
        events.Rule(
            self,
            "ClusterStarted",
            description="A cluster of this stack was created: look at it again later.",
            event_pattern=events.EventPattern(
                source=["aws.emr"],
                detail_type=["EMR Cluster State Change"],
                detail={
                    "state": ["STARTING"],
                    "name": [{"prefix": cluster_name_prefix(Stack.of(self).stack_name)}],
                },
            ),
            targets=[on_event(self.state_machine, undelivered)],
        )


def _states(minutes: int, topic: aws_sns.ITopic) -> States:
    return {
        "WaitUntilLate": {"Type": "Wait", "Seconds": 60 * minutes, "Next": "DescribeCluster"},
        "DescribeCluster": {
            "Type": "Task",
            "Resource": service("aws-sdk:emr:describeCluster"),
            "Parameters": {"ClusterId.$": "$.detail.clusterId"},
            "ResultSelector": {"state.$": "$.Cluster.Status.State"},
            "ResultPath": "$.now",
            "Retry": RETRY_PATIENTLY,
            "Catch": catch("TellThatItIsUnseen"),
            "Next": "HasItEnded",
        },
        "HasItEnded": {
            "Type": "Choice",
            "Choices": [
                {
                    "Or": [{"Variable": "$.now.state", "StringEquals": state} for state in _ENDED],
                    "Next": "Ended",
                }
            ],
            "Default": "TellThatItLives",
        },
        "Ended": {"Type": "Succeed"},
        "TellThatItLives": record_failure(
            "NotifyFailure",
            "ClusterAliveTooLong",
            f"Cluster {{}} ({{}}) is still {{}} after {minutes} minutes, and is being paid for."
            " Unless it is wanted, end it with: aws emr terminate-clusters --cluster-ids {}",
            "$.detail.clusterId",
            "$.detail.name",
            "$.now.state",
            "$.detail.clusterId",
        ),
        # A cluster that cannot be looked at is as alarming as one that lives.
        "TellThatItIsUnseen": record_failure(
            "NotifyFailure",
            "ClusterNotSeen",
            f"Cluster {{}} ({{}}) should have ended {minutes} minutes after its start, and could"
            " not be looked at ({}). To see it, run: aws emr describe-cluster --cluster-id {}",
            "$.detail.clusterId",
            "$.detail.name",
            "$.error.Cause",
            "$.detail.clusterId",
        ),
        **notify_failure(topic, "Orchard: a cluster is still alive"),
    }
