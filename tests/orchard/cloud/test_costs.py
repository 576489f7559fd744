"""What this month cost: estimates of receipts, and what the budget says that was billed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3

from orchard.cloud import costs as module
from orchard.cloud import executions
from orchard.cloud.costs import costs
from spark_job.dollars import Dollars
from tests.orchard.cloud.test_following import ended
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from orchard.cloud.executions import Execution
    from orchard.cloud.stack import Stack

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def test_the_runs_of_this_month_are_added_up(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for run, dollars in (("july.1", 0.21), ("july.2", 0.35), ("july.3", None)):
        receipt = publish_batch(stack.root, "july", run=run)
        cost = None if dollars is None else Dollars(dollars, 0.25, 2, 0.82)
        folder = stack.root / f"results/july/runs/{run}"
        folder.write("run.json", replace(receipt, dollars=cost).to_json())
    good = ended(stack, status="SUCCEEDED", started=NOW - timedelta(days=1), ended=NOW)
    listed = [
        replace(
            good,
            run="july.9",
            status="RUNNING",
            started=NOW - timedelta(days=27),
            ended=None,
        ),
        replace(good, run="july.8", status="FAILED"),
        replace(good, run="july.7"),  # pruned
        replace(good, run="july.3"),
        # It took longer than those, whose ends it is listed among.
        replace(good, run="july.1", started=NOW - timedelta(days=30), ended=NOW),
        replace(good, run="july.2"),
        replace(
            good,
            run="july.1",
            started=NOW - timedelta(days=31),
            ended=NOW - timedelta(days=30),
        ),
    ]

    def several(*_: Any) -> Iterator[Execution]:
        return iter(listed)

    monkeypatch.setattr(executions, "executions", several)
    found = costs(stack, NOW)
    assert (found.estimated, found.runs, found.unknown) == (0.35, 1, 3)
    assert (found.budget, found.billed) == (50.0, None)
    assert found.why_not == "the deployment has no budget: it is made with alert_email"


def test_what_the_budget_says_is_told(stack: Stack) -> None:
    name = f"budget-of-{stack.name}"
    budget = {"BudgetName": name, "BudgetType": "COST", "TimeUnit": "MONTHLY"}
    limit = {"BudgetLimit": {"Amount": "50", "Unit": "USD"}}
    boto3.client("budgets").create_budget(AccountId=stack.account, Budget=budget | limit)
    found = costs(replace(stack, budget=name), NOW)
    assert (found.billed, found.why_not) == (0.0, "")
    gone = costs(replace(stack, budget="gone"), NOW)
    assert gone.billed is None
    assert "cannot see the budget" in gone.why_not


def test_a_budget_that_counted_nothing_yet_is_told(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Budgets:
        def describe_budget(self, **_: str) -> dict[str, Any]:
            return {"Budget": {}}

    monkeypatch.setattr(module, "client", lambda _: Budgets())
    assert module._billed(replace(stack, budget="b"))[1].startswith("AWS has counted nothing yet")
