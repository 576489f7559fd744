"""``orchard prune``: what goes and what stays, and who may come in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchard import pruning
from orchard.pruning import Kind
from spark_job import contract, lineage, reprojection, runs
from spark_job.errors import OutputRefusedError
from tests.orchard.command import orchard, refusal, rows, succeed
from tests.spark_job.inline import InlineEngine
from tests.spark_job.published import EXTRACTOR, publish_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.claims import Claim
    from spark_job.objects import Folder

pytestmark = pytest.mark.slow


@pytest.fixture
def held() -> Iterator[list[Claim]]:
    """Claims to be given back when the test ends."""
    claims: list[Claim] = []
    yield claims
    for one in claims:
        one.release()


def claim(output: Folder, run: str, batch: str = "apples") -> Claim:
    return runs.claim_run(output, batch, run, f"images/{batch}", EXTRACTOR)


def die(output: Folder, run: str, batch: str = "apples") -> None:
    """Leave what a run does that is killed while it is settled."""
    dead = claim(output, run, batch)
    dead.work.write("features/part-00000-0.parquet", b"x" * 1000)
    dead.results.write("features/part-00000.parquet", b"x" * 1000)
    dead.release()


def files(output: Folder) -> set[str]:
    return {entry.name for entry in output.entries()}


def runs_of(output: Folder, batch: str = "apples") -> list[str]:
    return (output / contract.results_folder(batch) / contract.RUNS).folders()


def run_of(output: Folder, batch: str) -> Folder:
    """The published run's folder."""
    return output / contract.run_folder(batch, lineage.published_receipts(output)[batch].run)


def bytes_on_disk(output: Folder) -> int:
    """Of all files, each counted once whatever the number of its names."""
    found = {}
    for path in Path(output.uri).rglob("*"):
        if path.is_file():
            status = path.stat()
            found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def test_superseded_runs_and_what_crashes_left_go_and_all_else_stays(output: Folder) -> None:
    for run in ("first", "second", "third"):
        publish_batch(output, "apples", run=run)
    publish_batch(output, "plums", run="first")
    kept = files(output) - {name for name in files(output) if "apples/runs/first/" in name}
    die(output, "dead")
    die(output, "dead", "figs")
    asked = orchard("prune", output=output, answer="n\n")
    assert (asked.exit_code, runs_of(output)) == (0, ["dead", "first", "second", "third"])
    assert "Nothing was removed" in asked.stderr
    result = succeed("prune", output=output, answer="y\n")
    found = {(row["of"], row["name"]): row for row in rows(result)}
    assert found.keys() == {("apples", "first"), ("apples", "dead"), ("figs", "dead")}
    assert found["apples", "first"]["what"] == Kind.SUPERSEDED.value
    assert found["apples", "dead"]["what"] == Kind.DEAD.value
    assert found["apples", "dead"]["files"] == "3"
    assert 2000 < int(found["apples", "dead"]["bytes"]) < 4000
    assert "Remove 1 superseded run, 2 runs that died (1" in result.stderr
    assert "Removed 1 superseded run, 2 runs that died (1" in result.stderr
    assert files(output) == kept
    assert "There is nothing to remove" in succeed("prune", "--yes", output=output).stderr


def test_how_many_are_kept_and_of_which_batch_can_be_said(local: Folder) -> None:
    for batch in ("apples", "plums"):
        for run in ("a", "b", "c", "d"):
            publish_batch(local, batch, run=run)
    succeed("prune", "--keep", "2", "--batch", "apples", "--yes", output=local)
    assert (runs_of(local), runs_of(local, "plums")) == (["b", "c", "d"], ["a", "b", "c", "d"])
    succeed("prune", "--keep", "0", "--batch", "apples", "--batch", "plums", "-y", output=local)
    assert (runs_of(local), runs_of(local, "plums")) == (["d"], ["d"])
    assert "has no batch 'figs'; there are apples, plums" in refusal(
        "prune", "--batch", "figs", output=local
    )


def test_the_latest_started_are_kept_whatever_their_names(local: Folder) -> None:
    for run in ("z", "y", "x"):
        publish_batch(local, "apples", run=run)
    succeed("prune", "--yes", output=local)
    assert runs_of(local) == ["x", "y"]


def test_bytes_are_those_that_become_free(local: Folder) -> None:
    """Of a reprojected run most files have another name in the run that was made from it."""
    publish_batch(local, "apples", run="a")
    for other in ("plums", "figs"):
        publish_batch(local, other, fit=True)
        [planned] = reprojection.plan(local, ["apples"])
        reprojection.reproject(local, planned, InlineEngine())
    before = bytes_on_disk(local)
    told = rows(succeed("prune", "--keep", "0", "--yes", output=local))
    assert len(told) == 2
    freed = before - bytes_on_disk(local)
    assert sum(int(row["bytes"]) for row in told) == freed
    shared = sum(entry.bytes or 0 for entry in run_of(local, "apples").entries())
    assert freed < shared, "what stays has the larger part of it"


