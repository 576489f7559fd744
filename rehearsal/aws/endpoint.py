"""A local AWS endpoint: moto's server behind a gate that knows who asks, and for what.

Every request is recorded with the permissions that it needs. A request of a role is judged by the
role's deployed policies, conditions included, before moto sees it; the engineer's own are not.

Where its S3 differs from AWS's:

- Writes are answered one after the other, so that of two conditional writes at once one wins and
  the other's condition fails (412). AWS may also refuse either with 409 and ask for it again:
  `rehearsal.aws.faults` has that as a fault.
- A list of objects is deleted, denied or disturbed as a whole; AWS answers object by object.
"""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import boto3
from botocore.config import Config
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.stepfunctions.parser.models import stepfunctions_parser_backends
from werkzeug.serving import BaseWSGIServer, make_server

from rehearsal.aws import policies
from rehearsal.aws.calls import ACCOUNT, Permission, Request, TagsOf, bucket_and_key, permissions
from rehearsal.aws.faults import Effect, Faults

ENGINEER = "engineer"
"""Who deploys and starts executions: an administrator, whose requests are not judged."""

SERVICES = (
    *("s3", "cloudformation", "events", "sns", "sqs", "iam", "sts", "ec2", "emr", "logs"),
    *("cloudwatch", "glue", "kms", "ssm", "stepfunctions"),
)

Environ = dict[str, Any]
Response = tuple[int, dict[str, Any]]
Handler = Callable[[Request], Response]


@dataclass(frozen=True)
class Credentials:
    """What a client signs its requests with."""

    access_key: str
    secret_key: str
    token: str = ""

    def environment(self) -> dict[str, str]:
        """Return them as the environment variables that every AWS client reads."""
        variables = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return variables | ({"AWS_SESSION_TOKEN": self.token} if self.token else {})


@dataclass(frozen=True)
class Call:
    """One recorded request: who, what it needed, and what became of it."""

    principal: str
    permissions: tuple[Permission, ...]
    allowed: bool
    status: int
    at: float


