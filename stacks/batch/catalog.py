"""Athena's tables over the published runs: a Glue database, and a partition for each batch.

A partition's location is the run that the batch's pointer names, so a query is right over all
batches, whoever published them; `stacks.batch.registrar` keeps it so. The columns are those of the
Parquet files, which a test holds them to. That Athena reads them so is from its documentation, and
not tried on AWS.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Stack, aws_athena, aws_glue
from constructs import Construct

from spark_job import contract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stacks.config import OrchardConfig
    from stacks.storage import Storage

_LISTING: Final = (
    ("path", "string"),
    ("label", "string"),
    ("bytes", "bigint"),
    ("version", "string"),
)
_COUNTS: Final = "map<string,bigint>"
_SECONDS: Final = "map<string,double>"


@dataclass(frozen=True)
class Table:
    """A table: its folder in a run, and its columns with Glue's types."""

    name: str
    folder: str
    columns: tuple[tuple[str, str], ...]

    @property
    def glue_columns(self) -> list[dict[str, str]]:
        """The columns as Glue's API has them."""
        return [{"Name": name, "Type": kind} for name, kind in self.columns]


TABLES: Final = (
    Table(
        contract.FEATURES,
        contract.FEATURES,
        (
            *_LISTING,
            ("sha256", "string"),
            ("phash", "bigint"),
            ("chroma", "float"),
            ("width", "int"),
            ("height", "int"),
            ("format", "string"),
            ("features", "array<float>"),
        ),
    ),
    Table(
        contract.VECTORS,
        contract.VECTORS,
        (("path", "string"), ("label", "string"), ("model", "string"), ("vector", "array<float>")),
    ),
    Table(
        contract.REJECTS,
        contract.REJECTS,
        (*_LISTING, ("stage", "string"), ("reason", "string"), ("detail", "string")),
    ),
    Table(
        contract.RUNS,
        contract.RECEIPT_TABLE.rpartition("/")[0],
        (
            # Not `batch`: that is the partition.
            ("run", "string"),
            ("images", "string"),
            ("started", "timestamp"),
            ("finished", "timestamp"),
            ("listed", "bigint"),
            ("computed", "bigint"),
            ("carried_over", "bigint"),
            ("rejected", "bigint"),
            ("unsupported", "bigint"),
            ("reasons", _COUNTS),
            ("network", "string"),
            ("extractor", "string"),
            ("model", "string"),
            ("model_reused", "boolean"),
            ("k", "int"),
            ("variance_kept", "double"),
            ("variance_kept_here", "double"),
            ("largest_z", "double"),
            ("engine", "string"),
            ("slots", "int"),
            ("processors", _COUNTS),
            ("images_per_second", "double"),
            ("seconds", "double"),
            ("stages", _SECONDS),
            ("dollars", "double"),
        ),
    ),
)

IMAGES_SQL: Final = (
    "SELECT f.batch, f.path, f.label, f.bytes, f.version, f.sha256, f.phash, f.chroma, f.width,"
    " f.height, f.format, f.features, v.model, v.vector"
    " FROM features f JOIN vectors v ON f.batch = v.batch AND f.path = v.path"
)
"""The view that has features and vector of an image in one row."""

_VIEW_COLUMNS: Final = (
    ("batch", "varchar", "string"),
    ("path", "varchar", "string"),
    ("label", "varchar", "string"),
    ("bytes", "bigint", "bigint"),
    ("version", "varchar", "string"),
    ("sha256", "varchar", "string"),
    ("phash", "bigint", "bigint"),
    ("chroma", "real", "float"),
    ("width", "integer", "int"),
    ("height", "integer", "int"),
    ("format", "varchar", "string"),
    ("features", "array(real)", "array<float>"),
    ("model", "varchar", "string"),
    ("vector", "array(real)", "array<float>"),
)

_PARQUET: Final[dict[str, Any]] = {
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "SerdeInfo": {
        "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    },
}


def storage_descriptor(columns: Sequence[dict[str, str]] | str, location: str) -> dict[str, Any]:
    """Return the storage of a partition as Glue's API has it; paths are into a state's data."""
    column_key = "Columns.$" if isinstance(columns, str) else "Columns"
    return {column_key: columns, "Location.$": location, **_PARQUET}


class Catalog(Construct):
    """The database, its tables, its view, and a workgroup to query them in.

    Attributes
    ----------
    database
        Its name: the stack's, in small letters.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: OrchardConfig, storage: Storage
    ) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        self.database = database_name(stack.stack_name)
        database = aws_glue.CfnDatabase(
            self,
            "Database",
            catalog_id=stack.account,
            database_input=aws_glue.CfnDatabase.DatabaseInputProperty(
                name=self.database,
                description=f"Orchard: what the published runs of {config.dataset} hold",
            ),
        )
        for table in TABLES:
            self._table(
                table.name,
                database,
                {
                    "TableType": "EXTERNAL_TABLE",
                    "Parameters": {"classification": "parquet", "EXTERNAL": "TRUE"},
                    "PartitionKeys": [{"Name": "batch", "Type": "string"}],
                    "StorageDescriptor": {
                        "Columns": table.glue_columns,
                        # Nothing lies here: every batch is a partition with a location of its own.
                        "Location": f"s3://{storage.data.bucket_name}/{contract.RESULTS}/",
                        **_PARQUET,
                    },
                },
            )
        self._table("images", database, _view(self.database, IMAGES_SQL))
        aws_athena.CfnWorkGroup(
            self,
            "WorkGroup",
            name=stack.stack_name,
            description="Queries over Orchard's results",
            recursive_delete_option=True,
            work_group_configuration=aws_athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                result_configuration=aws_athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=f"s3://{storage.logs.bucket_name}/athena/",
                    encryption_configuration=(
                        aws_athena.CfnWorkGroup.EncryptionConfigurationProperty(
                            encryption_option="SSE_S3"
                        )
                    ),
                ),
            ),
        )

    def _table(self, name: str, database: aws_glue.CfnDatabase, given: dict[str, Any]) -> None:
        table = aws_glue.CfnTable(
            self,
            name.capitalize(),
            catalog_id=Stack.of(self).account,
            database_name=self.database,
            table_input=aws_glue.CfnTable.TableInputProperty(name=name),
        )
        # In the words of Glue's API, as the registrar says them.
        for key, value in given.items():
            table.add_property_override(f"TableInput.{key}", value)
        table.add_resource_dependency(database)


def database_name(stack_name: str) -> str:
    """Return the name of a stack's database: letters, digits and underscores."""
    return stack_name.lower().replace("-", "_")


def _view(database: str, sql: str) -> dict[str, Any]:
    """Return a view as Athena keeps it in Glue."""
    view = {
        "originalSql": sql,
        "catalog": "awsdatacatalog",
        "schema": database,
        "columns": [{"name": name, "type": kind} for name, kind, _ in _VIEW_COLUMNS],
    }
    encoded = base64.b64encode(json.dumps(view).encode()).decode()
    return {
        "TableType": "VIRTUAL_VIEW",
        "Parameters": {"presto_view": "true"},
        "ViewOriginalText": f"/* Presto View: {encoded} */",
        "ViewExpandedText": "/* Presto View */",
        "PartitionKeys": [],
        "StorageDescriptor": {
            "Columns": [{"Name": name, "Type": kind} for name, _, kind in _VIEW_COLUMNS],
            "Location": "",
            "SerdeInfo": {},
        },
    }
