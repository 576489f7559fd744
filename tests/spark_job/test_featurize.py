"""One worker's part of the work, without an engine, on a folder that changes under its hands."""

from __future__ import annotations

import io
import pickle
from functools import reduce
from hashlib import sha256
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from spark_job import tables
from spark_job.chroma import mean_chroma
from spark_job.decode import decode
from spark_job.engines import Attempt
from spark_job.featurize import Featurizer, warm_up
from spark_job.listing import list_images, listing_digest, write_listing
from spark_job.networks import DEFAULT, load_card
from spark_job.networks.extractor import Extractor, shared_extractor
from spark_job.objects import LocalFolder, open_folder
from spark_job.parts import features_digest
from spark_job.phash import perceptual_hash
from spark_job.receipts import Digests, PartReceipt, digest, processor, versions
from tests.spark_job.jobs import files_below
from tests.spark_job.photographs import encoded, fruit, plant

if TYPE_CHECKING:
    from pathlib import Path


class Setting:
    """A batch's folder, listed in parts, and what featurizes them."""

    def __init__(self, root: Path, parts: list[int], name: str = "work") -> None:
        self.images = root / "in"
        self.work = root / name
        self.parts = parts
        images, work = open_folder(str(self.images)), open_folder(str(self.work))
        self.listing_digest = write_listing(work, list_images(images), parts)
        self.featurizer = Featurizer(images, work, load_card(), 10**6)
        self.reported: list[int] = []

    def featurize(self) -> list[PartReceipt]:
        # As an engine does it: pickled, and run elsewhere.
        recipe = pickle.dumps(self.featurizer)
        attempt = Attempt(0, self.reported.append)
        return [pickle.loads(recipe)(part, attempt) for part in range(len(self.parts))]

    def table(self, name: str, receipts: list[PartReceipt]) -> pa.Table:
        """What the files hold that the receipts name."""
        files = [getattr(receipt, name) for receipt in receipts]
        found = [parquet.read_table(self.work / name / file) for file in files if file is not None]
        return pa.concat_tables(found).sort_by("path")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    plant(tmp_path / "in", {"Kiwi": 3, "Plum": 4})
    return Setting(tmp_path, [5, 2])


def test_each_part_is_featurized_to_a_file_and_a_receipt(setting: Setting) -> None:
    receipts = setting.featurize()
    assert [receipt.part for receipt in receipts] == [0, 1]
    assert [receipt.counts.listed for receipt in receipts] == [5, 2]
    assert [receipt.counts.computed for receipt in receipts] == [5, 2]
    assert [receipt.counts.rejects for receipt in receipts] == [{}, {}]
    assert [receipt.rejects for receipt in receipts] == [None, None]
    assert files_below(setting.work) == {
        "listing/00000.parquet",
        *(f"features/part-{one.part:05d}-{one.attempt}.parquet" for one in receipts),
        *(f"parts/part-{one.part:05d}-{one.attempt}.json" for one in receipts),
    }
    for receipt in receipts:
        assert receipt.features == tables.attempt_name(receipt.part, receipt.attempt)
        name = f"part-{receipt.part:05d}-{receipt.attempt}.json"
        assert PartReceipt.from_json((setting.work / "parts" / name).read_bytes()) == receipt
        assert receipt.processor == processor()
        assert receipt.versions == versions()
        assert receipt.seconds.keys() == {"read", "decode", "infer", "write"}
    assert setting.reported == [0, 1, 2, 3, 4, 0, 1]


def test_a_row_says_all_that_is_known_of_its_image(setting: Setting) -> None:
    (setting.images / "top.png").write_bytes(encoded(fruit(9).resize((80, 50))))
    setting = Setting(setting.images.parent, [8], "more")
    listed = {entry.name: entry for entry in open_folder(str(setting.images)).entries()}
    card = load_card()
    rows = setting.table("features", setting.featurize()).to_pylist()
    assert [row["path"] for row in rows] == sorted(listed)
    for row in rows:
        content = (setting.images / row["path"]).read_bytes()
        decoded = decode(content, card, max_pixels=10**6)
        features = np.array(row.pop("features"), np.float32)
        assert np.array_equal(features, shared_extractor(DEFAULT)(decoded.pixels))
        png = row["path"] == "top.png"
        assert row == {
            "path": row["path"],
            "label": None if png else row["path"].partition("/")[0],
            "bytes": len(content),
            "version": listed[row["path"]].version,
            "sha256": sha256(content).hexdigest(),
            "phash": perceptual_hash(decoded.small),
            "chroma": pytest.approx(mean_chroma(decoded.small)),
            "width": 80 if png else 64,
            "height": 50 if png else 64,
            "format": "PNG" if png else "JPEG",
        }


def test_the_extractor_is_in_the_files_footers(setting: Setting) -> None:
    (setting.images / "Kiwi" / "Kiwi_001.jpg").write_bytes(b"")
    receipt, _ = setting.featurize()
    for table, file in (("features", receipt.features), ("rejects", receipt.rejects)):
        content = (setting.work / table / str(file)).read_bytes()
        footer = parquet.read_metadata(io.BytesIO(content)).metadata
        assert footer[b"orchard.extractor"].decode() == load_card().extractor


def test_digests_are_those_of_the_tables_rows(setting: Setting) -> None:
    (setting.images / "Kiwi" / "Kiwi_001.jpg").write_bytes(b"no image")
    setting = Setting(setting.images.parent, [2, 2, 3], "more")
    receipts = setting.featurize()
    found = reduce(add, (receipt.digests for receipt in receipts))
    features, rejects = (setting.table(name, receipts) for name in ("features", "rejects"))
    rows = features.to_pylist() + rejects.to_pylist()
    assert found == Digests(
        listing=listing_digest((row["path"], row["version"]) for row in rows),
        images=digest(
            (setting.images / path).read_bytes() for path in features["path"].to_pylist()
        ),
        features=features_digest(
            features["path"].to_pylist(), tables.as_matrix(features["features"])
        ),
    )
    assert found.listing == setting.listing_digest


