"""What earlier runs of a batch know is not computed again: neither more nor less of it."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import asdict, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyarrow import parquet

from spark_job import contract, featurize, known, pipeline, runs
from spark_job.decode import decode
from spark_job.engines import Attempt
from spark_job.errors import NoImagesError, RejectedImageError
from spark_job.known import CarryingPass, KnownPart, find_known
from spark_job.listing import list_images, write_listing
from spark_job.networks import load_card
from spark_job.networks.extractor import shared_extractor
from spark_job.objects import LocalFolder, RefusedError, open_folder
from spark_job.pointers import BatchPointer
from spark_job.receipts import to_json
from spark_job.settings import JobSettings
from spark_job.summary import summarize
from tests.spark_job.inline import InlineEngine
from tests.spark_job.jobs import read_json
from tests.spark_job.photographs import encoded, fruit, plant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spark_job.receipts import Counts, RunReceipt

pytestmark = pytest.mark.job

COUNTED = ("listed", "computed", "carried_over", "rejected", "unsupported")


class Batch:
    """A batch on a disk, and jobs on it whose workers are in this process."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.images = root / "in"
        self.output = root / "fruit=out"  # which is no partition of a table
        self.read: list[str] = []
        self.inferred = 0
        self._runs = 0
        read_once, shared = LocalFolder.read_once, shared_extractor

        def reading(folder: LocalFolder, name: str, **how: Any) -> Any:
            if how["limit"]:
                self.read.append(name)
            return read_once(folder, name, **how)

        def extractor(network: str) -> Callable[[Any], Any]:
            extract = shared(network)

            def counting(pixels: Any) -> Any:
                self.inferred += 1
                return extract(pixels)

            return counting

        patch.setattr(LocalFolder, "read_once", reading)
        patch.setattr(featurize, "shared_extractor", extractor)
        patch.setattr(pipeline, "start_engine", lambda *_, **__: InlineEngine())

    def run(self, **settings: Any) -> RunReceipt:
        self.read.clear()
        self.inferred = 0
        self._runs += 1
        base = JobSettings(str(self.images), str(self.output), "b", f"r{self._runs}")
        return pipeline.run(replace(base, **settings))

    def table(self, name: str) -> list[dict[str, Any]]:
        """A published table, in the order of paths."""
        current = read_json(self.output / "results/b/current.json")["run"]
        table = parquet.read_table(self.output / "results/b/runs" / current / name)
        rows: list[dict[str, Any]] = table.sort_by("path").to_pylist()
        return rows


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Seven fruits, and three files that are of no use."""
    plant(tmp_path / "in", {"Kiwi": 3, "Plum": 4}, seed=40)
    (tmp_path / "in/Kiwi/empty.jpg").touch()
    (tmp_path / "in/Plum/large.png").write_bytes(encoded(fruit(1, 400)))
    (tmp_path / "in/Plum/raw.dng").write_bytes(b"raw")
    made = Batch(tmp_path, monkeypatch)
    counts = made.run(max_pixels=100_000, max_reject_rate=0.5).counts
    assert told(counts) == (10, 7, 0, 2, 1)
    return made


def told(counts: Counts) -> tuple[int, ...]:
    return tuple(getattr(counts, name) for name in COUNTED)


LIMITS: dict[str, Any] = {"max_pixels": 100_000, "max_reject_rate": 0.5}


def test_a_batch_that_did_not_change_is_neither_read_nor_inferred(batch: Batch) -> None:
    before = {name: batch.table(name) for name in ("features", "rejects", "vectors")}
    receipt = batch.run(**LIMITS)
    assert told(receipt.counts) == (10, 0, 7, 2, 1)
    assert receipt.counts.rejects == {"empty": 1, "too-large": 1}
    assert (batch.read, batch.inferred) == ([], 0)
    assert {name: batch.table(name) for name in before} == before


def test_a_run_is_whole_when_those_before_it_are_gone(batch: Batch) -> None:
    features = batch.table("features")
    batch.run(**LIMITS)
    shutil.rmtree(batch.output / "results/b/runs/r1")
    assert batch.table("features") == features
    assert told(batch.run(**LIMITS).counts) == (10, 0, 7, 2, 1)


def test_only_what_is_new_is_computed(batch: Batch) -> None:
    (batch.images / "Kiwi/another.png").write_bytes(encoded(fruit(99)))
    assert told(batch.run(**LIMITS).counts) == (11, 1, 7, 2, 1)
    assert batch.read == ["Kiwi/another.png"]
    assert batch.inferred == 1


def test_what_is_gone_from_the_batch_is_gone_from_the_run(batch: Batch) -> None:
    (batch.images / "Plum/Plum_000.jpg").unlink()
    assert told(batch.run(**LIMITS).counts) == (9, 0, 6, 2, 1)
    assert "Plum/Plum_000.jpg" not in [row["path"] for row in batch.table("features")]


def test_another_rule_reads_no_image(batch: Batch) -> None:
    receipt = batch.run(**LIMITS, components=2, pca="fit")
    assert receipt.model.k == 2
    assert (batch.read, batch.inferred) == ([], 0)


def test_what_changed_is_computed_anew(batch: Batch) -> None:
    path = batch.images / "Plum/Plum_001.jpg"
    path.write_bytes(encoded(fruit(77), "JPEG"))
    assert told(batch.run(**LIMITS).counts) == (10, 1, 6, 2, 1)
    assert batch.inferred == 1


def test_a_file_that_was_only_touched_is_read_and_not_inferred(batch: Batch) -> None:
    path = batch.images / "Plum/Plum_001.jpg"
    os.utime(path, ns=(1, 1))
    assert told(batch.run(**LIMITS).counts) == (10, 0, 7, 2, 1)
    assert (batch.read, batch.inferred) == (["Plum/Plum_001.jpg"], 0)
    (row,) = (row for row in batch.table("features") if row["path"] == "Plum/Plum_001.jpg")
    assert row["version"].startswith("1-")


def test_files_of_one_size_and_time_that_change_places_are_read(batch: Batch) -> None:
    """As those of an archive: each keeps its own features, and nothing is inferred."""
    paths = [batch.images / f"Plum/Plum_00{number}.jpg" for number in (0, 1)]
    size = max(path.stat().st_size for path in paths)
    for path in paths:  # bytes after a JPEG's end change no pixel
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        os.utime(path, ns=(0, 0))
    batch.run(**LIMITS)
    before = {row["sha256"]: row["features"] for row in batch.table("features")}
    paths[0].rename(batch.images / "aside")
    paths[1].rename(paths[0])
    (batch.images / "aside").rename(paths[1])
    assert told(batch.run(**LIMITS).counts) == (10, 0, 7, 2, 1)
    assert (sorted(batch.read), batch.inferred) == (["Plum/Plum_000.jpg", "Plum/Plum_001.jpg"], 0)
    for row in batch.table("features"):
        content = (batch.images / row["path"]).read_bytes()
        assert row["sha256"] == sha256(content).hexdigest()
        assert row["features"] == before[row["sha256"]]


def test_a_renamed_image_is_known_by_its_content(batch: Batch) -> None:
    before = {row["sha256"]: row for row in batch.table("features")}
    (batch.images / "Kiwi").rename(batch.images / "Gooseberry")
    shutil.copy(batch.images / "Plum/Plum_000.jpg", batch.images / "Plum/copy.jpg")
    receipt = batch.run(**LIMITS)
    assert told(receipt.counts) == (11, 0, 8, 2, 1)
    assert batch.inferred == 0
    for row in batch.table("features"):
        known_as = before[row["sha256"]]
        assert row["features"] == known_as["features"]
        assert row["label"] == row["path"].partition("/")[0]
        assert row["bytes"] == known_as["bytes"]
    assert "Plum/copy.jpg" in [row["path"] for row in batch.table("features")]


def test_what_is_known_has_the_labels_that_are_listed_now(
    batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    """A person's corrections of a batch that did not change are not paid for in inference."""
    before = {row["path"]: row for row in batch.table("features")}
    os.utime(batch.images / "Plum/Plum_001.jpg", ns=(1, 1))  # which is known by its content
    corrected = {
        "Kiwi/Kiwi_000.jpg": "Gooseberry",
        "Plum/Plum_001.jpg": "Mirabelle",
        "Kiwi/empty.jpg": "Nothing",
    }
    lines = [f"{path},relabel,{label}" for path, label in corrected.items()]
    file = batch.output / "corrections.csv"
    file.write_text("\n".join(["path,action,label", *lines, "Plum/Plum_003.jpg,drop,", ""]))
    receipt = batch.run(**LIMITS, corrections=str(file))
    assert told(receipt.counts) == (9, 0, 6, 2, 1)
    assert (receipt.counts.dropped, receipt.counts.relabelled) == (1, 3)
    assert (batch.read, batch.inferred) == (["Plum/Plum_001.jpg"], 0)
    for name in ("features", "vectors", "rejects"):
        for row in batch.table(name):
            folder = row["path"].partition("/")[0]
            assert row["label"] == corrected.get(row["path"], folder), row["path"]
    found = {row["path"]: row for row in batch.table("features")}
    assert found.keys() == before.keys() - {"Plum/Plum_003.jpg"}
    for path, row in found.items():
        assert row["features"] == before[path]["features"]
    assert "1 dropped, 3 relabelled" in summarize(receipt)
    with caplog.at_level(logging.WARNING, "orchard"):
        without = batch.run(**LIMITS)
    assert "has corrections (1 dropped, 3 relabelled), and this one has none" in caplog.text
    assert f"give --corrections {receipt.results}/corrections.csv" in caplog.text
    assert told(without.counts) == (10, 0, 7, 2, 1), "corrections hold for the run they are given"
    runs = [batch.output / "results/b/runs" / one.run for one in (receipt, without)]
    assert [(run / "corrections.csv").exists() for run in runs] == [True, False]
    assert {row["path"]: row["label"] for row in batch.table("features")} == {
        path: row["label"] for path, row in before.items()
    }


