"""Fixtures for every test folder."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Iterator

# As the job does, before numpy is imported: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# xdist's processes ignore interrupts, and what a test starts to interrupt it would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class ByRoom(LoadScopeScheduling):
    """Gives a process whole folders, whose tests share a cloud or templates; the job's by file."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path.startswith("tests/spark_job/") else "/".join(path.split("/")[:2])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByRoom:
    """Instead of what `--dist` says."""
    return ByRoom(config, log)


@pytest.fixture(autouse=True)
def _signed_in_anew() -> None:
    """Let each test have credentials of its own, where a process has the same ones for its life."""
    s3 = sys.modules.get("spark_job.s3")
    if s3 is not None:
        s3._signed_in.cache_clear()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, weights and reference features; skips where it is not given."""
    folder = os.environ.get("ORCHARD_SHARED")
    if not folder:
        pytest.skip("ORCHARD_SHARED does not point to the real images and weights")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A running S3 server that this process, and the jobs it starts, take for AWS."""
    from moto.server import ThreadedMotoServer  # not where no test asks for it

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        yield os.environ["AWS_ENDPOINT_URL"]
    server.stop()


@pytest.fixture(scope="session")
def bucket(s3_endpoint: str) -> str:
    """A bucket's name."""
    import boto3

    name = "orchard-test"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    return name
