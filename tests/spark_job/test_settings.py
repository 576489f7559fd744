from __future__ import annotations

import re
from dataclasses import asdict, fields

import pytest

from spark_job import networks
from spark_job.settings import JobSettings, make_parser, parse_args

REQUIRED = ["--images", "photographs", "--output", "out", "--batch", "b"]


def test_only_three_arguments_are_required_and_the_rest_is_documented_defaults() -> None:
    settings = parse_args([*REQUIRED, "--run", "r"])
    assert settings == JobSettings(
        images="photographs",
        output="out",
        batch="b",
        run="r",
        engine=None,
        network=networks.DEFAULT,
        manifest=None,
        corrections=None,
        variance=None,
        components=None,
        standardize=None,
        pca="auto",
        max_reject_rate=0.05,
        allow_unsupported=False,
        max_pixels=64_000_000,
        full_decode=False,
        csv=False,
        master="local[*,4]",
    )


def test_the_rule_is_open_until_someone_gives_one() -> None:
    """So that a model that is reused is not thought to contradict the command line."""
    assert parse_args(REQUIRED).rule == {}
    assert parse_args([*REQUIRED, "--variance", "0.8"]).rule == {"variance": 0.8}
    assert parse_args([*REQUIRED, "--components", "7"]).rule == {"components": 7}


ARRIVES: dict[str, list[tuple[list[str], object]]] = {
    "images": [(["--images", "s3://b/i"], "s3://b/i")],
    "output": [(["--output", "s3://b/o"], "s3://b/o")],
    "batch": [(["--batch", "none"], "none"), (["--batch", "2026-11-20"], "2026-11-20")],
    "run": [(["--run", "7"], "7")],
    "engine": [(["--engine", "spark"], "spark"), (["--engine", "processes"], "processes")],
    "network": [(["--network", "resnet"], "resnet")],
    "manifest": [(["--manifest", "m.csv"], "m.csv")],
    "corrections": [(["--corrections", "s3://b/c.csv"], "s3://b/c.csv")],
    "variance": [(["--variance", "0.9"], 0.9), (["--variance=1e-3"], 0.001)],
    "default_variance": [(["--default-variance", "0.9"], 0.9)],
    "components": [(["--components", "200"], 200)],
    "standardize": [
        (["--standardize"], True),
        (["--standardize", "true"], True),
        (["--standardize", "False"], False),
        (["--no-standardize"], False),
    ],
    "pca": [([f"--pca={way}"], way) for way in ("auto", "fit", "reuse", "update")],
    "model": [(["--model", "0123"], "0123")],
    "max_reject_rate": [(["--max-reject-rate", "0.5"], 0.5)],
    "allow_unsupported": [
        (["--allow-unsupported"], True),
        (["--allow-unsupported", "true"], True),
        (["--allow-unsupported", "false"], False),
    ],
    "max_pixels": [(["--max-pixels", "1000"], 1000)],
    "full_decode": [
        (["--full-decode"], True),
        (["--full-decode", "true"], True),
        (["--full-decode", "false"], False),
    ],
    "findings": [([f"--findings={which}"], which) for which in ("all", "none")],
    "again": [
        (["--again"], True),
        (["--again", "true"], True),
        (["--again", "false"], False),
    ],
    "csv": [(["--csv"], True), (["--csv", "true"], True), (["--csv", "false"], False)],
    "master": [(["--master", "local[1]"], "local[1]")],
    "billed_since": [(["--billed-since", "2026-11-20T18:00:00Z"], "2026-11-20T18:00:00Z")],
    "nodes": [(["--nodes", "2"], 2)],
    "node_price": [(["--node-price", "0.27"], 0.27)],
    "primary_price": [(["--primary-price", "0.28"], 0.28)],
}
"""What is said of each setting, and what arrives."""

REQUIRED_SETTINGS = {"images", "output", "batch"}

CASES = [(name, *case) for name, cases in ARRIVES.items() for case in cases]


@pytest.mark.parametrize(("name", "options", "value"), CASES)
def test_what_is_said_arrives_and_nothing_else_changes(
    name: str, options: list[str], value: object
) -> None:
    given = [*REQUIRED, "--run", "r"]
    if name == "master":  # which is Spark's alone
        given += ["--engine", "spark"]
    if name == "model":  # which is that of one way alone
        given += ["--pca", "reuse"]
    settings = parse_args([*given, *options])
    assert asdict(settings) == asdict(parse_args(given)) | {name: value}