def test_bytes_of_files_that_only_what_goes_shares_become_free_once(local: Folder) -> None:
    publish_batch(local, "apples", run="a")
    publish_batch(local, "plums", fit=True)
    [planned] = reprojection.plan(local, ["apples"])
    reprojection.reproject(local, planned, InlineEngine())
    publish_batch(local, "apples", run="z")
    before = bytes_on_disk(local)
    told = rows(succeed("prune", "--keep", "0", "--yes", output=local))
    assert len(told) == 2
    assert sum(int(row["bytes"]) for row in told) == before - bytes_on_disk(local)


OTHER = "other-0123456789abcdef"


def test_a_run_of_which_the_current_model_is_updated_stays(output: Folder) -> None:
    """As of a batch that was run with another network since."""
    for run in ("a", "b"):
        publish_batch(output, "apples", run=run)
    publish_batch(output, "plums", run="a")
    publish_batch(output, "apples", run="c", extractor=OTHER)
    model = lineage.published_receipts(output)["plums"].model.model
    result = succeed("prune", "--keep", "0", "--yes", output=output)
    assert f"Run a of batch apples is the one of which the current model {model}" in result.stderr
    assert runs_of(output) == ["a", "c"]
    lineage.merge_published(output, EXTRACTOR, ["apples", "plums"], {"apples": "a"})


def test_where_that_run_is_gone_another_one_of_its_network_stays(output: Folder) -> None:
    publish_batch(output, "apples", run="a")
    publish_batch(output, "apples", run="b")
    succeed("prune", "--keep", "0", "--yes", output=output)
    publish_batch(output, "apples", run="c", extractor=OTHER)
    result = succeed("prune", "--keep", "0", "--yes", output=output)
    assert "Run b of batch apples is the one of which" in result.stderr
    assert runs_of(output) == ["b", "c"]
    lineage.merge_published(output, EXTRACTOR, ["apples"], {"apples": "a"})


def test_what_a_run_left_that_died_when_its_model_was_the_current_one_stays(
    output: Folder,
) -> None:
    """Its moments are in the model; its batch's next run is not there yet."""
    receipt = publish_batch(output, "apples", run="a", publish=False)
    (output / contract.run_folder("apples", "a")).delete([contract.RUN])
    result = succeed("prune", "--yes", output=output)
    assert f"Run a of batch apples is the one of which the current model {receipt.model.model}" in (
        result.stderr
    )
    assert runs_of(output) == ["a"]


def test_what_a_run_left_that_died_when_it_was_published_goes(local: Folder) -> None:
    publish_batch(local, "apples", run="a")
    (local / contract.work_folder("apples", "a")).write("features/part-00000-0.parquet", b"x")
    succeed("prune", "--yes", output=local)
    assert not [name for name in files(local) if name.startswith(contract.WORK)]
    assert runs_of(local) == ["a"]


def test_nobody_who_could_answer_is_no_yes(local: Folder) -> None:
    for run in ("a", "b"):
        publish_batch(local, "apples", run=run)
    result = orchard("prune", "--keep", "0", output=local)
    assert result.exit_code == 2
    assert "nobody answered, and nothing was done; say --yes" in result.stderr
    assert runs_of(local) == ["a", "b"]


def test_a_run_at_work_is_left_alone_whatever_it_has_written(
    output: Folder, held: list[Claim]
) -> None:
    publish_batch(output, "apples", run="published")
    living = claim(output, "living")
    held.append(living)
    living.work.write("features/part-00000-0.parquet", b"x")
    living.results.write("features/part-00000.parquet", b"x")
    before = files(output)
    result = succeed("prune", "--yes", "--keep", "0", "--models", output=output)
    assert "Run living of batch apples is at work, and is left alone" in result.stderr
    assert files(output) == before


def test_a_complete_run_that_may_still_be_published_stays(output: Folder) -> None:
    publish_batch(output, "apples", run="published")
    publish_batch(output, "apples", run="later", publish=False)
    publish_batch(output, "plums", run="only", publish=False)
    result = succeed("prune", "--yes", "--keep", "0", output=output)
    assert "Run later of batch apples is complete and may still be published" in result.stderr
    assert "Run only of batch plums is complete" in result.stderr
    assert runs_of(output) == ["later", "published"]
    assert runs_of(output, "plums") == ["only"]
    assert not [name for name in files(output) if name.startswith(contract.WORK)]


def test_without_its_published_run_nothing_of_a_batch_is_superfluous(local: Folder) -> None:
    for run in ("a", "b"):
        publish_batch(local, "apples", run=run)
    (local / contract.run_folder("apples", "b")).delete([contract.RUN])
    sentence = refusal("prune", "--yes", "--keep", "0", output=local)
    assert "the published run 'b' of batch 'apples' is not complete" in sentence
    assert runs_of(local) == ["a", "b"]


