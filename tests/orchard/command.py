"""Running the command as a user does, in this process or in one of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from orchard.app import app
from tests.spark_job.jobs import REPOSITORY, environment_with

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typer.testing import Result

    from spark_job.objects import Folder


def orchard(*arguments: str, output: Folder | None = None, answer: str | None = None) -> Result:
    """Run a command in this process, with `answer` typed into it."""
    root = [] if output is None else ["--output", output.uri]
    return CliRunner().invoke(
        app, [*arguments, *root], prog_name="orchard", input=answer, env={"COLUMNS": "100"}
    )


def succeed(*arguments: str, output: Folder | None = None, answer: str | None = None) -> Result:
    """Run a command that must succeed."""
    result = orchard(*arguments, output=output, answer=answer)
    assert result.exit_code == 0, result.output
    return result


def refusal(*arguments: str, output: Folder | None = None, code: int = 2) -> str:
    """Run a command that must fail with a code and one sentence, which is given."""
    result = orchard(*arguments, output=output)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    [*_, last] = result.stderr.splitlines()
    assert "Traceback" not in result.stderr
    return last.removeprefix("orchard: error: ")


def start(
    *arguments: str, environment: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "orchard", *arguments],
        cwd=REPOSITORY,
        env=environment_with(environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(result: Result) -> list[dict[str, str]]:
    """The lines of the first table on stdout, by the names of their columns."""
    header, *lines = [line.split("\t") for line in result.stdout.partition("\n\n")[0].splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]
