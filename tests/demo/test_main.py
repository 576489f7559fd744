"""Whole runs of ``python -m demo``, and of ``make demo`` where make itself decides."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from demo.drawing.fruits import FRUITS
from demo.synthetic import make_batch
from orchard.options import RESULTS_HERE
from spark_job.engines import submitted

if TYPE_CHECKING:
    from tests.demo.conftest import Demonstration

REPOSITORY = Path(__file__).parents[2]
BAD_FILES = 4
SPARING = "--max-reject-rate=1"  # of so few images the bad ones are too large a share


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demonstration with `folder` as the current one."""
    assert not submitted()
    return _run(folder, sys.executable, "-m", "demo", *arguments)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(REPOSITORY, "make", *arguments)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for name in [name for name in environment if name.startswith(("MAKE", "MFLAGS"))]:
        del environment[name]  # those of a `make test`
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def receipt(output: Path, batch: str) -> dict[str, Any]:
    """Read the receipt of a batch's published run."""
    results = output / "results" / batch
    run = json.loads((results / "current.json").read_text())["run"]
    content: dict[str, Any] = json.loads((results / "runs" / run / "run.json").read_text())
    return content


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small batches, ``spring`` and ``summer of '26``."""
    folder = tmp_path_factory.mktemp("images")
    make_batch(folder / "spring", per_label=3)
    make_batch(folder / "summer of '26", per_label=4)
    return folder


@pytest.mark.job
def test_by_itself_it_draws_a_batch_and_its_last_words_run(demonstration: Demonstration) -> None:
    folder, done = demonstration
    assert done.returncode == 0, done.stderr
    ran = receipt(folder / "out" / "synthetic-fruit", "synthetic-fruit")
    assert ran["counts"]["rejected"] == BAD_FILES
    assert ran["engine"]["name"] == "processes"
    assert not ran["model"]["reused"]
    assert (
        f"{ran['counts']['listed']} listed, {ran['counts']['computed']} featurized" in done.stdout
    )

    (link,) = re.findall(r"^  (file://.*)$", done.stdout, re.MULTILINE)
    with urlopen(link) as page:
        assert page.read(15) == b"<!doctype html>"
    (sql, show, search) = re.findall(r"^  (.*orchard .*)$", done.stdout, re.MULTILINE)
    header, *labels = _run(folder, *shlex.split(sql)).stdout.splitlines()
    assert header.startswith("label\tcount")
    assert len(labels) == len(FRUITS) + 1, "and pictures without a label"
    shown = _run(folder, *shlex.split(show)).stdout
    assert f"run\t{ran['run']}\n" in shown
    nearest = _run(folder, *(word for word in shlex.split(search) if word != "--open"))
    assert "of the 10 nearest are labelled Cherry" in nearest.stderr


