"""Calibrations: the same for a model by whatever way it came about, of all its batches alike."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from spark_job import calibration, contract, lineage, pca, tables
from spark_job.calibration import (
    CalibrationPass,
    FeaturesFile,
    OwnImages,
    SampledImages,
    SampledRun,
    calibrate_model,
    find_samples,
    is_calibrated,
)
from spark_job.drift import (
    FINE,
    UNLIKE,
    UPDATE,
    Calibration,
    Observed,
    hold_out,
    judge,
)
from spark_job.engines import Attempt
from spark_job.models import ModelCard, StoredModel, read_model, write_model
from spark_job.moments import Moments
from spark_job.objects import Folder, open_folder
from spark_job.samples import IMAGES, Sample, evenly
from tests.spark_job.inline import InlineEngine
from tests.spark_job.published import EXTRACTOR, publish_batch
from tests.spark_job.turning import WIDTH, Pictures, orchard

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.pca import PCAModel

FIRST = Attempt(0, lambda _: None)
RULE = {"variance": 0.8}
BATCHES = 8
KNOWN, OTHERS = orchard(60, 200), orchard(20, 30, first=500)


@pytest.fixture
def output(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "out"))


def write_features(folder: Folder, pictures: Pictures, sizes: list[int]) -> list[FeaturesFile]:
    """Files of features, as the featurizer writes them."""
    files, start = [], 0
    schema = tables.features_schema(WIDTH)
    for part, size in enumerate(sizes):
        rows = range(start, start + size)
        known = {
            "path": [f"{row:05d}.jpg" for row in rows],
            "label": pictures.labels[start : start + size],
            "features": tables.as_lists(pictures.features[start : start + size]),
        }
        columns = [known.get(field.name, pa.nulls(size, field.type)) for field in schema]
        name = f"features/{tables.part_name(part)}"
        tables.write_table(folder, name, schema, columns, {})
        files.append(FeaturesFile(folder, name, size))
        start += size
    return files


def settle_sample(folder: Folder, pictures: Pictures, paths: list[str]) -> SampledRun:
    """The sample that a run of these pictures settles."""
    rows = evenly(len(pictures), IMAGES)
    some = pictures.take(rows)
    sample = Sample.of([paths[row] for row in rows], some.labels, some.features)
    folder.write(contract.SAMPLE_FILE, sample.to_bytes())
    return SampledRun(folder, len(pictures))


def store(output: Folder, pictures: Pictures, name: str) -> StoredModel:
    """A model of pictures, of no matter which batches."""
    model = pca.fit(Moments.of(pictures.features), variance=0.8)
    card = ModelCard(
        model=name,
        extractor=EXTRACTOR,
        images="0",
        rule=RULE,
        standardize=True,
        features=WIDTH,
        k=model.k,
        n=len(pictures),
        variance_kept=model.variance_kept,
        batches=[],
        parents=[],
    )
    return write_model(output, StoredModel(model, card))


class TestImages:
    @pytest.mark.parametrize("most", [40, 1000])
    def test_the_same_are_chosen_however_they_lie_in_parts(
        self, output: Folder, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        monkeypatch.setattr(calibration, "SAMPLE", most)
        pictures = orchard(3, 30)
        found = []
        for name, sizes in (("one", [90]), ("three", [50, 1, 39])):
            images = OwnImages.of(write_features(output / name, pictures, sizes))
            assert (images.covered, images.sampled) == (90, min(most, 90))
            do = CalibrationPass(images, standardize=True, rule=RULE)
            held = pickle.loads(pickle.dumps(do))(1, FIRST)
            assert held is not None
            found.append(held)
        assert np.array_equal(found[0].known, found[1].known)
        if most > 90:
            direct = hold_out(pictures.features, pictures.labels, 1, standardize=True, rule=RULE)
            assert direct is not None
            assert np.array_equal(direct.known, found[0].known)

    def test_of_many_files_some_are_read(self, output: Folder) -> None:
        files = [FeaturesFile(output, f"{number}", 10) for number in range(100)]
        images = OwnImages.of(files)
        assert len(images.files) == calibration.SAMPLE_FILES
        assert (images.covered, images.sampled) == (1000, 320)

    def test_batches_are_there_in_proportion_and_a_label_of_several_is_one(
        self, output: Folder
    ) -> None:
        pictures = orchard(4, 600)
        halves = [pictures.take(np.arange(start, 2400, 2)) for start in (0, 1)]
        small = pictures.take(np.arange(0, 2400, 10))
        runs = [
            settle_sample(output / f"{number}", one, [f"{row:05d}" for row in range(len(one))])
            for number, one in enumerate([*halves, small])
        ]
        images = SampledImages(tuple(runs))
        most = int(IMAGES * 2640 / 1200)
        assert (images.covered, images.sampled) == (2640, most)
        labels, features = images.read()
        assert features.shape == (most, WIDTH)
        assert {*labels} == {*pictures.labels}
        large = SampledImages((replace(runs[0], n=12_000), runs[1], runs[2]))
        assert len(large.read()[0]) == large.sampled == int(IMAGES * 13_440 / 12_000)

    def test_a_sample_that_is_gone_or_damaged_is_left_out_and_said(
        self, output: Folder, caplog: pytest.LogCaptureFixture
    ) -> None:
        pictures = orchard(2, 40)
        names = [f"{row:05d}" for row in range(80)]
        runs = [settle_sample(output / name, pictures, names) for name in ("a", "b", "c")]
        (output / "a").delete([contract.SAMPLE_FILE])
        (output / "b").write(contract.SAMPLE_FILE, b"PK\x03\x04")
        assert len(SampledImages(tuple(runs)).read()[0]) == 80
        assert caplog.text.count("is left out") == 2
        do = CalibrationPass(SampledImages(tuple(runs[:2])), standardize=True, rule=RULE)
        assert do(0, FIRST) is None


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredModel]:
    output = open_folder(str(tmp_path_factory.mktemp("limits")))
    train = np.arange(len(KNOWN)) % 200 < 160
    pictures = KNOWN.take(np.flatnonzero(train))
    names = [f"{row:05d}" for row in range(len(pictures))]
    own = OwnImages.of(write_features(output / "all", pictures, [768] * 12 + [384]))
    found = {"fit": calibrate_model(InlineEngine(), output, store(output, pictures, "a"), own)}
    for name, rows in (
        ("frames dealt out", [np.arange(len(pictures))[n::BATCHES] for n in range(BATCHES)]),
        ("labels dealt out", np.array_split(np.arange(len(pictures)), BATCHES)),
    ):
        samples = SampledImages(
            tuple(
                settle_sample(
                    output / f"{name}/{number}", pictures.take(one), [names[n] for n in one]
                )
                for number, one in enumerate(rows)
            )
        )
        assert samples.sampled == own.sampled == calibration.SAMPLE
        model = store(output, pictures, name.partition(" ")[0])
        found[name] = calibrate_model(InlineEngine(), output, model, samples)
    return found


class TestLimits:
    """A model of all pictures: by one fit, or by updates with eight batches of them."""

    @pytest.mark.parametrize("how", ["frames dealt out", "labels dealt out"])
    def test_they_are_about_the_same(self, both: dict[str, StoredModel], how: str) -> None:
        ours, theirs = both[how].calibration, both["fit"].calibration
        assert ours is not None
        assert theirs is not None
        assert ours.typical.mean == pytest.approx(theirs.typical.mean, abs=0.05)
        assert ours.typical.n == pytest.approx(theirs.typical.n, abs=2), "batches are no blocks"
        assert ours.far == pytest.approx(theirs.far, abs=0.1)
        assert ours.unseen is not None
        assert theirs.unseen is not None
        assert ours.unseen.n == theirs.unseen.n == 60
        assert ours.unseen.mean == pytest.approx(theirs.unseen.mean, abs=0.05)
        assert ours.error == pytest.approx(theirs.error, rel=0.1)

    @pytest.mark.parametrize("how", ["fit", "frames dealt out", "labels dealt out"])
    def test_so_is_the_advice(self, both: dict[str, StoredModel], how: str) -> None:
        held = np.flatnonzero(np.arange(len(KNOWN)) % 200 >= 160)
        noise = 12 * np.random.default_rng(5).standard_normal((150, WIDTH)).astype(np.float32)
        for pictures, advice in (
            (KNOWN.take(held), FINE),
            (OTHERS, UPDATE),
            (Pictures(noise, ["noise"] * 150), UNLIKE),
        ):
            assert advised(both[how].pca, pictures, both[how].calibration) == advice


class TestCalibrating:
    def test_what_says_more_replaces_what_says_less_and_nothing_is_done_twice(
        self, output: Folder
    ) -> None:
        pictures = orchard(6, 20)
        model = store(output, pictures, "m")
        halves = [np.arange(60), np.arange(60, 120)]
        runs = [
            settle_sample(output / f"{number}", pictures.take(rows), [f"{n:05d}" for n in rows])
            for number, rows in enumerate(halves)
        ]
        rounds: list[str] = []
        engine = InlineEngine(lambda description, _: rounds.append(description))
        half = calibrate_model(engine, output, model, SampledImages(tuple(runs[:1]), ("b",)))
        assert half.calibration is not None
        assert (half.calibration.covered, half.calibration.sampled) == (60, 60)
        assert not is_calibrated(half)
        whole = calibrate_model(engine, output, model, SampledImages(tuple(runs)))
        assert whole.calibration is not None
        assert (whole.calibration.covered, whole.calibration.sampled) == (120, 120)
        assert is_calibrated(whole)
        assert read_model(output / contract.models_folder(EXTRACTOR), "m").calibration == (
            whole.calibration
        )
        for samples in (SampledImages(tuple(runs[:1]), ("b",)), SampledImages(tuple(runs))):
            again = calibrate_model(engine, output, model, samples)
            assert again.calibration == whole.calibration
        assert rounds == ["calibration"] * 2

    def test_too_few_images_give_none(self, output: Folder) -> None:
        pictures = orchard(3, 10)
        run = settle_sample(output / "a", pictures, [f"{row:05d}" for row in range(30)])
        model = calibrate_model(
            InlineEngine(), output, store(output, pictures, "m"), SampledImages((run,))
        )
        assert model.calibration is None

    def test_batches_without_a_sample_are_said(
        self, output: Folder, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = store(output, orchard(2, 10), "m")
        calibrate_model(InlineEngine(), output, model, SampledImages((), ("apples", "plums")))
        assert "compare with no images of apples, plums, run before runs settled" in caplog.text
        assert "run each again, which computes nothing anew" in caplog.text


class TestFinding:
    def test_each_batch_has_the_sample_of_the_run_that_is_named(self, output: Folder) -> None:
        batches, card = self.published(output)
        found = find_samples(output, card, batches)
        assert (found.missing, found.covered) == ((), 50)
        assert [run.folder.uri.rpartition("/")[2] for run in found.runs] == [
            one["run"] for one in batches
        ]

    def test_a_run_at_work_is_one_of_them_where_it_has_as_many_images(self, output: Folder) -> None:
        batches, card = self.published(output)
        work = output / "work/kiwis/now"
        found = find_samples(output, card, batches, {"kiwis": SampledRun(work, 30)})
        assert [run.folder == work for run in found.runs] == [False, True]
        grown = find_samples(output, card, batches, {"kiwis": SampledRun(work, 31)})
        assert work not in [run.folder for run in grown.runs]

    def test_of_a_run_before_there_were_samples_a_later_one_stands_for_it(
        self, output: Folder
    ) -> None:
        batches, card = self.published(output)
        for one in batches:
            folder = output / contract.run_folder(one["batch"], one["run"])
            folder.delete([contract.SAMPLE_FILE])
        assert find_samples(output, card, batches) == SampledImages((), ("apples", "kiwis"))
        publish_batch(output, "apples", 20, run="again")
        publish_batch(output, "kiwis", 31, run="grown")
        found = find_samples(output, card, batches)
        assert found.missing == ("kiwis",)
        assert [run.folder.uri.rpartition("/")[2] for run in found.runs] == ["again"]

    def published(self, output: Folder) -> tuple[list[dict[str, Any]], ModelCard]:
        for batch, n in (("apples", 20), ("kiwis", 30)):
            publish_batch(output, batch, n)
        merged = lineage.merge_published(output, EXTRACTOR, ["apples", "kiwis"])
        model = lineage.fit_merged(output, EXTRACTOR, merged, rule=RULE, standardize=True)
        return merged.batches, model.card


def advised(model: PCAModel, pictures: Pictures, known: Calibration | None) -> str | None:
    scaled = model.standardize(pictures.features)
    observed = Observed.of(model, pictures.labels, scaled, model.rotate(scaled))
    return judge(observed, Moments.of(pictures.features), model, known).advice
