"""A gate in front of any S3 server, which passes requests on, or delays, refuses and disturbs them.

`rehearsal.aws.faults` disturbs requests inside the local AWS of `rehearsal.aws.endpoint`, by the
permission that a request needs; this gate knows only HTTP, so it stands before a fast, real S3
server too and does what only a connection can: fall silent, break off in the middle of a body,
take its time.

Requests and answers pass byte for byte, the ``Host`` that a signature covers included, and each of
the client's connections has one to the server, kept alive as long as both sides like. Only request
lines and headers are parsed; bodies stream. Where it differs from S3:

- Plain HTTP, and buckets in the path (``/bucket/key``), not in the host.
- A request with ``Transfer-Encoding: chunked`` is refused (501), as no client here sends one.
"""

from __future__ import annotations

import asyncio
import enum
import re
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

BACKLOG = 1024
"""Connections that may wait to be accepted: every reader of every worker opens its own."""


class Effect(enum.Enum):
    """What the client of a disturbed request sees."""

    SLOW_DOWN = "503 SlowDown"
    ACCESS_DENIED = "403 AccessDenied"
    EXPIRED = "400 ExpiredToken"
    NO_SUCH_BUCKET = "404 NoSuchBucket"
    RESET = "a connection that is reset"
    SILENCE = "a connection on which nothing comes"
    CUT_SHORT = "half of the body, and then the end of the connection"


MESSAGES = {
    Effect.SLOW_DOWN: "Please reduce your request rate.",
    Effect.ACCESS_DENIED: "Access Denied",
    Effect.EXPIRED: "The provided token has expired.",
    Effect.NO_SUCH_BUCKET: "The specified bucket does not exist",
}
"""What S3 says with the effects that are answers."""


@dataclass
class Rule:
    """A disturbance that matching requests meet.

    Parameters
    ----------
    effect
        What the client sees.
    kinds
        Kinds of requests that meet it, as `Gate.requests` counts them; every kind when empty.
    prefix
        Only requests whose path, percent-decoded, begins with this: ``/bucket/label/``.
    every
        Of the matching requests only every so many meet it, the last of each group: with 10, the
        10th, the 20th and so on.
    times
        How many requests meet it before it is over; None for any number.
    seconds
        How long after the first request that met it the last one does; None for ever.

    Attributes
    ----------
    met
        How many requests have met it.
    """

    effect: Effect
    kinds: Collection[str] = ("GET",)
    prefix: str = ""
    every: int = 1
    times: int | None = None
    seconds: float | None = None
    met: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False, repr=False)
    _ends: float = field(default=float("inf"), init=False, repr=False)

    def meets(self, kind: str, path: bytes) -> bool:
        """Return whether a request meets it, counting it; `path` as it came, percent-encoded."""
        if self.kinds and kind not in self.kinds:
            return False
        if self.prefix and not unquote(path.decode("latin-1")).startswith(self.prefix):
            return False
        if self.times is not None and self.met >= self.times:
            return False
        self._seen += 1
        if self._seen % self.every:
            return False
        if self.seconds is not None:
            if not self.met:
                self._ends = monotonic() + self.seconds
            if monotonic() > self._ends:
                return False
        self.met += 1
        return True


class Gate:
    """A running gate, in a thread of this process. Use as a context manager.

    `rules` and `delay` may be assigned at any time, from any thread; what a request meets is
    decided when its headers are there.

    Parameters
    ----------
    server
        URL of the S3 server, ``http://host:port``.

    Attributes
    ----------
    url
        Where clients find the gate, once it runs.
    rules
        The first one that a request meets counts.
    delay
        Seconds that every request waits before anything is done with it. They wait side by side.
    requests
        How many requests came, by kind: ``GET`` of an object, ``LIST`` (a GET of anything else),
        or another method's name.
    """

    def __init__(self, server: str, rules: Sequence[Rule] = (), delay: float = 0.0) -> None:
        parts = urlsplit(server)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"the gate passes on to http://host:port, not to {server}")
        self.rules = rules
        self.delay = delay
        self.requests: Counter[str] = Counter()
        self.url = ""
        self._address = parts.hostname, parts.port or 80
        self._clients: set[_Client] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)

    def __enter__(self) -> Self:
        listening = self._loop.create_server(lambda: _Client(self), "127.0.0.1", 0, backlog=BACKLOG)
        self._listener = self._loop.run_until_complete(listening)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Break off all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._listener.close()
        for client in self._clients:
            client.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted connections are closed in the loop's next round


