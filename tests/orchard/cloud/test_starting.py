"""What a run is started with is checked here, by the bounds of the very stack."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from typer.main import get_command

from orchard.app import app
from orchard.cloud import executions
from orchard.cloud.starting import NOT_OPTIONS, UNKNOWN, read_given
from spark_job.errors import JobError, UsageError
from spark_job.run_input import FOR_CLUSTERS, Bounds, input_fields
from spark_job.settings import make_parser
from tests.orchard.command import refusal

if TYPE_CHECKING:
    from pathlib import Path

    from orchard.cloud.stack import Stack


def read(stack: Stack, **options: Any) -> dict[str, Any]:
    return read_given("july", options, stack).input


def test_every_field_is_an_option_with_help() -> None:
    command = get_command(app).commands["start"]  # type: ignore[attr-defined]
    options = {one.name: one for one in command.params}
    fields = [field.name for field in input_fields(UNKNOWN, "")]
    own = {"batch", "stack", "follow", "json"}
    assert set(fields) - set(NOT_OPTIONS) == set(options) - own
    known = {action.dest for action in make_parser()._actions}
    assert {name for name in options if name not in known} - own == set(FOR_CLUSTERS)
    assert all(one.help and one.help != "None" for one in options.values())
    assert "the default" in options["standardize"].help, "and not its negation's"


def test_what_is_said_is_of_the_kind_that_the_state_machine_takes(stack: Stack) -> None:
    given = read(
        stack,
        components="200",
        variance=None,
        max_reject_rate="0.1",
        spot=True,
        standardize=False,
        core_instances="4",
        instance_type="m6i.xlarge",
        network="mobilenet_v2",
    )
    assert given == {
        "batch": "july",
        "components": 200,
        "max_reject_rate": 0.1,
        "spot": True,
        "standardize": False,
        "core_instances": 4,
        "instance_type": "m6i.xlarge",
        "network": "mobilenet_v2",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"components": "few"}, 'components is "few"; allowed is a whole number from 1 to 100000.'),
        ({"components": "2.5"}, "components is 2.5; allowed is a whole number"),
        ({"variance": "0"}, "variance is 0.0; allowed is a number above 0 and at most 1."),
        ({"core_instances": "21"}, "core_instances is 21; allowed is a whole number from 1 to 20."),
        ({"instance_type": "p4d.24xlarge"}, "allowed is one of m5.xlarge, m6i.xlarge."),
        ({"variance": "0.5", "components": "2"}, "say one of them."),
        ({"model": "ab"}, "model is ab and pca is auto;"),
        ({"images": "elsewhere/"}, "allowed is a folder of the data bucket, from images/"),
        ({"manifest": "s3://other/images/a.csv"}, "allowed is a CSV or Parquet of the data bucket"),
    ],
)
def test_what_is_not_allowed_is_refused(stack: Stack, options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(stack, **options)
    assert words in str(raised.value)
    said = [word for name, value in options.items() for word in (f"--{name}", value)]
    words_of_it = [word.replace("_", "-") if word.startswith("--") else word for word in said]
    told = refusal("start", "july", *words_of_it, "--stack", stack.name)
    assert told == str(raised.value)


def test_a_stack_that_does_not_tell_its_bounds_checks_them_itself(stack: Stack) -> None:
    unknown = replace(stack, bounds=None)
    assert read(unknown, core_instances="99")["core_instances"] == 99


def test_files_of_this_machine_go_where_the_job_may_read(stack: Stack, tmp_path: Path) -> None:
    fixes = tmp_path / "my fixes.CSV"
    fixes.write_text("path,action,label\nKiwi/1.png,drop,\n")
    listed = tmp_path / "some.csv"
    listed.write_text("path\nKiwi/1.png\n")
    given = read_given("july", {"corrections": str(fixes), "manifest": str(listed)}, stack)
    given.upload(stack)
    assert len(given.uploads) == 2
    for name, path in (("corrections", fixes), ("manifest", listed)):
        key = given.input[name].removeprefix(f"s3://{stack.data_bucket}/")
        assert key.startswith(f"images/july-{name}-")
        assert stack.root.read(key) == path.read_bytes()
    before = given.input["corrections"]
    fixes.write_text("path,action,label\nKiwi/2.png,drop,\n")
    assert read(stack, corrections=str(fixes))["corrections"] != before
    there = f"s3://{stack.data_bucket}/images/july.csv"
    assert read(stack, manifest=there)["manifest"] == there


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("corrections", None, "cannot be read (No such file or directory); check its name"),
        ("corrections", "path,action,label\na,burn,\n", "the action 'burn' for 'a'"),
        ("manifest", "name\na\n", "it is a CSV or Parquet file with a column `path`"),
        ("manifest", "path\n../a\n", "which does not lie in s3://"),
    ],
)
def test_a_file_that_the_job_would_refuse_is_refused_here(
    stack: Stack, tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    file = tmp_path / "file.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError) as raised:
        read(stack, **{name: str(file)})
    assert words in str(raised.value)


def test_a_file_of_another_kind_is_refused(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("path,action,label\na,drop,\n")
    with pytest.raises(UsageError, match="allowed is a CSV of the data bucket"):
        read(stack, corrections=str(file))


class TestNames:
    """The runs of a batch are numbered, whoever starts them, and a number is given out once."""

    def test_the_next_number_is_taken(self, stack: Stack) -> None:
        assert executions.start(stack, {"batch": "july"}).run == "july.1"
        assert executions.start(stack, {"batch": "july"}).run == "july.2"
        assert executions.start(stack, {"batch": "july.1"}).run == "july.1.1"
        # One that nobody remembers but its results.
        stack.root.write("results/july/runs/july.7/run.json", b"{}")
        assert executions.start(stack, {"batch": "july"}).run == "july.8"

    def test_a_name_that_is_kept_after_its_runs_end_is_passed_over(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        executions.stop(stack, executions.start(stack, {"batch": "july"}).run, "enough")
        monkeypatch.setattr(executions, "_last_number", lambda *_: 0)
        # With another input: with the same one, Step Functions takes it for the same request.
        assert executions.start(stack, {"batch": "july", "csv": True}).run == "july.2"
        executions.stop(stack, "july.2", "enough")
        monkeypatch.setattr(executions, "TRIES", 1)
        with pytest.raises(JobError, match="names of runs of july were taken"):
            executions.start(stack, {"batch": "july", "again": True})

    def test_beside_a_run_that_somebody_starts_meanwhile_none_is_started(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(executions, "running_of", lambda *_: None)
        monkeypatch.setattr(executions, "_last_number", lambda *_: 0)
        stack.root.write("images/july/1.png", b"1")
        executions.start(stack, {"batch": "july"})
        told = refusal("start", "july", "--csv", "--stack", stack.name)
        assert told.startswith("the run july.1 of batch july goes on; `orchard follow july.1")
        assert [each.run for each in executions.executions(stack)] == ["july.1"]

    def test_what_is_started_is_what_is_described(self, stack: Stack) -> None:
        started = executions.start(stack, {"batch": "july", "csv": True})
        assert started == executions.describe(stack, "july.1")

    def test_what_is_meant_is_a_run_or_the_latest_of_a_batch(self, stack: Stack) -> None:
        executions.start(stack, {"batch": "july"})
        executions.start(stack, {"batch": "july"})
        executions.start(stack, {"batch": "june"})
        boto3.client("stepfunctions").start_execution(
            stateMachineArn=stack.state_machine, name="by-hand", input='{"batch": "may"}'
        )
        for named, run, batch in (
            ("july.1", "july.1", "july"),
            ("july", "july.2", "july"),
            ("june", "june.1", "june"),
            ("by-hand", "by-hand", "may"),
            ("may", "by-hand", "may"),
        ):
            found = executions.find(stack, named)
            assert (found.run, found.batch) == (run, batch)
        with pytest.raises(UsageError, match="several runs go on; name one of "):
            executions.find(stack, None)
        for nothing in ("august", "a b", "x" * 200):
            with pytest.raises(UsageError, match="neither a run nor a run of a batch"):
                executions.find(stack, nothing)

    def test_the_only_one_that_goes_on_need_not_be_named(self, stack: Stack) -> None:
        with pytest.raises(UsageError, match="no run goes on in the stack"):
            executions.find(stack, None)
        executions.start(stack, {"batch": "july"})
        assert executions.find(stack, None).run == "july.1"


def test_bounds_are_read_as_they_were_written() -> None:
    bounds = Bounds("fit", 0.9, 0.1, 1, 2, ("a", "b"), spot=True)
    assert Bounds.from_json(bounds.to_json()) == bounds
    for wrong in ("", "[]", "{}", "1", '{"pca": "fit"}'):
        with pytest.raises(ValueError, match=r"."):
            Bounds.from_json(wrong)
