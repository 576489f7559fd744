"""The whole job, killed again and again: what was done stays done, and nothing half is published.

Twenty times at a seeded moment, in four chains of runs that fit a model, each of which is killed
while it lives: early moments are among a chain's first runs, and settling and publishing among its
last ones, which have nothing left to compute. Then fourteen times, in two chains in which two
batches share a model: eight times at a seeded moment, and six around the model's adoption.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from spark_job.pca import PCAModel
from tests.spark_job.jobs import REPOSITORY, arguments, read_json, run_job
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.job

CHAINS, KILLS = 4, 5
"""Chains of runs, and runs of each that are killed while they live, whatever it takes."""

KILLS_OF_TWO = 4

LONGEST = 6.0
"""Seconds after its first sign of life by which a run is killed; less where runs end before."""

PLACES = {
    "before its model is the current one": "pipeline.adopt = lambda *_: die()",
    "before it is settled": "runs.settle = lambda *_: die()",
    "before it is published": "runs.publish = lambda *_: die()",
}
"""Where a run of two batches is killed, and what is written over in it for that."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several parts for each of two workers, and a reject."""
    folder = tmp_path_factory.mktemp("killed")
    plant(folder, {"Kiwi": 90, "Plum": 90, "Fig": 90}, seed=4_000)
    (folder / "Fig/empty.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("undisturbed")
    job = run_job(images, output, "--pca", "fit")
    assert job.exit_code == 0, job.err
    return published(output)


@pytest.mark.parametrize("chain", range(CHAINS))
def test_killed_at_any_moment_the_next_run_goes_on(
    chain: int, images: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    moments = Moments(chain)
    for _ in range(KILLS):
        known = done(tmp_path)
        moments.kill(images, tmp_path, "batch", "fit")
        assert done(tmp_path) >= known, "what was done is done no more"
        if (tmp_path / "results/batch/current.json").exists():
            assert published(tmp_path) == undisturbed
        for run in tmp_path.glob("results/batch/runs/*/run.json"):
            assert len(parquet.read_table(run.parent / "vectors")) == 270
    known = done(tmp_path)
    last = run_job(images, tmp_path, "--pca", "fit")
    assert last.exit_code == 0, last.err
    assert published(tmp_path) == undisturbed
    counts = last.receipt["counts"]
    assert counts["carried_over"] + counts["rejected"] >= known
    assert not list((tmp_path / "work").iterdir())


TWO = {"monday": {"Kiwi": 40, "Plum": 30}, "tuesday": {"Fig": 30, "Kiwi": 30}}
"""Labels of the batches that share a model."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for number, (batch, labels) in enumerate(TWO.items()):
        plant(folder / batch, labels, seed=7_000 + 100 * number)
    return folder


@pytest.fixture(scope="module")
def both(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left where nobody disturbs the updates of a model with two batches."""
    output = tmp_path_factory.mktemp("both")
    for batch in TWO:
        job = run_job(two / batch, output, "--pca", "update", batch=batch)
        assert job.exit_code == 0, job.err
    return output


@pytest.mark.parametrize("how", ["auto", "update"])
def test_killed_while_two_batches_share_a_model_neither_is_lost(
    how: str, two: Path, both: Path, tmp_path: Path
) -> None:
    moments = Moments(how)
    planned = [*range(KILLS_OF_TWO), *PLACES]
    moments.choose.shuffle(planned)
    for kill in planned:
        batch = moments.choose.choice(list(TWO))
        if isinstance(kill, int):
            moments.kill(two / batch, tmp_path, batch, how)
        else:
            kill_at(kill, two / batch, tmp_path, batch, how)
        require_sound(tmp_path)
    for batch in TWO:
        last = run_job(two / batch, tmp_path, "--pca", how, batch=batch)
        assert last.exit_code == 0, last.err
        ours, undisturbed = published(tmp_path, batch), published(both, batch)
        for table in ("features", "rejects", "digests"):
            assert ours[table] == undisturbed[table]
    assert not list((tmp_path / "work").iterdir())
    card = require_sound(tmp_path)
    assert card is not None
    assert last.receipt["model"]["model"] == card["model"]
    if how == "auto":
        assert [published(tmp_path, batch)["model"] for batch in TWO] == [card["model"]] * 2
        assert len(card["batches"]) == 1
        return
    expected = require_sound(both)
    assert expected is not None
    for name in ("model", "images", "n", "k"):
        assert card[name] == expected[name]
    ours, theirs = (read_json(calibration_of(one)) for one in (tmp_path, both))
    assert (ours["covered"], ours["sampled"]) == (card["n"], card["n"])
    assert ours["far"] == pytest.approx(theirs["far"])


class Moments:
    """Seeded moments at which runs are killed."""

    def __init__(self, seed: int | str) -> None:
        self.choose = random.Random(seed)
        self._longest = LONGEST

    def kill(self, images: Path, output: Path, batch: str, how: str) -> None:
        """Kill a run of the job, with all its workers, while it lives; runs that end are let go."""
        for _ in range(12):
            before = set(output.glob(f"work/{batch}/*"))
            process = start(arguments(images, output, "--pca", how, batch=batch))
            until = monotonic() + 60
            while process.poll() is None and set(output.glob(f"work/{batch}/*")) <= before:
                assert monotonic() < until, "it gave no sign of life"
                sleep(0.01)
            try:
                process.wait(self.choose.uniform(0.0, self._longest))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                if process.wait() == -signal.SIGKILL:
                    return
            assert process.returncode == 0
            self._longest /= 2
        raise AssertionError("all of twelve runs ended before they were killed")


def kill_at(place: str, images: Path, output: Path, batch: str, how: str) -> None:
    """Run the job until it kills itself at one of `PLACES`."""
    code = (
        "import os, signal, sys; from spark_job import pipeline, runs; "
        "from spark_job.__main__ import main; "
        f"die = lambda: os.kill(os.getpid(), signal.SIGKILL); {PLACES[place]}; sys.exit(main())"
    )
    _, _, _, *options = arguments(images, output, "--pca", how, batch=batch)
    process = start([sys.executable, "-c", code, *options])
    assert process.wait(120) == -signal.SIGKILL


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def require_sound(output: Path) -> dict[str, Any] | None:
    """Everything that a pointer names is there and whole; the current model's card, if any."""
    for batch in TWO:
        if (output / f"results/{batch}/current.json").exists():
            found = published(output, batch)
            assert len(found["vectors"]) == len(found["features"]) == sum(TWO[batch].values())
            assert list(output.glob(f"models/*/{found['model']}/model.npz"))
    pointers = list(output.glob("models/*/current.json"))
    if not pointers:
        return None
    model = pointers[0].parent / read_json(pointers[0])["model"]
    assert PCAModel.from_bytes((model / "model.npz").read_bytes()).k > 0
    card = read_json(model / "model.json")
    named = [one["batch"] for one in card["batches"]]
    assert named == sorted({*named}), "each batch once"
    for one in card["batches"]:  # or no further update could be made
        assert list(output.glob(f"results/{one['batch']}/runs/*/moments.npz"))
    return card


def calibration_of(output: Path) -> Path:
    """Of the current model."""
    (pointer,) = output.glob("models/*/current.json")
    return pointer.parent / str(read_json(pointer)["model"]) / "calibration.json"


def done(output: Path) -> int:
    """Count the images that a later run need not compute: of finished parts, and of whole runs."""
    paths: set[str] = set()
    for receipt in output.glob("work/batch/*/parts/*.json"):
        told = json.loads(receipt.read_bytes())
        for table in ("features", "rejects"):
            if told[table] is not None:
                file = receipt.parents[1] / table / told[table]
                paths.update(parquet.read_table(file, columns=["path"])["path"].to_pylist())
    for run in output.glob("results/batch/runs/*/run.json"):
        for table in ("features", "rejects"):
            found = parquet.read_table(run.parent / table, columns=["path"])
            paths.update(found["path"].to_pylist())
    return len(paths)


def published(output: Path, batch: str = "batch") -> dict[str, Any]:
    """What a reader who follows the pointer finds; of the vectors, which images have one."""
    results = output / "results" / batch
    run = results / "runs" / read_json(results / "current.json")["run"]
    found: dict[str, Any] = {}
    for table in ("features", "rejects"):
        found[table] = parquet.read_table(run / table).sort_by("path").to_pylist()
    vectors = parquet.read_table(run / "vectors").sort_by("path")
    found["vectors"] = vectors.select(["path", "label"]).to_pylist()
    told = read_json(run / "run.json")
    found["model"] = told["model"]["model"]
    found["digests"] = told["digests"]
    assert set(vectors["model"].to_pylist()) == {found["model"]}
    return found
