"""The drift card: its numbers against direct ones, its merging, its advice on made-up fruits."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spark_job import drift, pca
from spark_job.drift import (
    FINE,
    FOLDS,
    OTHERS,
    UNLIKE,
    UPDATE,
    Calibration,
    DriftCard,
    HeldOut,
    Observed,
    Spread,
    calibrate,
    hold_out,
    judge,
    losses,
    warn,
)
from spark_job.moments import Moments
from spark_job.receipts import to_json
from tests.spark_job.turning import WIDTH, Pictures, orchard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spark_job.pca import PCAModel

RULE = {"variance": 0.8}


def fitted(pictures: Pictures) -> tuple[PCAModel, Calibration | None]:
    folds = [
        hold_out(pictures.features, pictures.labels, fold, standardize=True, rule=RULE)
        for fold in range(FOLDS)
    ]
    return pca.fit(Moments.of(pictures.features), variance=0.8), calibrate(folds)


def card_of(pictures: Pictures, model: PCAModel, calibration: Calibration | None) -> DriftCard:
    return judge(observe(pictures, model), Moments.of(pictures.features), model, calibration)


def observe(pictures: Pictures, model: PCAModel) -> Observed:
    scaled = model.standardize(pictures.features)
    return Observed.of(model, pictures.labels, scaled, model.rotate(scaled))


@pytest.fixture(scope="module")
def known() -> Pictures:
    return orchard(30, 60)


@pytest.fixture(scope="module")
def model(known: Pictures) -> PCAModel:
    return fitted(known.take(np.flatnonzero(np.arange(1800) % 60 < 48)))[0]


@pytest.fixture(scope="module")
def calibration(known: Pictures) -> Calibration:
    made = fitted(known.take(np.flatnonzero(np.arange(1800) % 60 < 48)))[1]
    assert made is not None
    return made


@pytest.fixture(scope="module")
def others(known: Pictures) -> Pictures:
    """Pictures of known fruits that the model was not fitted on: a run of each."""
    return known.take(np.flatnonzero(np.arange(1800) % 60 >= 48))


class TestAdvice:
    def test_other_pictures_of_the_same_fruits_are_fine(
        self, others: Pictures, model: PCAModel, calibration: Calibration
    ) -> None:
        card = card_of(others, model, calibration)
        assert card.advice == FINE, card.because
        assert (card.n, card.small) == (360, False)

    def test_hardly_any_label_that_is_known_is_called_anything_else(
        self, others: Pictures, model: PCAModel, calibration: Calibration
    ) -> None:
        told = [one.advice for one in card_of(others, model, calibration).labels]
        assert len(told) == 30
        assert told.count(FINE) >= 29

    def test_unknown_fruits_of_the_same_collection_call_for_an_update(
        self, model: PCAModel, calibration: Calibration
    ) -> None:
        card = card_of(orchard(12, 20, first=500), model, calibration)
        assert card.advice == UPDATE, card.because

    def test_noise_is_not_what_the_model_knows(
        self, model: PCAModel, calibration: Calibration
    ) -> None:
        noise = 12 * np.random.default_rng(5).standard_normal((150, WIDTH)).astype(np.float32)
        card = card_of(Pictures(noise, ["noise"] * 150), model, calibration)
        assert card.advice == UNLIKE, card.because
        assert card.far is not None
        assert card.far > 0.8

    def test_what_is_far_away_in_a_direction_that_the_model_keeps_a_part_of_is_told(
        self, others: Pictures, model: PCAModel, calibration: Calibration
    ) -> None:
        """A model of few labels loses nearly all of anything else: only the error is left."""
        along = model.components[0] + np.random.default_rng(6).standard_normal(WIDTH) / 6
        moved = others.features + 60 * along * model.scale
        card = card_of(Pictures(moved.astype(np.float32), others.labels), model, calibration)
        assert card.error_unknown is not None
        assert card.error > card.error_unknown
        assert card.advice == UNLIKE, card.because

    def test_a_label_that_stands_out_is_named_though_the_batch_is_fine(
        self, others: Pictures, model: PCAModel, calibration: Calibration
    ) -> None:
        noise = 12 * np.random.default_rng(5).standard_normal((3, WIDTH)).astype(np.float32)
        mixed = Pictures(np.concatenate([others.features, noise]), [*others.labels, *["odd"] * 3])
        card = card_of(mixed, model, calibration)
        assert card.standing_out[0].label == "odd"
        assert "of 31 labels stand out" in card.because

    def test_a_small_batch_says_so_and_is_given_more_room(
        self, others: Pictures, model: PCAModel, calibration: Calibration
    ) -> None:
        large = card_of(others, model, calibration)
        small = card_of(others.take(np.arange(0, 360, 60)), model, calibration)
        assert small.small
        assert "(a small batch: 6 images)" in small.because
        assert large.loss_known is not None
        assert small.loss_known is not None
        assert small.loss_known > large.loss_known

    def test_a_model_without_a_calibration_gives_no_advice(
        self, others: Pictures, model: PCAModel, caplog: pytest.LogCaptureFixture
    ) -> None:
        card = card_of(others, model, None)
        assert card.advice is None
        assert (card.far, card.loss_known, card.standing_out) == (None, None, [])
        assert card.loss > 0
        warn(card)
        assert "no advice: the model has nothing to compare with" in caplog.text

    def test_only_what_is_not_fine_is_a_warning(
        self,
        others: Pictures,
        model: PCAModel,
        calibration: Calibration,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        warn(card_of(others, model, calibration))
        assert not caplog.text
        warn(card_of(orchard(12, 20, first=500), model, calibration))
        assert "drift: consider update: the model loses" in caplog.text


class TestNumbers:
    def test_loss_and_error_are_those_of_the_reconstruction(
        self, others: Pictures, model: PCAModel
    ) -> None:
        scaled = model.standardize(others.features)
        residual = scaled - scaled @ model.components.T @ model.components
        left, square = (residual**2).sum(axis=1), (scaled**2).sum(axis=1)
        odds, error = losses(model, scaled, model.rotate(scaled))
        assert np.allclose(1 / (1 + np.exp(-odds)), left / square, rtol=1e-4)
        assert np.allclose(error, left / model.eigenvalues.sum(), rtol=1e-4)

    def test_the_models_own_images_have_the_error_that_it_does_not_keep(
        self, known: Pictures
    ) -> None:
        model, _ = fitted(known)
        scaled = model.standardize(known.features)
        _, error = losses(model, scaled, model.rotate(scaled))
        n = len(error)
        assert error.mean() * n / (n - 1) == pytest.approx(1 - model.variance_kept, rel=1e-5)

    def test_a_model_that_keeps_everything_loses_next_to_nothing(self) -> None:
        features = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
        model = pca.fit(Moments.of(features), components=4)
        scaled = model.standardize(features)
        odds, error = losses(model, scaled, model.rotate(scaled))
        assert np.isfinite(odds).all()
        assert (odds < -11).all()
        assert (error > 0).all()
        zero = np.zeros((1, 4))
        assert np.isfinite(losses(model, zero, model.rotate(zero))[0]).all()

    def test_a_card_has_the_numbers_of_the_images(
        self, others: Pictures, model: PCAModel, calibration: Calibration
    ) -> None:
        card = card_of(others, model, calibration)
        scaled = model.standardize(others.features)
        odds, error = losses(model, scaled, model.rotate(scaled))
        share = 1 / (1 + np.exp(-odds))
        assert card.loss == pytest.approx(1 / (1 + np.exp(-odds.mean())), rel=1e-5)
        for q in drift.QUANTILES:
            assert card.errors[f"{q:g}"] == pytest.approx(np.quantile(error, q), rel=0.08)
            assert card.losses[f"{q:g}"] == pytest.approx(np.quantile(share, q), rel=0.08)
        assert card.far == pytest.approx((odds > calibration.far).mean(), abs=0.01)
        assert card.shift == pytest.approx(np.sqrt((scaled.mean(axis=0) ** 2).mean()), rel=1e-5)
        residual = scaled - scaled @ model.components.T @ model.components
        by_feature = np.sort((residual**2).sum(axis=0))
        assert card.concentration == pytest.approx(
            by_feature[-10:].sum() / by_feature.sum(), rel=1e-5
        )
        for one in card.labels[::7]:
            rows = np.array(others.labels) == one.label
            here = Moments.of(others.features[rows])
            assert one.n == here.n == 12
            assert one.variance_kept == pytest.approx(model.variance_kept_of(here), rel=1e-4)
            for q in drift.OF_LABEL:
                assert one.errors[f"{q:g}"] == pytest.approx(np.quantile(error[rows], q), rel=0.1)
            mean = scaled[rows].mean(axis=0)
            assert one.shift == pytest.approx(np.sqrt((mean**2).mean()), rel=1e-5)

    @pytest.mark.parametrize("degrees", [3, 10, 100])
    @pytest.mark.parametrize("z", [drift.KNOWN_Z, drift.UNSEEN_Z])
    def test_limits_are_those_of_students_t(self, z: float, degrees: int) -> None:
        spread = Spread(degrees + 1, 2.0, 0.5)
        t = stats.t.ppf(stats.norm.cdf(z), degrees)
        expected = 2 + t * math.sqrt(0.25 * (1 / 3 + 1 / (degrees + 1)) + 0.01)
        assert spread.limit(z, 3, 0.01) == pytest.approx(expected, rel=0.02)

    def test_one_number_sets_no_limit(self) -> None:
        assert Spread.of([1.0]).limit(2.0, 5) == math.inf


class TestCalibration:
    def test_each_label_is_left_out_once_and_pictures_in_runs(self, known: Pictures) -> None:
        numbers = np.arange(1800) // 60
        seen: list[NDArray[np.intp]] = []
        for fold in range(FOLDS):
            held = hold_out(known.features, known.labels, fold, standardize=True, rule=RULE)
            assert held is not None
            left_out = np.unique(held.labels)
            assert len(held.unseen) == 60 * len(left_out)
            assert (np.diff(left_out) == 1).all(), "neighbours by name are left out together"
            assert not set(held.blocks // FOLDS) & set(left_out)
            assert len(held.known) == 15 * (30 - len(left_out))
            seen.append(left_out)
        assert np.array_equal(np.sort(np.concatenate(seen)), np.unique(numbers))

    def test_frames_side_by_side_do_not_hide_that_other_pictures_lose_more(self) -> None:
        """Left out one by one, turning fruits' neighbours would say that nothing is lost."""
        pictures = orchard(10, 40)
        _, made = fitted(pictures)
        assert made is not None
        scattered = np.arange(400) % 4 == 0
        model = pca.fit(Moments.of(pictures.features[~scattered]), variance=0.8)
        scaled = model.standardize(pictures.features[scattered])
        naive = losses(model, scaled, model.rotate(scaled))[0].mean()
        assert made.typical.mean > naive

    def test_unknown_labels_lose_more_than_other_pictures(self, calibration: Calibration) -> None:
        assert calibration.unseen is not None
        assert calibration.unseen.n == 30
        assert calibration.unseen.mean > calibration.typical.mean
        assert calibration.far_share.mean == pytest.approx(0.01, abs=0.01)

    @pytest.mark.parametrize("labels", [[None] * 80, ["one"] * 80])
    def test_without_labels_runs_of_pictures_are_left_out(
        self, labels: Sequence[str | None]
    ) -> None:
        pictures = Pictures(orchard(2, 40).features, [*labels])
        _, made = fitted(pictures)
        assert made is not None
        assert made.unseen is not None
        assert made.unseen.n == 8

    @pytest.mark.parametrize("n", [1, 2, 3, 9])
    def test_too_few_images_give_none(self, n: int) -> None:
        assert fitted(orchard(2, 20).take(np.arange(0, 40, 4)[:n]))[1] is None if n > 1 else True
        assert calibrate([None] * FOLDS) is None

    def test_images_that_do_not_differ_give_none(self) -> None:
        same = np.ones((50, WIDTH), np.float32)
        for fold in range(FOLDS):
            assert hold_out(same, ["a", "b"] * 25, fold, standardize=True, rule=RULE) is None

    def test_it_comes_back_as_it_was_written(self, calibration: Calibration) -> None:
        assert Calibration.from_fields(json.loads(to_json(asdict(calibration)))) == calibration
        none = replace(calibration, unseen=None, unseen_error=None, unseen_far=None)
        assert Calibration.from_fields(json.loads(to_json(asdict(none)))) == none


