"""The store of models: named by what determines them, never modified, refused where they differ."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spark_job import pca
from spark_job.choice import choose, find_current
from spark_job.drift import FOLDS, Calibration, calibrate, hold_out
from spark_job.errors import UsageError
from spark_job.lineage import BatchMoments
from spark_job.models import (
    ModelCard,
    StoredModel,
    find_model,
    model_id,
    read_model,
    require_extractor,
    write_model,
)
from spark_job.moments import Moments
from spark_job.networks import load_card
from spark_job.objects import Folder, open_folder
from spark_job.receipts import to_json
from spark_job.settings import JobSettings

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.networks import Card

SETTINGS = JobSettings("images", "out", "b", "r")
WIDTH = 5
IMAGES = "1" * 64


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "out"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


@pytest.fixture(scope="module")
def card() -> Card:
    """The default network's, of so few features that a fit takes no time."""
    return replace(load_card(), features=WIDTH)


def moments(seed: int = 1) -> Moments:
    return Moments.of(np.random.default_rng(seed).standard_normal((12, WIDTH)))


def fit_model(
    settings: JobSettings,
    output: Folder,
    moments: Moments,
    card: Card,
    images: str,
    calibration: Calibration | None = None,
) -> StoredModel:
    """A new model of one batch, which no pointer points at."""
    own = BatchMoments(settings.batch, settings.run, card.extractor, images, moments)

    def calibrate(model: StoredModel, batches: list[dict[str, Any]]) -> StoredModel:
        assert batches == [{"batch": settings.batch, "run": settings.run, "n": moments.n}]
        return write_model(output, replace(model, calibration=calibration))

    return choose(replace(settings, pca="fit"), output, card, own, calibrate).model


def point_at(output: Folder, card: Card, content: dict[str, Any]) -> None:
    folder = output / "models" / card.extractor
    whole = {"contract": 1, "batch": "b", "run": "r", "started": "2026-11-20", "generation": 1}
    folder.write("current.json", json.dumps(whole | content).encode())


def test_a_models_id_depends_on_all_that_determines_it() -> None:
    base = {"extractor": "e", "images": "i", "rule": {"variance": 0.8}, "standardize": True}
    others: list[dict[str, Any]] = [
        base,
        base | {"extractor": "f"},
        base | {"images": "j"},
        base | {"rule": {"variance": 0.81}},
        base | {"rule": {"components": 1}},
        base | {"standardize": False},
    ]
    assert len({model_id(other) for other in others}) == len(others)
    assert model_id(dict(reversed(base.items()))) == model_id(base)


def test_the_same_fit_twice_is_one_model_and_any_other_is_another(
    output: Folder, card: Card
) -> None:
    first = fit_model(SETTINGS, output, moments(), card, IMAGES)
    again = fit_model(replace(SETTINGS, run="s"), output, moments(), card, IMAGES)
    assert again.card == first.card, "the card of the first stays, its run included"
    said = replace(SETTINGS, variance=0.80, standardize=True)
    assert fit_model(said, output, moments(), card, IMAGES).card.model == first.card.model
    others = {
        fit_model(replace(SETTINGS, variance=0.5), output, moments(), card, IMAGES).card.model,
        fit_model(replace(SETTINGS, components=2), output, moments(), card, IMAGES).card.model,
        fit_model(replace(SETTINGS, standardize=False), output, moments(), card, IMAGES).card.model,
        fit_model(SETTINGS, output, moments(), card, "2" * 64).card.model,
        fit_model(replace(SETTINGS, batch="c"), output, moments(), card, IMAGES).card.model,
        first.card.model,
    }
    assert len(others) == 6
    assert (output / "models" / card.extractor).folders() == sorted(others)


def test_a_stored_model_says_what_it_is(output: Folder, card: Card) -> None:
    settings = replace(SETTINGS, components=2, standardize=False)
    stored = fit_model(settings, output, moments(), card, IMAGES)
    assert stored.card == ModelCard(
        model=stored.card.model,
        extractor=card.extractor,
        images=IMAGES,
        rule={"components": 2},
        standardize=False,
        features=WIDTH,
        k=2,
        n=12,
        variance_kept=stored.pca.variance_kept,
        batches=[{"batch": "b", "run": "r", "n": 12}],
        parents=[],
        generation=1,
    )
    folder = output / "models" / card.extractor / stored.card.model
    assert folder.files() == ["model.json", "model.npz"]
    assert json.loads(folder.read("model.json"))["contract"] == 1
    read = read_model(output / "models" / card.extractor, stored.card.model)
    assert read.card == stored.card
    expected = pca.fit(moments(), components=2, standardize=False)
    for name in ("mean", "scale", "components", "eigenvalues"):
        assert np.array_equal(getattr(read.pca, name), getattr(expected, name))


def test_a_stored_model_is_never_modified(output: Folder, card: Card) -> None:
    first = fit_model(SETTINGS, output, moments(), card, IMAGES)
    other = StoredModel(pca.fit(moments(2), components=2), replace(first.card, k=2, n=99))
    assert write_model(output, other).card == first.card
    stored = read_model(output / "models" / card.extractor, first.card.model)
    assert stored.card == first.card
    assert np.array_equal(stored.pca.mean, first.pca.mean)