def test_a_run_whose_receipt_cannot_be_read_stays(local: Folder) -> None:
    for run in ("a", "b", "c"):
        publish_batch(local, "apples", run=run)
    (local / contract.run_folder("apples", "a")).write(contract.RUN, b"{half")
    result = succeed("prune", "--yes", "--keep", "0", "--models", output=local)
    assert "runs/a is kept: its receipt cannot be read" in result.stderr
    assert runs_of(local) == ["a", "c"]


class TestBetweenLookingAndRemoving:
    def test_a_run_that_begins_anew_under_a_dead_ones_name_is_left_alone(
        self, output: Folder, held: list[Claim]
    ) -> None:
        die(output, "again")
        [dead] = pruning.survey(output).runs
        anew = claim(output, "again")
        held.append(anew)
        anew.results.write("features/part-00000.parquet", b"anew")
        before = files(output)
        assert not pruning.remove(output, dead)
        assert files(output) == before
        anew.require()

    def test_a_run_that_settled_under_a_dead_ones_name_keeps_what_it_settled(
        self, output: Folder
    ) -> None:
        die(output, "again")
        [dead] = pruning.survey(output).runs
        publish_batch(output, "apples", run="again")
        before = files(output)
        assert pruning.remove(output, dead)
        assert files(output) == before

    def test_nobody_can_begin_with_what_is_being_removed(
        self, output: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        die(output, "again")
        [dead] = pruning.survey(output).runs
        refused = []
        clear = type(output).clear

        def race(folder: Folder) -> None:
            try:
                claim(output, "again").release()
            except OutputRefusedError as error:
                refused.append(str(error))
            clear(folder)

        monkeypatch.setattr(type(output), "clear", race)
        assert pruning.remove(output, dead)
        monkeypatch.undo()
        assert refused
        assert files(output) == set()

    def test_who_is_killed_half_way_leaves_no_run_that_looks_complete(
        self, output: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for run in ("a", "b"):
            publish_batch(output, "apples", run=run)

        def die_here(_: Folder) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(type(output), "clear", die_here)
            assert orchard("prune", "--keep", "0", "-y", output=output).exit_code == 130
        assert "a" in runs_of(output)
        assert runs.state_of(output, "apples", "a") is runs.State.UNSETTLED
        succeed("prune", "--yes", output=output)
        assert runs_of(output) == ["b"]

    def test_a_run_of_which_a_model_is_updated_by_now_stays(self, output: Folder) -> None:
        first = publish_batch(output, "apples", run="a")
        publish_batch(output, "plums", fit=True)
        publish_batch(output, "apples", run="b", extractor=OTHER)
        [superseded] = pruning.survey(output, keep=0).runs
        succeed("models", "use", first.model.model, output=output)
        before = files(output)
        assert not pruning.remove(output, superseded)
        assert files(output) == before

    def test_a_model_that_is_needed_by_now_stays(self, output: Folder) -> None:
        publish_batch(output, "apples")
        merged = lineage.merge_published(output, EXTRACTOR, ["apples"])
        rule = {"components": 1}
        model = lineage.fit_merged(output, EXTRACTOR, merged, rule=rule, standardize=True)
        [unused] = pruning.survey(output).models
        assert unused.name == model.card.model
        succeed("models", "use", unused.name, output=output)
        before = files(output)
        assert not pruning.remove(output, unused)
        assert files(output) == before


def test_models_that_nothing_names_go_where_that_is_asked_for(output: Folder) -> None:
    first = publish_batch(output, "apples", run="a").model.model
    publish_batch(output, "plums", run="a", fit=True)
    second = publish_batch(output, "apples", run="b").model.model
    built = ("models", "build", "--batches", "apples,plums")
    unused = succeed(*built, output=output).stdout.strip()
    result = succeed("prune", "--yes", "--keep", "0", output=output)
    assert "2 models that no pointer and no run names (" in result.stderr
    models = output / contract.models_folder(EXTRACTOR)
    assert set(models.folders()) == {first, second, unused}
    result = succeed("prune", "--yes", "--models", output=output)
    assert {row["name"] for row in rows(result)} == {first, unused}
    assert models.folders() == [second]
    assert first != second


def test_a_model_of_a_superseded_run_that_is_kept_stays(local: Folder) -> None:
    first = publish_batch(local, "apples", run="a").model.model
    publish_batch(local, "apples", 13, run="b", fit=True)
    succeed("prune", "--yes", "--models", output=local)
    assert first in (local / contract.models_folder(EXTRACTOR)).folders()


def test_programs_are_told_what_was_removed(local: Folder) -> None:
    for run in ("a", "b"):
        publish_batch(local, "apples", run=run)
    arguments = ("prune", "--keep", "0", "--json")
    [kept] = json.loads(succeed(*arguments, output=local, answer="n\n").stdout)
    [gone] = json.loads(succeed(*arguments, "--yes", output=local).stdout)
    assert (kept.pop("removed"), gone.pop("removed")) == (False, True)
    assert kept == gone
    assert (gone["what"], gone["of"], gone["name"]) == ("superseded run", "apples", "a")
    assert json.loads(succeed(*arguments, output=local).stdout) == []
