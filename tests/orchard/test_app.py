"""How commands begin and end: examples that run, sentences, exit codes, colours on a terminal."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from orchard.app import app
from spark_job.objects import ExpiredError, Folder, NoSuchBucketError, ThrottledError
from tests.orchard.command import orchard, refusal, start, succeed
from tests.spark_job.jobs import REPOSITORY, environment_with
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield (*names, name), command


COMMANDS = dict(commands(get_command(app)))

NETWORKS = [("export",), ("search",)]
"""Commands that need a real network; tests of their own run their examples."""


@pytest.mark.parametrize(
    "names",
    [names for names in COMMANDS if names not in NETWORKS],
    ids=" ".join,
)
def test_the_example_in_each_help_runs(
    local: Folder, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = " ".join(succeed(*names, "--help").stdout.split())
    (example,) = re.findall(r"Example: (orchard .*?)$", COMMANDS[names].epilog)
    assert example in shown
    assert shlex.split(example)[1 : len(names) + 1] == list(names)
    fruits = local / "fruits"
    model = publish_batch(fruits, "monday").model.model
    publish_batch(fruits, "tuesday", fit=True)
    monkeypatch.chdir(local.uri.removesuffix("/out"))
    succeed(*shlex.split(example.replace("3f2a91c0", model[:8]))[1:])


def test_it_is_an_entry_point_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    module, _, name = project["project"]["scripts"]["orchard"].partition(":")
    assert callable(getattr(import_module(module), name))
    assert project["tool"]["uv"]["build-backend"]["module-name"] == ["spark_job", "orchard"]


def test_as_a_process_data_goes_to_stdout_and_the_rest_to_stderr(local: Folder) -> None:
    model = publish_batch(local, "apples").model.model
    done = start(
        "models", "build", "--batches", "apples", environment={"ORCHARD_OUTPUT": local.uri}
    )
    assert (done.returncode, done.stdout) == (0, f"{model}\n"), done.stderr
    assert "was stored before" in done.stderr
    failed = start("models", "show", "none", "--output", local.uri)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("orchard: error: ")
    assert len(failed.stderr.splitlines()) == 1
    version = start("--version")
    assert re.fullmatch(r"orchard \d+\.\d+\.\d+\n", version.stdout)
    assert "\x1b" not in start("--help").stdout + done.stderr + failed.stderr


def test_on_a_terminal_a_table_is_drawn(local: Folder) -> None:
    publish_batch(local, "apples")
    ours, theirs = pty.openpty()
    environment = {"NO_COLOR": None, "TERM": "xterm", "COLUMNS": "200"}
    arguments = [sys.executable, "-m", "orchard", "models", "list", "--output", local.uri]
    process = subprocess.Popen(
        arguments, stdout=theirs, cwd=REPOSITORY, env=environment_with(environment)
    )
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 4096):
            shown += more
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[1m" in shown, "the columns' names are bold"
    assert b"\t" not in shown


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ThrottledError("slow down"), 5, "S3 is busy or out of reach (slow down); wait a while"),
        (ExpiredError("token"), 5, "the AWS credentials expired (token); sign in"),
        (NoSuchBucketError("there is no such bucket"), 2, "no such bucket; check --output"),
        (PermissionError("denied"), 2, "denied; check --output, and who you are signed in as"),
        (OSError("disk"), 1, "OSError: disk; check --output"),
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero; this is a bug: `orchard --"),
        (KeyboardInterrupt(), 130, "interrupted; the same command takes up what is left"),
    ],
)
def test_whatever_ends_a_command_is_a_sentence(
    local: Folder,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    publish_batch(local, "apples")

    def fail(_: Folder) -> None:
        raise error

    monkeypatch.setattr("spark_job.lineage.published_receipts", fail)
    assert sentence in refusal("models", "list", output=local, code=code)
    told = orchard("--debug", "models", "list", output=local)
    assert told.exit_code == code
    assert "Traceback (most recent call last)" in told.stderr


@pytest.mark.parametrize("arguments", [["models", "shwo"], ["models", "show"], ["--nothing"]])
def test_a_mistyped_command_is_told(arguments: list[str]) -> None:
    result = orchard(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Try 'orchard" in result.stderr
