"""The gate passes requests on as they are, and disturbs just those that it is told to."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from obstore.exceptions import GenericError
from obstore.store import S3Store

from rehearsal.aws.gate import Effect, Gate, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "orchard-gate"
CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server with a bucket and two objects in it, which need no signature to be read."""
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    url = "http://{}:{}".format(*running.get_host_and_port())
    s3 = client(url)
    s3.create_bucket(Bucket=BUCKET, ACL="public-read")
    for key in ("kiwi/Ananas é 1.jpg", "plum/1.jpg"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=CONTENT, ACL="public-read")
    yield url
    running.stop()


@pytest.fixture
def gate(server: str) -> Iterator[Gate]:
    with Gate(server) as running:
        yield running
    assert not [thread for thread in threading.enumerate() if thread.name == "gate"]


def test_a_request_and_its_answer_pass_byte_for_byte_on_a_connection_kept_alive() -> None:
    request = (
        b"PUT /bucket/a%20b?x=1 HTTP/1.1\r\nhost: elsewhere:81\r\nAuthorization: AWS4 Sig=1\r\n"
        b"CONTENT-LENGTH:   70000\r\nX-Odd:\t spaces  \r\n\r\n" + b"\0\r\n\r\n" * 14_000
    )
    answer = b"HTTP/1.1 200 OK\r\nx-odd:  1\r\nContent-Length: 2\r\n\r\nok"
    with raw_server(answer) as (url, received), Gate(url) as gate, connected(gate) as connection:
        for number in (1, 2):
            connection.sendall(request)
            assert exactly(connection, len(answer)) == answer
            assert received == [request] * number
        assert gate.requests == {"PUT": 2}


def test_a_head_in_small_pieces_and_two_requests_in_one_piece_are_told_apart() -> None:
    request = b"GET /bucket/key HTTP/1.1\r\nHost: s3\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with raw_server(answer) as (url, received), Gate(url) as gate, connected(gate) as connection:
        for byte in request:
            connection.sendall(bytes([byte]))
        assert exactly(connection, len(answer)) == answer
        connection.sendall(request * 2)
        assert exactly(connection, 2 * len(answer)) == 2 * answer
        assert received == [request] * 3
        assert gate.requests == {"GET": 3}


def test_objects_are_written_listed_and_read_through_it(gate: Gate) -> None:
    large = os.urandom(3_000_000)
    s3 = client(gate.url)
    s3.put_object(Bucket=BUCKET, Key="large/1.bin", Body=large)  # with Expect: 100-continue
    store = store_behind(gate)
    assert obstore.get(store, "large/1.bin").bytes().to_bytes() == large
    assert obstore.get(store, "kiwi/Ananas é 1.jpg").bytes().to_bytes() == CONTENT
    listed = [one["path"] for block in obstore.list(store, "plum") for one in block]
    assert listed == ["plum/1.jpg"]
    s3.head_object(Bucket=BUCKET, Key="large/1.bin")
    s3.delete_object(Bucket=BUCKET, Key="large/1.bin")
    assert gate.requests == {"PUT": 1, "GET": 2, "LIST": 1, "HEAD": 1, "DELETE": 1}


def test_a_delay_is_felt_by_each_request_and_they_wait_side_by_side(gate: Gate) -> None:
    gate.delay = 1.0

    def seconds(_: int) -> float:
        started = time.monotonic()
        assert status(gate, "GET", "plum/1.jpg") == 200
        return time.monotonic() - started

    started = time.monotonic()
    with ThreadPoolExecutor(24) as pool:
        took = list(pool.map(seconds, range(24)))
    assert min(took) >= 1
    assert time.monotonic() - started < 24 / 3
    gate.delay = 0
    assert seconds(0) < 1


def test_a_body_that_comes_while_its_request_waits_is_passed_on(gate: Gate) -> None:
    gate.delay = 0.2
    store = store_behind(gate)
    obstore.put(store, "late/1.bin", CONTENT * 30, use_multipart=False)
    assert obstore.get(store, "late/1.bin").bytes().to_bytes() == CONTENT * 30