def test_all_is_computed_again_on_request(batch: Batch) -> None:
    assert told(batch.run(**LIMITS, again=True).counts) == (10, 7, 0, 2, 1)
    assert batch.inferred == 7


def test_images_that_were_gone_for_a_while_are_known_from_a_run_that_was_kept(
    batch: Batch, tmp_path: Path
) -> None:
    before = batch.table("features")
    (batch.images / "Plum").rename(tmp_path / "Plum")  # which is no change of the files
    assert told(batch.run(**LIMITS).counts) == (4, 0, 3, 1, 0)
    (tmp_path / "Plum").rename(batch.images / "Plum")
    assert told(batch.run(**LIMITS).counts) == (10, 0, 7, 2, 1)
    assert (batch.read, batch.inferred) == ([], 0)
    assert batch.table("features") == before


def test_the_published_run_is_asked_first_and_two_others_as_they_started(batch: Batch) -> None:
    for run in ("z", "y", "x", "w"):
        batch.run(**LIMITS, run=run)
    output = open_folder(str(batch.output))
    pointer = BatchPointer("x", str(batch.images), "2026", "2026")
    (output / "results/b").write("current.json", to_json(asdict(pointer)))
    claim = runs.claim_run(output, "b", "now", str(batch.images), load_card().extractor)
    try:
        asked = [one.folder.uri for one in find_known(claim, load_card(), str(batch.images))]
    finally:
        claim.release()
    assert list(dict.fromkeys(uri.rpartition("/")[2] for uri in asked)) == ["x", "w", "y"]


