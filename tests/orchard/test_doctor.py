"""``orchard doctor``: what is missing is found and named, in time, and never a traceback."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from spark_job import __version__, deployed, networks
from tests.orchard.command import orchard, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A local AWS, and its CloudFormation."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    sign_in(monkeypatch, f"http://127.0.0.1:{port}")
    yield boto3.client("cloudformation")
    server.stop()


def sign_in(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": endpoint,
    }.items():
        monkeypatch.setenv(name, value)


def findings(*arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    result = orchard("doctor", "--json", *arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return {one["what"]: one for one in json.loads(result.stdout)}


def test_here_all_is_there_that_batches_need() -> None:
    found = findings()
    needed = {name for name, one in found.items() if one["needed"]}
    assert {"python", "network", "disk"} <= needed
    assert all(found[name]["good"] for name in needed)
    assert found["network"]["found"].startswith(networks.DEFAULT)
    # Developers have these too.
    assert found["java"]["found"].startswith("17: ")
    assert found["spark"]["good"]
    assert found["node"]["good"]


def test_without_aws_each_thing_says_what_to_do() -> None:
    found = findings()
    assert [found[name]["good"] for name in ("region", "credentials", "stack")] == [False] * 3
    assert "set AWS_REGION" in found["region"]["remedy"]
    assert "aws sso login" in found["credentials"]["remedy"]
    assert found["stack"]["found"] == "not looked for without a region and credentials"


def test_the_deployed_stacks_version_is_held_against_this_one(aws: Any) -> None:
    found = findings()
    assert found["region"]["found"] == "eu-west-1"
    assert found["credentials"]["good"]
    assert found["stack"]["found"] == "there is no stack Orchard in eu-west-1"
    for name, value in (("Orchard", __version__), ("Older", "0.0.9"), ("Oldest", None)):
        outputs = {deployed.VERSION if value else "Other": {"Value": value or "x"}}
        topic = {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": name}}}
        template = json.dumps({"Resources": topic, "Outputs": outputs})
        aws.create_stack(StackName=name, TemplateBody=template)
    assert findings()["stack"]["good"]
    older = findings("--stack", "Older")["stack"]
    assert older["found"] == f"Older in eu-west-1 is of 0.0.9, and this is {__version__}"
    assert older["remedy"].startswith("deploy this one over it")
    assert "a version that does not say which" in findings("--stack", "Oldest")["stack"]["found"]


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sign_in(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        done = start("doctor", "--json", environment=dict(os.environ))
    assert done.returncode == 0, done.stderr
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert not found["credentials"]["good"]
    assert "timeout" in found["credentials"]["found"].lower()


def test_what_hinders_a_run_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchard.health.LEAST_FREE", 10**18)
    disk = findings(code=1)["disk"]
    assert f"GB free in {tmp_path}/orchard-results, " in disk["found"]
    assert disk["remedy"].startswith("free some, or say --output")
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    result = orchard("doctor")
    assert result.exit_code == 1
    assert "orchard: batches cannot be run here: see python, disk" in result.stderr
    assert "python\tno\t" in result.stdout
    assert "install Orchard with Python 3.11" in result.stdout
