"""What the README and the pages of docs/ say to run is run, and what they say is printed is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from pyarrow import parquet

from demo.drawing.fruits import FRUITS
from demo.synthetic import make_batch
from spark_job import contract
from spark_job.engines.spark import find_java
from stacks.batch.catalog import IMAGES_SQL, TABLES
from tests.making import make
from tests.pages import PAGES, REPOSITORY, commands, section
from tests.pages import TEXT as README

RESULTS = (REPOSITORY / "docs/results.md").read_text("utf-8")
PYTHON = ".venv/bin/python"
ORCHARD = ".venv/bin/orchard"
PER_LABEL = 3
SPARING = "--max-reject-rate=1"  # of so few images the bad ones are too large a share


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", RESULTS, re.MULTILINE | re.DOTALL)


def run(
    command: list[str], folder: Path, answer: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def job(*more: str) -> list[str]:
    """Give the README's command of the job, with other options after its own."""
    (command,) = commands(f"{PYTHON} -m spark_job ")
    return [sys.executable, *shlex.split(command)[1:], *more, SPARING]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README was followed: two outputs, three batches, a replaced run.

    The replaced run has a model, and a number of components, of its own.
    """
    place = tmp_path_factory.mktemp("place")
    make_batch(place / "images", per_label=PER_LABEL)
    options = [f"--images={place}/images", "--run=replaced", "--components=2"]
    run(job(*options), place)
    run(job(*options[:1], "--pca=fit"), place)
    run(job(*options[:1], "--batch=tuesday"), place)
    alone = ["--images=images", "--batch=synthetic-fruit", "--output=out/synthetic-fruit"]
    run([sys.executable, "-m", "demo", *alone, SPARING], place)
    return place


def current(results: Path) -> Path:
    """Find the folder of a batch's published run."""
    pointer = json.loads((results / contract.CURRENT).read_text())
    return results / contract.RUNS / str(pointer["run"])


def vectors(results: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(current(results) / "vectors").to_pylist()
    return rows


@pytest.mark.job
def test_the_python_reads_the_published_vectors(place: Path) -> None:
    code, _ = blocks("python")
    done = run([sys.executable, "-c", f"{code}\nprint(vectors.to_json(orient='records'))"], place)
    expected = vectors(place / "out/synthetic-fruit/results/synthetic-fruit")
    found = json.loads(done.stdout)
    assert [list(row) for row in found] == [["path", "label", "model", "vector"]] * len(expected)
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    assert np.allclose(found[0]["vector"], expected[0]["vector"])


@pytest.mark.job
@pytest.mark.spark
def test_spark_reads_published_runs_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", find_java())
    _, code = blocks("python")
    told = "print(vectors.select('path', 'model').toPandas().to_json(orient='records'))"
    done = run([sys.executable, "-c", f"{code}\n{told}"], place)
    results = place / "out/fruits/results"
    expected = [row for batch in results.iterdir() for row in vectors(batch)]
    found = json.loads(done.stdout)
    assert sorted((row["path"], row["model"]) for row in found) == sorted(
        (row["path"], row["model"]) for row in expected
    )


@pytest.mark.job
def test_the_sql_reads_published_runs_alone_and_mixes_no_models(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sql,) = blocks("sql")
    monkeypatch.chdir(place)
    with duckdb.connect() as connection:
        found = connection.execute(sql).fetchall()
    monday, tuesday = (place / "out/fruits/results" / batch for batch in ("monday", "tuesday"))
    alone = place / "out/synthetic-fruit/results/synthetic-fruit"
    assert (monday / contract.RUNS / "replaced" / contract.RUN).exists()
    expected: dict[tuple[str, str], list[float]] = {}
    for row in [*vectors(monday), *vectors(tuesday), *vectors(alone)]:
        expected.setdefault((row["model"], row["label"]), []).append(row["vector"][0])
    # The batch in an output of its own fits a model of its own, though it holds the same images.
    assert len({model for model, _ in expected}) == 2
    assert {(model, label): images for model, label, images, _ in found} == {
        key: len(values) for key, values in expected.items()
    }
    assert {images for *_, images, _ in found} == {2 * PER_LABEL, PER_LABEL}
    assert len(found) == 2 * len(FRUITS)
    for model, label, _, mean in found:
        assert mean == pytest.approx(np.mean(expected[model, label]))


@pytest.mark.job
def test_the_sql_keeps_models_apart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sql,) = blocks("sql")
    run(
        job(f"--images={place}/images", "--batch=third", "--output=out/other", "--components=4"),
        place,
    )
    monkeypatch.chdir(place)
    with duckdb.connect() as connection:
        found = connection.execute(sql).fetchall()
    assert len({model for model, *_ in found}) == 3
    assert sum(images for *_, images, _ in found) == 4 * PER_LABEL * len(FRUITS)


