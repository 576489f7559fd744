"""What the permissions are made of: statements, and the ARNs of a stack's resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stacks.batch.catalog import database_name

if TYPE_CHECKING:
    from collections.abc import Sequence

Statement = dict[str, Any]
Conditions = dict[str, dict[str, Any]]

ANYTHING: Final = ("*",)
"""The resource of an action that takes none, or none by which a stack could be told."""

# CloudFormation shortens the names of what may not have long ones, and does not say where: of a
# longer stack's name only so much is relied on.
_SURELY_KEPT: Final = 20

# CloudFormation calls them by their names in the template, without the stack's.
_STATE_MACHINES: Final = ("Janitor", "Registrar", "Trigger", "Watch", "Workflow")

_WITHOUT_REGION: Final = ("billing", "budgets", "iam")


@dataclass(frozen=True)
class Scope:
    """Which stacks' resources the permissions are for.

    Attributes
    ----------
    stacks
        The names of the pipelines' stacks.
    account, region
        Where. ``*`` is any: who has a policy acts in their own account anyway.
    """

    stacks: tuple[str, ...]
    account: str = "*"
    region: str = "*"

    @property
    def notebooks(self) -> tuple[str, ...]:
        """The names of the notebook clusters' stacks."""
        return tuple(f"{stack}-notebooks" for stack in self.stacks)

    def arns(self, service: str, *ends: str) -> list[str]:
        """Return the ARNs of a service's resources.

        Parameters
        ----------
        service
            The service, as ARNs have it.
        *ends
            What each ARN ends with. ``{stack}`` stands for each stack's name, ``{database}`` for
            its database's, and ``{prefix}`` for what the names begin with that CloudFormation gives
            to the stack's resources.
        """
        region = "" if service in _WITHOUT_REGION else self.region
        found = [
            f"arn:aws:{service}:{'' if end.startswith('dashboard/') else region}:{self.account}:"
            + end.format(stack=stack, database=database_name(stack), prefix=_prefix(stack))
            for end in ends
            for stack in self.stacks
        ]
        return list(dict.fromkeys(found))

    def buckets(self) -> list[str]:
        """Return the ARNs of the stacks' buckets."""
        prefixes = (_prefix(stack).lower() for stack in self.stacks)
        whole = (f"{given}storage" if given.endswith("-") else given for given in prefixes)
        return [f"arn:aws:s3:::{name}*" for name in whole]

    def objects(self, key: str = "*") -> list[str]:
        """Return the ARNs of objects in the stacks' buckets."""
        return [f"{bucket}/{key}" for bucket in self.buckets()]

    def state_machines(self, kind: str = "stateMachine", then: str = "") -> list[str]:
        """Return the ARNs of the stacks' state machines, or of their executions."""
        return self.arns("states", *(f"{kind}:{n}StateMachine*{then}" for n in _STATE_MACHINES))


def allow(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    condition: Conditions | None = None,
) -> Statement:
    """Return a statement that allows actions.

    Parameters
    ----------
    sid
        What a reader of the policy sees it called.
    actions
        The actions; one without a service is of the same service as the one before it.
    resources
        What they may act on.
    condition
        When only.
    """
    service, named = "", set()
    for action in actions:
        before, _, name = action.rpartition(":")
        service = before or service
        named.add(f"{service}:{name}")
    statement: Statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(named),
        "Resource": list(resources),
    }
    return {**statement, "Condition": condition} if condition else statement


def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """Return the policy that some statements make."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def equal(key: str, *values: str) -> Conditions:
    """Return the condition that a key has one of some values."""
    return {"StringEquals": {key: values[0] if len(values) == 1 else list(values)}}


def _prefix(stack: str) -> str:
    return f"{stack}-" if len(stack) <= _SURELY_KEPT else stack[:_SURELY_KEPT]
