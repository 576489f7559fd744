from __future__ import annotations

import re

import pytest

from spark_job.settings import JobSettings, parse_args

REQUIRED = ["--images", "photographs", "--output", "out", "--batch", "b"]


def test_only_three_arguments_are_required_and_the_rest_is_documented_defaults() -> None:
    settings = parse_args([*REQUIRED, "--run", "r"])
    assert settings == JobSettings(
        images="photographs",
        output="out",
        batch="b",
        run="r",
        manifest=None,
        variance=None,
        components=None,
        standardize=True,
        pca="auto",
        max_reject_rate=0.05,
        max_pixels=64_000_000,
        csv=False,
        master="local[*,4]",
    )


def test_the_rule_is_open_until_someone_gives_one() -> None:
    """So that a model that is reused is not thought to contradict the command line."""
    assert parse_args(REQUIRED).rule == {}
    assert parse_args([*REQUIRED, "--variance", "0.8"]).rule == {"variance": 0.8}
    assert parse_args([*REQUIRED, "--components", "7"]).rule == {"components": 7}


def test_every_argument_arrives() -> None:
    options = "--run 7 --components 200 --no-standardize --pca fit --manifest m.csv"
    more = "--max-reject-rate 0.5 --max-pixels 1000 --csv --master local[1]"
    settings = parse_args([*REQUIRED, *options.split(), *more.split()])
    assert (settings.run, settings.components, settings.variance) == ("7", 200, None)
    assert (settings.standardize, settings.pca, settings.manifest) == (False, "fit", "m.csv")
    assert (settings.max_reject_rate, settings.max_pixels) == (0.5, 1000)
    assert (settings.csv, settings.master) == (True, "local[1]")


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
        ["--components", "1280"],
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
        (["--components", "0"], "components is a whole number from 1 to 1280; not '0'"),
        (["--components", "5000"], "not '5000'"),
        (["--components", "2.5"], "not '2.5'"),
        (["--components", "5", "--variance", "0.5"], "not allowed with"),
        (["--max-reject-rate", "1.01"], "max-reject-rate is a number from 0.0 to 1.0"),
        (["--max-pixels", "0"], "max-pixels is a whole number"),
        (["--pca", "sometimes"], "invalid choice: 'sometimes'"),
        (["--batch", ""], "a batch name is 1 to 64 letters"),
        (["--batch", "a/b"], "not 'a/b'"),
        (["--batch", ".hidden"], "not '.hidden'"),
        (["--batch", "a" * 65], "a batch name is 1 to 64 letters"),
        (["--batch", "b\n"], "a batch name"),
        (["--run", "../r"], "a run name is 1 to 128 letters"),
        (["--run", "a" * 129], "a run name"),
        (["--imgs", "x"], "unrecognized arguments: --imgs x"),
        (["--max-reject", "0.1"], "unrecognized arguments"),
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
