"""The policies for people, and what their command knows of the state machine.

Whether they allow all that the command asks for, `tests/rehearsal/test_first_hour.py` tries.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchard.cloud import following, journal
from spark_job import deployed
from tests.stacks.definitions import rendered
from tests.stacks.policies import ACCOUNT, Deployed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

READING = re.compile(r"\w+:(Describe|Get|List|View)\w+|kms:Decrypt")

UNBOUND = {"elasticmapreduce:ListClusters"}
"""Actions that take no resource."""


@pytest.fixture(params=[{}, {"kms": True, "alert_email": "a@b.co"}], ids=["defaults", "all"])
def stack(request: pytest.FixtureRequest, synthesize: Callable[..., Synthesis]) -> Synthesis:
    return synthesize(**request.param)


def statements(stack: Synthesis, name: str) -> list[dict[str, Any]]:
    deployed_stack = Deployed(stack.template, "Fruits")
    document = stack.one("AWS::IAM::ManagedPolicy", name)["PolicyDocument"]
    found: list[dict[str, Any]] = deployed_stack.resolve(document)["Statement"]
    return found


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_who_looks_changes_nothing(stack: Synthesis) -> None:
    actions = [a for s in statements(stack, "Viewers") for a in listed(s["Action"])]
    assert len(actions) > 8
    assert [action for action in actions if READING.fullmatch(action) is None] == []


def test_operators_may_all_that_viewers_may(stack: Synthesis) -> None:
    def rights(name: str) -> set[tuple[str, str, str]]:
        return {
            (action, resource, json.dumps(s.get("Condition"), sort_keys=True))
            for s in statements(stack, name)
            for action in listed(s["Action"])
            for resource in listed(s["Resource"])
        }

    assert rights("Viewers") < rights("Operators")


@pytest.mark.parametrize("name", ["Viewers", "Operators"])
def test_each_right_is_on_what_is_the_stacks(stack: Synthesis, name: str) -> None:
    for statement in statements(stack, name):
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        if "*" in listed(statement["Resource"]):
            assert set(listed(statement["Action"])) <= UNBOUND
        if any(":cluster/*" in r or ":key/*" in r for r in listed(statement["Resource"])):
            assert statement["Condition"], "by the tag, or through S3 and the bucket alone"


@pytest.mark.parametrize("name", ["Viewers", "Operators"])
def test_it_fits_into_a_policy_and_is_nobodys(stack: Synthesis, name: str) -> None:
    policy = stack.one("AWS::IAM::ManagedPolicy", name)
    assert not {"Roles", "Groups", "Users"} & policy.keys(), "an administrator attaches it"
    text = json.dumps({"Statement": statements(stack, name)}, separators=(",", ":"))
    # References are longer when they are filled in: of buckets up to 63 characters.
    assert len(text) < 5_000


def test_the_budget_may_be_seen_where_there_is_one(synthesize: Callable[..., Synthesis]) -> None:
    told = synthesize(alert_email="a@b.co")
    assert deployed.BUDGET in told.template["Outputs"]
    (seen,) = [s for s in statements(told, "Viewers") if "budgets:ViewBudget" in s["Action"]]
    assert seen["Resource"].startswith(f"arn:aws:budgets::{ACCOUNT}:budget/")
    untold = synthesize()
    assert deployed.BUDGET not in untold.template["Outputs"]
    assert "budgets:" not in json.dumps(statements(untold, "Operators"))


def test_the_command_knows_states_and_errors_of_the_machine(fruits: Synthesis) -> None:
    definition = rendered(fruits.template, "Workflow")
    states = definition["States"]
    known = {*following.STATES, following.ADMITTED, following.JOB, journal.CREATE_CLUSTER}
    assert known <= set(states)
    text = json.dumps(definition)
    for error in following.REFUSALS:
        assert f'"error": "{error}"' in text, error


def test_the_page_shows_what_is_deployed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text("utf-8")
    for output in (deployed.OPERATOR_POLICY, deployed.VIEWER_POLICY):
        assert f"`{output}`" in page
