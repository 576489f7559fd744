"""The janitor: what it hears of, what it ends, what it lets be, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stacks.answers import CREATE, GOOD, TELL, TERMINATE, first, gives, refuses
from tests.stacks.definitions import Answer, execute, rendered, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

LIST = "aws-sdk:emr:listClusters"
OWN = "orchard/Fruits/run-1"


def clusters(*named: tuple[str, str], marker: str | None = None) -> dict[str, Any]:
    page: dict[str, Any] = {"Clusters": [{"Id": key, "Name": name} for key, name in named]}
    return page if marker is None else {**page, "Marker": marker}


def ended(status: str) -> dict[str, Any]:
    return {"detail": {"name": "run-1", "status": status, "executionArn": "arn:the-execution"}}


def answers(**changed: Answer) -> Mapping[str, Answer]:
    return {LIST: gives(clusters()), TERMINATE: gives({}), TELL: gives({}), **changed}


@pytest.fixture(scope="module")
def definition(fruits: Synthesis) -> dict[str, Any]:
    return rendered(fruits.template, "Janitor")


def test_it_hears_of_every_execution_that_ended_badly_and_of_no_other(fruits: Synthesis) -> None:
    (pattern,) = (
        rule["EventPattern"]
        for rule in fruits.resources("AWS::Events::Rule").values()
        if rule["EventPattern"]["source"] == ["aws.states"]
    )
    assert set(pattern["detail"]["status"]) == {"ABORTED", "FAILED", "TIMED_OUT"}
    (machine,) = resolve(fruits.template, pattern["detail"]["stateMachineArn"])
    assert ":stateMachine:Workflow" in machine


def test_it_looks_for_the_very_name_that_the_workflow_gives(
    fruits: Synthesis, definition: dict[str, Any]
) -> None:
    run = execute(rendered(fruits.template, "Workflow"), {"batch": "b"}, GOOD, name="run-1")
    name = run.asked(CREATE)[0]["Name"]
    found = execute(definition, ended("ABORTED"), answers(**{LIST: gives(clusters(("j-1", name)))}))
    assert found.asked(TERMINATE)[0] == {"ClusterId": "j-1"}


def test_it_ends_the_execution_s_cluster_and_no_other_on_any_page(
    definition: dict[str, Any],
) -> None:
    def pages(parameters: dict[str, Any]) -> Any:
        if "Marker" in parameters:
            return clusters(("j-2", OWN), ("j-3", "orchard/Fruits/run-12"))
        return clusters(("j-1", "someone's"), ("j-4", "orchard/Fruits2/run-1"), marker="next")

    outcome = execute(definition, ended("ABORTED"), answers(**{LIST: pages}))
    assert outcome.status == "SUCCEEDED"
    assert {call["ClusterId"] for call in outcome.asked(TERMINATE)} == {"j-2"}


def test_it_finds_a_cluster_whose_creation_was_still_going_on(definition: dict[str, Any]) -> None:
    late = first(gives(clusters()), gives(clusters()), gives(clusters(("j-1", OWN))))
    outcome = execute(definition, ended("ABORTED"), answers(**{LIST: late}))
    assert outcome.asked(TERMINATE)[0] == {"ClusterId": "j-1"}


def test_it_looks_only_at_clusters_that_cost_money(definition: dict[str, Any]) -> None:
    outcome = execute(definition, ended("FAILED"), answers())
    states = set(outcome.asked(LIST)[0]["ClusterStates"])
    assert states == {"STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"}


@pytest.mark.parametrize("refused", [LIST, TERMINATE])
def test_it_tries_again_when_it_is_refused_once(definition: dict[str, Any], refused: str) -> None:
    good = answers(**{LIST: gives(clusters(("j-1", OWN)))})
    once = {**good, refused: first(refuses("busy"), good[refused])}
    outcome = execute(definition, ended("TIMED_OUT"), once)
    assert outcome.status == "SUCCEEDED"
    assert {"ClusterId": "j-1"} in outcome.asked(TERMINATE)


@pytest.mark.parametrize("refused", [LIST, TERMINATE])
def test_it_raises_the_alarm_when_it_cannot(definition: dict[str, Any], refused: str) -> None:
    good = answers(**{LIST: gives(clusters(("j-1", OWN)))})
    outcome = execute(definition, ended("ABORTED"), {**good, refused: refuses("denied")})
    assert (outcome.status, outcome.error) == ("FAILED", "ClusterNotTerminated")
    (message,) = outcome.asked(TELL)
    for words in ("run-1", OWN, "denied", "aws emr list-clusters --active"):
        assert words in message["Message"]


@pytest.mark.parametrize(
    ("status", "says"),
    [("ABORTED", "was aborted"), ("TIMED_OUT", "took longer than 1770 minutes"), ("FAILED", None)],
)
def test_it_says_once_what_the_execution_could_not(
    definition: dict[str, Any], status: str, says: str | None
) -> None:
    outcome = execute(definition, ended(status), answers())
    messages = [call["Message"] for call in outcome.asked(TELL)]
    if says is None:
        assert messages == []
    else:
        (message,) = messages
        assert says in message
        assert "run-1" in message
        assert "arn:the-execution" in message


def test_it_works_on_when_nobody_can_be_told(definition: dict[str, Any]) -> None:
    late = first(gives(clusters()), gives(clusters(("j-1", OWN))))
    outcome = execute(
        definition, ended("ABORTED"), answers(**{LIST: late, TELL: refuses("no such topic")})
    )
    assert outcome.status == "SUCCEEDED"
    assert {"ClusterId": "j-1"} in outcome.asked(TERMINATE)
