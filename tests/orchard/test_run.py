"""``orchard run``: a folder becomes a batch, by the job's own options, in results that compare."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from orchard import job_options
from orchard.app import app
from orchard.options import RESULTS_HERE
from spark_job import lineage
from spark_job.contract import work_folder
from spark_job.objects import open_folder
from spark_job.settings import make_parser, parse_args
from tests.orchard.command import orchard, refusal, succeed
from tests.spark_job.jobs import REPOSITORY, environment_with
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from spark_job.settings import JobSettings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small batch in it."""
    plant(tmp_path / "photographs" / "first week", {"Kiwi": 6, "Plum": 5})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.job
def test_batches_share_an_output_and_a_folder_that_grew_costs_what_is_new(place: Path) -> None:
    first = succeed("run", "photographs/first week")
    assert first.stdout.startswith("Batch first-week, run ")
    assert f"results     {place}/{RESULTS_HERE}/" in first.stdout
    plant(place / "photographs" / "second", {"Kiwi": 4, "Plum": 4}, seed=50)
    second = json.loads(succeed("run", "photographs/second", "--json").stdout)
    assert second["model"]["reused"], "the model of the first week"
    plant(place / "photographs" / "first week", {"Fig": 3}, seed=90)
    again = json.loads(succeed("run", "photographs/first week", "--json").stdout)
    assert (again["counts"]["computed"], again["counts"]["carried_over"]) == (3, 11)
    published = lineage.published_receipts(open_folder(RESULTS_HERE))
    assert {batch: one.run for batch, one in published.items()} == {
        "first-week": again["run"],
        "second": second["run"],
    }


@pytest.mark.job
def test_the_report_is_opened_where_there_is_one(place: Path) -> None:
    opener = place / "browser"
    opener.write_text(f'#!/bin/sh\ncat "${{1#file://}}" > {place}/shown\n')
    opener.chmod(opener.stat().st_mode | stat.S_IXUSR)
    environment = environment_with({"BROWSER": f"{opener} %s", "PYTHONPATH": str(REPOSITORY)})
    arguments = ["run", "photographs/first week", "--open"]
    done = subprocess.run(
        [sys.executable, "-m", "orchard", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = re.search(r"^  report +(\S.*)$", done.stdout, re.MULTILINE)
    assert report is not None
    assert (place / "shown").read_bytes() == Path(report[1]).read_bytes()
    without = succeed(*arguments, "--pca", "fit", "--findings", "none")
    assert "has no report.html to open" in without.stderr


@pytest.mark.job
def test_an_interrupt_is_the_jobs(place: Path) -> None:
    plant(place / "many", {"Kiwi": 2_000})
    process = subprocess.Popen(
        [sys.executable, "-m", "orchard", "run", "many"],
        env=environment_with({"PYTHONPATH": str(REPOSITORY)}),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    started = monotonic()
    while not list((place / RESULTS_HERE).glob(f"{work_folder('many', '*')}/parts/*.json")):
        assert monotonic() - started < 60
        sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith(
        "orchard: error: interrupted; nothing was published, and what was done stays in "
    )
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere"], 2, "there is no folder {place}/nowhere; check DIR"),
        ([".", "--output", "results"], 2, "lies inside DIR {place}; choose a folder outside"),
        (["empty"], 3, "no images in {place}/empty"),
        (["photographs", "--variance", "2"], 2, "--variance: variance is a number above 0.0"),
        (["photographs", "--batch", "a b"], 2, "not 'a b'"),
        (["photographs", "--components", "5000"], 2, "choose 1 to 1280"),
        (["photographs", "--model", "0123"], 2, "--model says which model --pca reuse takes"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_the_jobs_code(
    place: Path, arguments: list[str], code: int, sentence: str
) -> None:
    (place / "empty").mkdir()
    assert sentence.format(place=place) in refusal("run", *arguments, code=code)


def test_a_folder_that_is_not_there_leaves_nothing_behind(place: Path) -> None:
    refusal("run", "nowhere")
    assert [path.name for path in place.iterdir()] == ["photographs"]


def test_a_mistyped_option_is_told() -> None:
    result = orchard("run", "photographs", "--varience", "0.9")
    assert result.exit_code == 2
    assert "--variance" in result.stderr


def test_home_is_put_in_behind_an_equals_sign(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    assert f"there is no folder {place}/nothing" in refusal("run", "~/nothing", "--output=~/out")
    assert not os.path.lexists("~")


class TestOptions:
    @pytest.fixture(autouse=True)
    def signed_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As somebody; S3 is not asked for anything here."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")

    def test_the_command_takes_every_option_of_the_job(self) -> None:
        commands: Any = get_command(app)
        taken = {name for option in commands.commands["run"].params for name in option.opts}
        known = {name for action in make_parser()._actions for name in action.option_strings}
        assert known - taken - {"-h", "--help"} == {"--images"}

    @pytest.mark.parametrize(
        "words",
        [
            ["--run", "r", "--variance", "0.9", "--no-standardize", "--csv", "--again"],
            ["--run", "r", "--components", "7", "--standardize", "--pca", "fit"],
            ["--run", "r", "--pca=reuse", "--model", "0123", "--max-reject-rate", "1"],
            ["--run", "r", "--manifest", "m.csv", "--engine", "spark", "--master", "local[2]"],
            ["--run", "r", "--components", "none", "--full-decode", "--allow-unsupported"],
            ["--run", "r", "--nodes", "3", "--node-price", "0.2", "--max-pixels", "10"],
        ],
        ids=" ".join,
    )
    def test_what_is_said_arrives_as_from_the_jobs_own_command_line(
        self, words: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[JobSettings] = []

        def stop(settings: JobSettings) -> None:
            seen.append(settings)

        monkeypatch.setattr("orchard.commands.run.execute", stop)
        monkeypatch.setattr("orchard.commands.run.require_folder", lambda _: None)
        succeed("run", "s3://fruits/july", "--output", "s3://fruits/out", *words)
        required = ["--images=s3://fruits/july", "--output=s3://fruits/out", "--batch=july"]
        assert seen == [parse_args([*required, *words])]

    def test_the_output_is_named_by_option_or_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "july").mkdir()
        monkeypatch.chdir(tmp_path)
        seen: list[str] = []
        monkeypatch.setattr(
            "orchard.commands.run.execute", lambda settings: seen.append(settings.output)
        )
        succeed("run", "july")
        monkeypatch.setenv("ORCHARD_OUTPUT", "s3://fruits")
        succeed("run", "july")
        succeed("run", "july", "--output", "out")
        assert seen == [RESULTS_HERE, "s3://fruits", "out"]

    def test_what_only_a_cluster_says_is_not_in_the_help(self) -> None:
        shown = succeed("run", "--help").stdout
        assert "--components" in shown
        for name in job_options.FOR_CLUSTERS:
            assert f"--{name.replace('_', '-')} " not in shown