class _Client(asyncio.Protocol):
    """A client's connection, and what is known of the request that is coming in on it."""

    transport: asyncio.Transport

    def __init__(self, gate: Gate) -> None:
        self.awaits_continue = False
        self._gate = gate
        self._server = _Server(self)
        self._head = b""
        self._body_left = 0
        self._answer = b""
        self._held: list[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._gate._clients.add(self)
        self._connecting = self._gate._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._gate._loop.create_connection(lambda: self._server, *self._gate._address)
        except OSError:
            self.transport.abort()

    def connection_lost(self, *_: object) -> None:
        self._gate._clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._server.close()

    def abort(self) -> None:
        """Break it off, and with it the one to the server."""
        self.transport.abort()

    def pause_writing(self) -> None:
        self._server.pause()

    def resume_writing(self) -> None:
        self._server.resume()

    def data_received(self, data: bytes) -> None:
        if self._silent:
            return
        if self._held is not None:
            self._held.append(data)
        elif self._body_left:
            self._take_body(data)
        else:
            self._take_head(data)

    def _take_head(self, data: bytes) -> None:
        data = self._head + data
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._head = data
            return
        self._head = b""
        head, rest = data[:end], data[end:]
        method, target, _ = head.split(b" ", 2)
        path = target.partition(b"?")[0]
        kind = method.decode("latin-1")
        # A GET of a bucket, with or without a slash behind it, or of no bucket at all.
        if kind == "GET" and path.find(b"/", 1) in (-1, len(path) - 1):
            kind = "LIST"
        gate = self._gate
        gate.requests[kind] += 1
        rule = next((rule for rule in gate.rules if rule.meets(kind, path)), None)
        effect = None if rule is None else rule.effect
        if gate.delay:
            self._held = [rest]
            self._timer = gate._loop.call_later(gate.delay, self._resume, method, head, effect)
        else:
            self._begin(method, head, effect)
            if rest:
                self.data_received(rest)

    def _resume(self, method: bytes, head: bytes, effect: Effect | None) -> None:
        rest, self._held = b"".join(self._held or ()), None
        self._begin(method, head, effect)
        if rest:
            self.data_received(rest)

    def _begin(self, method: bytes, head: bytes, effect: Effect | None) -> None:
        """Do with a request what it meets, but for its body, which comes next."""
        self._answer = b""
        if method not in (b"GET", b"HEAD"):
            headers = head.lower()
            self._body_left = _length(headers)
            self.awaits_continue = self._body_left > 0 and b"\r\nexpect: 100-continue" in headers
            if b"\r\ntransfer-encoding:" in headers:
                self._refuse(_answer("501 NotImplemented", "A header implies what is not there."))
                return
        if effect is None or effect is Effect.CUT_SHORT:
            self._server.cuts_short = effect is not None
            self._server.send(head)
        elif effect is Effect.SILENCE:
            self._silent = True
        elif effect is Effect.RESET:
            # Closing without lingering sends a reset and not an orderly end.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._silent = True
            self.abort()
        else:
            answer = _answer(effect.value, MESSAGES[effect], with_body=method != b"HEAD")
            if self.awaits_continue:  # nor is the body to come then
                self._refuse(answer)
            elif self._body_left:
                self._answer = answer
            else:
                self.transport.write(answer)

    def _refuse(self, answer: bytes) -> None:
        """Answer, and pass over what still comes: closing would reset the answer on its way."""
        self._silent = True
        # Said as well as done, or a client may send its next request before it notices.
        self.transport.write(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        self.transport.write_eof()

    def _take_body(self, data: bytes) -> None:
        self.awaits_continue = False
        rest = data[self._body_left :]
        part = data[: self._body_left] if rest else data
        self._body_left -= len(part)
        if not self._answer:
            self._server.send(part)
        elif not self._body_left:
            self.transport.write(self._answer)
        if rest:
            self.data_received(rest)

    def expect_no_body(self) -> None:
        """Take what comes next for a new request: the server did not ask for this one's body."""
        self.awaits_continue = False
        self._body_left = 0


class _Server(asyncio.Protocol):
    """The connection to the server that belongs to a client's."""

    def __init__(self, client: _Client) -> None:
        self.cuts_short = False
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._client.transport.is_closing():
            self._transport.abort()
        elif self._unsent:
            self._transport.write(b"".join(self._unsent))

    def connection_lost(self, *_: object) -> None:
        self._client.transport.close()

    def send(self, data: bytes) -> None:
        """Send to the server, as soon as it is connected."""
        if self._transport is None:
            self._unsent.append(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Break it off: nobody waits for an answer any more."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read nothing, as the client is slow to read it."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._client.awaits_continue and not data.startswith(b"HTTP/1.1 100"):
            self._client.expect_no_body()
        if self.cuts_short:
            self._cut(data)
        else:
            self._client.transport.write(data)

    def _cut(self, data: bytes) -> None:
        """Pass on the headers and half of the body, and end both connections."""
        self._received += data
        end = self._received.find(b"\r\n\r\n") + 4
        if end == 3:
            return
        half = end + _length(self._received[:end].lower()) // 2
        if len(self._received) >= half:
            self._client.transport.write(self._received[:half])
            self._client.transport.close()
            self.close()


def _length(headers: bytes) -> int:
    """Bytes of the body that lower-case headers tell of."""
    found = re.search(rb"\r\ncontent-length:\s*(\d+)", headers)
    return int(found[1]) if found else 0


def _answer(status: str, message: str, *, with_body: bool = True) -> bytes:
    code = status.partition(" ")[2]
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    headers = f"Content-Type: application/xml\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + (body if with_body else b"")
