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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from orchard.app import CLOUD, EPILOG, INTERRUPTED, app
from spark_job.errors import JobError
from spark_job.objects import (
    ExpiredError,
    Folder,
    NoSuchBucketError,
    ThrottledError,
    WrongClockError,
)
from spark_job.settings import EPILOG as SETTINGS_EPILOG
from tests.orchard.command import orchard, refusal, start, succeed
from tests.spark_job.jobs import REPOSITORY, environment_with
from tests.spark_job.photographs import plant
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

IN_THE_CLOUD = [names for names, command in COMMANDS.items() if command.rich_help_panel == CLOUD]
"""Those that need a deployed stack: `tests/rehearsal/test_first_hour.py` runs their examples."""


WHOLE_JOBS = {("run",), ("plan",)}


def marked(names: tuple[str, ...]) -> Any:
    marks = [pytest.mark.job] if names in WHOLE_JOBS else []
    return pytest.param(names, marks=marks, id=" ".join(names))


@pytest.mark.parametrize(
    "names",
    [marked(names) for names in COMMANDS if names not in (*NETWORKS, *IN_THE_CLOUD)],
)
def test_the_example_in_each_help_runs(
    local: Folder, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = " ".join(succeed(*names, "--help").stdout.split())
    (example,) = re.findall(r"Example: (orchard .*?)$", COMMANDS[names].epilog)
    assert example in shown
    assert shlex.split(example)[1 : len(names) + 1] == list(names)
    fruits = local / "fruits"
    model = publish_batch(fruits, "monday", findings=True).model.model
    publish_batch(fruits, "tuesday", fit=True)
    place = Path(local.uri).parent
    plant(place / "photographs" / "july", {"Kiwi": 4, "Plum": 4})
    monkeypatch.chdir(place)
    succeed(*shlex.split(example.replace("3f2a91c0", model[:8]))[1:])


@pytest.mark.parametrize("names", IN_THE_CLOUD, ids=" ".join)
def test_the_hour_in_the_cloud_has_each_example(names: tuple[str, ...]) -> None:
    (example,) = re.findall(r"Example: (orchard .*?)$", COMMANDS[names].epilog)
    assert shlex.split(example)[1 : len(names) + 1] == list(names)
    hour = (REPOSITORY / "tests/rehearsal/test_first_hour.py").read_text("utf-8")
    assert f'example("{names[0]}")' in hour or f'EXAMPLES["{names[0]}"]' in hour


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_who_looks_at_results_looks_at_a_deployed_stack_with_the_same_words(
    names: tuple[str, ...],
) -> None:
    options = [option for one in COMMANDS[names].params for option in one.opts]
    assert ("--output" in options) <= ("--stack" in options) or names == ("run",)


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_speaks_to_programs(names: tuple[str, ...]) -> None:
    assert "--json" in [option for one in COMMANDS[names].params for option in one.opts]


class TestPage:
    """``docs/commands.md``, where all of it is in one place."""

    PAGE = (REPOSITORY / "docs" / "commands.md").read_text("utf-8")

    def test_it_has_every_command(self) -> None:
        rows = re.findall(r"^\| `orchard ([a-z ]+?)(?: [A-Z]+)?` \|", self.PAGE, re.MULTILINE)
        assert set(map(tuple, map(str.split, rows))) == set(COMMANDS)

    def test_it_has_every_exit_code(self) -> None:
        codes = {int(code) for code in re.findall(r"^\| (\d+) \|", self.PAGE, re.MULTILINE)}
        kinds: list[type[JobError]] = [JobError, *kinds_of(JobError)]
        known = {kind.exit_code for kind in kinds}
        assert codes == {0, INTERRUPTED, *known}
        for code in codes:
            assert re.search(rf"\b{code} ", EPILOG), code
            assert re.search(rf"^  {code} ", SETTINGS_EPILOG, re.MULTILINE), code


def kinds_of(error: type[JobError]) -> Iterator[type[JobError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from kinds_of(kind)


def test_it_is_an_entry_point_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    module, _, name = project["project"]["scripts"]["orchard"].partition(":")
    assert callable(getattr(import_module(module), name))
    assert project["tool"]["uv"]["build-backend"]["module-name"] == ["spark_job", "orchard"]


def test_shells_complete_commands_options_of_the_job_and_batches(local: Folder) -> None:
    for batch in ("apples", "plums"):
        publish_batch(local, batch)
    # For the shell that it is started from, which a shell does itself unless more follows.
    script = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m orchard --show-completion; true"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_ORCHARD_COMPLETE=complete_bash" in script.stdout, script.stderr
    for words, meant in (
        ("orchard ru", "run"),
        ("orchard run --standard", "--standardize"),
        ("orchard show ap", "apples"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "orchard"],
            cwd=REPOSITORY,
            env=environment_with(
                {
                    "_ORCHARD_COMPLETE": "complete_bash",
                    "COMP_WORDS": words,
                    "COMP_CWORD": str(len(words.split()) - 1),
                    "ORCHARD_OUTPUT": local.uri,
                }
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == [meant], done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m orchard run --help | head -1",
        shell=True,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_a_package_that_is_missing_is_a_sentence() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from orchard.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("orchard: error: something is missing that Orchard needs (")
    assert "Traceback" not in done.stderr


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
        (
            PermissionError("denied"),
            2,
            "denied; check --output or --stack, and who you are signed in as",
        ),
        (WrongClockError("skewed"), 2, "skewed; set this machine's clock, and try again"),
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
