"""Published runs are exported, and what cannot be is refused in a sentence."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from orchard.phone.export import MOST_BYTES, export_model
from orchard.phone.fuse import read_about
from orchard.phone.running import PhoneModel
from spark_job import contract
from spark_job.decode import decode
from spark_job.errors import JobError, UsageError
from spark_job.networks import load_card
from spark_job.objects import open_folder
from spark_job.pca import PCAModel
from tests.spark_job.jobs import Job, read_json, run_job
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from orchard.phone.card import ExportCard
    from spark_job.networks import Card
    from spark_job.objects import Folder

pytestmark = pytest.mark.job

OF_THE_FILE = ("file", "size", "sha256", "checked")


def largest_distance(file: Path, job: Job, images: Path, card: Card) -> float:
    """How far the file's vectors of all published pictures are from the published ones."""
    run = PhoneModel(file.read_bytes())
    rows = job.table("vectors").to_pylist()
    assert rows
    return max(
        float(np.abs(run(pixels(images / row["path"], card))["vector"] - row["vector"]).max())
        for row in rows
    )


def pixels(file: Path, card: Card) -> Any:
    return decode(file.read_bytes(), card, max_pixels=10**8).pixels


def test_it_gives_the_published_vectors_with_all_components(
    job: Job, images: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "fruit.tflite"
    card = export_model(open_folder(str(job.output)), target)
    assert card.k == job.receipt["model"]["k"] > 15
    assert largest_distance(target, job, images, load_card()) < 1e-4
    assert card.checked is not None
    assert (card.checked.published, card.checked.pictures) == (True, 12)
    assert card.checked.largest_distance < 1e-4
    assert target.stat().st_size < MOST_BYTES
    assert card.head is None


@pytest.mark.parametrize("options", [("--components", "1"), ("--no-standardize", "--full-decode")])
def test_it_gives_the_published_vectors_of_any_model(
    options: tuple[str, ...], images: Path, tmp_path: Path
) -> None:
    job = run_job(images, tmp_path / "out", *options)
    target = tmp_path / "fruit.tflite"
    card = export_model(open_folder(str(job.output)), target)
    assert card.k == job.receipt["model"]["k"]
    full = "--full-decode" in options
    assert ("all of a JPEG's pixels" in card.preprocessing[0]) == full
    network = load_card().in_full() if full else load_card()
    assert card.extractor == network.extractor
    assert largest_distance(target, job, images, network) < 1e-4


def test_the_card_is_beside_the_file_and_in_it(job: Job, tmp_path: Path) -> None:
    target = tmp_path / "fruit.tflite"
    card = export_model(open_folder(str(job.output)), target, classify=True)
    content = target.read_bytes()
    beside = read_json(tmp_path / "fruit.json")
    assert beside == json.loads(json.dumps(asdict(card)))
    assert beside["file"] == "fruit.tflite"
    assert beside["size"] == len(content)
    assert beside["sha256"] == hashlib.sha256(content).hexdigest()
    about = read_about(content)
    assert about is not None
    assert json.loads(about) == beside | dict.fromkeys(OF_THE_FILE)
    assert beside["model"] == job.receipt["model"]["model"]
    assert beside["takes"]["photograph"]["shape"] == [1, 224, 224, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fruit.json", "fruit.tflite"]


def test_a_head_knows_the_labels_and_says_how_often_it_is_right(
    job: Job, images: Path, tmp_path: Path
) -> None:
    target = tmp_path / "fruit.tflite"
    card = export_model(
        open_folder(str(job.output)), target, classify=True, group_by=r"_(\d+)\.jpg"
    )
    head = card.head
    assert head is not None
    assert head.labels == ["Kiwi", "Plum"]
    assert head.batches == [{"batch": "batch", "run": job.current["run"], "pictures": 20}]
    assert [(one.pictures, one.groups, one.fitted, one.held_out) for one in head.of] == [
        (10, 10, 8, 2)
    ] * 2
    assert card.warnings == []
    run = PhoneModel(target.read_bytes())
    for label, number in (("Kiwi", 0), ("Plum", 1)):
        found = [
            int(run(pixels(file, load_card()))["probabilities"].argmax())
            for file in (images / label).iterdir()
        ]
        assert found.count(number) >= 8


def test_where_pictures_are_gone_or_changed_it_is_checked_on_made_up_ones(
    output: Folder, images: Path, tmp_path: Path
) -> None:
    run = Path(output.uri) / contract.results_folder("batch")
    receipt = next(run.glob(f"*/*/{contract.RUN}"))
    gone = tmp_path / "gone"
    plant(gone, {"Kiwi": 10, "Plum": 5}, seed=900)  # others of the same names
    receipt.write_text(receipt.read_text().replace(str(images), str(gone)))
    card = export_model(output, tmp_path / "fruit.tflite")
    assert card.checked is not None
    assert not card.checked.published
    assert card.checked.largest_distance < 1e-4


def damage(output: Folder) -> None:
    """Move the model's mean, so that it is not what the vectors were made with."""
    [file] = Path(output.uri).glob(f"{contract.MODELS}/*/*/{contract.MODEL_FILE}")
    model = PCAModel.from_bytes(file.read_bytes())
    file.write_bytes(replace(model, mean=model.mean + 0.001).to_bytes())


def test_a_file_that_would_give_other_vectors_is_not_written(
    output: Folder, tmp_path: Path
) -> None:
    damage(output)
    with pytest.raises(JobError, match=r"vectors up to .* from the published ones.*nothing was"):
        export_model(output, tmp_path / "fruit.tflite")
    assert not (tmp_path / "fruit.tflite").exists()
    assert not (tmp_path / "fruit.json").exists()


def as_of(output: Folder, extractor: str) -> None:
    """Let the models be of another extractor."""
    [folder] = (Path(output.uri) / contract.MODELS).iterdir()
    folder.rename(folder.with_name(extractor))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"model": "feedbeef"}, r"has no model 'feedbeef'; `orchard models list` names those"),
        ({"model": ""}, r"has no model ''; `orchard models list` names those"),
        ({"network": "mobilenet"}, r"there is no network 'mobilenet'; did you mean 'mobilenet_v2'"),
        ({"batches": ["tuesday"]}, r"no published run of a batch 'tuesday'; published are batch"),
        ({"classify": True, "group_by": "("}, r"--group-by '\(' is no regular expression"),
        ({"target": Path("fruit.bin")}, r"to be called \.\.\.\.tflite, not 'fruit\.bin'"),
    ],
)
def test_what_is_not_there_is_refused(
    job: Job, tmp_path: Path, asked: dict[str, Any], told: str
) -> None:
    given: dict[str, Any] = {"target": tmp_path / "fruit.tflite"} | asked
    with pytest.raises(UsageError, match=told):
        export_model(open_folder(str(job.output)), **given)
    assert list(tmp_path.iterdir()) == []


