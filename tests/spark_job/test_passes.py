"""The passes over the features table: nothing lost, nothing out of order, files of good sizes."""

from __future__ import annotations

import pickle
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_job import passes, pca, tables
from spark_job.drift import Observed, losses
from spark_job.engines import Attempt
from spark_job.moments import Moments
from spark_job.objects import Folder, open_folder
from spark_job.parts import features_digest
from spark_job.passes import (
    JoiningPass,
    MomentsPass,
    ProjectionPass,
    choose_sample,
    group_parts,
    plan_vectors,
    read_observed,
)
from spark_job.receipts import EMPTY_DIGEST, add_digests
from spark_job.samples import Sample, evenly

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = 4
IDS = {"extractor": "e", "model": "m"}


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 20))
def test_parts_with_rows_are_grouped_once_each_and_in_order(rows: list[int], most: int) -> None:
    groups = group_parts(rows, most)
    flat = [part for group in groups for part in group]
    assert flat == [part for part, count in enumerate(rows) if count]
    assert len(groups) <= most
    assert all(groups)
    share = sum(rows) / most
    for group in groups:  # as even as whole parts allow
        assert sum(rows[part] for part in group) <= share + max(rows)


@given(st.integers(1, 50_000_000), st.integers(1, 1280), st.integers(1, 1000))
def test_vectors_files_are_as_large_as_readers_like_them(rows: int, k: int, slots: int) -> None:
    files, pieces = plan_vectors(rows, k, slots)
    size = rows * 4 * k / files
    assert size <= 128e6
    if files > 1:
        assert size >= 64e6
    assert files * pieces >= slots, "no slot waits"
    assert pieces == 1 or (pieces - 1) * files < slots, "no more pieces than that takes"


@pytest.mark.parametrize(
    ("rows", "k", "slots", "plan"),
    [
        (1_000, 200, 1, (1, 1)),
        (1_000, 200, 4, (1, 4)),
        (160_000, 200, 4, (1, 4)),  # 128 MB
        (160_001, 200, 4, (2, 2)),
        (10_000_000, 200, 64, (63, 2)),
        (10_000_000, 200, 16, (63, 1)),
    ],
)
def test_vectors_files_of_some_batches(
    rows: int, k: int, slots: int, plan: tuple[int, int]
) -> None:
    assert plan_vectors(rows, k, slots) == plan


@pytest.fixture
def work(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "work"))


def write_features(work: Folder, sizes: list[int]) -> tuple[list[str], NDArray[np.float32]]:
    """Files of random features, as the featurizer writes them; their names, and all features."""
    random = np.random.default_rng(5)
    matrix = random.standard_normal((sum(sizes), WIDTH)).astype(np.float32)
    files, start = [], 0
    for part, size in enumerate(sizes):
        numbers = range(start, start + size)
        rows = [(f"l/{n}.jpg", "l", 1, "v", "0", 0, 9.0, 1, 1, "JPEG") for n in numbers]
        columns: list[Any] = [*zip(*rows, strict=True)]
        columns.append(tables.as_lists(matrix[start : start + size]))
        files.append(tables.attempt_name(part, "x"))
        schema = tables.features_schema(WIDTH)
        tables.write_table(work / "features", files[-1], schema, columns, IDS)
        start += size
    return files, matrix


FIRST = Attempt(0, lambda _: None)
ALL = np.arange(3)


def test_groups_moments_add_up_to_those_of_all_features(work: Folder) -> None:
    files, matrix = write_features(work, [5, 1, 3, 2])
    groups = [files[:1], files[1:3], files[3:]]
    chosen = choose_sample([5, 1, 3, 2], [[0], [1, 2], [3]])
    do: MomentsPass = pickle.loads(pickle.dumps(MomentsPass(work, groups, WIDTH, chosen)))
    receipts = [do(group, FIRST) for group in range(len(groups))]
    assert [receipt.n for receipt in receipts] == [5, 4, 2]
    parts = [Moments.from_bytes(work.read(receipt.file)) for receipt in receipts]
    merged, whole = reduce(Moments.merge, parts), Moments.of(matrix)
    assert merged.n == whole.n
    assert np.allclose(merged.mean, whole.mean, rtol=1e-12)
    assert np.allclose(merged.scatter, whole.scatter, rtol=1e-12, atol=1e-12)
    paths = [f"l/{number}.jpg" for number in range(11)]
    assert add_digests(receipt.features for receipt in receipts) == features_digest(paths, matrix)


