"""What a deployed stack says of itself, and how it calls what it makes; standard library only.

The stack makes its outputs and names by it, and the command `orchard` finds things by it.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "Version"
"""Of which Orchard it is."""

CONTRACT: Final = "Contract"
"""The number of its data's layout; see `contract.CONTRACT`."""

DATA_BUCKET: Final = "DataBucket"
LOG_BUCKET: Final = "LogBucket"
DATABASE: Final = "Database"
STATE_MACHINE: Final = "StateMachine"

RUN_INPUT: Final = "RunInput"
"""What it decides of executions' input, as `run_input.Bounds` writes it."""

MONTHLY_BUDGET: Final = "MonthlyBudget"
"""US dollars."""

BUDGET: Final = "Budget"
"""The name of its budget, where there is one."""

OPERATOR_POLICY: Final = "OperatorPolicy"
VIEWER_POLICY: Final = "ViewerPolicy"
"""ARNs of the policies for people who run batches, and for those who look at what came of them."""

EMR_LOGS: Final = "emr/"
"""Where EMR's logs lie in the log bucket, a folder for each cluster."""


def cluster_name_prefix(stack: str) -> str:
    """Return what the names of a stack's clusters begin with, and no other stack's do.

    The run's name follows. A slash cannot occur in a stack's name, so ``orchard/Fruits/`` is never
    a prefix of another stack's clusters, which events can then tell apart by name alone.
    """
    return f"orchard/{stack}/"


def run_name(batch: str, number: int | str) -> str:
    """Return the name of a batch's run: the first is 1, and each name is given out once."""
    return f"{batch}.{number}"
