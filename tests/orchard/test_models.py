"""``orchard models``: what is listed, shown, built and chosen, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spark_job import contract, lineage, pca
from spark_job.models import read_model, write_model
from spark_job.moments import Moments
from spark_job.pointers import ModelPointer, read_pointer
from tests.orchard.command import orchard, refusal, rows, succeed
from tests.spark_job.published import EXTRACTOR, features_of, publish_batch

if TYPE_CHECKING:
    from spark_job.objects import Folder


def pointer(output: Folder) -> ModelPointer:
    found = read_pointer(output / contract.models_folder(EXTRACTOR), ModelPointer)
    assert found is not None
    return found


def build(output: Folder, *options: str, batches: str = "apples,plums") -> str:
    """The id of a new model."""
    return succeed("models", "build", "--batches", batches, *options, output=output).stdout.strip()


class TestListing:
    def test_each_model_is_named_with_what_it_is_of(self, output: Folder) -> None:
        first = publish_batch(output, "apples")
        publish_batch(output, "plums", 20)
        built = build(output)
        listed = {row["model"]: row for row in rows(succeed("models", "list", output=output))}
        assert listed.keys() == {first.model.model, built}
        assert listed[first.model.model] == {
            "model": first.model.model,
            "current": "yes",
            "k": str(first.model.k),
            "images": "12",
            "variance": f"{first.model.variance_kept:.2%}",
            "fitted on": "apples",
            "vectors of": "apples, plums",
            "extractor": EXTRACTOR,
        }
        assert (listed[built]["current"], listed[built]["images"]) == ("no", "32")
        assert (listed[built]["fitted on"], listed[built]["vectors of"]) == ("apples, plums", "")
        found = json.loads(succeed("models", "list", "--json", output=output).stdout)
        assert {one["model"]: one["current"] for one in found} == {
            first.model.model: True,
            built: False,
        }
        assert [len(one["card"]["batches"]) for one in found if one["model"] == built] == [2]

    def test_a_damaged_model_hinders_no_list(self, local: Folder) -> None:
        receipt = publish_batch(local, "apples")
        folder = local / contract.models_folder(EXTRACTOR) / receipt.model.model
        folder.write(contract.MODEL_CARD, b"{half")
        [row] = rows(succeed("models", "list", output=local))
        assert row["fitted on"] == "damaged"
        sentence = refusal("models", "show", receipt.model.model, output=local)
        assert "cannot be read" in sentence
        assert "`orchard models build`" in sentence

    def test_an_output_without_models_is_told(self, local: Folder) -> None:
        (local / "work/b/r").write("claim.json", b"{}")
        result = succeed("models", "list", output=local)
        assert len(result.stdout.splitlines()) == 1, "the columns"
        assert "has no models yet" in result.stderr

    def test_the_output_is_named_by_option_environment_or_default(
        self, local: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fruits = local / "fruits"
        model = publish_batch(fruits, "apples").model.model
        monkeypatch.chdir(local.uri.removesuffix("/out"))
        assert model in succeed("models", "list").stdout, "the one output in ./out"
        sentence = refusal("models", "list", output=local)
        assert (
            f"has neither results nor models of the job; say --output with one of {fruits.uri}"
            in (sentence)
        )
        publish_batch(local / "other", "apples", 13)
        assert refusal("models", "list").endswith(f"{fruits.uri}, {local.uri}/other")
        monkeypatch.setenv("ORCHARD_OUTPUT", fruits.uri)
        assert model in succeed("models", "list").stdout
        assert model not in succeed("models", "list", output=local / "other").stdout
        assert refusal("models", "list", output=local / "none").endswith("check --output")


class TestShowing:
    def test_a_model_says_what_it_was_made_from_and_what_it_explains(self, output: Folder) -> None:
        receipts = [publish_batch(output, *one) for one in (("plums", 20), ("apples", 12))]
        runs, first = [one.run for one in receipts], receipts[0].model.model
        model = build(output, "--variance", "0.9", "--use")
        result = succeed("models", "show", model[:8], output=output)
        facts, batches, spectrum = (
            [line.split("\t") for line in table.splitlines()]
            for table in result.stdout.split("\n\n")
        )
        said = dict(facts)
        assert said["model"] == model
        assert said["current"] == "yes, as number 2 of this extractor"
        assert said["fitted with"] == "--variance 0.9 --standardize"
        assert batches[1:] == [["apples", runs[1], "12"], ["plums", runs[0], "20"]]
        stored = read_model(output / contract.models_folder(EXTRACTOR), model)
        shares = stored.pca.explained_variance_ratio
        assert [row[2] for row in spectrum[1:]] == [f"{share:.2%}" for share in shares]
        assert spectrum[stored.pca.k][3] == f"{stored.card.variance_kept:.2%}"
        told = json.loads(succeed("models", "show", model, "--json", output=output).stdout)
        assert (told["current"], told["generation"], told["parents"]) == (True, 1, [])
        assert (said["generation"], said["update of"]) == ("1", "none")
        other = json.loads(succeed("models", "show", first, "--json", output=output).stdout)
        assert (other["current"], other["generation"]) == (False, 1)
        assert told["vectors_of"] == []
        np.testing.assert_allclose(told["eigenvalues"], stored.pca.eigenvalues)

    def test_an_id_must_be_known_and_of_one_model(self, local: Folder) -> None:
        model = publish_batch(local, "apples").model.model
        assert "has no model 'xyz'; `orchard models list` names" in refusal(
            "models", "show", "xyz", output=local
        )
        stored = read_model(local / contract.models_folder(EXTRACTOR), model)
        source = local / contract.models_folder(EXTRACTOR) / model
        for end in ("a", "b"):
            twin = local / contract.models_folder(EXTRACTOR) / f"5{end}00000000000000"
            twin.write(contract.MODEL_FILE, stored.pca.to_bytes())
            twin.write(contract.MODEL_CARD, source.read(contract.MODEL_CARD))
        sentence = refusal("models", "show", "5", output=local)
        assert "'5' may be any of " in sentence
        assert "write more of its id" in sentence
        succeed("models", "show", "5a", output=local)
        succeed("models", "show", model, output=local)


class TestBuilding:
    def test_it_is_as_if_all_images_were_of_one_batch(self, output: Folder) -> None:
        publish_batch(output, "plums", 20)
        publish_batch(output, "apples")
        before = pointer(output)
        model = build(output, "--components", "2", "--no-standardize")
        stored = read_model(output / contract.models_folder(EXTRACTOR), model)
        together = np.concatenate([features_of("apples", 12), features_of("plums", 20)])
        expected = pca.fit(Moments.of(together), components=2, standardize=False)
        np.testing.assert_allclose(stored.pca.components, expected.components, atol=1e-9)
        np.testing.assert_allclose(stored.pca.eigenvalues, expected.eigenvalues, atol=1e-9)
        assert (stored.card.k, stored.card.n, stored.card.standardize) == (2, 32, False)
        assert pointer(output) == before, "it is not chosen by itself"

    def test_the_same_batches_in_any_order_are_the_same_model(self, local: Folder) -> None:
        publish_batch(local, "plums", 20)
        publish_batch(local, "apples")
        first = build(local)
        again = succeed("models", "build", "--batches", "plums, apples", output=local)
        assert again.stdout.strip() == first
        assert "was stored before" in again.stderr

    def test_it_is_held_against_images_of_all_batches(self, output: Folder) -> None:
        publish_batch(output, "plums", 30)
        publish_batch(output, "apples", 20)
        stored = read_model(output / contract.models_folder(EXTRACTOR), build(output))
        assert stored.calibration is not None
        assert (stored.calibration.covered, stored.calibration.sampled) == (50, 50)
        again = succeed("models", "build", "--batches", "plums, apples", output=output)
        assert again.stderr.count("\n") == 2, "which it says nothing of"

    def test_a_batch_without_a_sample_is_left_out_and_said(self, local: Folder) -> None:
        publish_batch(local, "plums", 50)
        run = publish_batch(local, "apples", 20).run
        (local / contract.run_folder("apples", run)).delete([contract.SAMPLE_FILE])
        result = succeed("models", "build", "--batches", "apples,plums", output=local)
        assert "compare with no images of apples, run before runs settled" in result.stderr
        model = result.stdout.strip()
        stored = read_model(local / contract.models_folder(EXTRACTOR), model)
        assert stored.calibration is not None
        assert (stored.calibration.covered, stored.calibration.sampled) == (50, 50)
        publish_batch(local, "apples", 20)
        assert build(local) == model
        stored = read_model(local / contract.models_folder(EXTRACTOR), model)
        assert stored.calibration is not None
        assert stored.calibration.covered == 70

    def test_of_one_batch_it_is_the_model_that_its_run_fitted(self, local: Folder) -> None:
        model = publish_batch(local, "apples").model.model
        assert build(local, batches="apples") == model

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--batches", "apples,apples"], "batch 'apples' is named 2 times; name it once"),
            (["--batches", "apples,,plums"], "takes names with commas between them; not 'apples,,"),
            (["--batches", "pears"], "has no batch 'pears'; there are apples, begun, figs, plums"),
            (["--batches", "begun"], "batch 'begun' has no published run; run it first"),
            (["--batches", "apples,figs"], "do not mix (apples of toy-0123456789abcdef; figs of o"),
            (["--batches", "apples", "--network", "other"], "of the network toy, not of other"),
            (["--batches", "plums", "--variance", "0"], "a number above 0 and at most 1; not 0"),
            (["--batches", "plums", "--variance", "1", "--components", "2"], "say one of them"),
            (["--batches", "plums", "--components", "9"], "more than the 6 features"),
        ],
    )
    def test_what_cannot_be_built_is_refused(
        self, local: Folder, options: list[str], sentence: str
    ) -> None:
        publish_batch(local, "apples")
        publish_batch(local, "plums", 20)
        publish_batch(local, "figs", extractor="other-0123456789abcdef")
        publish_batch(local, "begun", publish=False)
        assert sentence in refusal("models", "build", *options, output=local)

    def test_too_few_images_are_refused(self, local: Folder) -> None:
        publish_batch(local, "apples")
        receipt = publish_batch(local, "one", 2)
        run = local / contract.run_folder("one", receipt.run)
        ids = {"extractor": EXTRACTOR, "images": receipt.digests.images}
        run.write(contract.MOMENTS_FILE, Moments.of(features_of("one", 1)).to_bytes(ids))
        sentence = refusal("models", "build", "--batches", "one", output=local, code=3)
        assert "at least two images that differ" in sentence


class TestChoosing:
    def test_the_pointer_moves_and_batches_of_other_models_are_named(self, output: Folder) -> None:
        first = publish_batch(output, "apples").model.model
        publish_batch(output, "plums", 20)
        publish_batch(output, "figs", extractor="other-0123456789abcdef")
        model = build(output)
        result = succeed("models", "use", model[:6], output=output)
        assert result.stdout == ""
        assert f"The current model of {EXTRACTOR} is {model}; it was {first}" in result.stderr
        assert "The vectors of 2 batches are of other models" in result.stderr
        command = f"orchard models reproject --batches apples,plums --output {output.uri}"
        assert command in result.stderr
        assert (pointer(output).model, pointer(output).generation) == (model, 2)
        again = succeed("models", "use", model, output=output)
        assert f"{model} is the current model" in again.stderr
        assert pointer(output).generation == 2
        assert publish_batch(output, "kiwis").model.model == model

    def test_a_rival_that_points_meanwhile_is_what_was_current(
        self, local: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish_batch(local, "apples")
        built = build(local, "--components", "1", batches="apples")
        swap = type(local).swap

        def race(folder: Folder, name: str, content: bytes, expected: str | None) -> str:
            monkeypatch.undo()
            publish_batch(local, "plums", 20, fit=True)
            return swap(folder, name, content, expected)

        monkeypatch.setattr(type(local), "swap", race)
        result = succeed("models", "use", built, output=local)
        rival = lineage.published_receipts(local)["plums"].model.model
        assert f"is {built}; it was {rival}" in result.stderr
        assert (pointer(local).model, pointer(local).generation) == (built, 3)

    def test_a_clock_that_is_behind_moves_it_all_the_same(self, local: Folder) -> None:
        publish_batch(local, "apples")
        models = local / contract.models_folder(EXTRACTOR)
        content = json.loads(models.read(contract.CURRENT)) | {"started": "2999-01-01"}
        models.write(contract.CURRENT, json.dumps(content).encode())
        model = build(local, "--components", "1", "--use", batches="apples")
        assert (pointer(local).model, pointer(local).started) == (model, "2999-01-01")

    def test_a_model_that_cannot_be_read_is_not_chosen(self, local: Folder) -> None:
        publish_batch(local, "apples")
        before = pointer(local)
        model = build(local, "--components", "1", batches="apples")
        (local / contract.models_folder(EXTRACTOR) / model).delete([contract.MODEL_FILE])
        assert "cannot be read" in refusal("models", "use", model, output=local)
        assert pointer(local) == before


def test_stored_models_are_written_once(local: Folder) -> None:
    model = publish_batch(local, "apples").model.model
    stored = read_model(local / contract.models_folder(EXTRACTOR), model)
    assert write_model(local, stored).card == stored.card
    assert orchard("models", "show", model, output=local).exit_code == 0


def test_what_changes_models_tells_programs_too(local: Folder) -> None:
    first = publish_batch(local, "apples").model.model
    publish_batch(local, "plums", 20)
    built = ("models", "build", "--batches", "apples,plums", "--json")
    card = json.loads(succeed(*built, output=local).stdout)
    assert [one["batch"] for one in card["batches"]] == ["apples", "plums"]
    used = json.loads(succeed("models", "use", card["model"], "--json", output=local).stdout)
    assert used == {"extractor": EXTRACTOR, "model": card["model"], "former": first}
    reprojected = ("models", "reproject", "--batches", "plums", "--json")
    [receipt] = json.loads(succeed(*reprojected, output=local).stdout)
    assert (receipt["batch"], receipt["model"]["model"]) == ("plums", card["model"])
    assert json.loads(succeed(*reprojected, output=local).stdout) == []
