"""The commands of the AWS CLI that pages and messages name are ones that it has."""

from __future__ import annotations

import pytest

from tests.aws_commands import check, said


def test_commands_are_found() -> None:
    found = said()
    for part in ("start-execution", "s3 sync", "terminate-clusters", "get-resources"):
        assert any(part in command for command in found), part


@pytest.mark.parametrize("command", said())
def test_the_cli_has_the_command(command: str) -> None:
    check(command)


@pytest.mark.parametrize(
    "command",
    [
        "aws stepfunctions begin-execution --state-machine-arn ARN",
        "aws stepfunctions start-execution --state-machine ARN",
        "aws stepfunctions start-execution --input '{}'",
        "aws emr terminate-clusters --cluster-id j-1",
        "aws s3 sync here",
    ],
)
def test_what_the_cli_does_not_have_is_noticed(command: str) -> None:
    with pytest.raises(AssertionError):
        check(command)
