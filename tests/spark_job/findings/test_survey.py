"""All of it on features tables: the same in cells as in one piece, bounded, and told truly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from spark_job import tables
from spark_job.findings import survey as room
from spark_job.findings.card import in_words
from spark_job.findings.outliers import Far, FarImage
from spark_job.findings.schemas import KINDS
from spark_job.findings.survey import survey
from spark_job.moments import Moments
from spark_job.objects import LocalFolder, open_folder
from tests.spark_job.findings.cells import around, directions
from tests.spark_job.inline import InlineEngine

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.findings.card import FindingsCard

D = 48
PER_FILE = 70


@dataclass(frozen=True)
class Found:
    """The card, and the tables by their names, each sorted."""

    card: FindingsCard
    tables: dict[str, pa.Table]

    def column(self, kind: str, name: str) -> list[Any]:
        values: list[Any] = self.tables[kind][name].to_pylist()
        return values


@dataclass(frozen=True)
class Batch:
    """A features table: heaps of like pictures, a label for each, and what is planted in them."""

    folder: Path
    rows: list[dict[str, Any]]
    features: np.ndarray[tuple[int, int], np.dtype[np.float32]]

    def look(self, far: Far | None = None) -> Found:
        work = open_folder(str(self.folder))
        names, rows = [], []
        for number, start in enumerate(range(0, len(self.rows), PER_FILE)):
            part = self.rows[start : start + PER_FILE]
            columns = [[row[field] for row in part] for field in tables.FeatureRow._fields]
            matrix = self.features[start : start + PER_FILE]
            names.append(tables.part_name(number))
            rows.append(len(part))
            schema = tables.features_schema(D)
            table = [*columns, tables.as_lists(matrix)]
            tables.write_table(work / "features", names[-1], schema, table, {})
        found = survey(InlineEngine(), work, names, rows, Moments.of(self.features))
        card, files = found.settle(work, {"extractor": "x"}, far or Far())
        read: dict[str, list[pa.Table]] = {kind: [] for kind in KINDS}
        for name, target in files:
            read[target.split("/")[1]].append(parquet.read_table(self.folder / name))
        by = {"rank", "path", "label"}
        joined = {kind: pa.concat_tables(some) for kind, some in read.items()}
        order = {kind: sorted(by & set(one.schema.names)) for kind, one in joined.items()}
        assert {kind: one.schema for kind, one in joined.items()} == KINDS
        return Found(
            card,
            {
                kind: one.sort_by([(name, "ascending") for name in order[kind][::-1]])
                for kind, one in joined.items()
            },
        )


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Eight heaps of 40 pictures each."""
    points = around(directions(8, D, seed=3), 40, 1.0)
    features = np.maximum(points + 0.4, 0).astype(np.float32) * 5
    hashes = np.random.default_rng(0).integers(-(2**63), 2**63, len(features))
    rows = [
        {
            "path": f"{'ABCDEFGH'[number // 40]}/{number:03d}.jpg",
            "label": "ABCDEFGH"[number // 40],
            "bytes": 1000 + number,
            "version": "v",
            "sha256": f"{number:064x}",
            "phash": int(hashes[number]),
            "chroma": 40.0,
            "width": 100,
            "height": 100,
            "format": "JPEG",
        }
        for number in range(len(features))
    ]
    return Batch(tmp_path / "work", rows, features)


def copied(batch: Batch, pairs: list[tuple[int, int]], apart: float = 0.0) -> None:
    """Make pictures copies of others: of the same content, or with features a little apart."""
    for source, target in pairs:
        noise = np.random.default_rng(target).standard_normal(D).astype(np.float32)
        batch.features[target] = batch.features[source] + apart * noise
        batch.rows[target]["phash"] = batch.rows[source]["phash"]
        if not apart:
            batch.rows[target]["sha256"] = batch.rows[source]["sha256"]


def test_a_clean_batch_has_nothing_to_show(batch: Batch) -> None:
    found = batch.look()
    card = found.card
    assert (card.images, card.identical, card.near, card.near_groups) == (320, 0, 0, 0)
    assert (card.suspects, card.cells, card.recall, card.labels) == (0, 1, 1.0, 8)
    assert len(found.tables["neighbours"]) == 320
    assert found.column("neighbours", "path") == sorted(row["path"] for row in batch.rows)
    assert all(len(one) == 10 for one in found.column("neighbours", "neighbours"))
    assert len(found.tables["outliers"]) == 20
    assert found.column("labels", "n") == [40] * 8
    assert found.column("labels", "agreeing") == [1.0] * 8
    assert all(len(one) == 8 for one in found.column("labels", "typical"))
    assert all(len(one) == 8 for one in found.column("labels", "least_typical"))
    assert sorted(found.column("selection", "label")[:8]) == list("ABCDEFGH")


def test_copies_are_grouped_and_the_largest_is_kept(batch: Batch) -> None:
    copied(batch, [(0, 41), (0, 82)])
    copied(batch, [(100, 101)], apart=0.01)
    batch.rows[101]["width"] = 400
    found = batch.look()
    rows = found.tables["duplicates"].to_pylist()
    told = {(row["group"], row["kind"], row["path"], row["keep"]) for row in rows}
    names = [batch.rows[number]["path"] for number in (0, 41, 82, 100, 101)]
    assert told == {
        (0, "identical", names[2], True),
        (0, "identical", names[1], False),
        (0, "identical", names[0], False),
        (1, "near", names[4], True),
        (1, "near", names[3], False),
    }
    card = found.card
    assert (card.identical, card.identical_groups, card.near, card.near_groups) == (3, 1, 5, 1)
    assert "3 images with the same content as another, 1 group of nearly" in in_words(card)


def test_frames_of_one_thing_are_told_and_not_listed(batch: Batch) -> None:
    copied(batch, [(40 * heap, 40 * heap + n) for heap in range(4) for n in range(1, 40)], 0.01)
    copied(batch, [(170, 300)])
    found = batch.look()
    assert found.card.near_groups is None
    assert found.card.near == 162
    assert found.card.near_share == pytest.approx(162 / 320)
    assert found.column("duplicates", "kind") == ["identical"] * 2
    assert "51% look nearly the same as another" in in_words(found.card)


def test_doubtful_labels_are_ranked_with_those_that_doubt_them(batch: Batch) -> None:
    for number in (3, 130):
        batch.rows[number]["label"] = "H"
    found = batch.look()
    assert found.card.suspects == 2
    assert sorted(found.column("suspects", "path")) == ["A/003.jpg", "D/130.jpg"]
    for row in found.tables["suspects"].to_pylist():
        assert row["label"] == "H"
        assert row["suggested"] == row["path"][0]
        assert row["votes"] == len(row["voters"]) > row["votes_own"]
        assert {voter[0] for voter in row["voters"]} == {row["suggested"]}
    labels = {row["label"]: row for row in found.tables["labels"].to_pylist()}
    assert labels["H"]["agreeing"] == pytest.approx(40 / 42)
    assert (labels["H"]["confused_with"], labels["H"]["confused"]) in {("A", 1), ("D", 1)}


def test_outliers_say_why_and_the_rarest_come_first(batch: Batch) -> None:
    batch.features[50] = np.maximum(directions(1, D, seed=77)[0] + 0.4, 0) * 5
    batch.rows[60]["chroma"] = 0.5
    far = Far((FarImage("C/090.jpg", "C", 0.9), FarImage("B/050.jpg", "B", 0.8)), 2)
    found = batch.look(far)
    first = found.tables["outliers"].to_pylist()[:3]
    told = {row["path"]: row["reason"] for row in first}
    assert told["B/050.jpg"] == "unlike the others; far outside the model"
    assert told["B/060.jpg"] == "without colour"
    assert told["C/090.jpg"] == "far outside the model"
    assert found.card.outliers >= 3
    assert found.column("outliers", "rank") == list(range(1, 21))


def test_what_stands_out_comes_before_what_is_only_the_most_unlike(batch: Batch) -> None:
    for row in batch.rows[60:74]:
        row["chroma"] = 0.5
    far = Far(tuple(FarImage(row["path"], "H", 0.9) for row in batch.rows[300:312]), 15)
    found = batch.look(far)
    rows = found.tables["outliers"].to_pylist()
    reasons = [row["reason"] for row in rows]
    standing = [row["reason"] != "unlike the others" or row["z"] >= 2.5 for row in rows]
    assert standing == sorted(standing, reverse=True)
    assert sum("without colour" in reason for reason in reasons) == 14
    assert sum("far outside the model" in reason for reason in reasons) == 12
    usual = sum(row["z"] >= 2.5 for row in rows if row["reason"] == "unlike the others")
    assert found.card.outliers == 14 + 15 + usual, "those that are too many to be named, too"


def test_a_content_counts_whichever_group_it_is_in(batch: Batch) -> None:
    copied(batch, [(0, 1)])
    copied(batch, [(0, 2)], apart=0.01)
    found = batch.look()
    assert (found.card.identical, found.card.identical_groups) == (2, 1)


def test_labels_of_one_image_each_are_no_mistakes(batch: Batch) -> None:
    for number, row in enumerate(batch.rows):
        row["label"] = f"L{number}"
    assert batch.look().card.suspects == 0


def test_what_is_usual_in_a_batch_is_no_reason(batch: Batch) -> None:
    for row in batch.rows[:40]:
        row["chroma"] = 0.0
    many = Far(tuple(FarImage(row["path"], "A", 0.9) for row in batch.rows[:40]), 40)
    found = batch.look(many)
    assert set(found.column("outliers", "reason")) == {"unlike the others"}


def test_in_cells_it_finds_what_it_finds_in_one_piece(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(batch, [(0, 41), (7, 8)])
    copied(batch, [(100, 101)], apart=0.01)
    batch.rows[3]["label"] = "H"
    whole = batch.look()
    monkeypatch.setattr(room, "count_cells", lambda _: 6)
    cells = batch.look()
    assert cells.card.cells == 6
    assert 0.95 < cells.card.recall <= 1
    assert whole.tables["duplicates"].equals(cells.tables["duplicates"])
    assert whole.tables["suspects"]["path"].equals(cells.tables["suspects"]["path"])
    assert whole.column("labels", "typical") == cells.column("labels", "typical")
    assert whole.column("labels", "least_typical") == cells.column("labels", "least_typical")
    assert len(cells.tables["neighbours"]) == 320
    same = [
        len(set(one) & set(other)) / 10
        for one, other in zip(
            whole.column("neighbours", "neighbours"),
            cells.column("neighbours", "neighbours"),
            strict=True,
        )
    ]
    assert np.mean(same) == pytest.approx(cells.card.recall, abs=0.03)


def test_a_cell_with_too_many_members_is_searched_in_pieces(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LARGEST", 100)
    found = batch.look()
    assert found.card.cells == 4
    assert len(found.tables["neighbours"]) == 320
    assert found.column("labels", "n") == [40] * 8


def test_copies_are_found_in_whichever_pieces_they_are(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(batch, [(0, target) for target in range(1, 12)])
    monkeypatch.setattr(room, "LARGEST", 100)
    found = batch.look()
    assert found.card.cells == 4
    assert (found.card.identical, found.card.identical_groups) == (12, 1)
    assert found.column("duplicates", "keep").count(True) == 1


def test_what_is_held_and_listed_is_bounded(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(batch, [(n, n + 1) for n in range(0, 60, 2)])
    for row in batch.rows[::4]:
        row["label"] = "Z"
    monkeypatch.setattr(room, "MOST_COPIES", 10)
    monkeypatch.setattr(room, "MOST_SUSPECTS", 5)
    found = batch.look()
    assert found.card.duplicates_listed == len(found.tables["duplicates"]) == 20
    assert found.card.duplicates_left_out == 20
    assert found.card.suspects > 5
    assert found.column("suspects", "rank") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("images", [2, 3, 11])
def test_very_few_images_are_looked_at_too(batch: Batch, images: int) -> None:
    few = Batch(batch.folder, batch.rows[:images], batch.features[:images])
    found = few.look()
    assert found.card.images == len(found.tables["neighbours"]) == images
    assert all(len(one) == min(10, images - 1) for one in found.column("neighbours", "distances"))
    assert len(found.tables["selection"]) == images


@pytest.mark.parametrize("without", [40, 320])
def test_images_without_a_label_are_looked_at_too(batch: Batch, without: int) -> None:
    for row in batch.rows[:without]:
        row["label"] = None
    found = batch.look()
    assert found.card.images == len(found.tables["neighbours"]) == 320
    assert found.card.suspects == 0
    assert found.column("labels", "label") == list("BCDEFGH")[: found.card.labels]
    assert found.card.labels == (320 - without) // 40


def test_the_files_name_the_extractor(batch: Batch) -> None:
    batch.look()
    file = LocalFolder(str(batch.folder), str(batch.folder)).path + "/findings/labels"
    metadata = parquet.read_metadata(f"{file}/part-00000.parquet").metadata
    assert metadata[b"orchard.extractor"] == b"x"