def _views(place: Path) -> list[str]:
    """Write Athena's tables for DuckDB: the published runs' files, with the columns of Glue."""
    runs = {
        pointer.parent.name: current(pointer.parent)
        for pointer in sorted((place / "out/fruits/results").glob(f"*/{contract.CURRENT}"))
    }
    views = []
    for table in TABLES:
        columns = ", ".join(f'"{name}"' for name, _ in table.columns)
        partitions = [
            f"select {columns}, '{batch}' as batch from '{run / table.folder}/*.parquet'"
            for batch, run in runs.items()
        ]
        views.append(f"create view {table.name} as {' union all '.join(partitions)}")
    return [*views, f"create view images as {IMAGES_SQL}"]


@pytest.mark.job
def test_what_athena_is_asked_can_be_answered(place: Path) -> None:
    """By DuckDB, over the files of a run: Athena's own dialect is not tried."""
    athena = section("docs/results.md", "Athena")
    labels, batches = commands("select ", athena)
    with duckdb.connect() as connection:
        for view in _views(place):
            connection.execute(view)
        found = connection.execute(labels).fetchall()
        assert len(found) == len(FRUITS)
        results = (place / "out/fruits/results").iterdir()
        published = sum(len(vectors(batch)) for batch in results)
        assert sum(images for _, images in found) == published
        rows = connection.execute(batches).fetchall()
        assert {"monday", "tuesday"} <= {batch for batch, *_ in rows}
        assert all(computed + rejected > 0 for _, computed, rejected, _ in rows)
        joined = connection.execute("select count(*) from images").fetchone()
        assert joined == (published,)


