"""A run that was published in S3 is exported like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from moto.server import ThreadedMotoServer

from orchard.phone.export import export_model
from spark_job.objects import open_folder
from tests.spark_job.conftest import S3_ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.spark_job.jobs import Job

pytestmark = pytest.mark.job

BUCKET = "orchard-phone"


@pytest.fixture
def bucket() -> Iterator[str]:
    """A bucket of a server that this process takes for AWS; its name."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        boto3.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        yield BUCKET
    server.stop()


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