def test_a_model_whose_writer_died_half_way_is_completed(output: Folder, card: Card) -> None:
    first = fit_model(SETTINGS, output, moments(), card, IMAGES)
    folder = output / "models" / card.extractor / first.card.model
    folder.delete(["model.json"])
    again = fit_model(replace(SETTINGS, run="s"), output, moments(), card, IMAGES)
    assert again.card.batches == [{"batch": "b", "run": "s", "n": 12}]


def test_there_is_no_current_model_before_one_is_pointed_at(output: Folder, card: Card) -> None:
    assert find_current(SETTINGS, output, card).model is None
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES)
    assert find_current(SETTINGS, output, card).model is None
    point_at(output, card, {"model": stored.card.model})
    found = find_current(SETTINGS, output, card).model
    assert found is not None
    assert found.card == stored.card
    assert np.array_equal(found.pca.components, stored.pca.components)
    assert find_current(replace(SETTINGS, pca="fit"), output, card).model is None


def test_models_of_other_networks_are_named_where_a_new_one_is_fitted(
    output: Folder, card: Card, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "orchard")
    assert find_current(SETTINGS, output, card).model is None
    assert caplog.messages == []
    other = replace(load_card(), features=WIDTH, name="other")
    (output / "models" / "resnet50-0123").write("current.json", b"{}")
    assert find_current(SETTINGS, output, other).model is None
    [message] = caplog.messages
    assert "otherwise (resnet50-0123), and do not compare" in message


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"variance": 0.5}, "--variance 0.5 asks for another"),
        ({"components": 2}, "--components 2 asks for another"),
        ({"standardize": False}, "--standardize false asks for another"),
        ({"variance": 0.8, "standardize": False}, "--variance 0.8 --standardize false asks"),
    ],
)
def test_a_model_that_was_fitted_otherwise_is_not_reused(
    output: Folder, card: Card, asked: dict[str, Any], sentence: str
) -> None:
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES)
    point_at(output, card, {"model": stored.card.model})
    told = rf"{stored.card.model} was fitted with --variance 0\.8 --standardize true \(k="
    with pytest.raises(UsageError, match=rf"{told}.*{sentence}"):
        find_current(replace(SETTINGS, **asked), output, card)


@pytest.mark.parametrize("asked", [{}, {"variance": 0.8}, {"standardize": True}])
def test_a_model_is_reused_where_the_arguments_say_what_it_is_or_nothing(
    output: Folder, card: Card, asked: dict[str, Any]
) -> None:
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES)
    point_at(output, card, {"model": stored.card.model})
    found = find_current(replace(SETTINGS, **asked), output, card).model
    assert found is not None
    assert found.card == stored.card


def test_features_of_another_network_are_refused(output: Folder, card: Card) -> None:
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES)
    require_extractor(stored.card, card)
    for other in (replace(stored.card, extractor="other"), replace(stored.card, features=6)):
        with pytest.raises(UsageError, match=r"takes \d features of .*; use --pca fit"):
            require_extractor(other, card)
    # A model that somebody copied into the wrong folder.
    folder = output / "models" / card.extractor / "copied"
    folder.write("model.npz", stored.pca.to_bytes())
    fields = json.loads((output / "models" / card.extractor / stored.card.model).read("model.json"))
    folder.write("model.json", json.dumps(fields | {"extractor": "other-0123"}).encode())
    point_at(output, card, {"model": "copied"})
    with pytest.raises(UsageError, match="features of other-0123, and this job's are 5 of"):
        find_current(SETTINGS, output, card)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"contract": 1}', b'{"contract": 1, "model": "none"}', b"\xff"],
)
def test_a_damaged_pointer_is_told(output: Folder, card: Card, content: bytes) -> None:
    (output / "models" / card.extractor).write("current.json", content)
    with pytest.raises(UsageError, match=r"(is damaged .*|cannot read the current model.*)restore"):
        find_current(SETTINGS, output, card)


