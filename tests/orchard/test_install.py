"""The wheel, on a machine without the checkout: what it holds and needs is enough, and no more."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

from demo.drawing.fruits import FRUITS
from demo.synthetic import make_batch
from orchard.options import RESULTS_HERE
from spark_job import __version__
from tests.spark_job.jobs import REPOSITORY, environment_with, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
UV = Path(sys.executable).with_name("uv")


def listed(name: str) -> set[str]:
    """The requirements of a file, without those of the files that it includes."""
    lines = (REPOSITORY / name).read_text("utf-8").splitlines()
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return {str(Requirement(line)) for line in bare if line and not line.startswith("-r")}


def required(requirements: list[str]) -> set[str]:
    return {str(Requirement(one)) for one in requirements}


class TestRequirements:
    def test_the_package_needs_what_a_laptop_does(self) -> None:
        assert required(PROJECT["dependencies"]) == listed("requirements-job.in")

    def test_a_node_has_the_same_versions(self) -> None:
        node = listed("bootstrap/requirements.in")
        pins = {Requirement(one).name: one for one in node if "==" in one}
        ours = {Requirement(one).name: one for one in listed("requirements-job.in")}
        spark = {Requirement(one).name: one for one in listed("requirements-spark.in")}
        assert pins.items() <= (ours | spark).items()

    def test_an_extra_is_of_what_developers_have(self) -> None:
        extras = PROJECT["optional-dependencies"]
        assert extras.keys() == {"spark", "export", "deploy", "rehearsal"}
        assert required(extras["spark"]) == listed("requirements-spark.in")
        for name in ("export", "deploy", "rehearsal"):
            own = {one for one in required(extras[name]) if not one.startswith("orchard[")}
            assert own <= listed("requirements.in"), name

    def test_the_versions_are_one(self) -> None:
        assert PROJECT["version"] == __version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not UV.exists():
        pytest.skip("uv, which builds the wheel, is not beside this Python")
    target = tmp_path_factory.mktemp("wheel")
    command: list[str | Path] = [
        UV,
        "build",
        "--wheel",
        "--offline",
        "--quiet",
        "--out-dir",
        target,
        REPOSITORY,
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    [found] = target.glob("*.whl")
    return found


def test_the_wheel_has_the_networks_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for folder in (REPOSITORY / "spark_job" / "networks").iterdir():
            for file in ("card.json", "network.tflite"):
                if (folder / file).exists():
                    name = f"spark_job/networks/{folder.name}/{file}"
                    assert archive.read(name) == (folder / file).read_bytes()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"orchard", "spark_job"}


def needed(requirements: list[str], seen: set[str]) -> Iterator[Any]:
    """The distributions of this environment that requirements come to."""
    for requirement in map(Requirement, requirements):
        name = requirement.name.lower()
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        found = distribution(name)
        yield found
        yield from needed(found.requires or [], seen)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment of its own, in which only what the wheel needs can be found."""
    place = tmp_path_factory.mktemp("machine") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    offline = ["--quiet", "--offline", "--no-deps", "--python"]
    install: list[str | Path] = [UV, "pip", "install", *offline, python, wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [packages] = place.glob("lib/python*/site-packages")
    for one in needed(PROJECT["dependencies"], set()):
        for top in {file.parts[0] for file in one.files or [] if file.parts[0] != ".."}:
            link = packages / top
            if not link.exists() and top != "__pycache__":
                link.symlink_to(Path(str(one.locate_file(top))).resolve())
    return place / "bin" / "orchard"


@pytest.mark.job
def test_it_runs_a_batch_and_answers_where_there_is_no_checkout(
    installed: Path, tmp_path: Path
) -> None:
    make_batch(tmp_path / "july", per_label=3)
    images = 3 * len(FRUITS)

    def orchard(*arguments: str) -> str:
        done = subprocess.run(
            [installed, *arguments],
            cwd=tmp_path,
            env=environment_with({"PYTHONPATH": None, "ORCHARD_OUTPUT": None}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert orchard("--version") == f"orchard {__version__}\n"
    assert "Batch july, run " in orchard("run", "july", "--max-reject-rate", "1")
    results = tmp_path / RESULTS_HERE / "results" / "july"
    run = results / "runs" / read_json(results / "current.json")["run"]
    assert read_json(run / "run.json")["counts"]["computed"] == images
    counted = orchard("sql", "select count(*) as n from images join runs using (batch, run)")
    assert counted == f"n\n{images}\n"
    for arguments in (["batches"], ["show", "july"], ["rejects", "july"], ["models", "list"]):
        assert "july" in orchard(*arguments) or arguments[0] == "rejects"
    page = Path(orchard("report", "july", "--to", "july.html").strip())
    assert page.read_text("utf-8").count("<image id=") == images + 1, "and half a reject"
