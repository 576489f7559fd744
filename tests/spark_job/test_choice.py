"""Models over time: reused, updated with each batch, and made by several runs at once."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyarrow import parquet

from spark_job import choice, pipeline, runs, tables
from spark_job.calibration import SampledImages, SampledRun
from spark_job.drift import FOLDS, calibrate, hold_out
from spark_job.errors import UsageError
from spark_job.models import read_model
from spark_job.moments import Moments
from spark_job.networks import load_card
from spark_job.objects import open_folder
from spark_job.pca import fit
from spark_job.pointers import ModelPointer, read_pointer
from spark_job.settings import JobSettings
from tests.spark_job.inline import InlineEngine
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from spark_job.models import StoredModel
    from spark_job.receipts import RunReceipt

pytestmark = pytest.mark.job

BATCHES = {"a": ({"Kiwi": 4}, 10), "b": ({"Plum": 5}, 20), "c": ({"Fig": 3, "Kiwi": 2}, 30)}
"""Labels and seeds of the batches that these tests run."""


class Collection:
    """Batches under one root, and jobs on them whose workers are in this process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.output = open_folder(str(root / "out"))
        self.models = self.output / f"models/{load_card().extractor}"
        for name, (labels, seed) in BATCHES.items():
            plant(root / "in" / name, labels, seed=seed)
        self._runs = 0

    def run(self, batch: str, **settings: Any) -> RunReceipt:
        self._runs += 1
        base = JobSettings(
            str(self.root / "in" / batch), self.output.uri, batch, f"r{self._runs:02d}"
        )
        return pipeline.run(replace(base, **settings))

    def current(self) -> StoredModel:
        pointer = read_pointer(self.models, ModelPointer)
        assert pointer is not None
        return read_model(self.models, pointer.model)

    def features(self, *receipts: RunReceipt) -> NDArray[np.float32]:
        found = [parquet.read_table(f"{one.results}/features")["features"] for one in receipts]
        return np.concatenate([tables.as_matrix(one) for one in found])

    def vectors(self, receipt: RunReceipt) -> NDArray[np.float32]:
        table = parquet.read_table(f"{receipt.results}/vectors")
        assert set(table["model"].to_pylist()) == {receipt.model.model}
        return tables.as_matrix(table["vector"])


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    monkeypatch.setattr(pipeline, "start_engine", lambda *_, **__: InlineEngine())
    return Collection(tmp_path)


@pytest.mark.parametrize("order", ["abc", "cab"])
def test_an_updated_model_is_that_of_all_images_at_once(collection: Collection, order: str) -> None:
    receipts = [collection.run(batch, pca="update", components=4) for batch in order]
    model = collection.current()
    together = fit(Moments.of(collection.features(*receipts)), components=4)
    for name in ("mean", "scale", "eigenvalues", "components"):
        ours, theirs = getattr(model.pca, name), getattr(together, name)
        assert np.allclose(ours, theirs, rtol=1e-9, atol=1e-9), name
    assert [one["batch"] for one in model.card.batches] == ["a", "b", "c"]
    assert model.card.n == sum(one.counts.featurized for one in receipts)
    assert model.card.parents == [receipts[1].model.model]
    pointer = read_pointer(collection.models, ModelPointer)
    assert pointer is not None
    assert (pointer.generation, model.card.generation) == (3, 3)
    assert [read_model(collection.models, one.model.model).card.generation for one in receipts] == [
        *(1, 2, 3),
    ]
    expected = model.pca.project(collection.features(receipts[-1]))
    assert np.array_equal(collection.vectors(receipts[-1]), expected)


def test_the_order_of_batches_does_not_matter_for_the_models_name(tmp_path: Path) -> None:
    names = []
    for order in ("abc", "bca"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "start_engine", lambda *_, **__: InlineEngine())
            collection = Collection(tmp_path / order)
            names.append([collection.run(one, pca="update").model.model for one in order][-1])
    assert names[0] == names[1]