class Endpoint:
    """A running local AWS. Use as a context manager.

    Attributes
    ----------
    faults
        What requests are to meet before they are answered.
    calls
        Every request so far.
    handlers
        Services that are answered here and not by moto, by name.
    bucket_policies
        Policies of buckets, which moto does not keep, by the bucket's name.
    tags_of
        Returns the tags of the resource with an ARN.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self.faults = Faults()
        self.calls: list[Call] = []
        self.handlers: dict[str, Handler] = {}
        self.bucket_policies: dict[str, policies.Policy] = {}
        self.tags_of: TagsOf = lambda _: {}
        self._session = boto3.session.Session()
        self._clients: dict[tuple[str, Credentials], Any] = {}
        self._client_lock = threading.Lock()
        self._roles: dict[str, str] = {}
        self._role_policies: dict[str, tuple[policies.Policy, ...]] = {}
        self._trust_policies: dict[str, policies.Policy] = {}
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._writing = threading.Lock()
        self._simulator: policies.Simulator | None = None
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Endpoint:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where clients find it."""
        if self._server is None:
            raise RuntimeError("The endpoint is not running.")
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Start serving, on a free port of the loopback interface, from an empty AWS."""
        for service in SERVICES:
            get_backend(service).reset()
        stepfunctions_parser_backends.reset()
        self._simulator = policies.Simulator()
        self._server = make_server(
            "127.0.0.1", 0, self._gate, threaded=True, request_handler=_QuietHandler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="local-aws", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving. Safe to call twice."""
        if self._server and self._thread and self._simulator:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._simulator.close()
            self._server = self._thread = self._simulator = None

    def client(self, service: str, credentials: Credentials | None = None) -> Any:
        """Return a boto3 client, the engineer's unless `credentials` are given."""
        credentials = credentials or Credentials(ENGINEER, "secret")
        with self._client_lock:  # Sessions are not safe to use from several threads, clients are.
            if (service, credentials) not in self._clients:
                self._clients[service, credentials] = self._session.client(
                    service,
                    region_name=self.region,
                    endpoint_url=self.url,
                    aws_access_key_id=credentials.access_key,
                    aws_secret_access_key=credentials.secret_key,
                    aws_session_token=credentials.token or None,
                    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
                )
            return self._clients[service, credentials]

    def assume(self, role: str, session: str, service: str) -> Credentials:
        """Return credentials of a session that an AWS service opens of `role`.

        Parameters
        ----------
        role
            The role's name or ARN.
        session
            The session's name.
        service
            The service, such as ``states``.

        Raises
        ------
        PermissionError
            If the role's trust policy does not let the service have it.
        """
        name = role.rpartition("/")[2]
        if not self.trusts(name, service):
            raise PermissionError(f"{service}.amazonaws.com is not trusted with the role {name}.")
        answer = self.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}", RoleSessionName=session[:64]
        )
        given = answer["Credentials"]
        self._roles[given["AccessKeyId"]] = name
        return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])

    def trusts(self, role: str, service: str) -> bool:
        """Return whether a role's trust policy lets a service of this account have it."""
        if self._simulator is None:
            raise RuntimeError("The endpoint is not running.")
        if role not in self._trust_policies:
            found = self.client("iam").get_role(RoleName=role)["Role"]
            self._trust_policies[role] = found["AssumeRolePolicyDocument"]
        kinds = {
            "states": "stateMachine:any",
            "elasticmapreduce": "cluster/any",
            "events": "rule/any",
        }
        kind = kinds.get(service, "any")
        context = {
            "aws:SourceAccount": ACCOUNT,
            "aws:SourceArn": f"arn:aws:{service}:{self.region}:{ACCOUNT}:{kind}",
        }
        return self._simulator.allows(
            Permission("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/{role}", context),
            principal=f"{service}.amazonaws.com",
            policies=(),
            resource_policy=self._trust_policies[role],
        )

    def allows(self, role: str, permission: Permission) -> bool:
        """Return whether the deployed policies give `permission` to `role`."""
        if self._simulator is None:
            raise RuntimeError("The endpoint is not running.")
        if role not in self._role_policies:
            self._role_policies[role] = policies.role_policies(self.client("iam"), role)
        bucket = permission.resource.removeprefix("arn:aws:s3:::").partition("/")[0]
        return self._simulator.allows(
            permission,
            principal=policies.assumed_role(role, "rehearsal"),
            policies=self._role_policies[role],
            resource_policy=self.bucket_policies.get(bucket),
        )

    def forget_policies(self) -> None:
        """Read the roles' policies anew when they are asked for: a deployment has changed them."""
        self._role_policies.clear()
        self._trust_policies.clear()

    def record(self, role: str, permission: Permission) -> bool:
        """Record a permission that AWS would need here in `role`'s name; say if it has it."""
        allowed = self.allows(role, permission)
        self.calls.append(Call(role, (permission,), allowed, 200 if allowed else 403, time.time()))
        return allowed

    def _gate(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        request = _read(environ)
        role = self._roles.get(request.access_key, "")
        needed = permissions(request, self.tags_of)
        denied = [p for p in needed if role and not self.allows(role, p)]
        effect = None if denied else self.faults.meet(role, needed)
        statuses: list[int] = []

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            statuses.append(int(status.split()[0]))
            return start_response(status, headers, *rest)

        try:
            if denied:
                message = f"{role} is not authorized to perform: {denied[0]}"
                return _error(request, start, 403, "AccessDenied", message)
            if effect is not None:
                return _faulty(request, environ, start, effect)
            if request.service in self.handlers:
                return _json(start, *self.handlers[request.service](request))
            buffered = _Buffered()
            with self._one_write_at_a_time(request):
                body = b"".join(self._moto(environ, buffered))
            return self._answer(request, role, buffered, body, start)
        finally:
            call = Call(
                role or ENGINEER, tuple(needed), not denied, (statuses or [0])[0], time.time()
            )
            self.calls.append(call)

    def _one_write_at_a_time(self, request: Request) -> AbstractContextManager[object]:
        """Keep a write to S3 apart from others: between its look and its write, moto lets them in.

        The events that a write sends are delivered within it. They start executions, which run in
        threads of their own and may write after it.
        """
        writes = request.service == "s3" and request.method not in ("GET", "HEAD")
        return self._writing if writes else nullcontext()

    def _answer(
        self, request: Request, role: str, buffered: _Buffered, body: bytes, start: Any
    ) -> Iterable[bytes]:
        """Pass moto's answer on, but tell a role that may not list a missing object only 403.

        S3 answers 404 about a missing object to those who may list the bucket. How a condition on
        ``s3:prefix`` counts here, where no prefix is asked for, is not documented: the stricter
        answer is given, so that nothing here relies on the other.
        """
        bucket, key = bucket_and_key(request)
        # An upload that is gone is no object.
        of_object = request.service == "s3" and key and "uploadId" not in request.query
        if role and of_object and buffered.status.startswith("404"):
            listing = Permission("s3:ListBucket", f"arn:aws:s3:::{bucket}", {})
            if not self.allows(role, listing):
                return _error(request, start, 403, "AccessDenied", "Access Denied")
        start(buffered.status, buffered.headers)
        return [body]


class _QuietHandler(MotoRequestHandler):
    """Serves without a line on the terminal for each request."""

    def log_request(self, *_: object) -> None:
        """Say nothing."""

    def connection_dropped(self, *_: object) -> None:
        """Read no further request from a connection that is gone."""
        self.close_connection = True


class _Buffered:
    """A WSGI ``start_response`` that keeps what it is given."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        self.status, self.headers = status, headers


def _read(environ: Environ) -> Request:
    length = environ.get("CONTENT_LENGTH")
    chunked = environ.get("wsgi.input_terminated")
    body = (
        environ["wsgi.input"].read(*([int(length)] if length else []))
        if (length or chunked)
        else b""
    )
    environ["wsgi.input"] = io.BytesIO(body)
    if chunked and not length:
        environ["CONTENT_LENGTH"] = str(len(body))
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    }
    # WSGI hands the path over as if it were Latin-1.
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    return Request(environ["REQUEST_METHOD"], path, query, headers, body)


def _json(start: Any, status: int, body: Mapping[str, Any]) -> Iterable[bytes]:
    start(f"{status} -", [("Content-Type", "application/x-amz-json-1.1"), _request_id()])
    return [json.dumps(body).encode()]


def _error(request: Request, start: Any, status: int, code: str, message: str) -> Iterable[bytes]:
    if request.service == "s3":
        start(f"{status} -", [("Content-Type", "application/xml"), _request_id()])
        xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return [] if request.method == "HEAD" else [xml.encode()]
    if request.form:
        start(f"{status} -", [("Content-Type", "text/xml"), _request_id()])
        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return [f"<ErrorResponse>{error}</ErrorResponse>".encode()]
    return _json(start, status, {"__type": code, "message": message})


def _request_id() -> tuple[str, str]:
    return "x-amzn-RequestId", str(uuid.uuid4())


def _faulty(request: Request, environ: Environ, start: Any, effect: Effect) -> Iterable[bytes]:
    if effect is Effect.SLOW_DOWN:
        return _error(request, start, 503, "SlowDown", "Please reduce your request rate.")
    if effect is Effect.CONFLICT:
        message = "A conflicting operation occurred during the upload; retry it."
        return _error(request, start, 409, "ConditionalRequestConflict", message)
    if effect is Effect.THROTTLED:
        return _error(request, start, 400, "ThrottlingException", "Rate exceeded")
    if effect is Effect.EXPIRED:
        code = "ExpiredToken" if request.service == "s3" else "ExpiredTokenException"
        message = "The security token included in the request is expired"
        return _error(request, start, 400, code, message)
    if effect is Effect.REFUSED:
        return _error(request, start, 400, "ValidationException", "The request was refused.")
    connection: socket.socket = environ["werkzeug.socket"]
    # Closing without lingering sends a reset and not an orderly end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # `close` would wait for the handler's own files on the connection.
    os.close(connection.detach())
    raise ConnectionResetError("The rehearsal reset this connection.")
