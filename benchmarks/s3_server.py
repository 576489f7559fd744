"""A real S3 server on a folder of this machine: versitygw, built once where there is Go."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING

import obstore
import psutil
from obstore.store import S3Store

from benchmarks.measure import REPOSITORY, BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOGGER = logging.getLogger("benchmarks")

VERSION = "v1.8.0"
MODULE = "github.com/versity/versitygw/cmd/versitygw"
PROGRAM = REPOSITORY / "build" / f"versitygw-{VERSION}" / "versitygw"

BUCKET = "orchard"
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "benchmark", "of-this-machine"

START_SECONDS = 30
UPLOADS = 16
"""Objects that are put side by side."""


class NoServerError(Exception):
    """There is no server, and no way to build one; the message says why."""


@dataclass(frozen=True)
class Server:
    """A running server with one empty bucket, `BUCKET`.

    Attributes
    ----------
    url
        Where it is.
    """

    url: str

    def upload(self, images: Path) -> str:
        """Put every file below a folder into the bucket, below the folder's name; its URI."""
        store = S3Store(
            BUCKET,
            endpoint=self.url,
            region=REGION,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
        )

        def put(path: Path) -> None:
            key = f"{images.name}/{path.relative_to(images).as_posix()}"
            obstore.put(store, key, path, use_multipart=False)

        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(put, (path for path in images.rglob("*") if path.is_file())))
        return f"s3://{BUCKET}/{images.name}"


def environment_for(url: str) -> dict[str, str]:
    """Make the variables with which the job takes `url`, the server's or a gate's, for AWS."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def install() -> Path:
    """Build the server unless it is there; its program.

    Raises
    ------
    NoServerError
        Where there is no Go.
    BenchmarkError
        Where Go cannot build it.
    """
    if PROGRAM.is_file():
        return PROGRAM
    go = shutil.which("go")
    if go is None:
        raise NoServerError("no Go")
    LOGGER.info("building versitygw %s, which takes some minutes, once", VERSION)
    built = subprocess.run(
        [go, "install", f"{MODULE}@{VERSION}"],
        env={**os.environ, "GOBIN": str(PROGRAM.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise BenchmarkError(f"Go cannot build versitygw {VERSION}:\n{built.stderr[-2_000:]}")
    return PROGRAM


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run the server on an empty `folder`, on a free port of the loopback interface.

    Raises
    ------
    NoServerError
        See `install`.
    BenchmarkError
        Where it cannot be built, or does not start.
    """
    program = install()
    (folder / BUCKET).mkdir(parents=True)
    address = ("--port", "127.0.0.1:0", "--access", ACCESS_KEY, "--secret", SECRET_KEY)
    # S3 keeps connections alive, and this server only where it is told to.
    options = ("--region", REGION, "--keep-alive", "--quiet")
    command = [str(program), *address, *options, "posix", str(folder)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            port = _port(process)
            if port is None:
                output.seek(0)
                told = output.read().decode(errors="replace")
                raise BenchmarkError(f"versitygw does not start:\n{told[-2_000:]}")
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes]) -> int | None:
    """Wait for the port that it listens on; None where it ended, or takes too long."""
    ends = monotonic() + START_SECONDS
    while process.poll() is None and monotonic() < ends:
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        sleep(0.05)
    return None