@pytest.mark.job
def test_batches_with_one_output_share_a_model(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "fruits"
    first = demo(tmp_path, f"--images={images / 'spring'}", f"--output={output}", SPARING)
    assert first.returncode == 0, first.stderr
    second = demo(tmp_path, f"--images={images}/summer of '26/", f"--output={output}", SPARING)
    assert second.returncode == 0, second.stderr
    spring, summer = receipt(output, "spring"), receipt(output, "summer-of-26")
    assert summer["model"]["model"] == spring["model"]["model"]
    assert (spring["model"]["reused"], summer["model"]["reused"]) == (False, True)
    here, own = summer["model"]["variance_kept_here"], summer["model"]["variance_kept"]
    assert f"{here:.2%} of this batch's variance, and {own:.2%} of that of the model's own" in (
        second.stdout
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.job
def test_what_args_say_wins(images: Path, tmp_path: Path) -> None:
    # As make puts them together: its variables first, ARGS last.
    arguments = [f"--images={images / 'spring'}", "--batch=variable", "--output=variable"]
    arguments += ["--batch", "said", "--output", "o", "--pca", "fit", "--variance=0.5", SPARING]
    done = demo(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    ran = receipt(tmp_path / "o", "said")
    assert ran["settings"]["pca"] == "fit"
    assert ran["model"]["rule"] == {"variance": 0.5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o"]
    assert "orchard show said --output o\n" in done.stdout


@pytest.mark.job
def test_batches_of_ones_own_share_what_orchard_finds(images: Path, tmp_path: Path) -> None:
    arguments = [f"--images={images / 'spring'}", "--batch", "x", SPARING]
    done = demo(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert receipt(tmp_path / RESULTS_HERE, "x")["settings"]["pca"] == "auto"
    (_, show) = re.findall(r"^  (.*orchard .*)$", done.stdout, re.MULTILINE)
    assert shlex.split(show)[-2:] == ["show", "x"]
    assert "batch\tx\n" in _run(tmp_path, *shlex.split(show)).stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--varience=0.9"], "there is no option --varience; did you mean --variance?"),
        (["--image=x"], "there is no option --image; did you mean --images?"),
        (["--variance=1.5"], "variance is a number above 0.0 and at most 1.0; not '1.5'"),
        (["--variance=0.9", "--components=9"], "say one of them"),
        (["--pca=again"], "pca is auto, fit, reuse or update; not 'again'"),
        (["--engine=sparks"], "engine is processes or spark; not 'sparks'"),
        (["--batch=a b"], "not 'a b'"),
        (["--network=nothing"], "there is no network 'nothing'"),
        (["--components=5000"], "choose 1 to 1280"),
        (["--output=out/synthetic-fruit/images"], "lies inside --images"),
        (["--output=out/synthetic-fruit/images/results"], "lies inside --images"),
    ],
)
def test_what_is_wrong_is_refused_before_a_batch_is_drawn(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = demo(tmp_path, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_inside_the_images_is_refused(images: Path, tmp_path: Path) -> None:
    before = sorted(images.rglob("*"))
    done = demo(tmp_path, f"--images={images}", f"--output={images}/spring/out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "lies inside --images" in done.stderr
    assert sorted(images.rglob("*")) == before


def test_images_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    done = demo(tmp_path, "--images=nowhere")
    assert done.returncode == 2
    assert f"there is no folder {tmp_path}/nowhere; check --images" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_one_sentence(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = demo(tmp_path, f"--images={images / 'spring'}", "--output=file/output")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"cannot write to {tmp_path}/file/output" in done.stderr


def test_a_folder_that_nothing_can_be_drawn_in_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    done = demo(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot draw a batch in out/synthetic-fruit/images" in done.stderr


def test_make_refuses_a_variable_that_it_does_not_know() -> None:
    done = make("demo", "VARIENCE=0.9")
    assert done.returncode == 2
    assert "make demo takes no VARIENCE: its variables are IMAGES OUTPUT BATCH VARIANCE" in (
        done.stderr
    )
    assert done.stdout == ""


def test_make_passes_its_variables_on() -> None:
    variables = ["IMAGES=/a b/it's", "OUTPUT=o", "BATCH=b", "VARIANCE=0.9", "COMPONENTS="]
    done = make("-n", "demo", *variables, "NETWORK=n", "ENGINE=processes", "ARGS=--csv --pca fit")
    assert done.returncode == 0, done.stderr
    command = done.stdout[done.stdout.index("python -m demo") :].replace("\\\n", " ")
    options = ["--images=/a b/it's", "--output=o", "--batch=b", "--variance=0.9"]
    options += ["--engine=processes", "--network=n", "--csv", "--pca", "fit"]
    assert shlex.split(command) == ["python", "-m", "demo", *options]


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ([], False),
        (["ENGINE=processes"], False),
        (["ENGINE=spark"], True),
        (["ARGS=--engine spark --csv"], True),
        (["ARGS=--engine=spark"], True),
    ],
)
def test_make_installs_spark_where_it_is_asked_for(variables: list[str], wanted: bool) -> None:
    done = make(
        "-n", "-W", "requirements-spark.txt", "-W", "requirements-job.txt", "demo", *variables
    )
    assert done.returncode == 0, done.stderr
    assert ("-r requirements-spark.txt" in done.stdout) == wanted
    assert ("-r requirements-job.txt" in done.stdout) != wanted