@pytest.mark.parametrize("pca", [[], ["--pca", "fit"], ["--pca", "update"]])
def test_a_model_that_is_not_reused_is_refused(
    pca: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args([*REQUIRED, "--model", "0123", *pca])
    assert ended.value.code == 2
    assert "--model says which model --pca reuse takes; say that too" in capsys.readouterr().err


def test_a_spark_master_without_spark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args([*REQUIRED, "--master", "local[1]"])
    assert ended.value.code == 2
    assert "--master is Spark's; say --engine spark with it" in capsys.readouterr().err


# Of findings, none is what leaves them out.
@pytest.mark.parametrize("name", sorted(ARRIVES.keys() - REQUIRED_SETTINGS - {"run", "findings"}))
@pytest.mark.parametrize("none", ["none", "None"])
def test_none_is_as_if_an_option_were_left_out(name: str, none: str) -> None:
    """For a state machine, which passes each option with a value or cannot pass it at all."""
    option = f"--{name.replace('_', '-')}"
    for given in ([option, none], [f"{option}={none}"]):
        assert parse_args([*REQUIRED, "--run", "r", *given]) == parse_args(
            [*REQUIRED, "--run", "r"]
        )


def test_a_run_of_no_name_is_named_by_its_time() -> None:
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z", parse_args([*REQUIRED, "--run", "none"]).run)


def test_no_option_is_left_out_of_these_tests() -> None:
    """Each has a form with a value, `--no-standardize` and `--help` apart; and a setting."""
    actions = [action for action in make_parser()._actions if action.dest != "help"]
    assert {action.dest for action in actions} == ARRIVES.keys()
    assert {field.name for field in fields(JobSettings)} == ARRIVES.keys()
    assert {action.dest for action in actions if action.required} == REQUIRED_SETTINGS
    without_value = [action.option_strings for action in actions if action.nargs == 0]
    assert without_value == [["--no-standardize"]]
    for action in actions:
        assert action.help, f"{action.option_strings} is not documented"
        assert action.default is None, "what was not said is known as such"


def test_of_options_that_may_contradict_one_may_be_none() -> None:
    assert parse_args([*REQUIRED, "--variance", "none", "--components", "5"]).rule == {
        "components": 5
    }
    assert parse_args([*REQUIRED, "--variance", "0.5", "--components", "none"]).rule == {
        "variance": 0.5
    }


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("--imgs", "--images"),
        ("--max-rejects-rate", "--max-reject-rate"),
        ("--component", "--components"),
        ("--no-standardise", "--no-standardize"),
        ("--max-reject-rat=0.1", "--max-reject-rate"),
    ],
)
def test_a_mistyped_option_is_answered_with_what_was_meant(
    mistyped: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args([*REQUIRED, mistyped, "0.1"])
    assert ended.value.code == 2
    name = mistyped.partition("=")[0]
    assert f"there is no option {name}; did you mean {meant}?\n" in capsys.readouterr().err


def test_a_run_without_a_name_is_named_by_its_time_and_no_two_alike() -> None:
    first, second = parse_args(REQUIRED).run, parse_args(REQUIRED).run
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z", first)
    assert first < second


@pytest.mark.parametrize(
    "options",
    [
        ["--variance", "1"],
        ["--variance", "1e-9"],
        ["--components", "1"],
        ["--components", "100000"],
        ["--max-pixels", "1"],
        ["--max-pixels", "1000000000"],
        ["--batch", "a" * 64],
        ["--max-reject-rate", "0"],
        ["--max-reject-rate", "1"],
        ["--run", "a" * 128],
        ["--run", "2026-11-20T00.00_x"],
    ],
)
def test_the_bounds_themselves_are_allowed(options: list[str]) -> None:
    parse_args([*REQUIRED, *options])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--variance", "1.5"], "variance is a number above 0.0 and at most 1.0; not '1.5'"),
        (["--variance", "0"], "not '0'"),
        (["--variance", "-0.1"], "not '-0.1'"),
        (["--variance", "nan"], "not 'nan'"),
        (["--variance", "most"], "not 'most'"),
        (["--components", "0"], "components is a whole number from 1 to 100000; not '0'"),
        (["--components", "100001"], "not '100001'"),
        (["--components", "2.5"], "not '2.5'"),
        (
            ["--components", "5", "--variance", "0.5"],
            "--variance and --components each say how many components to keep; say one of them",
        ),
        (["--max-reject-rate", "1.01"], "max-reject-rate is a number from 0.0 to 1.0"),
        (["--max-pixels", "0"], "max-pixels is a whole number"),
        (["--max-reject-rate", "-0.01"], "not '-0.01'"),
        (["--max-pixels", "1000000001"], "not '1000000001'"),
        (["--pca", "sometimes"], "pca is auto, fit, reuse or update; not 'sometimes'"),
        (["--engine", "dask"], "engine is processes or spark; not 'dask'"),
        (["--full-decode", "1"], "full-decode is true or false; not '1'"),
        (["--csv", "yes"], "csv is true or false; not 'yes'"),
        (["--standardize", "0"], "standardize is true or false; not '0'"),
        (["--images", ""], "it is empty"),
        (["--network", ""], "it is empty"),
        (["--batch", ""], "a batch name is 1 to 64 letters"),
        (["--batch", "a/b"], "not 'a/b'"),
        (["--batch", ".hidden"], "not '.hidden'"),
        (["--batch", "a" * 65], "a batch name is 1 to 64 letters"),
        (["--batch", "b\n"], "a batch name"),
        (["--run", "../r"], "a run name is 1 to 128 letters"),
        (["--run", "a" * 129], "a run name"),
        (["--zzz", "x"], "there is no option --zzz; --help lists the options"),
        (["--max-reject", "0.1"], "there is no option --max-reject; did you mean"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_a_wrong_argument_ends_with_code_2_and_a_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args([*REQUIRED, *options])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_missing_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(["--images", "x", "--output", "y"])
    assert ended.value.code == 2
    assert "required: --batch" in capsys.readouterr().err


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for code in ("0", "1", "2", "3", "4", "130"):
        assert re.search(rf"^  {code}\s+\w", text, re.MULTILINE)
