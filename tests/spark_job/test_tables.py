"""The tables' files: anyone's Parquet reader reads them, and they say what made them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from spark_job import tables
from spark_job.objects import Folder, open_folder
from tests.spark_job.jobs import files_below

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LISTED = {"path": "string", "label": "string", "bytes": "int64", "version": "string"}

IDS = {"extractor": "e", "model": "m"}


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "out"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


@pytest.mark.parametrize(
    ("schema", "columns"),
    [
        (
            tables.features_schema(3),
            LISTED
            | {"sha256": "string", "phash": "int64", "chroma": "float"}
            | {"width": "int32", "height": "int32"}
            | {"format": "string", "features": "fixed_size_list<item: float>[3]"},
        ),
        (tables.REJECTS_SCHEMA, LISTED | dict.fromkeys(("stage", "reason", "detail"), "string")),
        (
            tables.vectors_schema(2),
            dict.fromkeys(("path", "label", "model"), "string")
            | {"vector": "fixed_size_list<item: float>[2]"},
        ),
    ],
    ids=["features", "rejects", "vectors"],
)
def test_a_tables_columns_are_the_documented_ones(
    schema: pa.Schema, columns: dict[str, str], tmp_path: Path
) -> None:
    assert {field.name: str(field.type) for field in schema} == columns
    tables.write_empty(open_folder(str(tmp_path)), "t.parquet", schema, IDS)
    read = parquet.read_table(tmp_path / "t.parquet")
    types = {field.name: str(field.type).replace("<element", "<item") for field in read.schema}
    assert types == columns, "Parquet calls the numbers of a list its elements"
    assert len(read) == 0
    described = duckdb.execute(f"describe select * from '{tmp_path}/t.parquet'").fetchall()
    assert [row[0] for row in described] == list(columns)


def test_the_ids_of_what_made_it_are_in_a_files_footer(output: Folder) -> None:
    tables.write_empty(output, "rejects/x.parquet", tables.REJECTS_SCHEMA, IDS)
    content = output.read("rejects/x.parquet")
    footer = parquet.read_metadata(io.BytesIO(content)).metadata
    assert (footer[b"orchard.extractor"], footer[b"orchard.model"]) == (b"e", b"m")


def test_rows_come_back_as_they_were_written(output: Folder) -> None:
    columns = [["a/1.jpg", "2.jpg"], ["a", None], [5, None], ["v", None]]
    more = [["decode", "read"], ["empty", "missing"], ["nothing", "gone"]]
    tables.write_table(output, "x.parquet", tables.REJECTS_SCHEMA, [*columns, *more], IDS)
    expected = dict(zip(tables.REJECTS_SCHEMA.names, [*columns, *more], strict=True))
    assert tables.read_table(output, "x.parquet").to_pydict() == expected
    some = tables.read_table(output, "x.parquet", ["reason", "path"])
    assert some.to_pydict() == {"reason": expected["reason"], "path": expected["path"]}


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    columns = [["a"], ["a"], ["no number"], ["v"], ["s"], ["r"], ["d"]]
    folder = open_folder(str(tmp_path))
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        tables.write_table(folder, "x.parquet", tables.REJECTS_SCHEMA, columns, IDS)
    assert files_below(tmp_path) == set()


def test_attempts_at_a_part_have_names_of_their_own_and_files_sort_by_part() -> None:
    assert tables.part_name(7) == "part-00007.parquet"
    assert tables.attempt_name(7, "ab") == "part-00007-ab.parquet"
    assert tables.attempt_name(7, "ab") != tables.attempt_name(7, "cd")
    names = [tables.part_name(part) for part in (0, 9, 10, 99_999)]
    assert names == sorted(names)


MATRICES = st.integers(1, 7).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(width=32, allow_nan=False), min_size=width, max_size=width),
        min_size=1,
        max_size=6,
    ).map(lambda rows: np.array(rows, np.float32))
)


@given(MATRICES, st.integers(0, 6))
@settings(deadline=None)
def test_a_matrix_becomes_lists_and_a_matrix_again(matrix: NDArray[np.float32], cut: int) -> None:
    column = pa.chunked_array([tables.as_lists(matrix)])
    assert column.to_pylist() == matrix.tolist()
    assert np.array_equal(tables.as_matrix(column), matrix)
    cut = min(cut, len(matrix))
    # A slice must not show its neighbours, nor a column of several chunks only one of them.
    assert np.array_equal(tables.as_matrix(column.slice(cut)), matrix[cut:])
    assert np.array_equal(tables.as_matrix(column.slice(0, cut)), matrix[:cut])
    chunked = pa.chunked_array([tables.as_lists(matrix[:cut]), tables.as_lists(matrix[cut:])])
    assert np.array_equal(tables.as_matrix(chunked), matrix)


@given(MATRICES)
@settings(deadline=None)
def test_a_matrix_survives_a_file_bit_for_bit(matrix: NDArray[np.float32]) -> None:
    schema = tables.vectors_schema(matrix.shape[1])
    file = io.BytesIO()
    with tables.open_table(file, schema, IDS) as writer:
        names = pa.array([str(row) for row in range(len(matrix))])
        columns = [names, names, names, tables.as_lists(matrix)]
        writer.write_table(pa.table(columns, schema=writer.schema))
    read = parquet.read_table(io.BytesIO(file.getvalue()))
    assert tables.as_matrix(read["vector"]).tobytes() == matrix.tobytes()


def test_vectors_as_csv_hold_the_same_numbers_in_the_same_order(output: Folder) -> None:
    random = np.random.default_rng(1)
    matrices = [random.standard_normal((rows, 3)).astype(np.float32) for rows in (4, 0, 2)]
    names = [["a/1.jpg", 'b/"2", x.jpg', "c/ü\n3.jpg", "4.jpg"], [], ["d/5.jpg", "d/6.jpg"]]
    labels = [["a", "b", "c", None], [], ["d", "d"]]
    files = []
    for number, (matrix, paths, label) in enumerate(zip(matrices, names, labels, strict=True)):
        columns = [paths, label, ["m"] * len(paths), tables.as_lists(matrix)]
        files.append(f"vectors/{number}.parquet")
        tables.write_table(output, files[-1], tables.vectors_schema(3), columns, IDS)
    tables.write_vectors_csv(output, files, 3)
    lines = csv.ParseOptions(newlines_in_values=True)
    read = csv.read_csv(io.BytesIO(output.read("vectors.csv")), parse_options=lines)
    assert read.column_names == ["path", "label", "v1", "v2", "v3"]
    assert read["path"].to_pylist() == [name for one in names for name in one]
    assert [label or None for label in read["label"].to_pylist()] == ["a", "b", "c", None, "d", "d"]
    found = np.array([read[name].to_numpy() for name in ("v1", "v2", "v3")], np.float32).T
    assert np.array_equal(found, np.concatenate(matrices))
