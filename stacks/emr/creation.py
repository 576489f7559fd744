"""The states that create an execution's cluster, wait for it, and try once more without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stacks.emr.capacity import choose_capacity
from stacks.emr.failures import ENDED, STATUS, was_throttled
from stacks.states import RETRY_BRIEFLY, RETRY_PATIENTLY, catch, record_failure, service

if TYPE_CHECKING:
    from aws_cdk import aws_ssm

    from stacks.config import OrchardConfig
    from stacks.states import State, States

_SECONDS_BETWEEN_LOOKS: Final = 30

# What may go well with other types: EC2 had none of these, or lost them. (EMR gives the capacity
# errors of an availability zone, INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ, as INTERNAL_ERROR.)
_WORTH_A_SECOND_TRY: Final = (
    "INTERNAL_ERROR",
    "INSTANCE_FLEET_TIMEOUT",
    "INSTANCE_FAILURE",
    "VALIDATION_ERROR",
)


def create_cluster(
    config: OrchardConfig,
    region: str,
    request: dict[str, Any],
    security: aws_ssm.IStringParameter,
    *,
    then: str,
) -> States:
    """Return the states from ``ChooseType`` on.

    Parameters
    ----------
    config
        The deployment's configuration.
    region
        Where, for the prices.
    request
        See :attr:`stacks.emr.cluster.Cluster.request`.
    security
        See :attr:`stacks.emr.cluster.Cluster.security_parameter`.
    then
        The state that follows with ``$.cluster.id`` of a cluster that is ready. Without a cluster
        it is ``NotifyFailure``, with one that will not do ``TerminateFailedCluster``.
    """
    return {
        **choose_capacity(config, region, then="ReadSecurity"),
        "ReadSecurity": {
            "Type": "Task",
            "Resource": service("aws-sdk:ssm:getParameter"),
            "Parameters": {"Name": security.parameter_name},
            "ResultSelector": {"name.$": "$.Parameter.Value"},
            "ResultPath": "$.security",
            "Retry": RETRY_PATIENTLY,
            "Catch": catch("TellNoCluster"),
            "Next": "CreateCluster",
        },
        # Not `.sync`: it returns the cluster's id at once, so that every failure from here on
        # knows what to terminate. Not retried: a request that failed may still have been heard,
        # and a second one would be a second cluster. (The janitor looks for such a first one.)
        "CreateCluster": {
            "Type": "Task",
            "Resource": service("elasticmapreduce:createCluster"),
            "Parameters": request,
            "ResultSelector": {"id.$": "$.ClusterId"},
            "ResultPath": "$.cluster",
            "Catch": catch("WasItThrottled"),
            "Next": "BeginToLook",
        },
        # A throttled request is the exception: it was turned away before anything was made of it.
        # Its error has no name of its own that could be retried.
        "WasItThrottled": {
            "Type": "Choice",
            "Choices": [{**was_throttled(), "Next": "WaitForEmr"}],
            "Default": "TellNoCluster",
        },
        "WaitForEmr": {"Type": "Wait", "Seconds": 15, "Next": "CountAttempt"},
        "CountAttempt": {
            "Type": "Pass",
            "Parameters": {"count.$": "States.MathAdd($.throttled.count, 1)"},
            "ResultPath": "$.throttled",
            "Next": "CreateCluster",
        },
        "TellNoCluster": record_failure(
            "NotifyFailure",
            "ClusterNotCreated",
            "Batch {} was not started, for no cluster could be made ({}). Change what these words"
            " name, such as a quota or a right that is missing, and start the batch again.",
            "$.settings.batch",
            "$.error.Cause",
        ),
        **_wait_for_cluster(config, then),
        **_give_up(config),
    }


def _wait_for_cluster(config: OrchardConfig, then: str) -> States:
    looks = 60 * config.start_timeout_minutes // _SECONDS_BETWEEN_LOOKS
    state = f"{STATUS}.State"
    return {
        "BeginToLook": {
            "Type": "Pass",
            "Result": {"count": 0},
            "ResultPath": "$.looks",
            "Next": "WaitForNodes",
        },
        "WaitForNodes": {
            "Type": "Wait",
            "Seconds": _SECONDS_BETWEEN_LOOKS,
            "Next": "LookAtCluster",
        },
        "LookAtCluster": {
            "Type": "Task",
            "Resource": service("aws-sdk:emr:describeCluster"),
            "Parameters": {"ClusterId.$": "$.cluster.id"},
            "ResultSelector": {"Cluster": {"Status.$": "$.Cluster.Status"}},
            "ResultPath": "$.described",
            "Retry": RETRY_PATIENTLY,
            "Catch": catch("DescribeFailure"),
            "Next": "IsItReady",
        },
        "IsItReady": {
            "Type": "Choice",
            "Choices": [
                {
                    "Or": [
                        {"Variable": state, "StringEquals": ready}
                        for ready in ("RUNNING", "WAITING")
                    ],
                    "Next": then,
                },
                {
                    "Or": [{"Variable": state, "StringEquals": ended} for ended in ENDED],
                    "Next": "IsItWorthASecondTry",
                },
                {
                    "Variable": "$.looks.count",
                    "NumericGreaterThanEquals": looks,
                    "Next": "AskWhyItIsLate",
                },
            ],
            "Default": "CountLook",
        },
        "CountLook": {
            "Type": "Pass",
            "Parameters": {"count.$": "States.MathAdd($.looks.count, 1)"},
            "ResultPath": "$.looks",
            "Next": "WaitForNodes",
        },
    }


def _give_up(config: OrchardConfig) -> States:
    """Return what follows a cluster that is late, or that ended before it was ready."""
    code = f"{STATUS}.StateChangeReason.Code"
    minutes = config.start_timeout_minutes
    first: State = {"Variable": "$.capacity.attempt", "NumericEquals": 1}
    return {
        "IsItWorthASecondTry": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        first,
                        {"Variable": code, "IsPresent": True},
                        {
                            "Or": [
                                {"Variable": code, "StringEquals": known}
                                for known in _WORTH_A_SECOND_TRY
                            ]
                        },
                    ],
                    "Next": "EndFirstCluster",
                }
            ],
            "Default": "ItEndedEarly",
        },
        "ItEndedEarly": {
            "Type": "Pass",
            "Result": {
                "Error": "ClusterEnded",
                "Cause": "the cluster ended before it was ready, and EMR says no more",
            },
            "ResultPath": "$.error",
            "Next": "DescribeCluster",
        },
        "AskWhyItIsLate": {
            "Type": "Task",
            "Resource": service("aws-sdk:emr:listInstanceFleets"),
            "Parameters": {"ClusterId.$": "$.cluster.id"},
            "ResultSelector": {"said.$": "$.InstanceFleets[*].Status.StateChangeReason.Message"},
            "ResultPath": "$.fleets",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("TheySayNothing", "$.unread"),
            "Next": "IsItTheFirstTry",
        },
        "TheySayNothing": {
            "Type": "Pass",
            "Result": {"said": []},
            "ResultPath": "$.fleets",
            "Next": "IsItTheFirstTry",
        },
        "IsItTheFirstTry": {
            "Type": "Choice",
            "Choices": [{**first, "Next": "EndFirstCluster"}],
            "Default": "TellLate",
        },
        "TellLate": record_failure(
            "TerminateFailedCluster",
            "NoCapacity",
            f"Batch {{}} was not run, for two clusters did not start ({minutes} minutes are given"
            " to each), the first with the nodes asked for, the second with larger ones on demand."
            " Of these EMR says: {}. EC2 seems to have too few such nodes just now: start"
            " the batch again later, with another instance_type, or with fewer core_instances;"
            " or give the deployment more types (instance_types) or zones.",
            "$.settings.batch",
            "States.JsonToString($.fleets.said)",
        ),
        "EndFirstCluster": {
            "Type": "Task",
            "Resource": service("elasticmapreduce:terminateCluster"),
            "Parameters": {"ClusterId.$": "$.cluster.id"},
            "ResultPath": None,
            "Retry": RETRY_PATIENTLY,
            # Two clusters of one batch would be paid for: rather none.
            "Catch": catch("TellFirstClusterLeft"),
            "Next": "UseOtherTypes",
        },
        "TellFirstClusterLeft": record_failure(
            "NotifyFailure",
            "ClusterNotTerminated",
            "Batch {} was not run: its cluster {} did not start and could not be terminated ({})."
            f" It is paid for until the janitor ends it, or itself after"
            f" {config.idle_timeout_minutes} idle minutes; to be sure, run: aws emr"
            " terminate-clusters --cluster-ids {}",
            "$.settings.batch",
            "$.cluster.id",
            "$.error.Cause",
            "$.cluster.id",
        ),
    }
