"""The states that create an execution's cluster, of the size and on the market it asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stacks.emr.cluster import capacity
from stacks.states import catch, record_failure, service

if TYPE_CHECKING:
    from typing import Any

    from stacks.config import OrchardConfig
    from stacks.states import State, States

_THROTTLED: Final = ("*Rate exceeded*", "*ThrottlingException*")
_MOST_ATTEMPTS: Final = 20


def create_cluster(config: OrchardConfig, request: dict[str, Any], *, then: str) -> States:
    """Return the states from ``ChooseCapacity`` on.

    Parameters
    ----------
    config
        The deployment's configuration.
    request
        See :attr:`stacks.emr.cluster.Cluster.request`.
    then
        The state that follows with ``$.cluster.id``; without a cluster it is ``NotifyFailure``.
    """

    def choose(*, spot: bool, instance_types: tuple[str, ...]) -> State:
        return {
            "Type": "Pass",
            # Only what is needed from here on: the listing stays behind.
            "Parameters": {
                "run.$": "$.run",
                "settings.$": "$.settings",
                "capacity": capacity(config, spot=spot, instance_types=instance_types),
                "attempts": 0,
            },
            "Next": "CreateCluster",
        }

    chosen = ("$.settings.instance_type",)
    on_spot = {"Variable": "$.settings.spot", "BooleanEquals": True}
    one_type = {"Variable": "$.input.instance_type", "IsPresent": True}
    return {
        "ChooseCapacity": {
            "Type": "Choice",
            "Choices": [
                {"And": [on_spot, one_type], "Next": "SpotOfOneType"},
                {**on_spot, "Next": "SpotOfAnyType"},
            ],
            "Default": "OnDemand",
        },
        "OnDemand": choose(spot=False, instance_types=chosen),
        "SpotOfOneType": choose(spot=True, instance_types=chosen),
        "SpotOfAnyType": choose(spot=True, instance_types=config.core_types),
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
            "Next": then,
        },
        # A throttled request is the exception: it was turned away before anything was made of it.
        # Its error has no name of its own that could be retried.
        "WasItThrottled": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.attempts", "NumericLessThan": _MOST_ATTEMPTS},
                        {
                            "Or": [
                                {"Variable": "$.error.Cause", "StringMatches": pattern}
                                for pattern in _THROTTLED
                            ]
                        },
                    ],
                    "Next": "WaitForEmr",
                }
            ],
            "Default": "TellNoCluster",
        },
        "WaitForEmr": {"Type": "Wait", "Seconds": 15, "Next": "CountAttempt"},
        "CountAttempt": {
            "Type": "Pass",
            "Parameters": {
                "run.$": "$.run",
                "settings.$": "$.settings",
                "capacity.$": "$.capacity",
                "attempts.$": "States.MathAdd($.attempts, 1)",
            },
            "Next": "CreateCluster",
        },
        "TellNoCluster": record_failure(
            "NotifyFailure",
            "ClusterNotCreated",
            "Batch {} was not started, for EMR made no cluster: {}",
            "$.settings.batch",
            "$.error.Cause",
        ),
    }