def test_what_was_before_everything_was_computed_again_is_not_asked(
    batch: Batch, tmp_path: Path
) -> None:
    (batch.images / "Plum").rename(tmp_path / "Plum")
    assert told(batch.run(**LIMITS, again=True).counts) == (4, 3, 0, 1, 0)
    (tmp_path / "Plum").rename(batch.images / "Plum")
    assert told(batch.run(**LIMITS).counts) == (10, 4, 3, 2, 1)


def test_of_a_run_that_knows_no_more_the_features_are_not_read(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch.run(**LIMITS)
    (batch.images / "Kiwi/another.png").write_bytes(encoded(fruit(99)))
    folders = []
    read_features = known._read_features

    def reading(folder: LocalFolder, name: str) -> Any:
        folders.append(folder.uri.rpartition("/")[2])
        return read_features(folder, name)

    monkeypatch.setattr(known, "_read_features", reading)
    assert told(batch.run(**LIMITS).counts) == (11, 1, 7, 2, 1)
    assert set(folders) == {"r2"}


def test_another_extractor_knows_nothing(batch: Batch) -> None:
    """And when the first one's turn comes again, it finds its own, though it is not published."""
    assert told(batch.run(**LIMITS, full_decode=True).counts) == (10, 7, 0, 2, 1)
    assert told(batch.run(**LIMITS).counts) == (10, 0, 7, 2, 1)
    assert batch.read == []


def test_a_higher_limit_gives_what_was_too_large_another_chance(batch: Batch) -> None:
    receipt = batch.run(max_pixels=1_000_000, max_reject_rate=0.5)
    assert told(receipt.counts) == (10, 1, 7, 1, 1)
    assert receipt.counts.rejects == {"empty": 1}


def test_a_lower_limit_rejects_what_was_featurized(batch: Batch) -> None:
    batch.run(max_pixels=1_000_000, max_reject_rate=0.5)
    (batch.images / "Plum/large.png").rename(batch.images / "Plum/renamed.png")
    receipt = batch.run(max_pixels=100_000, max_reject_rate=0.5)
    assert told(receipt.counts) == (10, 0, 7, 2, 1)
    assert receipt.counts.rejects == {"empty": 1, "too-large": 1}


@pytest.mark.parametrize("reason", ["crashed", "timed-out", "out-of-memory"])
def test_what_may_end_otherwise_is_tried_again(
    batch: Batch, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    def failing(content: bytes, *given: Any, **how: Any) -> Any:
        if not content:
            raise RejectedImageError("decode", reason, "so it was said")
        return decode(content, *given, **how)

    with monkeypatch.context() as patch:
        patch.setattr(featurize, "decode", failing)
        counts = batch.run(**LIMITS, again=True).counts
        assert counts.rejects == {reason: 1, "too-large": 1}
    assert batch.run(**LIMITS).counts.rejects == {"empty": 1, "too-large": 1}
    assert batch.read == ["Kiwi/empty.jpg"]


def test_a_refused_read_is_tried_again(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    read_once = LocalFolder.read_once

    def refusing(folder: LocalFolder, name: str, **how: Any) -> Any:
        if name == "Kiwi/Kiwi_000.jpg" and how["limit"]:
            raise PermissionError("not you")
        return read_once(folder, name, **how)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFolder, "read_once", refusing)
        assert batch.run(**LIMITS, again=True).counts.rejects["unreadable"] == 1
    assert told(batch.run(**LIMITS).counts) == (10, 1, 6, 2, 1)


def test_what_may_not_be_read_is_refused_again_and_no_more(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image of all, from the first run on: what is left of a rerun is refused, whole."""
    read_once = LocalFolder.read_once

    def refusing(folder: LocalFolder, name: str, **how: Any) -> Any:
        if name == "Kiwi/Kiwi_000.jpg":
            raise RefusedError("not you")
        return read_once(folder, name, **how)

    monkeypatch.setattr(LocalFolder, "read_once", refusing)
    for again, computed, carried in ((True, 6, 0), (False, 0, 6)):
        counts = batch.run(**LIMITS, again=again).counts
        assert told(counts) == (10, computed, carried, 3, 1)
        assert counts.rejects == {"refused": 1, "empty": 1, "too-large": 1}


def test_a_reject_is_of_the_version_that_was_read(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the one that was listed a moment before."""
    path = batch.images / "Kiwi/Kiwi_001.jpg"
    good = path.read_bytes()

    def break_it(*given: Any) -> str:
        path.write_bytes(good[: len(good) // 2])
        return write_listing(*given)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_listing", break_it)
        assert batch.run(**LIMITS, again=True).counts.rejects["truncated"] == 1
    status = path.stat()
    (row,) = (row for row in batch.table("rejects") if row["reason"] == "truncated")
    times = f"{status.st_mtime_ns}-{status.st_ctime_ns}"
    assert (row["version"], row["bytes"]) == (f"{times}-{status.st_size}", len(good) // 2)
    path.write_bytes(good)
    assert told(batch.run(**LIMITS).counts) == (10, 1, 6, 2, 1)


def test_other_images_under_the_batchs_name_are_not_known(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of the wrong folder that died leaves nothing that the right one takes."""
    other = tmp_path / "other"
    shutil.copytree(batch.images, other)  # with the same sizes and times
    settings: dict[str, Any] = {"output": str(tmp_path / "elsewhere"), **LIMITS}
    with monkeypatch.context() as patch:
        patch.setattr(pipeline._Work, "_moments", _dies)
        with pytest.raises(ConnectionAbortedError):
            batch.run(images=str(other), **settings)
    assert told(batch.run(**settings).counts) == (10, 7, 0, 2, 1)


def test_what_a_run_that_died_had_finished_is_taken(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of several runs that died, one of them half written."""
    for name in ("one", "two"):
        (batch.images / f"Kiwi/{name}.png").write_bytes(encoded(fruit(ord(name[0]))))
        with monkeypatch.context() as patch:
            patch.setattr(pipeline._Work, "_moments", _dies)
            with pytest.raises(ConnectionAbortedError):
                batch.run(**LIMITS)
        assert batch.inferred == 1
    work = batch.output / "work/b"
    for folder in work.iterdir():
        (folder / "parts/part-99999-00.json").write_text("{half")
        (folder / "parts/part-99998-00.json").write_text("[]")
    assert told(batch.run(**LIMITS).counts) == (12, 0, 9, 2, 1)
    assert (batch.read, batch.inferred) == ([], 0)
    assert not list((batch.output / "work").iterdir())


def test_the_same_run_again_takes_what_it_had_finished(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch.images / "Kiwi/one.png").write_bytes(encoded(fruit(50)))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline._Work, "_moments", _dies)
        with pytest.raises(ConnectionAbortedError):
            batch.run(**LIMITS, run="same")
    assert told(batch.run(**LIMITS, run="same").counts) == (11, 0, 8, 2, 1)


def test_what_vanishes_while_it_is_copied_is_computed(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part that holds it may go with the run that it is of, at any time."""
    (batch.images / "Kiwi").rename(batch.images / "Gooseberry")
    find = known.KnownContents.find

    def find_and_lose(contents: known.KnownContents, content: bytes) -> tuple[int, int] | None:
        found = find(contents, content)
        shutil.rmtree(batch.output / "results/b/runs/r1", ignore_errors=True)
        known._read_features.cache_clear()
        return found

    monkeypatch.setattr(known.KnownContents, "find", find_and_lose)
    counts = batch.run(**LIMITS).counts
    assert told(counts) == (10, 3, 4, 2, 1)


def test_results_that_were_damaged_are_not_believed(batch: Batch) -> None:
    for file in (batch.output / "results/b/runs/r1/features").iterdir():
        file.unlink()
        file.write_bytes(b"not a table")
    assert told(batch.run(**LIMITS).counts) == (10, 7, 0, 2, 1)


def test_a_batch_whose_images_are_all_gone_is_told(batch: Batch) -> None:
    shutil.rmtree(batch.images)
    (batch.images / "Kiwi").mkdir(parents=True)
    with pytest.raises(NoImagesError):
        batch.run(**LIMITS)


def test_in_s3_a_version_is_an_etag(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "start_engine", lambda *_, **__: InlineEngine())
    root = open_folder(f"s3://{bucket}/{tmp_path.name}")
    for number in range(3):
        (root / "in/Kiwi").write(f"{number}.png", encoded(fruit(number)))
    base = JobSettings(f"{root.uri}/in", f"{root.uri}/out", "b", "r1")
    assert told(pipeline.run(base).counts) == (3, 3, 0, 0, 0)
    assert told(pipeline.run(replace(base, run="r2")).counts) == (3, 0, 3, 0, 0)
    (root / "in/Kiwi").write("1.png", encoded(fruit(70)))
    (root / "in/Plum").write("0.png", encoded(fruit(0)))
    assert told(pipeline.run(replace(base, run="r3")).counts) == (4, 1, 3, 0, 0)


def test_a_part_is_looked_up_where_its_paths_may_be(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    part = KnownPart(folder, "f", None, "b/1", "d/9", None, "abacus")
    assert part.may_hold("a", "b/1")
    assert part.may_hold("c", "c")
    assert not part.may_hold("a", "b/0")
    assert not part.may_hold("d/91", "z")
    assert not KnownPart(folder, "f", None, None, None, None, "abacus").may_hold("a", "a")


def test_what_is_left_is_told_in_bits(batch: Batch) -> None:
    """Which is all that the driver hears of the matching, whatever the number of images."""
    (batch.images / "Kiwi/another.png").write_bytes(encoded(fruit(99)))
    work = open_folder(str(batch.output / "elsewhere"))
    listing = list_images(open_folder(str(batch.images)))
    write_listing(work, listing, [len(listing)])
    runs = open_folder(str(batch.output / "results/b/runs/r1"))
    names = sorted(runs.entries(), key=lambda entry: entry.name)
    files = [one.name for one in names if one.name.startswith(contract.FEATURES)]
    ends = "Kiwi", "Plum/z", None, "abacus"
    parts = [KnownPart(runs, name.split("/")[1], None, *ends) for name in files]
    carrying = CarryingPass(work, load_card(), 100_000, "images", parts)
    found = carrying(0, Attempt(0, lambda _: None))
    unknown = found.unknown(len(listing))
    paths = listing.rows(0, len(listing))["path"].to_pylist()
    left = [path for path, missing in zip(paths, unknown, strict=True) if missing]
    assert left == ["Kiwi/another.png", "Kiwi/empty.jpg", "Plum/large.png", "Plum/raw.dng"]
    assert len(found.left) == 2
    assert np.sum(unknown) == 4


def _dies(*_: Any) -> None:
    raise ConnectionAbortedError("the power is out")
