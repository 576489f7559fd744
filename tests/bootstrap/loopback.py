"""What a node in a private subnet reaches, for a network namespace that has only its loopback.

``python loopback.py FOLDER`` brings the loopback up and serves

- S3 at http://127.0.0.1:5000, with the FOLDER's files as the objects of the bucket ``code``;
- the instance's metadata at its own address, which answers only who first asked for a token.

It says ``ready`` when both answer, and ends with its standard input.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 0x1
S3_PORT = 5000
METADATA = "169.254.169.254"
REGION = "eu-south-1"


class Metadata(BaseHTTPRequestHandler):
    """The instance metadata service, version 2 only: the node's region and nothing else."""

    def do_PUT(self) -> None:
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._answer(lifetime and self.path == "/latest/api/token", "a token")

    def do_GET(self) -> None:
        known = self.headers.get("X-aws-ec2-metadata-token") == "a token"
        self._answer(known and self.path == "/latest/meta-data/placement/region", REGION)

    def _answer(self, granted: object, text: str) -> None:
        self.send_response(200 if granted else 401)
        self.end_headers()
        if granted:
            self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def main(folder: Path) -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
        address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(METADATA))
        fcntl.ioctl(any_socket, SIOCSIFADDR, struct.pack("16s", b"lo:1") + address)
    metadata = HTTPServer((METADATA, 80), Metadata)
    threading.Thread(target=metadata.serve_forever, daemon=True).start()
    serve_s3(folder)
    print("ready", flush=True)
    sys.stdin.read()


def serve_s3(folder: Path) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ThreadedMotoServer("127.0.0.1", S3_PORT, verbose=False).start()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{S3_PORT}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    s3.create_bucket(Bucket="code")
    for path in folder.iterdir():
        s3.upload_file(str(path), "code", path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