def test_a_repeated_part_writes_the_same_rows_to_files_of_its_own(setting: Setting) -> None:
    """Attempts may overlap, where a worker was only believed dead."""
    (setting.images / "Plum" / "Plum_003.jpg").write_bytes(b"no image")
    first = setting.featurize()
    before = {name: (setting.work / name).read_bytes() for name in files_below(setting.work)}
    second = setting.featurize()
    for name, content in before.items():
        assert (setting.work / name).read_bytes() == content
    added = files_below(setting.work) - before.keys()
    assert len(added) == len(before.keys() - {"listing/00000.parquet"})
    for name in ("features", "rejects"):
        assert setting.table(name, first).equals(setting.table(name, second))
    for one, other in zip(first, second, strict=True):
        assert one.attempt != other.attempt
        assert (one.counts, one.digests) == (other.counts, other.digests)


def test_a_receipt_is_written_after_all_that_it_names(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    (setting.images / "Kiwi" / "Kiwi_001.jpg").write_bytes(b"")
    seen: list[set[str]] = []
    write = LocalFolder.write

    def watch(folder: LocalFolder, name: str, content: bytes) -> None:
        assert name.startswith("parts/")
        receipt = PartReceipt.from_json(content)
        there = files_below(setting.work)
        assert f"features/{receipt.features}" in there
        assert receipt.rejects is None or f"rejects/{receipt.rejects}" in there
        seen.append(there)
        write(folder, name, content)

    monkeypatch.setattr(LocalFolder, "write", watch)
    setting.featurize()
    assert len(seen) == 2


def test_a_part_without_features_names_no_such_file(setting: Setting) -> None:
    for path in setting.images.rglob("*.jpg"):
        path.write_bytes(b"")
    receipts = setting.featurize()
    assert [receipt.features for receipt in receipts] == [None, None]
    assert [receipt.counts.rejected for receipt in receipts] == [5, 2]
    assert not (setting.work / "features").exists()
    digests = reduce(add, (receipt.digests for receipt in receipts))
    assert digests == Digests(listing=setting.listing_digest)


def test_a_file_deleted_between_listing_and_reading_is_a_reject(setting: Setting) -> None:
    (setting.images / "Kiwi" / "Kiwi_001.jpg").unlink()
    receipts = setting.featurize()
    assert receipts[0].counts.computed == 4
    assert receipts[0].counts.rejects == {"missing": 1}
    [row] = setting.table("rejects", receipts).to_pylist()
    assert (row["path"], row["stage"], row["reason"]) == ("Kiwi/Kiwi_001.jpg", "read", "missing")
    assert row["bytes"] > 0, "as listed"
    assert row["version"] is not None
    assert reduce(add, (one.digests for one in receipts)).listing == setting.listing_digest


def test_a_file_that_changed_since_the_listing_is_described_as_it_was_read(
    setting: Setting,
) -> None:
    other = (setting.images / "Plum" / "Plum_000.jpg").read_bytes()
    (setting.images / "Kiwi" / "Kiwi_001.jpg").write_bytes(other)
    receipts = setting.featurize()
    rows = {row["path"]: row for row in setting.table("features", receipts).to_pylist()}
    assert rows["Kiwi/Kiwi_001.jpg"]["sha256"] == rows["Plum/Plum_000.jpg"]["sha256"]
    assert rows["Kiwi/Kiwi_001.jpg"]["bytes"] == len(other)
    now = {entry.name: entry.version for entry in open_folder(str(setting.images)).entries()}
    assert {path: row["version"] for path, row in rows.items()} == now
    assert reduce(add, (one.digests for one in receipts)).listing == setting.listing_digest


def test_a_feature_that_is_no_number_is_a_reject(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.full(load_card().features, np.nan, np.float32)
    monkeypatch.setattr(Extractor, "__call__", lambda *_: nothing)
    receipts = setting.featurize()
    assert sum(receipt.counts.computed for receipt in receipts) == 0
    rows = setting.table("rejects", receipts).to_pylist()
    assert {(row["stage"], row["reason"]) for row in rows} == {("infer", "not-finite")}


def test_the_digests_do_not_depend_on_the_parts(tmp_path: Path) -> None:
    plant(tmp_path / "in", {"Kiwi": 7})
    digests = {
        reduce(add, (one.digests for one in Setting(tmp_path, parts, str(parts)).featurize()))
        for parts in ([7], [1, 6], [3, 3, 1])
    }
    assert len(digests) == 1
    (tmp_path / "in" / "Kiwi" / "Kiwi_006.jpg").unlink()
    [receipt] = Setting(tmp_path, [6], "fewer").featurize()
    [former] = digests
    for name in ("listing", "images", "features"):
        assert getattr(receipt.digests, name) != getattr(former, name)


def test_the_digest_of_features_tells_paths_and_every_bit_apart() -> None:
    features = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
    found = {
        features_digest(["a", "b"], features),
        features_digest(["b", "a"], features),
        features_digest(["a", "c"], features),
        features_digest(["a", "b"], np.nextafter(features, np.float32(9))),
        features_digest(["a", "b"], features * np.array([-1, 1], np.float32)),
        features_digest(["a"], features[:1]),
    }
    assert len(found) == 6
    assert features_digest(["b", "a"], features[::-1]) in found


def test_a_worker_is_warmed_up_by_what_travels_to_it() -> None:
    pickle.loads(pickle.dumps(warm_up(DEFAULT)))()
    assert "_interpreter" in vars(shared_extractor(DEFAULT))