@pytest.mark.parametrize("found", [2, None])
def test_a_pointer_of_another_contract_is_refused(
    output: Folder, card: Card, found: int | None
) -> None:
    point_at(output, card, {"contract": found, "model": "m"})
    with pytest.raises(UsageError, match=r"is of (contract 2|an earlier layout), and this Orchard"):
        find_current(SETTINGS, output, card)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.npz", b""),
        ("model.npz", b"PK\x03\x04 and no more"),
        ("model.npz", b"nothing of the kind"),
        ("model.npz", None),
        ("model.npz", "half"),
        ("model.json", b"{"),
        ("model.json", b"[]"),
        ("model.json", b"7"),
        ("model.json", b'{"model": "m"}'),
        ("model.json", None),
    ],
)
def test_a_damaged_model_is_told(
    output: Folder, card: Card, name: str, content: bytes | str | None
) -> None:
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES)
    point_at(output, card, {"model": stored.card.model})
    folder = output / "models" / card.extractor / stored.card.model
    whole = folder.read(name)
    folder.delete([name])
    if content == "half":
        folder.write(name, whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        folder.write(name, content)
    with pytest.raises(UsageError, match=r"cannot read the current model in .*--pca fit for a"):
        find_current(SETTINGS, output, card)
    assert find_current(replace(SETTINGS, pca="fit"), output, card).model is None
    mended = fit_model(SETTINGS, output, moments(), card, IMAGES)
    assert mended.card == stored.card
    assert np.array_equal(mended.pca.components, stored.pca.components)
    assert find_current(SETTINGS, output, card).model is not None


def test_a_model_is_found_by_its_first_digits_among_those_of_a_network(
    output: Folder, card: Card
) -> None:
    model = fit_model(SETTINGS, output, moments(), card, IMAGES).card.model
    twin = f"models/other-0123/{model[:6]}ffffffffff"
    (output / twin).write("model.json", b"{}")
    assert find_model(output, model) == (card.extractor, model)
    with pytest.raises(UsageError, match=r"may be any of 2 models .*; write more of its id"):
        find_model(output, model[:6])
    assert find_model(output, model[:6], card.name) == (card.extractor, model)
    with pytest.raises(UsageError, match=rf"no model '{model}' of the network other; `orchard mo"):
        find_model(output, model, "other")


def test_where_images_vary_in_fewer_directions_than_asked_a_warning_says_so(
    output: Folder, card: Card, caplog: pytest.LogCaptureFixture
) -> None:
    few = Moments.of(np.random.default_rng(1).standard_normal((3, WIDTH)))
    stored = fit_model(replace(SETTINGS, components=4), output, few, card, IMAGES)
    assert stored.card.k == 2
    assert "4 components were asked for, but 3 images vary in no more than 2" in caplog.text


def calibration(seed: int = 1, covered: int = 12, sampled: int = 12) -> Calibration:
    features = np.random.default_rng(seed).standard_normal((60, WIDTH))
    rule = {"variance": 0.8}
    labels = [f"{row // 10}" for row in range(60)]
    made = calibrate(
        hold_out(features, labels, fold, standardize=True, rule=rule) for fold in range(FOLDS)
    )
    assert made is not None
    return replace(made, covered=covered, sampled=sampled)


def test_a_calibration_is_stored_beside_its_model(output: Folder, card: Card) -> None:
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES, calibration())
    assert stored.calibration == calibration()
    other = fit_model(SETTINGS, output, moments(), card, IMAGES, calibration(2))
    assert other.calibration == calibration(), "what is stored stays as it is"
    point_at(output, card, {"model": stored.card.model})
    current = find_current(SETTINGS, output, card).model
    assert current is not None
    assert current.calibration == calibration()


def test_a_model_that_was_stored_without_a_calibration_gets_one(output: Folder, card: Card) -> None:
    older = fit_model(SETTINGS, output, moments(), card, IMAGES)
    assert older.calibration is None
    newer = fit_model(SETTINGS, output, moments(), card, IMAGES, calibration())
    assert newer.calibration == calibration()
    assert newer.card == older.card


def test_of_two_calibrations_the_one_that_says_more_stays_whichever_comes_first(
    output: Folder, card: Card
) -> None:
    """Of more of the model's images; or else the one that rests on more of them."""
    said = [calibration(1, 5, 5), calibration(2, 12, 8), calibration(3, 12, 9)]
    for order in (said, said[::-1]):
        (output / "models").clear()
        for one in order:
            stored = fit_model(SETTINGS, output, moments(), card, IMAGES, one)
        assert stored.calibration == said[2]


def test_a_calibration_of_an_older_orchard_is_believed_of_one_batch_alone(
    output: Folder, card: Card
) -> None:
    """Of several it was an average, far too loose."""
    models = output / "models" / card.extractor
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES)
    fields = asdict(calibration())
    del fields["covered"], fields["sampled"]
    (models / stored.card.model).write("calibration.json", to_json(fields))
    known = calibration(sampled=calibration().images)
    assert read_model(models, stored.card.model).calibration == known
    several = replace(stored.card, model="several", batches=stored.card.batches * 2)
    write_model(output, StoredModel(stored.pca, several))
    (models / "several").write("calibration.json", to_json(fields))
    assert read_model(models, "several").calibration is None
    better = write_model(output, StoredModel(stored.pca, several, calibration(2)))
    assert better.calibration == calibration(2)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"images": 3}', b"\xff"])
def test_without_a_calibration_that_can_be_read_a_model_is_reused_all_the_same(
    output: Folder, card: Card, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stored = fit_model(SETTINGS, output, moments(), card, IMAGES, calibration())
    models = output / "models" / card.extractor
    (models / stored.card.model).write("calibration.json", content)
    found = read_model(models, stored.card.model)
    assert found.calibration is None
    assert found.card == stored.card
    assert "calibration.json in" in caplog.text
    mended = fit_model(SETTINGS, output, moments(), card, IMAGES, calibration())
    assert mended.calibration == calibration()
