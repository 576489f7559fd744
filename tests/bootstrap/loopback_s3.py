"""A small S3 server for a network namespace that has nothing but its loopback.

``python loopback_s3.py FOLDER`` brings the loopback up, serves the FOLDER's files as the objects
of the bucket ``code`` at http://127.0.0.1:5000, says ``ready``, and ends with its standard input.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import struct
import sys
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
PORT = 5000


def main(folder: Path) -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", PORT, verbose=False)
    server.start()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{PORT}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    s3.create_bucket(Bucket="code")
    for path in folder.iterdir():
        s3.upload_file(str(path), "code", path.name)
    print("ready", flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
