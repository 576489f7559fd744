"""Models of several batches: as if fitted together, whatever the order; refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spark_job import contract, lineage, pca
from spark_job.errors import NoImagesError, UsageError
from spark_job.models import read_card
from spark_job.moments import Moments
from spark_job.objects import Folder, open_folder
from spark_job.receipts import add_digests
from tests.spark_job.published import EXTRACTOR, features_of, publish_batch

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"apples": 9, "kiwis": 30, "plums": 14}


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "out"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "out"))


def publish_all(output: Folder) -> None:
    for batch, n in SIZES.items():
        publish_batch(output, batch, n)


def test_batches_merge_as_if_all_their_images_were_of_one(output: Folder) -> None:
    publish_all(output)
    merged = lineage.merge_published(output, EXTRACTOR, list(SIZES))
    moments = merged.moments
    together = Moments.of(np.concatenate([features_of(*one) for one in SIZES.items()]))
    assert moments.n == sum(SIZES.values())
    np.testing.assert_allclose(moments.mean, together.mean, atol=1e-12)
    np.testing.assert_allclose(moments.scatter, together.scatter, atol=1e-9)
    receipts = lineage.published_receipts(output)
    assert merged.batches == [
        {"batch": name, "run": receipts[name].run, "n": n} for name, n in SIZES.items()
    ]
    assert merged.images == add_digests(one.digests.images for one in receipts.values())


def test_the_order_of_batches_changes_no_bit(local: Folder) -> None:
    publish_all(local)
    first = lineage.merge_published(local, EXTRACTOR, ["apples", "kiwis", "plums"])
    for order in (["plums", "apples", "kiwis"], ["kiwis", "plums", "apples"]):
        again = lineage.merge_published(local, EXTRACTOR, order)
        assert (again.batches, again.images) == (first.batches, first.images)
        assert np.array_equal(again.moments.scatter, first.moments.scatter)
        assert np.array_equal(again.moments.mean, first.moments.mean)


def test_a_run_that_is_not_published_yet_is_merged_in_its_place(local: Folder) -> None:
    """As `--pca update` does: the same bits as when its batch is published."""
    publish_all(local)
    expected = lineage.merge_published(local, EXTRACTOR, list(SIZES))
    receipt = lineage.published_receipts(local)["kiwis"]
    ours = lineage.BatchMoments(
        "kiwis",
        receipt.run,
        EXTRACTOR,
        receipt.digests.images,
        Moments.of(features_of("kiwis", SIZES["kiwis"])),
    )
    found = lineage.merge_published(local, EXTRACTOR, ["plums", "apples"], own=ours)
    assert (found.batches, found.images) == (expected.batches, expected.images)
    assert np.array_equal(found.moments.scatter, expected.moments.scatter)


def test_the_same_fit_is_the_same_model(output: Folder) -> None:
    """Of one batch: the one that its own run fitted."""
    receipt = publish_batch(output, "apples")
    merged = lineage.merge_published(output, EXTRACTOR, ["apples"])
    rule = {"variance": 0.8}
    stored = lineage.fit_merged(output, EXTRACTOR, merged, rule=rule, standardize=True)
    assert stored.card.model == receipt.model.model
    other = lineage.fit_merged(output, EXTRACTOR, merged, rule=rule, standardize=False)
    assert other.card.model != receipt.model.model


def test_a_model_of_several_batches_says_what_it_is_made_from(local: Folder) -> None:
    publish_all(local)
    merged = lineage.merge_published(local, EXTRACTOR, list(SIZES))
    rule = {"components": 2}
    stored = lineage.fit_merged(local, EXTRACTOR, merged, rule=rule, standardize=False)
    card = stored.card
    assert (card.n, card.k, card.features) == (53, 2, 6)
    assert (card.parents, card.generation) == ([], 1)
    assert [one["batch"] for one in card.batches] == list(SIZES)
    expected = pca.fit(merged.moments, components=2, standardize=False)
    assert np.array_equal(stored.pca.components, expected.components)


def test_a_model_is_one_generation_after_the_one_that_it_is_an_update_of(local: Folder) -> None:
    publish_all(local)
    card = None
    for generation, batches in enumerate((["apples"], ["apples", "kiwis"], [*SIZES]), 1):
        merged = lineage.merge_published(local, EXTRACTOR, batches)
        how: dict[str, Any] = {"rule": {"variance": 0.8}, "standardize": True}
        made = lineage.fit_merged(local, EXTRACTOR, merged, parent=card, **how).card
        assert made.parents == ([] if card is None else [card.model])
        assert made.generation == generation
        card = replace(made, generation=None) if generation == 1 else made  # as it was stored once
    assert card is not None
    assert read_card(local, EXTRACTOR, card.model) == card


def test_a_batch_without_a_published_run_is_taken_from_the_run_that_a_card_names(
    output: Folder,
) -> None:
    first = publish_batch(output, "apples", extractor=EXTRACTOR)
    publish_batch(output, "plums")
    publish_batch(output, "apples", extractor="other-0123456789abcdef")
    batches = ["apples", "plums"]
    with pytest.raises(UsageError, match="has features of other-0123456789abcdef, and not of toy-"):
        lineage.merge_published(output, EXTRACTOR, batches)
    fallback = {"apples": first.run}
    merged = lineage.merge_published(output, EXTRACTOR, batches, fallback)
    assert merged.moments.n == 24
    assert merged.batches[0]["run"] == first.run
    (output / contract.run_folder("apples", first.run)).clear()
    with pytest.raises(UsageError, match=r"of batch 'apples' was removed.*run the batch again, or"):
        lineage.merge_published(output, EXTRACTOR, batches, fallback)


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        (["plums", "apples", "plums"], "batch 'plums' is named 2 times; name it once"),
        (["plums", "pears"], "has no batch 'pears'; there are apples, begun, kiwis, plums"),
        (["begun"], "batch 'begun' has no published run; run it first, or leave it out"),
        ([], "no batch was named"),
    ],
)
def test_what_cannot_be_merged_is_refused(local: Folder, batches: list[str], sentence: str) -> None:
    publish_all(local)
    publish_batch(local, "begun", publish=False)
    with pytest.raises(UsageError, match=sentence):
        lineage.merge_published(local, EXTRACTOR, batches)


def test_too_few_images_and_too_many_components_are_refused(local: Folder) -> None:
    publish_batch(local, "apples")
    one = lineage.BatchMoments("one", "r", EXTRACTOR, "0", Moments.of(features_of("one", 1)))
    merged = lineage.merge_published(local, EXTRACTOR, [], own=one)
    with pytest.raises(NoImagesError, match="at least two images"):
        lineage.fit_merged(local, EXTRACTOR, merged, rule={"variance": 0.8}, standardize=True)
    with pytest.raises(UsageError, match=r"--components 7 is more than the 6 features.*1 to 6"):
        lineage.fit_merged(local, EXTRACTOR, merged, rule={"components": 7}, standardize=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", None])
def test_damaged_moments_are_told(local: Folder, content: bytes | None) -> None:
    receipt = publish_batch(local, "apples")
    run = local / contract.run_folder("apples", receipt.run)
    run.delete([contract.MOMENTS_FILE])
    if content is not None:
        run.write(contract.MOMENTS_FILE, content)
    with pytest.raises(UsageError, match=r"moments.npz is missing or damaged.*run batch 'apples'"):
        lineage.merge_published(local, EXTRACTOR, ["apples"])


def test_moments_of_another_extractor_are_told(local: Folder) -> None:
    receipt = publish_batch(local, "apples")
    run = local / contract.run_folder("apples", receipt.run)
    ids = {"batch": "apples", "run": receipt.run, "extractor": "other", "images": "0"}
    run.write(contract.MOMENTS_FILE, Moments.of(features_of("apples", 3)).to_bytes(ids))
    with pytest.raises(UsageError, match=r"is of features of other, and not of toy-"):
        lineage.merge_published(local, EXTRACTOR, ["apples"])
