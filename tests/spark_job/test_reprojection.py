"""Vectors of stored features in another model's space: complete and published, or not at all."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from spark_job import contract, lineage, reprojection, runs, tables
from spark_job.errors import JobError, OutputRefusedError, UsageError
from spark_job.models import read_model
from spark_job.objects import Folder, open_folder
from tests.spark_job.inline import InlineEngine
from tests.spark_job.published import EXTRACTOR, features_of, publish_batch

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.receipts import RunReceipt


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "out"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "out"))


def two_spaces(output: Folder) -> tuple[RunReceipt, str]:
    """A batch with vectors of an older model than the current one, and the current one."""
    old = publish_batch(output, "apples")
    new = publish_batch(output, "plums", 20, fit=True)
    assert old.model.model != new.model.model
    return old, new.model.model


def reproject(output: Folder, batch: str = "apples", engine: Any = None) -> RunReceipt:
    [planned] = reprojection.plan(output, [batch])
    return reprojection.reproject(output, planned, engine or InlineEngine())


def run_folder(output: Folder, receipt: RunReceipt) -> Folder:
    return output / contract.run_folder(receipt.batch, receipt.run)


def files(folder: Folder) -> dict[str, bytes]:
    return {entry.name: folder.read(entry.name) for entry in folder.entries()}


def vectors(folder: Folder) -> pa.Table:
    names = (folder / contract.VECTORS).files()
    return pa.concat_tables(tables.read_table(folder, f"vectors/{name}") for name in names)


def test_the_new_run_has_the_old_ones_features_and_vectors_of_the_other_model(
    output: Folder,
) -> None:
    old, model = two_spaces(output)
    run_folder(output, old).write(contract.CORRECTIONS_FILE, b"path,action,label\n")
    before = files(run_folder(output, old))
    receipt = reproject(output)
    pointer = runs.read_published(output, "apples")
    assert pointer is not None
    assert (pointer.run, pointer.images) == (receipt.run, old.images)
    assert lineage.published_receipts(output)["apples"] == receipt
    assert files(run_folder(output, old)) == before, "a settled run is never modified"
    after = files(run_folder(output, receipt))
    assert after.keys() == before.keys()
    same = {name for name in after if after[name] == before[name]}
    assert {name.partition("/")[0] for name in same} == {
        *("features", "rejects", "moments.npz", "sample.npz", "parts.parquet"),
        "corrections.csv",
    }
    stored = read_model(output / contract.models_folder(EXTRACTOR), model)
    found = vectors(run_folder(output, receipt))
    assert set(found["model"].to_pylist()) == {model}
    expected = stored.pca.project(features_of("apples", 12))
    assert np.array_equal(tables.as_matrix(found["vector"]), expected)
    assert not list((output / contract.WORK).entries())


def test_the_receipt_says_what_was_done(output: Folder) -> None:
    old, model = two_spaces(output)
    receipt = reproject(output)
    assert receipt.counts == replace(old.counts, computed=0, carried_over=12)
    assert receipt.digests == old.digests
    assert (receipt.model.model, receipt.model.reused, receipt.model.n) == (model, True, 20)
    assert receipt.model.variance_kept_here is not None
    assert receipt.settings["reprojected_from"] == old.run
    assert (receipt.engine.name, receipt.network, receipt.dollars) == ("processes", "toy", None)
    content = run_folder(output, receipt).read(contract.RECEIPT_TABLE)
    [row] = parquet.read_table(io.BytesIO(content)).to_pylist()
    assert (row["run"], row["model"], row["carried_over"]) == (receipt.run, model, 12)
    shares = run_folder(output, receipt).read(contract.VARIANCE_FILE)
    plums = lineage.published_receipts(output)["plums"]
    assert shares == run_folder(output, plums).read(contract.VARIANCE_FILE)
    assert reprojection.plan(output, ["apples"])[0].is_done


def test_a_model_that_has_no_calibration_gets_one_of_its_batches_samples(output: Folder) -> None:
    publish_batch(output, "apples", 50)
    publish_batch(output, "plums", 50, fit=True)
    planned = reprojection.plan(output, ["apples"])[0]
    assert planned.model.calibration is None
    receipt = reprojection.reproject(output, planned, InlineEngine())
    assert receipt.drift is not None
    assert receipt.drift.advice is not None
    stored = read_model(output / contract.models_folder(EXTRACTOR), receipt.model.model)
    assert stored.calibration is not None
    assert stored.calibration.covered == 50


def test_a_csv_is_written_where_there_was_one(local: Folder) -> None:
    old, model = two_spaces(local)
    run_folder(local, old).write(contract.VECTORS_FILE, b"of the old model")
    receipt = reproject(local)
    lines = run_folder(local, receipt).read(contract.VECTORS_FILE).decode().splitlines()
    assert len(lines) == 13
    k = read_model(local / contract.models_folder(EXTRACTOR), model).card.k
    assert lines[0].count("v") == k


def test_moments_of_a_reprojected_run_are_merged_as_before(local: Folder) -> None:
    two_spaces(local)
    before = lineage.merge_published(local, EXTRACTOR, ["apples", "plums"])
    receipt = reproject(local)
    after = lineage.merge_published(local, EXTRACTOR, ["apples", "plums"])
    assert np.array_equal(after.moments.scatter, before.moments.scatter)
    assert after.images == before.images
    assert after.batches[0] == {"batch": "apples", "run": receipt.run, "n": 12}


class TestRivals:
    def test_a_run_at_work_that_started_before_is_waited_for(self, output: Folder) -> None:
        """It may have newer images, and its publication would lose to ours."""
        old, _ = two_spaces(output)
        rival = runs.claim_run(output, "apples", "rival", old.images, EXTRACTOR)
        before = {entry.name for entry in output.entries()}
        try:
            with pytest.raises(OutputRefusedError, match=r"run 'rival' of batch 'apples' is at wo"):
                reproject(output)
            assert {entry.name for entry in output.entries()} == before
        finally:
            rival.release()
        reproject(output)

    def test_a_run_that_starts_later_wins(self, output: Folder) -> None:
        """Also where it ends first."""
        two_spaces(output)

        def rival(description: str, _: Any) -> None:
            if description == "vectors":
                publish_batch(output, "apples", 15, run="rival")

        [planned] = reprojection.plan(output, ["apples"])
        with pytest.raises(JobError, match="another run of batch 'apples' was published meanwhile"):
            reprojection.reproject(output, planned, InlineEngine(rival))
        pointer = runs.read_published(output, "apples")
        assert pointer is not None
        assert pointer.run == "rival"
        runs_left = (output / contract.results_folder("apples") / contract.RUNS).folders()
        assert sorted(runs_left) == sorted({planned.source.run, "rival"})
        assert not list((output / contract.WORK).entries())

    def test_a_run_that_starts_and_is_still_at_work_wins_when_it_ends(self, output: Folder) -> None:
        old, _ = two_spaces(output)
        begun = []

        def rival(description: str, _: Any) -> None:
            if description == "vectors":
                begun.append(runs.claim_run(output, "apples", "rival", old.images, EXTRACTOR))

        receipt = reproject(output, engine=InlineEngine(rival))
        begun[0].release()
        assert lineage.published_receipts(output)["apples"].run == receipt.run
        assert publish_batch(output, "apples", 15, run="rival").started > receipt.started
        assert lineage.published_receipts(output)["apples"].run == "rival"

    def test_of_two_at_once_the_first_goes_on(self, output: Folder) -> None:
        two_spaces(output)
        [planned] = reprojection.plan(output, ["apples"])

        def second(description: str, _: Any) -> None:
            if description == "vectors":
                with pytest.raises(OutputRefusedError, match="is at work"):
                    reprojection.reproject(output, planned, InlineEngine())

        receipt = reprojection.reproject(output, planned, InlineEngine(second))
        assert lineage.published_receipts(output)["apples"] == receipt
        assert len((output / contract.results_folder("apples") / contract.RUNS).folders()) == 2


class TestRefusals:
    def test_a_batch_of_another_extractor_and_one_without_a_model(self, local: Folder) -> None:
        _, toy = two_spaces(local)
        figs = publish_batch(local, "figs", extractor="other-0123456789abcdef")
        with pytest.raises(UsageError, match=r"takes features of toy-.* batch 'figs' are of other"):
            reprojection.plan(local, ["figs"], toy)
        assert [one.is_done for one in reprojection.plan(local, ["figs"])] == [True]
        (local / contract.models_folder(figs.extractor)).delete([contract.CURRENT])
        with pytest.raises(UsageError, match=r"no current model for .* 'figs' .*; say --model, or"):
            reprojection.plan(local, ["figs"])
        with pytest.raises(UsageError, match="batch 'apples' is named 2 times"):
            reprojection.plan(local, ["apples", "apples"])

    @pytest.mark.parametrize("name", ["features/part-00000.parquet", "moments.npz"])
    def test_a_run_that_lost_files_is_told_and_left_as_it_is(
        self, local: Folder, name: str
    ) -> None:
        old, _ = two_spaces(local)
        run_folder(local, old).delete([name])
        with pytest.raises(JobError, match=r"are not those that its|is missing or damaged"):
            reproject(local)
        assert (local / contract.results_folder("apples") / contract.RUNS).folders() == [old.run]
        assert lineage.published_receipts(local)["apples"] == old
