"""``orchard sql``: what is published, as it is now, in whatever shapes its runs left it."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from orchard import published, querying
from spark_job import contract
from spark_job.tables import read_table
from tests.orchard.command import refusal, rows, succeed
from tests.spark_job.published import WIDTH, publish_batch

if TYPE_CHECKING:
    from orchard.published import Tables
    from spark_job.objects import Folder


def records(query: str, output: Folder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(succeed("sql", query, "--json", output=output).stdout)
    return found


def write_parquet(folder: Folder, name: str, table: pa.Table) -> None:
    with folder.create(name) as stream:
        parquet.write_table(table, stream)


def test_the_published_run_of_each_batch_is_read_and_no_other(output: Folder) -> None:
    publish_batch(output, "apples", 10)
    apples = publish_batch(output, "apples", 12)
    publish_batch(output, "plums", 20)
    publish_batch(output, "plums", 30, publish=False)
    counted = "select batch, run, count(*) as n from vectors group by all order by batch"
    found = records(counted, output)
    assert [(one["batch"], one["n"]) for one in found] == [("apples", 12), ("plums", 20)]
    assert found[0]["run"] == apples.run
    again = publish_batch(output, "apples", 14)
    [replaced] = records(
        "select any_value(run) as run, count(*) as n from features where batch = 'apples'", output
    )
    assert replaced == {"run": again.run, "n": 14}


def test_every_table_has_batch_and_run_and_images_has_features_and_vector(output: Folder) -> None:
    receipt = publish_batch(output, "apples")
    for table in ("features", "vectors", "images", "rejects", "runs"):
        [row] = records(f"select batch, run from {table} limit 1", output)
        assert row == {"batch": "apples", "run": receipt.run}
    [image] = records(
        "select len(features) as d, len(vector) as k, model from images limit 1", output
    )
    assert image == {"d": WIDTH, "k": receipt.model.k, "model": receipt.model.model}
    assert records("select count(*) as n from images", output) == [{"n": 12}]
    assert records("select path, reason from rejects", output) == [
        {"path": "Fruit/bad.jpg", "reason": "empty"}
    ]
    [run] = records("select finished - started as took, reasons, seconds from runs", output)
    assert run["reasons"] == {"empty": 1}
    named = records("show tables", output)
    assert [one["name"] for one in named] == ["features", "images", "rejects", "runs", "vectors"]


def test_vectors_of_different_models_are_in_one_table(output: Folder) -> None:
    first = publish_batch(output, "apples")
    succeed("models", "build", "--batches=apples", "--components=1", "--use", output=output)
    second = publish_batch(output, "plums")
    assert first.model.k != second.model.k
    found = records("select batch, len(vector) as k from vectors group by all order by 1", output)
    assert [one["k"] for one in found] == [first.model.k, second.model.k]


def test_a_column_that_an_older_run_lacks_is_null_in_it(output: Folder) -> None:
    receipt = publish_batch(output, "apples")
    publish_batch(output, "plums")
    run = output / contract.run_folder("apples", receipt.run)
    for name in [entry.name for entry in run.entries() if entry.name.startswith("features/")]:
        write_parquet(run, name, read_table(run, name).drop_columns(["phash", "width"]))
    found = records("select batch, count(phash) as n from features group by all order by 1", output)
    assert found == [{"batch": "apples", "n": 0}, {"batch": "plums", "n": 12}]
    joined = records("select count(*) as n, sum(width) as w from images", output)
    assert joined == [{"n": 24, "w": 12 * 9}]


def test_findings_are_a_table_for_each_kind(output: Folder) -> None:
    receipt = publish_batch(output, "apples")
    publish_batch(output, "plums")
    run = output / contract.run_folder("apples", receipt.run)
    table = pa.table({"path": ["a", "b"], "group": [1, 1]})
    write_parquet(run, f"{contract.FINDINGS}/duplicates/part-00000.parquet", table)
    found = records("select * from findings_duplicates order by path", output)
    of = {"batch": "apples", "run": receipt.run}
    assert found == [of | {"path": "a", "group": 1}, of | {"path": "b", "group": 1}]


def test_columns_that_do_not_go_together_are_told(local: Folder) -> None:
    for batch, column in (("apples", [1]), ("plums", ["one"])):
        run = local / contract.run_folder(batch, publish_batch(local, batch).run)
        table = pa.table({"group": column})
        write_parquet(run, f"{contract.FINDINGS}/duplicates/part-00000.parquet", table)
    assert (
        "the tables findings_duplicates of the batches 'plums' and 'apples' have columns that do "
        "not go together" in refusal("sql", "select * from findings_duplicates", output=local)
    )


def test_rows_are_lines_csv_or_json(local: Folder) -> None:
    publish_batch(local, "apples")
    query = (
        "select 'a,\tb' as text, null as nothing, [1.5] as list, sum(bytes) as sum from features"
    )
    assert rows(succeed("sql", query, output=local)) == [
        {"text": "a,\\tb", "nothing": "", "list": "[1.5]", "sum": "1200"}
    ]
    written = succeed("sql", query, "--csv", output=local).stdout
    assert list(csv.DictReader(io.StringIO(written))) == [
        {"text": "a,\tb", "nothing": "", "list": "[1.5]", "sum": "1200"}
    ]
    assert records(query, local) == [{"text": "a,\tb", "nothing": None, "list": [1.5], "sum": 1200}]
    odd = records("select 1/0.0 as inf, 1 as n, 2 as n, date '2026-11-20' as day", local)
    assert odd == [{"inf": None, "n": 1, "n_1": 2, "day": "2026-11-20"}]
    assert records("select * from vectors where batch = 'none'", local) == []


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("selec 1", 'syntax error at or near "selec"; correct the query'),
        ("select nope from vectors", '`orchard sql "describe vectors"` names the columns'),
        (
            "select * from vector",
            'Did you mean "vectors"?; the tables are features, rejects, runs,',
        ),
        ("select sum(label) from vectors", "'sum(VARCHAR)'"),
        (" ", 'the query is empty; `orchard sql "show tables"` names the tables'),
        ("select * from output", "Table with name output does not exist"),  # a variable of ours
    ],
)
def test_a_query_that_is_wrong_is_a_sentence(local: Folder, query: str, sentence: str) -> None:
    publish_batch(local, "apples")
    told = refusal("sql", query, output=local)
    assert sentence in told
    assert "LINE 1" not in told


def test_an_output_without_a_published_batch_is_told(local: Folder) -> None:
    publish_batch(local, "apples", publish=False)
    assert "has no published batch to query; `orchard run DIR` makes one" in refusal(
        "sql", "select 1", output=local
    )
    assert "say one of them" in refusal("sql", "select 1", "--json", "--csv", output=local)


def test_a_run_that_is_removed_meanwhile_is_told(
    output: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = publish_batch(output, "apples")
    find = published.find_tables

    def race(root: Folder) -> Tables:
        found = find(root)
        (root / contract.run_folder("apples", receipt.run) / contract.VECTORS).clear()
        return found

    monkeypatch.setattr(querying, "find_tables", race)
    sentence = refusal("sql", "select * from vectors", output=output, code=1)
    assert sentence.startswith("a run was removed while it was read (")
    assert sentence.endswith("; ask again")


def test_a_damaged_file_is_told(output: Folder) -> None:
    run = output / contract.run_folder("apples", publish_batch(output, "apples").run)
    name = "vectors/part-00000.parquet"
    run.write(name, run.read(name)[:-1] + b"?")
    sentence = refusal("sql", "select * from vectors", output=output, code=1)
    assert sentence.startswith("a table cannot be read (")
    assert sentence.endswith("; run its batch again with --again")