def test_images_that_several_batches_have_are_counted_and_said(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    collection.run("a", pca="update")
    for number in (0, 1):
        name = f"Kiwi_00{number}.jpg"
        shutil.copy(collection.root / "in/a/Kiwi" / name, collection.root / f"in/b/Plum/{name}")
    with caplog.at_level(logging.WARNING, "orchard"):
        collection.run("b", pca="update")
    assert collection.current().card.shared == 2
    assert "2 images have the same content in several of the batches a, b" in caplog.text
    assert collection.current().card.n == 4 + 7


def test_a_batch_that_was_republished_counts_once_and_with_its_latest(
    collection: Collection,
) -> None:
    collection.run("a", pca="update")
    collection.run("b", pca="update")
    plant(collection.root / "in/a", {"Lime": 2}, seed=90)
    again = collection.run("a", pca="update")
    card = collection.current().card
    assert [(one["batch"], one["n"]) for one in card.batches] == [("a", 6), ("b", 5)]
    assert card.batches[0]["run"] == again.run


def test_an_update_with_nothing_new_changes_nothing(collection: Collection) -> None:
    collection.run("a")
    before = read_pointer(collection.models, ModelPointer)
    receipt = collection.run("a", pca="update")
    assert receipt.model.reused
    assert read_pointer(collection.models, ModelPointer) == before


def test_a_batch_under_another_name_is_another_one_in_a_model(collection: Collection) -> None:
    """Its first name may go, and is not counted beside the new one."""
    former = collection.run("a").model.model
    collection.run("b")
    (collection.output / "results/a").clear()
    (collection.root / "in/a").rename(collection.root / "in/monday")
    renamed = collection.run("monday", pca="fit").model
    assert (renamed.model != former, renamed.n) == (True, 4)
    collection.run("b", pca="update")
    card = collection.current().card
    assert [(one["batch"], one["n"]) for one in card.batches] == [("b", 5), ("monday", 4)]


def test_a_model_is_reused_by_its_name_and_stays_what_it_is(collection: Collection) -> None:
    first = collection.run("a")
    second = collection.run("b", pca="fit")
    assert collection.current().card.model == second.model.model
    third = collection.run("c", pca="reuse", model=first.model.model)
    assert (third.model.model, third.model.reused) == (first.model.model, True)
    assert collection.run("c", pca="reuse").model.model == second.model.model
    assert collection.current().card.model == second.model.model


def test_what_cannot_be_reused_is_refused_before_the_work(collection: Collection) -> None:
    with pytest.raises(UsageError, match=r"has no model of .* to reuse; say --pca auto"):
        collection.run("a", pca="reuse")
    known = collection.run("a").model.model
    with pytest.raises(UsageError, match=r"has no model 'none-such'; `orchard models list`"):
        collection.run("b", pca="reuse", model="none-such")
    with pytest.raises(UsageError, match=rf"{known} takes features of mobilenet_v2-\w+, and this"):
        collection.run("b", pca="reuse", model=known[:8], full_decode=True)
    for how in ("reuse", "update", "auto"):
        with pytest.raises(UsageError, match=r"fitted with --variance 0.8 .* asks for another"):
            collection.run("b", pca=how, components=2)
    (collection.output / "results/a").clear()
    with pytest.raises(UsageError, match=r"run 'r02' of batch 'a' was removed"):
        collection.run("b", pca="update")


def large(collection: Collection) -> None:
    """Two batches more, large enough together for a calibration."""
    plant(collection.root / "in/d", {"Kiwi": 12, "Plum": 14}, seed=300)
    plant(collection.root / "in/e", {"Fig": 12, "Kiwi": 14}, seed=400)


def test_an_updated_model_is_held_against_images_of_all_its_batches_once_each(
    collection: Collection,
) -> None:
    large(collection)
    collection.run("d", pca="update")
    collection.run("e", pca="update")
    model = collection.current()
    assert model.calibration is not None
    assert (model.calibration.covered, model.calibration.sampled) == (52, 52)
    assert model.calibration.unseen is not None
    assert model.calibration.unseen.n == 3, "labels: the kiwis of both are one"
    collection.run("d", pca="update", again=True)
    assert collection.current().calibration == model.calibration, "and it counts no batch again"
    labels, features = SampledImages(
        tuple(
            SampledRun(collection.output / f"results/{one['batch']}/runs/{one['run']}", one["n"])
            for one in model.card.batches
        )
    ).read()
    rule: dict[str, Any] = {"standardize": True, "rule": {"variance": 0.8}}
    folds = [hold_out(features, labels, fold, **rule) for fold in range(FOLDS)]
    expected = calibrate(folds)
    assert expected is not None
    assert model.calibration == replace(expected, covered=52, sampled=52)


def test_a_model_without_a_calibration_has_one_when_its_batch_was_run_again(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    """As its card's sentence says, for a model of before runs settled samples."""
    large(collection)
    plant(collection.root / "in/d", {"Lime": 20}, seed=500)
    first = collection.run("d")
    (collection.models / first.model.model).delete(["calibration.json"])
    open_folder(first.results).delete(["sample.npz"])
    with caplog.at_level(logging.WARNING, "orchard"):
        told = collection.run("a").drift
    assert told is not None
    assert told.advice is None
    assert "run them again, which computes nothing anew" in told.because
    assert "compare with no images of d, run before runs settled samples" in caplog.text
    assert collection.run("d").counts.computed == 0
    told = collection.run("a").drift
    assert told is not None
    assert told.advice is not None


def interrupt(rival: Any, monkeypatch: pytest.MonkeyPatch) -> list[RunReceipt]:
    """Let `rival` run between a run's choice of its model and its compare-and-swap, once."""
    adopt, ended = choice.adopt, list[Any]()

    def late(*given: Any) -> str | None:
        if not ended:
            ended.append(None)
            ended[0] = rival()
        return adopt(*given)

    monkeypatch.setattr(pipeline, "adopt", late)
    return ended


def test_of_two_first_runs_the_loser_takes_the_winners_model(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = interrupt(lambda: collection.run("b"), monkeypatch)
    with caplog.at_level(logging.WARNING, "orchard"):
        loser = collection.run("a")
    (winner,) = ended
    assert loser.model.model == winner.model.model == collection.current().card.model
    assert loser.model.reused
    expected = collection.current().pca.project(collection.features(loser))
    assert np.array_equal(collection.vectors(loser), expected)
    assert "another run made the current model meanwhile" in caplog.text


def test_of_two_updates_at_once_neither_is_lost(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.run("a")
    ended = interrupt(lambda: collection.run("b", pca="update"), monkeypatch)
    loser = collection.run("c", pca="update")
    card = collection.current().card
    assert [one["batch"] for one in card.batches] == ["a", "b", "c"]
    assert card.parents == [ended[0].model.model]
    assert loser.model.model == card.model
    assert loser.counts.computed == 5, "inferred once"


def test_the_winner_may_not_be_published_yet(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died between the model's pointer and its own: its moments lie in its folder."""
    collection.run("a")

    def die(*_: Any) -> None:
        raise ConnectionAbortedError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "publish", die)
        with pytest.raises(ConnectionAbortedError):
            collection.run("b", pca="update")
    assert [one["batch"] for one in collection.current().card.batches] == ["a", "b"]
    receipt = collection.run("c", pca="update")
    assert receipt.model.n == 4 + 5 + 5


def test_an_update_that_was_not_published_yet_is_not_lost_to_the_run_before(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that grew has made its model the current one, and not yet itself the published."""
    collection.run("a", pca="update")
    plant(collection.root / "in/a", {"Lime": 2}, seed=91)

    def die(*_: Any) -> None:
        raise ConnectionAbortedError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "publish", die)
        with pytest.raises(ConnectionAbortedError):
            collection.run("a", pca="update")
    assert collection.run("b", pca="update").model.n == 6 + 5


def test_a_fit_follows_nothing_and_of_two_the_later_started_stays(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = interrupt(lambda: collection.run("b", pca="fit"), monkeypatch)
    with caplog.at_level(logging.WARNING, "orchard"):
        early = collection.run("a", pca="fit")
    assert collection.current().card.model == ended[0].model.model
    assert f"the vectors are of the model {early.model.model}, and later batches" in caplog.text


def test_a_repeated_request_has_not_lost_to_itself(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a write of the pointer may be lost, and the write asked for again."""
    swap = type(collection.models).swap

    def twice(folder: Any, name: str, content: bytes, expected: str | None) -> str:
        if folder.uri == collection.models.uri:
            swap(folder, name, content, expected)
        return swap(folder, name, content, expected)

    monkeypatch.setattr(type(collection.models), "swap", twice)
    receipt = collection.run("a")
    assert not receipt.model.reused
    assert collection.current().card.model == receipt.model.model
