"""The deployed stack is found by its name, and what hinders that is a sentence."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore import exceptions

from orchard.cloud import executions, session
from orchard.cloud.clusters import clusters
from orchard.cloud.session import (
    ExpiredCredentialsError,
    MissingError,
    OutOfReachError,
    find_region,
    in_sentences,
)
from orchard.cloud.stack import find_stack
from orchard.options import open_root
from spark_job import __version__, deployed, s3
from spark_job.errors import JobError, UsageError
from tests.orchard.cloud.conftest import BOUNDS
from tests.orchard.command import refusal, rows, succeed
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchard.cloud.stack import Stack
    from spark_job.objects import Folder


def test_its_outputs_say_where_everything_is(stack: Stack) -> None:
    assert (stack.version, stack.account, stack.region) == (
        __version__,
        "123456789012",
        "eu-west-1",
    )
    assert stack.root.uri == f"s3://{stack.data_bucket}"
    assert (stack.bounds, stack.monthly_budget, stack.budget) == (BOUNDS, 50.0, None)
    assert stack.execution("july.1").endswith(
        f"execution:{stack.state_machine.rpartition(':')[2]}:july.1"
    )


def test_the_next_command_names_the_stack_unless_it_is_meant_anyway(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stack.again("status") == f"`orchard status --stack {stack.name}`"
    monkeypatch.setenv("ORCHARD_STACK", stack.name)
    assert stack.again("status") == "`orchard status`"
    assert stack.looking("show b") == f"`orchard show b --stack {stack.name}`"


def test_one_of_another_version_is_warned_of(
    deploy: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for version, told in (("0.0.9", "is of 0.0.9"), (None, "is of a version that does not say")):
        name = deploy(**{deployed.VERSION: version, deployed.RUN_INPUT: "something else"})
        assert find_stack(name).bounds is None
        said = capsys.readouterr().err
        assert told in said
        assert f"this is {__version__}" in said


def test_one_of_another_contract_is_refused(deploy: Callable[..., str]) -> None:
    name = deploy(**{deployed.CONTRACT: "2"})
    told = refusal("batches", "--stack", name)
    assert "whose results are of contract 2" in told
    assert told.endswith("or deploy this one over it (`make deploy` in a checkout)")


def test_what_is_none_of_orchards_is_refused(deploy: Callable[..., str]) -> None:
    name = deploy(**{deployed.DATA_BUCKET: None, deployed.STATE_MACHINE: None})
    told = refusal("status", "--stack", name)
    assert f"the stack {name} in eu-west-1 has no output DataBucket, StateMachine" in told
    assert refusal("status", "--stack", "No-such").startswith("there is no stack No-such in eu-")


def test_without_a_region_or_credentials_there_is_a_sentence(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del s3_endpoint
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")  # where nobody is connected to yet
    assert "set AWS_PROFILE, or sign in (aws sso login)" in refusal("status")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    s3._signed_in.cache_clear()
    assert refusal("status").startswith("no AWS region is chosen; set AWS_REGION")
    monkeypatch.setenv("AWS_PROFILE", "nobody's")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    s3._signed_in.cache_clear()
    session._connected.cache_clear()
    assert "nobody's" in refusal("status")


def answer(code: str, status: int = 400, words: str = "so.") -> exceptions.ClientError:
    told = {
        "Error": {"Code": code, "Message": words},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return exceptions.ClientError(told, "Any")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer("ExpiredTokenException"), ExpiredCredentialsError, "sign in (aws sso login)"),
        (
            answer("AccessDeniedException"),
            UsageError,
            "you may not look (AccessDeniedException: so",
        ),
        (answer("UnrecognizedClientException"), UsageError, "AWS knows nobody by these"),
        (answer("RequestTimeTooSkewed", 403), UsageError, "set this machine's clock"),
        (
            answer("InvalidSignatureException", 400, "Signature not yet current: 1 is later"),
            UsageError,
            "set this machine's clock",
        ),
        (
            answer("SignatureDoesNotMatch", 403, "Signature expired: 1 is now earlier than 2"),
            UsageError,
            "set this machine's clock",
        ),
        (answer("ThrottlingException"), OutOfReachError, "AWS is busy (ThrottlingException: so"),
        (answer("InternalFailure", 500), OutOfReachError, "wait a while, and try again"),
        (answer("ExecutionDoesNotExist"), MissingError, "check its name"),
        (answer("Other"), JobError, "cannot look (Other: so"),
        (
            exceptions.EndpointConnectionError(endpoint_url="https://x"),
            OutOfReachError,
            "check the network",
        ),
        (exceptions.NoCredentialsError(), UsageError, "set AWS_PROFILE, or sign in"),
        (
            exceptions.UnauthorizedSSOTokenError(),
            ExpiredCredentialsError,
            "the AWS credentials expired",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_aws_answers_is_a_sentence(error: Exception, kind: type[JobError], words: str) -> None:
    with pytest.raises(kind) as raised, in_sentences("look"):
        raise error
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert raised.value.exit_code == kind.exit_code


def test_a_bucket_that_is_gone_says_to_check_the_stack(deploy: Callable[..., str]) -> None:
    """And no option that the command does not have."""
    name = deploy(**{deployed.DATA_BUCKET: "gone-bucket"})
    told = refusal("start", "july", "--stack", name)
    assert told.endswith("; check --stack, and who you are signed in as")


class TestWhere:
    """One resolution for all commands: a folder here, in S3, or the deployed stack."""

    @pytest.fixture
    def published(self, stack: Stack) -> Stack:
        publish_batch(stack.root, "there")
        return stack

    def test_a_stack_is_looked_at_with_the_same_words(self, published: Stack) -> None:
        for command in (["batches"], ["sql", "select batch from runs"]):
            assert rows(succeed(*command, "--stack", published.name))[0]["batch"] == "there"

    def test_a_stack_without_results_is_an_empty_place(self, stack: Stack) -> None:
        assert rows(succeed("batches", "--stack", stack.name)) == []
        assert "has no batch 'none'" in refusal("show", "none", "--stack", stack.name)

    def test_what_is_said_beats_the_environment(
        self, published: Stack, local: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish_batch(local, "here")
        monkeypatch.setenv("ORCHARD_OUTPUT", local.uri)
        monkeypatch.setenv("ORCHARD_STACK", published.name)
        named: Any = ("--stack", published.name + "-2"), ("--output", published.root.uri)
        assert rows(succeed("batches"))[0]["batch"] == "here", "a folder's is the nearer one"
        assert rows(succeed("batches", *named[1]))[0]["batch"] == "there"
        assert "there is no stack" in refusal("batches", *named[0])
        monkeypatch.delenv("ORCHARD_OUTPUT")
        assert rows(succeed("batches"))[0]["batch"] == "there"
        assert rows(succeed("batches", "--output", local.uri))[0]["batch"] == "here"

    def test_both_at_once_are_refused(self, local: Folder) -> None:
        told = refusal("batches", "--output", local.uri, "--stack", "Orchard")
        assert told == "--output and --stack each say where to look; say one of them"
        with pytest.raises(UsageError):
            open_root(local.uri, "Orchard")


def test_a_profiles_region_is_enough(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del s3_endpoint
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text("[profile mine]\nregion = eu-north-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert find_region() == "eu-north-1"


def test_whoever_has_a_code_to_type_in_types_it_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile is asked once for credentials, however many services there are, and S3 among them.

    Here it is a process that gives them; a role's profile would ask a person for a code.
    """
    credentials = {
        "Version": 1,
        "AccessKeyId": "key",
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "Expiration": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }
    asked = tmp_path / "asked"
    (tmp_path / "give.py").write_text(
        f"open({str(asked)!r}, 'a').write('asked ')\nprint({json.dumps(credentials)!r})"
    )
    process = f"{sys.executable} {tmp_path / 'give.py'}"
    (tmp_path / "config").write_text(f"[profile mine]\ncredential_process = {process}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for cache in (s3._connected, s3._connected_client, session._connected, s3._signed_in):
        cache.cache_clear()
    found = find_stack(stack.name)
    assert executions.start(found, {"batch": "july"})
    assert clusters(found) == []
    found.root.write("images/july/1.png", b"1")
    assert found.root.read("images/july/1.png") == b"1"
    s3._client().head_bucket(Bucket=found.data_bucket)
    assert asked.read_text() == "asked "


@pytest.mark.usefixtures("stack")
def test_credentials_of_a_profile_are_not_used_for_longer_than_they_are_good() -> None:
    until = s3._credentials()()["expires_at"]
    assert until - datetime.now(UTC) <= timedelta(minutes=10)