@pytest.mark.parametrize("most", [1, 4, 11, 100])
def test_groups_samples_are_evenly_of_all_rows_and_come_with_the_moments(
    work: Folder, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(passes, "IMAGES", most)
    sizes = [5, 1, 3, 2]
    files, matrix = write_features(work, sizes)
    expected = evenly(11, most)
    for grouped in ([[0, 1, 2, 3]], [[0], [1, 2], [3]], [[0, 1], [2, 3]]):
        groups = [[files[part] for part in group] for group in grouped]
        do = MomentsPass(work, groups, WIDTH, choose_sample(sizes, grouped))
        receipts = [do(group, FIRST) for group in range(len(groups))]
        found = [Sample.from_bytes(work.read(one.sample)) for one in receipts]
        names = [path for one in found for path in one.paths.tolist()]
        rows = [int(name.removeprefix("l/").removesuffix(".jpg")) for name in names]
        assert sorted(rows) == expected.tolist()
        features = np.concatenate([one.features for one in found])
        assert np.array_equal(features, matrix[rows].astype(np.float16))
        assert {label for one in found for label in one.labels.tolist()} == {"l"}


def test_features_that_changed_on_the_disk_have_another_digest(work: Folder) -> None:
    files, _ = write_features(work, [2])
    before = MomentsPass(work, [files], WIDTH, [ALL])(0, FIRST)
    table = tables.read_table(work, f"features/{files[0]}")
    features = tables.as_matrix(table["features"]).copy()
    features[1, 2] = np.nextafter(features[1, 2], np.float32(9))
    columns = [*(table[name].combine_chunks() for name in table.column_names[:-1])]
    columns.append(tables.as_lists(features))
    schema = tables.features_schema(WIDTH)
    tables.write_table(work / "features", files[0], schema, columns, IDS)
    after = MomentsPass(work, [files], WIDTH, [ALL])(0, FIRST)
    assert EMPTY_DIGEST != after.features != before.features


def test_two_attempts_at_a_group_write_two_files(work: Folder) -> None:
    files, matrix = write_features(work, [3])
    model = pca.fit(Moments.of(matrix), components=1)
    moments = MomentsPass(work, [files], WIDTH, [ALL])
    for do in (moments, ProjectionPass(work, [files], model, IDS)):
        assert do(0, FIRST).file != do(0, FIRST).file
    assert moments(0, FIRST).sample != moments(0, FIRST).sample


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_vectors_keep_the_order_of_the_features_whether_joined_or_not(
    work: Folder, pieces: int
) -> None:
    files, matrix = write_features(work, [5, 1, 3, 2])
    model = pca.fit(Moments.of(matrix), components=2)
    groups = [[files[number] for number in group] for group in group_parts([5, 1, 3, 2], 4)]
    projected = [ProjectionPass(work, groups, model, IDS)(n, FIRST) for n in range(len(groups))]
    joined = [projected[start : start + pieces] for start in range(0, len(projected), pieces)]
    vectors = [JoiningPass(work, joined, 2, IDS)(number, FIRST) for number in range(len(joined))]
    assert sum(one.rows for one in vectors) == len(matrix)
    read = [tables.read_table(work, one.file) for one in vectors]
    assert [len(table) for table in read] == [one.rows for one in vectors]
    paths = [path for table in read for path in table["path"].to_pylist()]
    assert paths == [f"l/{number}.jpg" for number in range(len(matrix))]
    found = np.concatenate([tables.as_matrix(table["vector"]) for table in read])
    assert np.array_equal(found, model.project(matrix))
    assert {model for table in read for model in table["model"].to_pylist()} == {"m"}
    assert all(table.schema.metadata[b"orchard.model"] == b"m" for table in read)
    largest = float(np.abs(model.standardize(matrix)).max())
    assert max(one.largest_z for one in vectors) == largest


@pytest.mark.parametrize("pieces", [1, 2])
def test_what_a_drift_card_needs_is_added_up_on_the_way(work: Folder, pieces: int) -> None:
    files, matrix = write_features(work, [5, 1, 3, 2])
    model = pca.fit(Moments.of(matrix[:6]), components=2)
    groups = [[files[0], files[1]], [files[2]], [files[3]]]
    do: ProjectionPass = pickle.loads(
        pickle.dumps(ProjectionPass(work, groups, model, IDS, drift=True))
    )
    vectors = [do(group, FIRST) for group in range(3)]
    if pieces > 1:
        joined = [vectors[:2], vectors[2:]]
        vectors = [JoiningPass(work, joined, 2, IDS)(number, FIRST) for number in range(2)]
    scaled = model.standardize(matrix)
    expected = Observed.of(model, ["l"] * 11, scaled, model.rotate(scaled))
    found = read_observed(work, vectors)
    assert found.labels == expected.labels
    assert np.array_equal(found.odds, expected.odds)
    assert np.allclose(found.sums, expected.sums)
    plain = ProjectionPass(work, groups, model, IDS)(0, FIRST)
    assert plain.drift == ()


def test_images_far_outside_the_model_are_named_and_counted(work: Folder) -> None:
    files, matrix = write_features(work, [5, 1, 3, 2])
    model = pca.fit(Moments.of(matrix[:6]), components=2)
    scaled = model.standardize(matrix)
    odds, _ = losses(model, scaled, model.rotate(scaled))
    limit = float(np.sort(odds)[-4])
    groups = [[files[0], files[1]], [files[2], files[3]]]
    do = ProjectionPass(work, groups, model, IDS, drift=True, far=limit)
    joined = JoiningPass(work, [[do(0, FIRST), do(1, FIRST)]], 2, IDS)(0, FIRST)
    assert joined.far.all == 3
    farthest = np.argsort(-odds)[:3]
    assert [one.path for one in joined.far.images] == [f"l/{row}.jpg" for row in farthest]
    assert joined.far.images[0].loss == pytest.approx(1 / (1 + np.exp(-odds[farthest[0]])))
