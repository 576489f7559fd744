"""``orchard models reproject``: after it, batches compare; whoever kills it leaves nothing half."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from spark_job import contract, lineage
from tests.orchard.command import refusal, rows, start, succeed
from tests.spark_job.jobs import REPOSITORY, Job, run_job
from tests.spark_job.photographs import plant
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.objects import Folder

pytestmark = pytest.mark.slow


def test_what_use_recommends_makes_batches_comparable(output: Folder) -> None:
    for batch, n in (("apples", 12), ("kiwis", 30), ("plums", 20)):
        publish_batch(output, batch, n)
    publish_batch(output, "figs", extractor="other-0123456789abcdef")
    built = succeed("models", "build", "--batches", "apples,kiwis", "--use", output=output)
    model = built.stdout.strip()
    [command] = [line for line in built.stderr.splitlines() if "orchard models reproject" in line]
    done = start(*command.partition("orchard ")[2].split())
    assert done.returncode == 0, done.stderr
    assert [row.split("\t")[0] for row in done.stdout.splitlines()[1:]] == [
        *("apples", "kiwis", "plums"),
    ]
    receipts = lineage.published_receipts(output)
    figs = receipts.pop("figs")
    assert {one.model.model for one in receipts.values()} == {model}
    assert figs.model.model != model
    assert not list((output / contract.WORK).entries())
    again = succeed("models", "reproject", "--batches", "plums,apples", output=output)
    assert again.stdout == ""
    assert f"The vectors of batch apples are of {model} already" in again.stderr
    assert lineage.published_receipts(output)["apples"] == receipts["apples"]


def test_an_older_model_can_be_named(local: Folder) -> None:
    old = publish_batch(local, "apples").model.model
    publish_batch(local, "plums", 20, fit=True)
    arguments = ("models", "reproject", "--batches", "plums", "--model", old[:8])
    [row] = rows(succeed(*arguments, output=local))
    assert (row["batch"], row["model"]) == ("plums", old)
    assert lineage.published_receipts(local)["plums"].run == row["run"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batches", "pears"], "has no batch 'pears'; there are apples"),
        (["--batches", "apples,apples"], "named 2 times"),
        (["--batches", "apples", "--model", "none"], "has no model 'none'"),
    ],
)
def test_what_cannot_be_done_is_refused(local: Folder, arguments: list[str], sentence: str) -> None:
    publish_batch(local, "apples")
    assert sentence in refusal("models", "reproject", *arguments, output=local)


@pytest.mark.parametrize("where", ["settle", "publish"])
def test_killed_it_leaves_what_was_published_and_the_rest_can_be_removed(
    output: Folder, where: str
) -> None:
    old = publish_batch(output, "apples")
    model = publish_batch(output, "plums", 20, fit=True).model.model
    code = (
        "import os; from spark_job import runs; from orchard.__main__ import main;"
        f"runs.{where} = lambda *_: os._exit(9); main()"
    )
    arguments = ["models", "reproject", "--batches", "apples", "--output", output.uri]
    killed = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == 9, killed.stderr
    assert lineage.published_receipts(output)["apples"] == old
    left = (output / contract.results_folder("apples") / contract.RUNS).folders()
    assert len(left) == 2
    for claim in (output / contract.WORK).entries():
        if claim.name.endswith(contract.CLAIM) and not output.is_local:
            (output / contract.WORK).delete([claim.name])  # as if two minutes had gone by
    arguments = ["models", "reproject", "--batches", "apples"]
    [row] = rows(succeed(*arguments, output=output))
    assert row["model"] == model
    succeed("prune", "--yes", "--keep", "0", output=output)
    left = (output / contract.results_folder("apples") / contract.RUNS).folders()
    assert left == [row["run"]]
    assert not list((output / contract.WORK).entries())


@pytest.mark.job
def test_of_real_features_the_vectors_are_those_of_a_run_with_that_model(tmp_path: Path) -> None:
    """Bit for bit, as if the job had reused the model."""
    for batch, seed in (("monday", 0), ("tuesday", 100)):
        plant(tmp_path / batch, {"Kiwi": 6, "Plum": 5}, seed=seed)
    output = tmp_path / "out"

    def run(batch: str, *options: str) -> Job:
        done = run_job(tmp_path / batch, output, *options, batch=batch)
        assert done.exit_code == 0, done.err
        return done

    run("monday")
    tuesday = run("tuesday")
    build = ("models", "build", "--batches", "monday,tuesday", "--use", "--output", str(output))
    model = succeed(*build).stdout.strip()
    succeed("models", "reproject", "--batches", "monday,tuesday", "--output", str(output))
    ours, features = tuesday.table("vectors"), tuesday.table("features")
    assert tuesday.receipt["model"]["model"] == model
    assert tuesday.receipt["counts"]["carried_over"] == 11
    again = run("tuesday")
    assert again.receipt["model"]["model"] == model
    assert again.table("vectors").equals(ours)
    assert again.table("features").equals(features)