def test_every_third_get_is_answered_503_and_no_other_request(gate: Gate) -> None:
    rule = Rule(Effect.SLOW_DOWN, every=3)
    gate.rules = [rule]
    statuses = []
    for _ in range(7):
        statuses.append(status(gate, "GET", "plum/1.jpg"))
        assert status(gate, "HEAD", "plum/1.jpg") == 200
        assert status(gate, "GET", "") == 200
    assert statuses == [200, 200, 503, 200, 200, 503, 200]
    assert rule.met == 2
    assert gate.requests == {"GET": 7, "HEAD": 7, "LIST": 7}


def test_a_rule_holds_for_a_prefix_as_a_person_writes_it(gate: Gate) -> None:
    gate.rules = [Rule(Effect.SLOW_DOWN, prefix=f"/{BUCKET}/kiwi/Ananas é")]
    assert status(gate, "GET", "kiwi/Ananas%20%C3%A9%201.jpg") == 503
    assert status(gate, "GET", "plum/1.jpg") == 200


def test_a_rule_is_over_after_a_number_of_requests_or_seconds_or_when_it_is_taken_out(
    gate: Gate,
) -> None:
    gate.rules = [Rule(Effect.SLOW_DOWN, times=2)]
    assert [status(gate, "GET", "plum/1.jpg") for _ in range(3)] == [503, 503, 200]
    gate.rules = [Rule(Effect.SLOW_DOWN, seconds=0.5)]
    time.sleep(0.6)  # the time starts with the first request that meets it
    assert status(gate, "GET", "plum/1.jpg") == 503
    time.sleep(0.6)
    assert status(gate, "GET", "plum/1.jpg") == 200
    gate.rules = [Rule(Effect.SLOW_DOWN)]
    assert status(gate, "GET", "plum/1.jpg") == 503
    gate.rules = []
    assert status(gate, "GET", "plum/1.jpg") == 200


@pytest.mark.parametrize(
    ("effect", "code"),
    [
        (Effect.SLOW_DOWN, "SlowDown"),
        (Effect.ACCESS_DENIED, "AccessDenied"),
        (Effect.EXPIRED, "ExpiredToken"),
        (Effect.NO_SUCH_BUCKET, "NoSuchBucket"),
    ],
)
def test_a_refusal_has_s3s_code_for_every_kind_of_request(
    gate: Gate, effect: Effect, code: str
) -> None:
    gate.rules = [Rule(effect, kinds=())]
    s3 = client(gate.url)
    whole = {"Bucket": BUCKET, "Key": "plum/1.jpg"}
    for call, arguments in (
        (s3.get_object, whole),
        (s3.put_object, whole | {"Body": CONTENT * 100}),  # with Expect: 100-continue
        (s3.delete_object, whole),
        (s3.list_objects_v2, {"Bucket": BUCKET}),
    ):
        with pytest.raises(ClientError) as refused:
            call(**arguments)
        assert refused.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError, match=effect.value[:3]):
        s3.head_object(**whole)
    gate.rules = []
    assert s3.get_object(**whole)["Body"].read() == CONTENT


def test_a_connection_is_good_for_the_next_request_after_a_refused_upload(gate: Gate) -> None:
    gate.rules = [Rule(Effect.ACCESS_DENIED, kinds=("PUT",))]
    with closing(http.client.HTTPConnection(urlsplit(gate.url).netloc)) as connection:
        connection.request("PUT", f"/{BUCKET}/refused", body=CONTENT * 100)
        answer = connection.getresponse()
        assert (answer.status, b"AccessDenied" in answer.read()) == (403, True)
        kept = connection.sock
        connection.request("GET", f"/{BUCKET}/plum/1.jpg")
        assert connection.sock is kept
        assert connection.getresponse().read() == CONTENT


def test_a_connection_is_reset(gate: Gate) -> None:
    gate.rules = [Rule(Effect.RESET)]
    with pytest.raises(ConnectionResetError):
        status(gate, "GET", "plum/1.jpg")


