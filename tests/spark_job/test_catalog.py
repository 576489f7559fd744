from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from spark_job import catalog, pca
from spark_job.errors import UsageError
from spark_job.listing import SCHEMA
from spark_job.moments import Moments
from spark_job.objects import Folder, open_folder
from spark_job.passes import group_parts
from tests.spark_job.jobs import files_below

if TYPE_CHECKING:
    from pathlib import Path

SHA = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "out"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


@given(st.lists(SHA, max_size=8), st.randoms(use_true_random=False))
def test_a_sets_digest_depends_on_its_members_and_on_nothing_else(
    digests: list[str], random: Any
) -> None:
    whole = catalog.combine_digests(digests)
    assert len(whole) == 64
    cut = random.randint(0, len(digests))
    parts = [catalog.combine_digests(part) for part in (digests[:cut], digests[cut:])]
    random.shuffle(digests)
    assert catalog.combine_digests(digests) == catalog.combine_digests(parts) == whole


def test_images_that_are_twice_in_a_set_count_twice() -> None:
    one = "1".zfill(64)
    assert len({catalog.combine_digests([one] * times) for times in range(4)}) == 4


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
    assert len({catalog.model_id(other) for other in others}) == len(others)
    assert catalog.model_id(dict(reversed(base.items()))) == catalog.model_id(base)


def test_a_listing_is_read_part_by_part(output: Folder) -> None:
    names = [f"a/{number}.jpg" for number in range(10)]
    listing = pa.table([names, ["a"] * 10, list(range(10)), ["v"] * 10], schema=SCHEMA)
    parts = [5, 4, 1]
    catalog.write_listing(output, listing, parts)
    found = [catalog.read_part_of_listing(output, part) for part in range(3)]
    assert [part.num_rows for part in found] == parts
    assert pa.concat_tables(found).equals(listing)


def test_a_new_run_starts_from_nothing(output: Folder) -> None:
    left = catalog.run_folder(output, "b", "r")
    left.write("features/part-00007.parquet", b"of an attempt that crashed")
    left.write("failure.json", b"{}")
    other = catalog.run_folder(output, "b", "r2")
    other.write("run.json", b"{}")
    folder = catalog.claim_run(output, "b", "r", "images")
    assert folder.read_or_none("features/part-00007.parquet") is None
    assert folder.read_or_none("failure.json") is None
    assert other.read("run.json") == b"{}"


def test_a_published_run_is_never_claimed_again(output: Folder) -> None:
    publish(output, "r")
    with pytest.raises(UsageError, match=r"r holds a finished run; choose another --run"):
        catalog.claim_run(output, "b", "r", "images")
    catalog.claim_run(output, "b", "r2", "images")


def test_a_run_that_ended_just_before_its_publication_can_be_repeated(output: Folder) -> None:
    """The step that a state machine retries bears the same name."""
    catalog.write_json(catalog.run_folder(output, "b", "r"), "run.json", receipt("r"))
    folder = catalog.claim_run(output, "b", "r", "images")
    assert folder.read_or_none("run.json") is None


def test_a_batchs_name_belongs_to_its_images(output: Folder) -> None:
    publish(output, "r")
    with pytest.raises(UsageError, match="already holds a batch 'b', made from images"):
        catalog.claim_run(output, "b", "r2", "other images")


def test_the_pointer_is_written_after_the_receipt(
    output: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Folder.write

    def watch(folder: Folder, name: str, content: bytes) -> None:
        written.append(f"{folder.path.removeprefix(output.path)}/{name}")
        write(folder, name, content)

    monkeypatch.setattr(Folder, "write", watch)
    publish(output, "r")
    assert written[0] == "/results/b/runs/r/run.json"
    assert written[-1] == "/results/b/current.json"
    assert json.loads(output.read("results/b/current.json"))["run"] == "r"


def test_a_stored_model_is_never_modified(output: Folder) -> None:
    first, second = (
        pca.fit(Moments.of(np.random.default_rng(seed).standard_normal((9, 4))), components=2)
        for seed in (1, 2)
    )
    card = {"model": "m", "extractor": "e"}
    catalog.write_model(output, first, card)
    stored, stored_card = catalog.write_model(output, second, card | {"extractor": "f"})
    assert np.array_equal(stored.components, first.components)
    assert stored_card == json.loads(output.read("models/m/model.json")) == card


def test_there_is_no_current_model_before_one_is_published(output: Folder) -> None:
    assert catalog.read_current_model(output) is None
    model = pca.fit(Moments.of(np.eye(5)), components=2)
    catalog.write_model(output, model, {"model": "m"})
    assert catalog.read_current_model(output) is None
    publish(output, "r")
    found = catalog.read_current_model(output)
    assert found is not None
    assert found[1]["model"] == "m"
    assert np.array_equal(found[0].components, model.components)


def test_rows_that_a_lost_task_left_are_removed(output: Folder) -> None:
    table = catalog.REJECTS_SCHEMA.empty_table()
    for part in (0, 1, 2):
        catalog.write_part(output, "rejects", part, table, {"extractor": "e"})
    (output / "rejects").write(".part-00001.parquet.77.tmp", b"half")
    catalog.keep_only(output, "rejects", [0, 2])
    names = sorted(name.rpartition("/")[2] for name in (output / "rejects").files())
    assert names == ["part-00000.parquet", "part-00002.parquet"]


def test_ids_are_in_the_footer(output: Folder) -> None:
    table = catalog.REJECTS_SCHEMA.empty_table()
    catalog.write_part(output, "rejects", 3, table, {"extractor": "e", "model": "m"})
    path = f"{output.path}/rejects/part-00003.parquet"
    found = parquet.read_schema(path, filesystem=output.filesystem).metadata
    assert {found[b"orchard.extractor"], found[b"orchard.model"]} == {b"e", b"m"}


@given(
    arrays=st.integers(1, 7).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(width=32, allow_nan=False), min_size=width, max_size=width),
            min_size=1,
            max_size=6,
        )
    )
)
def test_a_matrix_becomes_lists_and_a_matrix_again(arrays: list[list[float]]) -> None:
    matrix = np.array(arrays, np.float32)
    column = pa.chunked_array([catalog.as_lists(matrix)])
    assert column.to_pylist() == matrix.tolist()
    assert np.array_equal(catalog.as_matrix(column), matrix)
    if len(matrix) > 1:  # a slice must not show its neighbours
        assert np.array_equal(catalog.as_matrix(column.slice(1)), matrix[1:])


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


def receipt(run: str) -> dict[str, Any]:
    return {
        "batch": "b",
        "run": run,
        "images": "images",
        "finished": "2026-11-20T00:00:00+00:00",
        "model": {"model": "m", "reused": False},
    }


def publish(output: Folder, run: str) -> None:
    catalog.publish(output, catalog.run_folder(output, "b", run), receipt(run))


def test_nothing_else_is_written_by_a_publication(tmp_path: Path) -> None:
    publish(open_folder(str(tmp_path)), "r")
    assert files_below(tmp_path) == {
        "results/b/runs/r/run.json",
        "results/b/current.json",
        "models/current.json",
    }
