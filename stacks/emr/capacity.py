"""The states that choose an execution's fleets: which types, on which market, divided how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from spark_job.contract import NONE
from spark_job.prices import node_price
from stacks.emr.instances import NodeShape, alike, fleet_types, larger

if TYPE_CHECKING:
    from stacks.config import OrchardConfig
    from stacks.states import State, States

_ON_DEMAND: Final = {"OnDemandSpecification": {"AllocationStrategy": "prioritized"}}
_SPOT: Final = {
    "SpotSpecification": {
        # The pools that are least likely to be taken back; of these, the preferred type's.
        "AllocationStrategy": "capacity-optimized-prioritized",
        "TimeoutDurationMinutes": 10,
        # A batch that costs more is better than one that never runs.
        "TimeoutAction": "SWITCH_TO_ON_DEMAND",
    }
}
# EMR labels each node by its market. Without labels YARN may start the driver on any node, and
# losing a Spot node that has it would lose the run. The second property is EMR's own; Spark's, of
# the same meaning, is in `spark_settings`.
_LABEL: Final = "ON_DEMAND"
_DRIVER_ON_DEMAND: Final = {
    "yarn.node-labels.enabled": "true",
    "yarn.node-labels.am.default-node-label-expression": _LABEL,
}


def choose_capacity(config: OrchardConfig, region: str, *, then: str) -> States:
    """Return the states from ``ChooseType`` on, and ``UseOtherTypes`` for a second try.

    Parameters
    ----------
    config
        The deployment's configuration.
    region
        Where, for the prices.
    then
        The state that follows, with ``$.capacity``: ``fleets`` as EMR's API has them, ``yarn``,
        the properties of yarn-site, and ``market`` in words; and with ``$.shape``, see
        `NodeShape.settings`.
    """
    return {
        "ChooseType": {
            "Type": "Choice",
            "Choices": [
                {
                    "Variable": "$.settings.instance_type",
                    "StringEquals": instance_type,
                    "Next": _state_of(instance_type),
                }
                for instance_type in config.types
            ],
            "Default": _state_of(config.types[0]),
        },
        **{_state_of(name): _prefer(name, config, region) for name in config.types},
        "ChooseMarket": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.settings.spot", "BooleanEquals": True},
                        # One node is the on-demand one.
                        {"Variable": "$.settings.core_instances", "NumericGreaterThan": 1},
                    ],
                    "Next": "UseSpot",
                }
            ],
            "Default": "UseOnDemand",
        },
        "UseOnDemand": _use(then, config, "on demand", _core("$.settings.core_instances")),
        "UseSpot": {
            **_use(
                then,
                config,
                "on Spot, one of them on demand",
                # HDFS and the driver live on core nodes, and Spot nodes come and go.
                _core(1),
                {
                    "Name": "Task",
                    "InstanceFleetType": "TASK",
                    "TargetSpotCapacity.$": "States.MathAdd($.settings.core_instances, -1)",
                    "InstanceTypeConfigs.$": "$.types",
                    "LaunchSpecifications": _SPOT,
                },
                yarn=_DRIVER_ON_DEMAND,
            ),
        },
        "UseOtherTypes": _use(
            then,
            config,
            "on demand, of other types",
            _core("$.settings.core_instances", types="$.others"),
            attempt=2,
            price="$.prices.other",
            primary=larger(config.primary_type, config),
        ),
    }


def _state_of(instance_type: str) -> str:
    return f"Prefer {instance_type}"


def _price(region: str, instance_type: str, volume_gib: int) -> str:
    price = node_price(region, instance_type, volume_gib)
    return NONE if price is None else str(price)


def _prefer(instance_type: str, config: OrchardConfig, region: str) -> State:
    volume = config.node_volume_gib
    return {
        "Type": "Pass",
        # Only what is needed from here on: the listing stays behind.
        "Parameters": {
            "run.$": "$.run",
            "settings.$": "$.settings",
            "shape": NodeShape.of(instance_type).settings(),
            "prices": {
                "node": _price(region, instance_type, volume),
                "primary": _price(region, config.primary_type, volume),
                "other": _price(region, larger(instance_type, config)[0], volume),
            },
            "types": fleet_types(alike(instance_type, config), volume),
            "others": fleet_types(larger(instance_type, config), volume),
        },
        "Next": "ChooseMarket",
    }


def _use(
    then: str,
    config: OrchardConfig,
    market: str,
    *fleets: dict[str, Any],
    yarn: dict[str, str] | None = None,
    attempt: int = 1,
    price: str = "$.prices.node",
    primary: tuple[str, ...] = (),
) -> State:
    return {
        "Type": "Pass",
        "Parameters": {
            "run.$": "$.run",
            "settings.$": "$.settings",
            "shape.$": "$.shape",
            "others.$": "$.others",
            "prices.$": "$.prices",
            "throttled": {"count": 0},
            "capacity": {
                "since.$": "$$.State.EnteredTime",
                "node_price.$": price,
                "attempt": attempt,
                "market": market,
                "drivers_label": _LABEL if yarn else "",
                "fleets": [_primary(config, primary), *fleets],
                "yarn": {
                    # Stated, and not left to EMR's table of types: the executors fill it.
                    "yarn.nodemanager.resource.memory-mb.$": "$.shape.yarn_mb",
                    "yarn.scheduler.maximum-allocation-mb.$": "$.shape.yarn_mb",
                    # The shuffle service must ask for the secret that executors give.
                    "spark.authenticate": "true",
                    **(yarn or {}),
                },
            },
        },
        "Next": then,
    }


def _primary(config: OrchardConfig, types: tuple[str, ...]) -> dict[str, Any]:
    types = types or alike(config.primary_type, config)
    return {
        "Name": "Primary",
        "InstanceFleetType": "MASTER",
        # Never on Spot: losing it loses the cluster.
        "TargetOnDemandCapacity": 1,
        "InstanceTypeConfigs": fleet_types(types, config.node_volume_gib),
        "LaunchSpecifications": _ON_DEMAND,
    }


def _core(nodes: int | str, types: str = "$.types") -> dict[str, Any]:
    name = "TargetOnDemandCapacity.$" if isinstance(nodes, str) else "TargetOnDemandCapacity"
    return {
        "Name": "Core",
        "InstanceFleetType": "CORE",
        name: nodes,
        "InstanceTypeConfigs.$": types,
        "LaunchSpecifications": _ON_DEMAND,
    }
