"""The CloudWatch log groups of state machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import RemovalPolicy, Stack, aws_logs

if TYPE_CHECKING:
    from constructs import Construct

    from stacks.config import OrchardConfig


def state_machine_log(
    scope: Construct, construct_id: str, *, config: OrchardConfig
) -> aws_logs.LogGroup:
    """Return a log group that keeps a state machine's events for ``log_retention_days``."""
    group = aws_logs.LogGroup(
        scope,
        construct_id,
        # Under this prefix AWS needs no entry per group in the account's one resource policy.
        log_group_name=f"/aws/vendedlogs/states/{Stack.of(scope).stack_name}-{construct_id}",
        removal_policy=RemovalPolicy.DESTROY,
    )
    resource = group.node.default_child
    if isinstance(resource, aws_logs.CfnLogGroup):
        # CDK's own parameter is an enumeration without its numbers of days.
        resource.retention_in_days = config.log_retention_days
    return group
