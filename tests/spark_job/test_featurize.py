"""One worker's part of the work, without Spark, on a folder that changes under its hands."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from spark_job import catalog
from spark_job.decode import decode
from spark_job.featurize import Featurizer, plan_parts
from spark_job.listing import list_images
from spark_job.networks import DEFAULT, load_card
from spark_job.networks.extractor import Extractor, shared_extractor
from spark_job.objects import open_folder
from tests.spark_job.jobs import files_below
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path


@given(st.integers(1, 200_000), st.integers(1, 512))
def test_parts_hold_all_images_and_keep_every_slot_busy_to_the_end(images: int, slots: int) -> None:
    parts = plan_parts(images, slots)
    assert sum(parts) == images
    assert all(1 <= size <= 1024 for size in parts)
    assert parts == sorted(parts, reverse=True), "the large ones first"
    assert len(parts) >= min(slots, images / 64), "no slot is idle while images wait"
    # The slots end together: the last round is of small parts.
    assert parts[-1] <= max(64, -(-images // slots))
    # Few tasks: each costs a start and a file.
    assert len(parts) <= images / 1024 + slots * 12 + 1


def test_parts_of_large_photographs_are_short() -> None:
    parts = plan_parts(2_000, 2, 3_500_000)
    assert sum(parts) == 2_000
    assert parts[0] == 73
    assert set(plan_parts(5, 2, 1e9)) == {1}


class Setting:
    """A batch's folder, listed in parts, and what featurizes them."""

    def __init__(self, root: Path, parts: list[int]) -> None:
        self.images = root / "in"
        self.run = root / "out"
        self.parts = parts
        images = open_folder(str(self.images))
        catalog.write_listing(open_folder(str(self.run)), list_images(images).table, parts)
        self.featurizer = Featurizer(images, open_folder(str(self.run)), 10**6, "extractor-id")

    def featurize(self) -> list[dict[str, Any]]:
        # As Spark does it: pickled, and run elsewhere.
        recipe = pickle.dumps(self.featurizer)
        return [json.loads(pickle.loads(recipe)(part)) for part in range(len(self.parts))]

    def table(self, name: str) -> pa.Table:
        return parquet.read_table(self.run / name).sort_by("path")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    plant(tmp_path / "in", {"Kiwi": 3, "Plum": 4})
    return Setting(tmp_path, [5, 2])


def test_each_part_is_featurized_to_a_file_and_a_receipt(setting: Setting) -> None:
    receipts = setting.featurize()
    assert [receipt["featurized"] for receipt in receipts] == [5, 2]
    assert [receipt["rejects"] for receipt in receipts] == [{}, {}]
    assert files_below(setting.run) == {
        "images.parquet",
        "features/part-00000.parquet",
        "features/part-00001.parquet",
    }
    for row in setting.table("features").to_pylist():
        content = (setting.images / row["path"]).read_bytes()
        expected = shared_extractor(DEFAULT)(decode(content, load_card(), max_pixels=10**6).pixels)
        assert np.array_equal(np.array(row["features"], np.float32), expected)


def test_a_repeated_part_writes_the_same_bytes(setting: Setting) -> None:
    receipts = setting.featurize()
    before = {name: (setting.run / name).read_bytes() for name in files_below(setting.run)}
    again = setting.featurize()
    assert {name: (setting.run / name).read_bytes() for name in files_below(setting.run)} == before
    for receipt in receipts + again:
        receipt.pop("seconds")
    assert again == receipts


def test_a_file_deleted_between_listing_and_reading_is_a_reject(setting: Setting) -> None:
    (setting.images / "Kiwi" / "Kiwi_001.jpg").unlink()
    receipts = setting.featurize()
    assert receipts[0]["featurized"] == 4
    assert receipts[0]["rejects"] == {"missing": 1}
    [row] = setting.table("rejects").to_pylist()
    assert (row["path"], row["stage"], row["reason"]) == ("Kiwi/Kiwi_001.jpg", "read", "missing")
    assert row["bytes"] > 0, "as listed"


def test_a_file_that_changed_since_the_listing_is_described_as_it_was_read(
    setting: Setting,
) -> None:
    other = (setting.images / "Plum" / "Plum_000.jpg").read_bytes()
    (setting.images / "Kiwi" / "Kiwi_001.jpg").write_bytes(other)
    setting.featurize()
    rows = {row["path"]: row for row in setting.table("features").to_pylist()}
    assert rows["Kiwi/Kiwi_001.jpg"]["sha256"] == rows["Plum/Plum_000.jpg"]["sha256"]
    assert rows["Kiwi/Kiwi_001.jpg"]["bytes"] == len(other)


def test_a_feature_that_is_no_number_is_a_reject(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.full(load_card().features, np.nan, np.float32)
    monkeypatch.setattr(Extractor, "__call__", lambda *_: nothing)
    receipts = setting.featurize()
    assert sum(receipt["featurized"] for receipt in receipts) == 0
    assert {row["stage"] for row in setting.table("rejects").to_pylist()} == {"infer"}


def test_the_digest_of_the_images_does_not_depend_on_the_parts(tmp_path: Path) -> None:
    plant(tmp_path / "in", {"Kiwi": 7})
    digests = {
        catalog.combine_digests(
            receipt["images_digest"] for receipt in Setting(tmp_path, parts).featurize()
        )
        for parts in ([7], [1, 6], [3, 3, 1])
    }
    assert len(digests) == 1
    (tmp_path / "in" / "Kiwi" / "Kiwi_006.jpg").unlink()
    [receipt] = Setting(tmp_path, [6]).featurize()
    assert receipt["images_digest"] not in digests
