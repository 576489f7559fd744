"""The trial's command: how CDK is called, what is asked first, and what is said of a failure."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from operations import acceptance
from operations.acceptance import BATCH, COUNT, STACK, AcceptanceError
from operations.account import Account, configured
from tests.operations.deployments import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.cdk

CDK = ["npx", "--yes", "aws-cdk", "--app", ".venv/bin/python app.py"]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account that may be deployed to, and somebody who says yes."""
    found = Account(ACCOUNT, REGION, boto3.Session("key", "secret", region_name=REGION))
    monkeypatch.setattr(acceptance, "find_account", lambda _: found)
    monkeypatch.setattr(acceptance, "check_bootstrapped", lambda _: None)
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    return found


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands that were called so far; all of them end well."""
    called: list[Sequence[str]] = []

    def call(command: Sequence[str]) -> int:
        called.append(command)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(
        acceptance, "take_down", lambda config, _, command: call([*command, config.name])
    )
    return called


def trial(body: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return what a trial does instead of all that it does."""

    def run(self: Any) -> None:
        body(self._place)

    return run


def choices(command: Sequence[str]) -> dict[str, str]:
    """Return what a command says with ``-c``."""
    pairs = (after for flag, after in pairwise(command) if flag == "-c")
    return dict(pair.split("=", 1) for pair in pairs)


@pytest.mark.usefixtures("account")
def test_cdk_deploys_the_trials_own_stack_and_then_changes_it(
    commands: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deploy_twice_and_destroy(place: Any) -> None:
        place.deploy(False)
        place.deploy(True)
        place.destroy()

    monkeypatch.setattr(acceptance.Acceptance, "run", trial(deploy_twice_and_destroy))
    assert acceptance.main(["--cdk", *CDK]) == 0
    first, second, destroyed = commands
    assert all(list(command[: len(CDK)]) == CDK for command in commands)
    for command in (first, second):
        assert list(command[-4:]) == ["deploy", STACK, "--require-approval", "never"]
    assert list(destroyed[-4:]) == ["destroy", STACK, "--force", STACK]
    # As CDK hands it to `app.py`: texts, over the block of `cdk.json`.
    deployed, changed, removed = (configured(choices(command)) for command in commands)
    assert deployed == replace(
        configured(),
        name=STACK,
        interactive=False,
        trigger=True,
        kms=False,
        removal_policy="destroy",
        delete_data=True,
    )
    assert removed == deployed
    assert changed != deployed
    assert changed == replace(deployed, idle_timeout_minutes=changed.idle_timeout_minutes)


@pytest.mark.usefixtures("account")
def test_what_is_left_is_removed_when_asked_and_nothing_else_is_done(
    commands: list[Sequence[str]],
) -> None:
    assert acceptance.main(["--remove", "--cdk", *CDK]) == 0
    (command,) = commands
    assert list(command[-4:-1]) == ["destroy", STACK, "--force"]


@pytest.mark.usefixtures("account")
def test_nothing_is_done_without_a_yes(
    commands: list[Sequence[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def refuse(question: str) -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", refuse)
    assert acceptance.main(["--cdk", *CDK]) == 1
    assert "costs about 1 dollar" in asked[0]
    assert f"account {ACCOUNT}" in asked[0]
    assert not commands
    assert "Nothing was done." in capsys.readouterr().out


@pytest.mark.usefixtures("account", "commands")
def test_a_failure_is_told_with_the_ids_of_the_last_requests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {"RequestId": "the-refused-one"}

    def ask(place: Any) -> None:
        client = place.client("sqs")
        with Stubber(client) as stub:
            stub.add_response("list_queues", {"ResponseMetadata": {"RequestId": "a-good-one"}})
            stub.add_client_error("list_queues", "AccessDenied", "no", 403, response_meta=refused)
            client.list_queues()
            client.list_queues()

    monkeypatch.setattr(acceptance.Acceptance, "run", trial(ask))
    assert acceptance.main(["--cdk", *CDK]) == 1
    said = capsys.readouterr().out
    assert "NOT ok: An error occurred (AccessDenied)" in said
    assert "(request the-refused-one)" in said.splitlines()[0]
    assert "sqs ListQueues  (request a-good-one)" in said
    assert "make acceptance ARGS=--remove" in said


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("command", "says"),
    [("deploy", "the deployment failed"), ("destroy", "the stack could not be removed")],
)
def test_a_cdk_that_fails_ends_the_trial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, says: str
) -> None:
    monkeypatch.setattr(subprocess, "call", lambda _: 1)
    monkeypatch.setattr(acceptance, "take_down", lambda *_: 1)
    run = trial(lambda place: place.deploy(False) if command == "deploy" else place.destroy())
    monkeypatch.setattr(acceptance.Acceptance, "run", run)
    assert acceptance.main(["--cdk", *CDK]) == 1
    assert says in capsys.readouterr().out


def test_an_answer_that_is_not_as_it_should_be_is_told_with_its_request() -> None:
    place = acceptance.Place(lambda _: None, lambda _: None, lambda: None)
    answer = {"ResponseMetadata": {"RequestId": "id-1"}}
    with pytest.raises(AcceptanceError, match=r"wrong  \(request id-1\)"):
        acceptance.Acceptance(place, print)._require(False, "wrong", answer)


def test_athena_is_asked_for_the_trials_batch() -> None:
    assert f"batch = '{BATCH}'" in COUNT
