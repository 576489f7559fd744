"""Athena's tables and the registrar: columns as the files have them, partitions as pointers say."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest

from spark_job import receipt_tables, tables
from stacks.batch.catalog import IMAGES_SQL, TABLES
from tests.stacks.answers import READ, TELL, first, gives, refuses
from tests.stacks.definitions import Answer, Outcome, execute, rendered, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

UPDATE = "aws-sdk:glue:updatePartition"
CREATE = "aws-sdk:glue:createPartition"

SCHEMAS = {
    "features": tables.features_schema(1280),
    "vectors": tables.vectors_schema(15),
    "rejects": tables.REJECTS_SCHEMA,
    # A partition's column may not be one of the table's as well.
    "runs": pa.schema([field for field in receipt_tables.RUN_SCHEMA if field.name != "batch"]),
}


def glue_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"map<{glue_type(kind.key_type)},{glue_type(kind.item_type)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"array<{glue_type(kind.value_type)}>"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    names = {"int64": "bigint", "int32": "int", "bool": "boolean"}
    return names.get(str(kind), str(kind))


def pointer(run: str) -> Answer:
    return gives({"Body": json.dumps({"contract": 1, "run": run})})


def written(key: str = "results/b/current.json") -> dict[str, Any]:
    return {"detail": {"bucket": {"name": "any"}, "object": {"key": key}}}


GOOD: Mapping[str, Answer] = {
    READ: pointer("run-1"),
    UPDATE: gives({}),
    CREATE: gives({}),
    TELL: gives({}),
}


@pytest.fixture(scope="module")
def definition(fruits: Synthesis) -> dict[str, Any]:
    return rendered(fruits.template, "Registrar")


def locations(outcome: Outcome, action: str = UPDATE) -> dict[str, str]:
    return {
        call["TableName"]: call["PartitionInput"]["StorageDescriptor"]["Location"]
        for call in outcome.asked(action)
    }


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_tables_columns_are_its_files(table: Any) -> None:
    expected = [(field.name, glue_type(field.type)) for field in SCHEMAS[table.name]]
    assert list(table.columns) == expected


def test_the_view_has_features_and_vector_in_one_row(fruits: Synthesis) -> None:
    connection = duckdb.connect()
    for table in TABLES:
        columns = ", ".join(
            f"{name} {kind.replace('array<float>', 'float[]').replace('string', 'varchar')}"
            for name, kind in (*table.columns, ("batch", "string"))
            if not kind.startswith("map")
        )
        connection.execute(f"create table {table.name} ({columns})")
    found = connection.execute(IMAGES_SQL).description
    view = fruits.one("AWS::Glue::Table", "Images")["TableInput"]
    assert [column[0] for column in found] == [
        column["Name"] for column in view["StorageDescriptor"]["Columns"]
    ]
    text = view["ViewOriginalText"].removeprefix("/* Presto View: ").removesuffix(" */")
    told = json.loads(base64.b64decode(text))
    assert told["originalSql"] == IMAGES_SQL
    assert [column["name"] for column in told["columns"]] == [column[0] for column in found]


def test_every_table_is_made_in_the_stacks_database(fruits: Synthesis) -> None:
    made = [
        resolve(fruits.template, table) for table in fruits.resources("AWS::Glue::Table").values()
    ]
    assert {table["TableInput"]["Name"] for table in made} == {
        "features",
        "vectors",
        "rejects",
        "runs",
        "images",
    }
    assert {table["DatabaseName"] for table in made} == {"fruits"}


def test_every_partition_follows_the_pointer(definition: dict[str, Any]) -> None:
    outcome = execute(definition, written(), GOOD)
    assert outcome.status == "SUCCEEDED"
    found = locations(outcome)
    assert set(found) == {table.name for table in TABLES}
    assert found["vectors"].endswith("/results/b/runs/run-1/vectors/")
    assert found["runs"].endswith("/results/b/runs/run-1/receipt/")
    for call in outcome.asked(UPDATE):
        assert call["PartitionValueList"] == call["PartitionInput"]["Values"] == ["b"]
        assert call["PartitionInput"]["StorageDescriptor"]["Columns"]
    assert not outcome.asked(CREATE)


def test_a_batchs_first_partitions_are_made(definition: dict[str, Any]) -> None:
    outcome = execute(
        definition, written(), {**GOOD, UPDATE: refuses("none", "Glue.EntityNotFoundException")}
    )
    assert outcome.status == "SUCCEEDED"
    assert set(locations(outcome, CREATE)) == {table.name for table in TABLES}


def test_two_events_at_once_make_one_partition(definition: dict[str, Any]) -> None:
    missing = refuses("none", "Glue.EntityNotFoundException")
    outcome = execute(
        definition,
        written(),
        {
            **GOOD,
            UPDATE: first(*[missing] * 4, gives({})),
            CREATE: refuses("there", "Glue.AlreadyExistsException"),
        },
    )
    assert outcome.status == "SUCCEEDED"


def test_a_pointer_that_moves_on_is_followed(definition: dict[str, Any]) -> None:
    outcome = execute(
        definition, written(), {**GOOD, READ: first(pointer("run-1"), pointer("run-2"))}
    )
    assert outcome.status == "SUCCEEDED"
    assert all("/run-2/" in location for location in locations(outcome).values())


def test_a_pointer_that_never_rests_is_left_to_its_own_events(definition: dict[str, Any]) -> None:
    moving = [pointer(f"run-{number}") for number in range(100)]
    assert execute(definition, written(), {**GOOD, READ: first(*moving)}).status == "SUCCEEDED"


def test_glues_refusal_is_told_and_undoes_nothing(definition: dict[str, Any]) -> None:
    outcome = execute(
        definition,
        written(),
        {**GOOD, UPDATE: refuses("denied"), CREATE: refuses("denied too")},
    )
    assert (outcome.status, outcome.error) == ("FAILED", "PartitionsRefused")
    assert "what batch b published, which is all there" in outcome.cause
    (told,) = outcome.asked(TELL)
    assert "results/b/current.json --metadata-directive REPLACE" in told["Message"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [(refuses("Access Denied"), "Access Denied"), (gives({"Body": "{}"}), "names no run")],
)
def test_a_pointer_that_says_nothing_is_told(
    definition: dict[str, Any], answer: Answer, says: str
) -> None:
    outcome = execute(definition, written(), {**GOOD, READ: answer})
    assert (outcome.status, outcome.error) == ("FAILED", "PointerUnreadable")
    assert says in outcome.cause


def test_what_only_bears_the_pointers_name_is_let_be(definition: dict[str, Any]) -> None:
    outcome = execute(definition, written("results/b/runs/r/current.json"), GOOD)
    assert outcome.status == "SUCCEEDED"
    assert not outcome.calls


def test_every_state_is_entered_by_some_case(definition: dict[str, Any]) -> None:
    missing = refuses("none", "Glue.EntityNotFoundException")
    moving = first(pointer("run-1"), pointer("run-2"))
    outcomes = [
        execute(definition, written(), answers)
        for answers in (
            {**GOOD, READ: moving},
            {**GOOD, READ: refuses("no")},
            {**GOOD, READ: gives({"Body": "{}"})},
            {**GOOD, UPDATE: missing, CREATE: refuses("no")},
            {**GOOD, TELL: refuses("no"), READ: refuses("no")},
        )
    ]
    outcomes.append(execute(definition, written("results/b/runs/r/current.json"), GOOD))
    states = definition["States"]
    inner = states["ForEachTable"]["ItemProcessor"]["States"]
    assert {state for outcome in outcomes for state in outcome.states} == {*states, *inner}
