"""What holds for every state machine of the pipeline, read from the synthesized template."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from statelint.linter import Linter

from tests.stacks.definitions import edges, rendered, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

MACHINES = ("Workflow", "Janitor", "Watch", "Registrar", "Trigger")


@pytest.fixture(params=MACHINES)
def definition(request: pytest.FixtureRequest, fruits: Synthesis) -> dict[str, Any]:
    return rendered(fruits.template, request.param)


def test_statelint_finds_nothing(definition: dict[str, Any]) -> None:
    assert Linter().validate(json.dumps(definition)) == []


def test_every_failure_of_a_task_is_caught(definition: dict[str, Any]) -> None:
    # A Map state catches for the tasks inside it.
    for name, state in definition["States"].items():
        if state["Type"] in ("Task", "Map"):
            assert [c["ErrorEquals"] for c in state.get("Catch", [])] == [["States.ALL"]], name


def test_no_selector_reads_what_an_answer_may_lack(definition: dict[str, Any]) -> None:
    # The error would be States.Runtime, which no Catch catches.
    always_there = {
        "$",
        "$.Body",
        "$.Cluster.Status",
        "$.Cluster.Status.State",
        # Of no fleet or of none with a message it is an empty list.
        "$.InstanceFleets[*].Status.StateChangeReason.Message",
        "$.ClusterId",
        "$.Parameter.Value",
        "$.IsTruncated",
        "$.KeyCount",
        "$.Status",
        "$.Input",
    }
    for name, task in tasks(definition["States"]):
        for expression in json.dumps(task.get("ResultSelector", {})).split(": ")[1:]:
            paths = set(re.findall(r"\$[\w.\[\]*]+|\$(?=[),\"])", expression))
            assert paths <= always_there, f"{name} selects {paths - always_there}"


def test_every_choice_chooses_and_has_a_way_out(definition: dict[str, Any]) -> None:
    for state in definition["States"].values():
        assert state["Type"] != "Choice" or (state["Choices"] and state["Default"])


def test_one_type_alone_can_be_deployed(synthesize: Callable[..., Synthesis]) -> None:
    found = rendered(synthesize(instance_types=("m6i.xlarge",)).template, "Workflow")
    assert Linter().validate(json.dumps(found)) == []
    assert found["States"]["ChooseType"]["Choices"]


def test_every_end_in_failure_was_told(definition: dict[str, Any]) -> None:
    ways = {name: [n for _, n in edges(state)] for name, state in definition["States"].items()}
    (failed,) = (n for n, s in definition["States"].items() if s["Type"] == "Fail")
    assert [name for name, following in ways.items() if failed in following] == ["NotifyFailure"]
    # Whatever leads to the telling has put something into words.
    for name, following in ways.items():
        if "NotifyFailure" in following and name != "TerminateFailedCluster":
            assert "failure" in json.dumps(definition["States"][name])


def test_there_is_no_lambda_function(fruits: Synthesis, definition: dict[str, Any]) -> None:
    assert not fruits.resources("AWS::Lambda::Function")
    assert all("lambda" not in task["Resource"] for _, task in tasks(definition["States"]))


def test_events_are_logged_and_traced_without_the_data_that_name_images(
    fruits: Synthesis, definition: dict[str, Any]
) -> None:
    del definition
    for machine in fruits.resources("AWS::StepFunctions::StateMachine").values():
        assert machine["TracingConfiguration"]["Enabled"] is True
        assert machine["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False