@pytest.fixture
def looked_after(place: Path, tmp_path: Path) -> Path:
    """A copy of what the README made, to be changed, and a photograph to search by."""
    shutil.copytree(place / "out/fruits", tmp_path / "out/fruits")
    shutil.copy(next((place / "images").glob("Orange/*.jpg")), tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.job
def test_orchard_does_what_the_pages_say(looked_after: Path) -> None:
    """Every command in its place, one after the other, on what the job wrote."""
    asked = [one for one in commands(f"{ORCHARD} ") if "--output out/fruits" in one]
    verbs = [re.split(r" --| ID", command.removeprefix(ORCHARD))[0].strip() for command in asked]
    for name in ("list", "show", "build", "use", "reproject"):
        assert f"models {name}" in verbs
    assert {"prune", "export"} <= set(verbs)
    output = looked_after / "out/fruits"
    made: list[str] = []
    for command in asked:
        # The model that `build` made is the one that is used; before there is one, the first.
        known = made[-1:] or [path.parent.name for path in output.glob("models/*/*/model.json")]
        given = shlex.split(command.replace(" ID", f" {known[0]}"))[1:]
        done = run([sys.executable, "-m", "orchard", *given], looked_after, answer="y\n")
        if "build" in given:
            made += re.findall(r"\b[0-9a-f]{16}\b", done.stdout)[:1]
    assert {row["model"] for row in vectors(output / "results/monday")} == set(made)
    assert (looked_after / "fruit.tflite").exists()
    assert not (output / "results/monday/runs/replaced").exists()


@pytest.mark.job
def test_the_list_of_what_is_written_is_complete(place: Path) -> None:
    run(job(f"--images={place}/images", "--batch=listed", "--csv"), place)
    (listed,) = re.findall(r"^    OUTPUT/results.*?\n\n", README, re.MULTILINE | re.DOTALL)
    folder = current(place / "out/fruits/results/listed")
    for path in filter(Path.is_file, folder.rglob("*")):
        name = str(path.relative_to(folder))
        assert re.sub(r"part-\d+", "*", name) in listed
    for table in ("features", "vectors", "rejects"):
        (text,) = re.findall(rf"{table}/\*\.parquet +(.*?)\n {{8}}(?=\S)", listed, re.DOTALL)
        documented = [re.sub(r" \[\w+\]", "", column) for column in re.split(r",\s+", text)]
        assert documented == parquet.read_schema(next((folder / table).iterdir())).names
    (text,) = re.findall(r"variance\.csv +(.*):", listed)
    header = (folder / "variance.csv").read_text().splitlines()[0]
    assert text.split(", ") == [name.strip('"') for name in header.split(",")]
    receipt = json.loads((folder / "run.json").read_text())
    assert receipt["contract"] == contract.CONTRACT
    assert '{"contract": 1, "run": ...}' in listed


@pytest.mark.job
def test_the_sample_is_what_the_demonstration_prints(tmp_path: Path) -> None:
    printed = run([sys.executable, "-m", "demo"], tmp_path).stdout.splitlines()[1:]
    sample = README[README.index("    Batch synthetic-fruit") :].splitlines()[: len(printed)]
    assert [_shape(line.removeprefix("    ")) for line in sample] == [
        _shape(one) for one in printed
    ]
    told = ("  images ", "  rejected ", "  unsupported ")
    for line, ours in zip(sample, printed, strict=True):
        assert not ours.startswith(told) or ours == line.removeprefix("    ")


@pytest.mark.job
def test_what_the_sample_says_to_look_with_runs(place: Path) -> None:
    lines = re.findall(r"^      \.venv/bin/orchard (.*)$", README, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["sql", "show", "search"]
    # The page of `search --open` would open in whoever tests' browser.
    for line in lines[:2]:
        done = run([sys.executable, "-m", "orchard", *shlex.split(line)], place)
        assert len(done.stdout.splitlines()) > len(FRUITS)


@pytest.mark.job
@pytest.mark.parametrize("command", [c for c in commands(f"{ORCHARD} sql ") if "out/fruits" in c])
def test_a_query_gives_rows(place: Path, command: str) -> None:
    done = run([sys.executable, "-m", "orchard", *shlex.split(command)[1:]], place)
    assert len(done.stdout.splitlines()) > len(FRUITS)


@pytest.mark.job
def test_the_walk_can_be_taken(tmp_path: Path) -> None:
    """From a demonstration alone; of the report's pictures, `tests/browser` presses the buttons."""
    run([sys.executable, "-m", "demo"], tmp_path)
    corrections = "path,action,label\nGrape/IMG_1343.jpg,relabel,Kiwi\nIMG_1099.jpg,drop,\n"
    (tmp_path / "corrections-synthetic-fruit.csv").write_text(corrections)
    asked = commands(f"{ORCHARD} ", (REPOSITORY / "docs/walkthrough.md").read_text("utf-8"))
    said = [
        run([sys.executable, "-m", "orchard", *shlex.split(command)[1:]], tmp_path).stdout
        for command in asked
    ]
    found, suspects, labels, corrected = said
    assert re.search(r"^suspects\t6\t", found, re.MULTILINE)
    assert "Grape/IMG_1343.jpg\tGrape\tKiwi" in suspects
    assert re.search(r"^Kiwi\t\d+$", labels, re.MULTILINE)
    assert "309 listed, 304 featurized (304 known from before)" in corrected
    assert "1 dropped, 1 relabelled" in corrected


@pytest.mark.job
def test_your_own_pictures_are_taken_as_the_readme_says(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    make_batch(photographs / "monday", PER_LABEL)
    make_batch(photographs / "tuesday", PER_LABEL + 2)
    shutil.copy(next((photographs / "monday").glob("Orange/*.jpg")), tmp_path / "photo.jpg")
    asked = commands("orchard ", section("README.md", "Your own pictures"))
    said = {}
    for command in asked:
        arguments = [one for one in shlex.split(command)[1:] if one != "--open"]
        sparing = [SPARING] if arguments[0] == "run" else []
        done = run([sys.executable, "-m", "orchard", *arguments, *sparing], tmp_path)
        said[" ".join(arguments[:2])] = done.stdout
    assert [one.split()[0] for one in said] == ["plan", "run", "run", "findings", "search", "sql"]
    assert "Run it here" in said["plan photographs/monday"]
    assert "reused" in said["run photographs/tuesday"]
    assert said["search photo.jpg"].splitlines()[1].startswith("Orange/")


def _shape(line: str) -> str:
    """Leave the words of a line, without its numbers, ids and folders."""
    line = re.sub(r"(\s)(file://)?/\S+", r"\1\2PATH", line)
    line = re.sub(r"\S*bin/orchard", "orchard", line)
    line = re.sub(r"[0-9a-f]{16}\b|\d{8}T[\d.]+Z", "ID", line)
    return re.sub(r"\d[\d,.]*", "N", line)


@pytest.mark.parametrize("command", commands("make "))
def test_make_knows_what_it_is_asked_for(command: str) -> None:
    make("-n", *shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert ((REPOSITORY / page).parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text("utf-8").splitlines()) < 130


def test_it_is_deployed_and_started_in_four_lines() -> None:
    lines = commands("", section("README.md", "Deploying it"))
    assert len(lines) == 4
    assert [line.split()[1] for line in lines] == ["bootstrap-account", "deploy", "upload", "fetch"]


def test_commands_run_as_they_stand() -> None:
    """None needs an activated environment, and none is overlooked here by another indentation."""
    for command in re.findall(r"^ +(\S*python\S* .*)$", README, re.MULTILINE):
        assert command.startswith(PYTHON)
    for command in re.findall(r"`(\S*python\S* -m [^`]*)`", README):
        assert command.startswith(PYTHON)
    assert (len(blocks("python")), len(blocks("sql"))) == (2, 1)
    assert RESULTS.count("```") == 6
