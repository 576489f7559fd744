"""What a stack's runs cost this month: the estimates of their receipts, and what AWS has billed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from orchard.cloud import executions
from orchard.cloud.session import client, in_sentences
from spark_job import contract
from spark_job.errors import JobError
from spark_job.lineage import READS
from spark_job.receipts import RunReceipt

if TYPE_CHECKING:
    from orchard.cloud.executions import Execution
    from orchard.cloud.stack import Stack


@dataclass(frozen=True)
class Costs:
    """Costs of a month, in US dollars.

    Attributes
    ----------
    estimated
        Of the runs that were started this month, and published.
    runs, unknown
        How many these are, and how many more ended without an estimate: they failed, or there is no
        price of their nodes.
    budget
        The deployment's for a month; None where it does not say.
    billed
        What AWS has billed so far, by the deployment's budget; None where that is not known.
    why_not
        Why it is not known.
    """

    estimated: float
    runs: int
    unknown: int
    budget: float | None
    billed: float | None
    why_not: str


def costs(stack: Stack, now: datetime | None = None) -> Costs:
    """Add this month's costs up."""
    now = now or datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # Those that have ended come in the order of their ends, and not of their starts.
    recent = takewhile(
        lambda each: each.ended is None or each.ended >= month, executions.executions(stack)
    )
    ended = [each for each in recent if not each.is_running and each.started >= month]
    with ThreadPoolExecutor(READS) as pool:
        estimates = list(pool.map(lambda each: _estimate(stack, each), ended))
    known = [each for each in estimates if each is not None]
    billed, why_not = _billed(stack)
    return Costs(
        estimated=round(sum(known), 2),
        runs=len(known),
        unknown=len(ended) - len(known),
        budget=stack.monthly_budget,
        billed=billed,
        why_not=why_not,
    )


def _estimate(stack: Stack, execution: Execution) -> float | None:
    """Read what a run's receipt says that it costs."""
    if execution.status != executions.SUCCEEDED:
        return None
    if execution.batch is None:
        execution = executions.describe(stack, execution.run) or execution
    if execution.batch is None:
        return None
    folder = stack.root / contract.run_folder(execution.batch, execution.run)
    content = folder.read_or_none(contract.RUN)
    if content is None:  # pruned
        return None
    try:
        dollars = RunReceipt.from_json(content, folder.uri).dollars
    except JobError:
        return None
    return None if dollars is None else dollars.estimate


def _billed(stack: Stack) -> tuple[float | None, str]:
    """Ask the budget what was billed; None with the reason where it does not say."""
    if stack.budget is None:
        return None, "the deployment has no budget: it is made with alert_email"
    budgets: Any = client("budgets")
    try:
        with in_sentences("see the budget"):
            found = budgets.describe_budget(AccountId=stack.account, BudgetName=stack.budget)
    except JobError as error:
        return None, str(error)
    spent = found["Budget"].get("CalculatedSpend", {}).get("ActualSpend")
    if spent is None:
        return None, "AWS has counted nothing yet: it does so three times a day"
    return float(spent["Amount"]), ""
