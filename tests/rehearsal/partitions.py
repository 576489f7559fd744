"""Where Athena's partitions of a batch are, and where they belong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rehearsal.emr.yarn import wait_for
from spark_job.contract import CURRENT, results_folder, run_folder
from stacks.batch.catalog import TABLES

if TYPE_CHECKING:
    from rehearsal.local_cloud import LocalCloud


def partitions(cloud: LocalCloud, table: str) -> dict[str, str]:
    """Return the location of each batch's partition of a table."""
    found = cloud.endpoint.client("glue").get_partitions(
        DatabaseName=cloud.deployment.outputs["Database"], TableName=table
    )["Partitions"]
    return {entry["Values"][0]: entry["StorageDescriptor"]["Location"] for entry in found}


def assert_partitions_follow(cloud: LocalCloud, batch: str) -> None:
    """Wait until every table's partition of a batch is its published run, or fail."""
    key = f"{results_folder(batch)}/{CURRENT}"
    pointer = cloud.endpoint.client("s3").get_object(Bucket=cloud.bucket, Key=key)["Body"].read()
    run = run_folder(batch, json.loads(pointer)["run"])
    where = {table.name: f"s3://{cloud.bucket}/{run}/{table.folder}/" for table in TABLES}

    def there() -> bool:
        return where == {name: partitions(cloud, name).get(batch) for name in where}

    wait_for(there, 30, f"Partitions of {batch} in {run}")
    for location in where.values():
        assert cloud.objects(location.partition(f"{cloud.bucket}/")[2]), "nothing lies there"