def test_an_output_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no model in use; the job fits one"):
        export_model(open_folder(str(tmp_path)), tmp_path / "fruit.tflite")


@pytest.mark.parametrize(
    ("extractor", "told"),
    [
        ("resnet50-0123456789abcdef", r"there is no network resnet50 here, only mobilenet_v2"),
        ("mobilenet_v2-0123456789abcdef", r"the installed mobilenet_v2 is another one"),
    ],
)
def test_a_model_of_a_network_that_is_not_here_is_refused(
    output: Folder, tmp_path: Path, extractor: str, told: str
) -> None:
    as_of(output, extractor)
    with pytest.raises(UsageError, match=told):
        export_model(output, tmp_path / "fruit.tflite")


def test_of_models_of_several_extractors_one_is_to_be_named(
    output: Folder, images: Path, tmp_path: Path
) -> None:
    run_job(images, output.uri, "--full-decode", batch="full")
    target = tmp_path / "fruit.tflite"
    with pytest.raises(UsageError, match=r"several models in use .* with --model"):
        export_model(output, target)
    folder = Path(output.uri) / contract.MODELS / load_card().in_full().extractor
    model = read_json(folder / contract.CURRENT)["model"]
    for named in (model, model[:10]):
        found = export_model(output, target, model=named)
        assert (found.model, found.extractor) == (model, load_card().in_full().extractor)


