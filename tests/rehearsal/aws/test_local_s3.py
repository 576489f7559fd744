"""The local S3 through the job's own client, obstore: what it answers, and what it asks rights for.

The client is set up as a node's is, by environment variables; its role and its bucket are these
tests' own, so that they use no right of a deployed role.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from moto.s3.models import S3Backend
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
)
from obstore.store import S3Store

from rehearsal.aws.calls import Request, permissions
from rehearsal.aws.faults import Effect, Fault
from rehearsal.local_cloud import REGION
from spark_job import contract
from tests.rehearsal.watching import OUTSIDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore import UpdateVersion

    from rehearsal.aws.endpoint import Call
    from rehearsal.local_cloud import LocalCloud

pytestmark = pytest.mark.rehearsal

BUCKET = "clients-own"
ODD = "work/a é%#?+&.txt"
"""A key whose characters all mean something in a URL or in XML."""


@pytest.fixture(scope="module")
def credentials(cloud: LocalCloud) -> dict[str, str]:
    """Those of a role that may work in ``work/`` and put into ``results/``, as a node has them."""
    cloud.endpoint.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    trust: dict[str, Any] = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    arn = f"arn:aws:s3:::{BUCKET}"
    statements: list[dict[str, Any]] = [
        {"Action": objects, "Resource": f"{arn}/{contract.WORK}/*"},
        {"Action": "s3:PutObject", "Resource": f"{arn}/{contract.RESULTS}/*"},
        {
            "Action": "s3:ListBucket",
            "Resource": arn,
            "Condition": {"StringLike": {"s3:prefix": [f"{contract.WORK}/*"]}},
        },
    ]
    iam = cloud.endpoint.client("iam")
    iam.create_role(
        RoleName=OUTSIDER,
        AssumeRolePolicyDocument=document({**trust, "Action": "sts:AssumeRole"}),
    )
    iam.put_role_policy(
        RoleName=OUTSIDER,
        PolicyName="work",
        PolicyDocument=document(*({"Effect": "Allow", **one} for one in statements)),
    )
    given = cloud.endpoint.assume(OUTSIDER, "client", "ec2").environment()
    assert "AWS_SESSION_TOKEN" in given
    return {**given, "AWS_ENDPOINT_URL": cloud.endpoint.url, "AWS_REGION": REGION}


@pytest.fixture
def store(credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    return S3Store(BUCKET, client_options={"allow_http": True})


@pytest.fixture
def asked(cloud: LocalCloud) -> Callable[[], list[str]]:
    """Return what the client's requests since the test's start, or the last call, needed."""
    since = len(cloud.endpoint.calls)

    def read() -> list[str]:
        nonlocal since
        calls: list[Call] = cloud.endpoint.calls[since:]
        since += len(calls)
        return [
            f"{permission.action} {permission.resource.partition(f'{BUCKET}/')[2]}".strip()
            for call in calls
            if call.principal == OUTSIDER
            for permission in call.permissions
        ]

    return read


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def read(store: S3Store, path: str) -> bytes:
    return bytes(obstore.get(store, path).bytes())


def etag(store: S3Store, path: str) -> str:
    found = obstore.head(store, path)["e_tag"]
    assert found is not None
    return found


def test_what_is_put_is_read_whole_and_in_part(
    store: S3Store, asked: Callable[[], list[str]]
) -> None:
    content = os.urandom(1000)
    put = obstore.put(store, ODD, content)
    assert asked() == [f"s3:PutObject {ODD}"]
    assert read(store, ODD) == content
    assert asked() == [f"s3:GetObject {ODD}"]
    assert bytes(obstore.get_range(store, ODD, start=10, end=20)) == content[10:20]
    reader = obstore.open_reader(store, ODD)
    reader.seek(990)
    assert bytes(reader.read()) == content[990:]
    head = obstore.head(store, ODD)
    assert (head["path"], head["size"], head["e_tag"]) == (ODD, 1000, put["e_tag"])
    assert set(asked()) == {f"s3:GetObject {ODD}"}


def test_a_listing_has_all_pages_and_the_etags(
    store: S3Store, asked: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    made = {f"work/list/{number}.txt": f"{number}".encode() for number in range(8)}
    tags = {path: obstore.put(store, path, content)["e_tag"] for path, content in made.items()}
    asked()
    listed = [meta for page in obstore.list(store, "work/list") for meta in page]
    assert {meta["path"]: meta["e_tag"] for meta in listed} == tags
    assert {meta["size"] for meta in listed} == {1}
    assert asked() == ["s3:ListBucket"] * 3
    below = obstore.list_with_delimiter(store, "work")
    assert "work/list" in below["common_prefixes"]


def test_a_file_is_created_once(store: S3Store, asked: Callable[[], list[str]]) -> None:
    obstore.put(store, "work/created", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "work/created", b"second", mode="create")
    assert asked() == ["s3:PutObject work/created"] * 2
    assert read(store, "work/created") == b"first"


def test_a_file_is_replaced_only_as_it_was_read(
    store: S3Store, asked: Callable[[], list[str]]
) -> None:
    first = obstore.put(store, "work/pointer", b"first")["e_tag"]
    asked()
    obstore.put(store, "work/pointer", b"second", mode={"e_tag": first})
    with pytest.raises(PreconditionError):
        obstore.put(store, "work/pointer", b"third", mode={"e_tag": first})
    assert asked() == ["s3:GetObject work/pointer", "s3:PutObject work/pointer"] * 2
    assert read(store, "work/pointer") == b"second"


@pytest.mark.parametrize("present", [False, True])
def test_of_conditional_writes_at_once_one_wins(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, present: bool
) -> None:
    path = f"work/race-{present}"
    mode: Any = {"e_tag": obstore.put(store, path, b"")["e_tag"]} if present else "create"
    original = S3Backend.put_object

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(0.05)  # All have looked what is there before the first one writes.
        return original(*given, **named)

    monkeypatch.setattr(S3Backend, "put_object", slow)
    won: list[bytes] = []
    lost: list[BaseError] = []

    def write(content: bytes) -> None:
        try:
            obstore.put(store, path, content, mode=mode)
        except (AlreadyExistsError, PreconditionError) as error:
            lost.append(error)
        else:
            won.append(content)

    threads = [threading.Thread(target=write, args=(b"%d" % n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert read(store, path) == won[0]


def test_a_copy_reads_here_and_writes_there(
    cloud: LocalCloud, store: S3Store, asked: Callable[[], list[str]]
) -> None:
    obstore.put(store, ODD, b"settled")
    asked()
    obstore.copy(store, ODD, "results/settled")
    assert asked() == [f"s3:GetObject {ODD}", "s3:PutObject results/settled"]
    found = cloud.endpoint.client("s3").get_object(Bucket=BUCKET, Key="results/settled")
    assert found["Body"].read() == b"settled"
    for source, target in (("results/settled", "work/back"), (ODD, "models/m")):
        with pytest.raises(PermissionDeniedError):
            obstore.copy(store, source, target)


def test_a_list_of_files_is_deleted_with_a_right_for_each(
    store: S3Store, asked: Callable[[], list[str]]
) -> None:
    paths = [ODD, "work/b", "work/c"]
    for path in paths:
        obstore.put(store, path, b"")
    asked()
    obstore.delete(store, [*paths, "work/never-was"])
    assert asked() == [f"s3:DeleteObject {path}" for path in (*paths, "work/never-was")]
    left = {meta["path"] for page in obstore.list(store, "work") for meta in page}
    assert left.isdisjoint(paths)
    obstore.put(store, "work/b", b"")
    with pytest.raises(PermissionDeniedError):
        obstore.delete(store, ["work/b", "results/b"])
    assert read(store, "work/b") == b""


def test_a_large_file_is_uploaded_in_parts(
    cloud: LocalCloud, store: S3Store, asked: Callable[[], list[str]]
) -> None:
    content = os.urandom(11 * 2**20)
    with obstore.open_writer(store, "work/large", buffer_size=5 * 2**20) as writer:
        for start in range(0, len(content), 2**20):
            writer.write(content[start : start + 2**20])
    assert asked() == ["s3:PutObject work/large"] * 5, "started, three parts, completed"
    assert read(store, "work/large") == content
    assert etag(store, "work/large").endswith('-3"')
    with pytest.raises(PermissionDeniedError), obstore.open_writer(store, "models/large") as writer:
        writer.write(content)
    left = cloud.endpoint.client("s3").list_multipart_uploads(Bucket=BUCKET)
    assert left.get("Uploads", []) == []


def test_what_a_role_may_not_list_it_may_not_know_to_be_missing(store: S3Store) -> None:
    with pytest.raises(PermissionDeniedError):
        obstore.get(store, "work/missing")
    with pytest.raises(BaseError, match="403"):
        list(obstore.list(store))


AS_READ: UpdateVersion = {"e_tag": f'"{hashlib.md5(b"1", usedforsecurity=False).hexdigest()}"'}
OPERATIONS: dict[str, tuple[str, Callable[[S3Store], object]]] = {
    "put": ("s3:PutObject", lambda store: obstore.put(store, "work/busy", b"2")),
    "get": ("s3:GetObject", lambda store: obstore.get(store, "work/busy")),
    "copy": ("s3:GetObject", lambda store: obstore.copy(store, "work/busy", "work/copy")),
    "list": ("s3:ListBucket", lambda store: list(obstore.list(store, "work/"))),
    "create": ("s3:PutObject", lambda store: obstore.put(store, "work/new", b"2", mode="create")),
    "replace": (
        "s3:PutObject",
        lambda store: obstore.put(store, "work/busy", b"2", mode=AS_READ),
    ),
    "delete": ("s3:DeleteObject", lambda store: obstore.delete(store, ["work/busy"])),
}
UNREPEATABLE = ("create", "replace", "delete")
"""What obstore does not send again when it cannot know whether it was heard the first time."""


def meet(cloud: LocalCloud, store: S3Store, operation: str, effect: Effect) -> None:
    """Do one operation, whose first request meets `effect`."""
    obstore.put(store, "work/busy", b"1")
    obstore.delete(store, ["work/new"])
    action, act = OPERATIONS[operation]
    cloud.endpoint.faults.add(Fault(action, effect, principal=OUTSIDER))
    act(store)


@pytest.mark.parametrize(
    ("operation", "effect"),
    [
        *((operation, Effect.SLOW_DOWN) for operation in OPERATIONS),
        *((operation, Effect.RESET) for operation in OPERATIONS if operation not in UNREPEATABLE),
        ("replace", Effect.CONFLICT),
    ],
)
def test_a_busy_s3_is_asked_again(
    cloud: LocalCloud, store: S3Store, operation: str, effect: Effect
) -> None:
    meet(cloud, store, operation, effect)
    assert cloud.endpoint.faults.pending == 0


@pytest.mark.parametrize(
    ("operation", "effect"),
    [*((operation, Effect.RESET) for operation in UNREPEATABLE), ("create", Effect.CONFLICT)],
)
def test_what_may_have_been_heard_is_left_to_the_caller(
    cloud: LocalCloud, store: S3Store, operation: str, effect: Effect
) -> None:
    with pytest.raises(BaseError):
        meet(cloud, store, operation, effect)
    assert cloud.endpoint.faults.pending == 0
    assert read(store, "work/busy") == b"1"


def test_the_copy_of_a_version_is_judged_as_reading_one() -> None:
    headers = {"x-amz-copy-source": "/batches/a%3Fb?versionId=1"}
    needed = permissions(Request("PUT", "/batches/c", {}, headers, b""))
    assert [str(one) for one in needed] == [
        "s3:GetObjectVersion on arn:aws:s3:::batches/a?b",
        "s3:PutObject on arn:aws:s3:::batches/c",
    ]