class TestObserved:
    @given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.data())
    @settings(deadline=None)
    def test_parts_add_up_to_the_whole(self, labels: list[int], data: st.DataObject) -> None:
        random = np.random.default_rng(len(labels))
        features = random.standard_normal((len(labels) + 2, 5)).astype(np.float32)
        model = pca.fit(Moments.of(features), components=2)
        pictures = Pictures(features[: len(labels)], [str(label) for label in labels])
        cut = data.draw(st.integers(1, len(labels) - 1))
        rows = np.arange(len(labels))
        parts = [pictures.take(rows[:cut]), pictures.take(rows[cut:])]
        merged = reduce(Observed.merge, [observe(part, model) for part in parts])
        whole = observe(pictures, model)
        assert merged.labels == whole.labels
        for name in ("odds", "total", "error_total", "square", "kept", "sums", "errors"):
            assert np.allclose(getattr(merged, name), getattr(whole, name), atol=1e-9), name
        back = Observed.from_bytes(Observed.empty(5).merge(merged).to_bytes())
        assert back.labels == merged.labels
        assert np.array_equal(back.sums, merged.sums)

    def test_of_many_labels_the_first_by_name_are_told_whole_and_the_others_together(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drift, "MOST_LABELS", 3)
        random = np.random.default_rng(2)
        features = random.standard_normal((200, 5)).astype(np.float32)
        labels = [f"{number:02d}" for number in random.integers(0, 20, 200)]
        model = pca.fit(Moments.of(features), components=2)
        parts = [
            observe(Pictures(features[at : at + 10], [*labels[at : at + 10]]), model)
            for at in range(0, 200, 10)
        ]
        merged = reduce(Observed.merge, parts)
        assert merged.labels == ["00", "01", "02", OTHERS]
        counts = merged.odds.sum(axis=1)
        assert [*counts[:3]] == [labels.count(name) for name in ("00", "01", "02")]
        assert counts.sum() == merged.errors.sum() == 200
        assert np.array_equal(merged.errors.sum(axis=1), counts)


def test_a_card_comes_back_as_it_was_written(
    others: Pictures, model: PCAModel, calibration: Calibration
) -> None:
    for known in (calibration, None):
        card = card_of(others, model, known)
        written = to_json(asdict(card))
        assert DriftCard.from_fields(json.loads(written)) == card
    assert len(written) < 30_000
    fields = json.loads(written)
    for label in fields["labels"]:
        del label["errors"]
    assert DriftCard.from_fields(fields).labels[0].errors == {}, "of before there were such"


def test_a_fold_is_small_enough_to_travel(known: Pictures) -> None:
    held = hold_out(known.features, known.labels, 0, standardize=True, rule=RULE)
    assert isinstance(held, HeldOut)
    assert sum(one.nbytes for one in vars(held).values() if isinstance(one, np.ndarray)) < 40_000
