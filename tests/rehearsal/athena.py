"""Athena over the local Glue and S3: its API as the trial uses it, its answers DuckDB's.

It shows that tables, partitions and the view lead to the right files, and that a query is one that
a database can answer; not that Athena's own dialect, its Parquet reader or its rights are as hoped.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import duckdb

from tests.stacks.definitions import check_call

if TYPE_CHECKING:
    from pathlib import Path

    from rehearsal.local_cloud import LocalCloud


class LocalAthena:
    """A stand-in for boto3's client of Athena.

    Parameters
    ----------
    cloud
        Whose tables are queried.
    folder
        Where the partitions' files are fetched to.
    """

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        self._cloud = cloud
        self._folder = folder
        self._rows: list[tuple[Any, ...]] = []

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Answer a query from the partitions as they are now."""
        glue, database = self._cloud.endpoint.client("glue"), self._cloud.deployment.outputs
        name = database["Database"]
        tables = glue.get_tables(DatabaseName=name)["TableList"]
        with duckdb.connect() as connection:
            for table in tables:
                if table["TableType"] != "VIRTUAL_VIEW":
                    self._make_table(connection, name, table)
            for table in tables:
                if table["TableType"] == "VIRTUAL_VIEW":
                    encoded = table["ViewOriginalText"].split()[3]
                    view = json.loads(base64.b64decode(encoded))
                    connection.execute(f"create view {table['Name']} as {view['originalSql']}")
            return connection.execute(sql).fetchall()

    def start_query_execution(self, **given: Any) -> dict[str, Any]:
        check_call("aws-sdk:athena:startQueryExecution", given)
        assert given["QueryExecutionContext"] == {
            "Database": self._cloud.deployment.outputs["Database"]
        }
        self._rows = self.query(given["QueryString"])
        return {"QueryExecutionId": "q-1"}

    def get_query_execution(self, **given: Any) -> dict[str, Any]:
        check_call("aws-sdk:athena:getQueryExecution", given)
        return {"QueryExecution": {"Status": {"State": "SUCCEEDED"}}}

    def get_query_results(self, **given: Any) -> dict[str, Any]:
        check_call("aws-sdk:athena:getQueryResults", given)
        rows = [("_col0",), *self._rows]
        return {
            "ResultSet": {
                "Rows": [{"Data": [{"VarCharValue": str(cell)} for cell in row]} for row in rows]
            },
            "ResponseMetadata": {"RequestId": "athena-1"},
        }

    def _make_table(
        self, connection: duckdb.DuckDBPyConnection, database: str, table: dict[str, Any]
    ) -> None:
        name = table["Name"]
        found = self._cloud.endpoint.client("glue").get_partitions(
            DatabaseName=database, TableName=name
        )["Partitions"]
        columns = [column["Name"] for column in table["StorageDescriptor"]["Columns"]]
        selects = []
        for partition in found:
            (batch,) = partition["Values"]
            prefix = partition["StorageDescriptor"]["Location"].split("/", 3)[3]
            self._cloud.fetch(prefix, self._folder)
            # A batch without rejects has no file of them.
            if list((self._folder / prefix).glob("*.parquet")):
                files = f"{self._folder}/{prefix}*.parquet"
                quoted = ", ".join(f'"{column}"' for column in columns)
                selects.append(f"select {quoted}, '{batch}' as batch from '{files}'")
        if selects:
            connection.execute(f"create view {name} as {' union all '.join(selects)}")