def test_a_batch_whose_vectors_are_of_another_model_is_refused(
    output: Folder, images: Path, tmp_path: Path
) -> None:
    first = export_model(output, tmp_path / "first.tflite").model
    run_job(images, output.uri, "--components", "2", "--pca", "fit")
    with pytest.raises(UsageError, match=rf"of the model [0-9a-f]+, not of {first}.*--batches, "):
        export_model(output, tmp_path / "fruit.tflite", model=first, classify=True)
    alone = export_model(output, tmp_path / "fruit.tflite", model=first)
    assert alone.checked is not None
    assert not alone.checked.published, "there is nothing published to check it on"
    assert export_model(output, tmp_path / "second.tflite", classify=True).k == 2


def test_labels_fewer_than_two_are_refused(images: Path, tmp_path: Path) -> None:
    job = run_job(images / "Kiwi", tmp_path / "out")
    output = open_folder(str(job.output))
    with pytest.raises(UsageError, match=r"of batch have no labels; name more .*--batches, or"):
        export_model(output, tmp_path / "fruit.tflite", classify=True)
    assert not (tmp_path / "fruit.tflite").exists()


def test_a_large_file_is_written_and_said_to_be_large(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchard.phone.export.MOST_BYTES", 8_000_000)
    card = export_model(open_folder(str(job.output)), tmp_path / "fruit.tflite", classify=True)
    assert any("more than the 8 MB" in told for told in card.warnings)


@pytest.mark.shared
def test_real_photographs_give_their_published_vectors(shared: Path, tmp_path: Path) -> None:
    with tarfile.open(shared / "photographs" / "photographs.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    images = tmp_path / "photographs"
    job = run_job(images, tmp_path / "out")
    target = tmp_path / "fruit.tflite"
    card = export_model(open_folder(str(job.output)), target, classify=True)
    assert largest_distance(target, job, images, load_card()) < 1e-4
    assert target.stat().st_size < MOST_BYTES
    assert card.head is not None
    known = {one.label: one for one in card.head.of}
    assert known["banana"].groups > 60, "photographs of the web are not of one fruit"
    assert card.head.mean_accuracy is not None
    assert card.head.mean_accuracy > 0.85


@pytest.mark.shared
def test_frames_of_one_fruit_of_fruits_360_are_on_one_side(shared: Path, tmp_path: Path) -> None:
    labels = ("Apple Golden 1", "Banana Red", "Pear Forelle")
    with tarfile.open(shared / "fruits360" / "fruits360-test.tar") as tar:
        for member in tar:
            if member.name.startswith(tuple(f"Test/{label}/" for label in labels)):
                tar.extract(member, tmp_path, filter="data")
    job = run_job(tmp_path / "Test", tmp_path / "out", "--components", "1280")
    output = open_folder(str(job.output))
    whole = export_model(output, tmp_path / "whole.tflite", classify=True)
    assert [one.groups for one in of(whole)] == [1, 1, 1]
    assert "3 of 3 labels have too few groups" in whole.warnings[0]
    turns = export_model(
        output, tmp_path / "turns.tflite", classify=True, group_by=r"/(?:(r\d?)_)?\d+_100"
    )
    assert [one.groups for one in of(turns)] == [2, 2, 3]
    assert all(0 < one.held_out <= one.pictures / 2 for one in of(turns))
    assert (tmp_path / "turns.tflite").stat().st_size < MOST_BYTES
    assert largest_distance(tmp_path / "turns.tflite", job, tmp_path / "Test", load_card()) < 1e-4


def of(card: ExportCard) -> list[Any]:
    assert card.head is not None
    return card.head.of
