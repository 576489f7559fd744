"""A run that was published in S3 is exported like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest

from orchard.phone.export import export_model
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.spark_job.jobs import Job

pytestmark = pytest.mark.job


def test_the_file_is_the_one_that_a_disk_gives(bucket: str, job: Job, tmp_path: Path) -> None:
    client = boto3.client("s3")
    for path in job.output.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), bucket, f"out/{path.relative_to(job.output)}")
    near, far = tmp_path / "near" / "fruit.tflite", tmp_path / "far" / "fruit.tflite"
    export_model(open_folder(str(job.output)), near, classify=True)
    card = export_model(open_folder(f"s3://{bucket}/out"), far, classify=True)
    assert far.read_bytes() == near.read_bytes()
    assert card.checked is not None
    assert card.checked.published