def test_nothing_comes_on_a_silent_connection_and_its_end_is_noticed(gate: Gate) -> None:
    gate.rules = [Rule(Effect.SILENCE)]
    with pytest.raises(TimeoutError):
        status(gate, "GET", "plum/1.jpg", timeout=0.5)
    wait_until(lambda: not gate._clients)


def test_half_of_a_body_comes_and_then_the_end(gate: Gate) -> None:
    gate.rules = [Rule(Effect.CUT_SHORT, times=1)]
    with closing(http.client.HTTPConnection(urlsplit(gate.url).netloc)) as connection:
        connection.request("GET", f"/{BUCKET}/plum/1.jpg")
        with pytest.raises(http.client.IncompleteRead) as cut:
            connection.getresponse().read()
    assert cut.value.partial == CONTENT[: len(CONTENT) // 2]
    assert status(gate, "GET", "plum/1.jpg") == 200


def test_the_jobs_client_sees_the_effects_as_it_would_s3s(gate: Gate) -> None:
    store = store_behind(gate)
    for effect, told in (
        (Effect.SLOW_DOWN, "503"),
        (Effect.CUT_SHORT, "body"),
        (Effect.RESET, "request"),
    ):
        gate.rules = [Rule(effect)]
        with pytest.raises(GenericError, match=told):
            obstore.get(store, "plum/1.jpg").bytes()
    gate.rules = []
    assert obstore.get(store, "plum/1.jpg").bytes().to_bytes() == CONTENT


def test_a_chunked_request_is_refused_rather_than_misread(gate: Gate) -> None:
    with closing(http.client.HTTPConnection(urlsplit(gate.url).netloc)) as connection:
        connection.request("PUT", f"/{BUCKET}/x", body=iter([b"a"]), encode_chunked=True)
        assert connection.getresponse().status == 501


def test_a_server_that_is_not_there_breaks_the_clients_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with (
        Gate(f"http://127.0.0.1:{port}") as gate,
        pytest.raises((OSError, http.client.HTTPException)),
    ):
        status(gate, "GET", "plum/1.jpg")


def test_https_is_not_taken_for_http() -> None:
    with pytest.raises(ValueError, match=r"not to https://s3\.amazonaws"):
        Gate("https://s3.amazonaws.com")


def client(url: str) -> Any:
    """A boto3 client that tries once."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


def store_behind(gate: Gate) -> S3Store:
    """The bucket as the job's own client sees it through the gate, without its retries."""
    return S3Store(
        BUCKET,
        endpoint=gate.url,
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def status(gate: Gate, method: str, path: str, timeout: float = 20) -> int:
    """Make one request on a connection of its own, and read all of the answer."""
    connection = http.client.HTTPConnection(urlsplit(gate.url).netloc, timeout=timeout)
    with closing(connection):
        connection.request(method, f"/{BUCKET}/{path}")
        answer = connection.getresponse()
        answer.read()
        return answer.status


@contextmanager
def connected(gate: Gate) -> Iterator[socket.socket]:
    """A bare connection to the gate."""
    parts = urlsplit(gate.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 20) as connection:
        yield connection


@contextmanager
def raw_server(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes one connection, answers `answer` to each request, and keeps them all."""
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            buffer = b""
            while part := connection.recv(65536):
                buffer += part
                while (size := request_size(buffer)) and len(buffer) >= size:
                    received.append(buffer[:size])
                    buffer = buffer[size:]
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", received
    thread.join(5)


def request_size(buffer: bytes) -> int:
    """Bytes of the request that `buffer` begins with; 0 where its headers are not all there."""
    head, found, _ = buffer.partition(b"\r\n\r\n")
    return len(head) + 4 + (70_000 if head.startswith(b"PUT") else 0) if found else 0


def exactly(connection: socket.socket, size: int) -> bytes:
    """Receive so many bytes."""
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        assert part, f"the connection ended after {received!r}"
        received += part
    return received


def wait_until(condition: Any, seconds: float = 5) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
