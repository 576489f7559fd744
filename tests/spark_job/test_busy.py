"""S3 that is busy, silent, refuses or breaks off: told apart, asked again, and never a reject."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock, Thread
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pytest
from pyarrow import parquet

from rehearsal.aws.gate import Effect, Gate, Rule
from spark_job import pipeline, reading, retries, s3
from spark_job.errors import UnavailableError
from spark_job.listing import Image, write_listing
from spark_job.objects import (
    BusyError,
    ConflictError,
    Content,
    ExpiredError,
    LocalFolder,
    NoSuchBucketError,
    RefusedError,
    ResetError,
    ServerError,
    ThrottledError,
    TimedOutError,
    WrongClockError,
    open_folder,
)
from spark_job.reading import Pace, read_ahead
from spark_job.settings import JobSettings
from tests.spark_job.inline import InlineEngine
from tests.spark_job.jobs import read_json, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spark_job.objects import Folder


@dataclass(frozen=True)
class Disturbed:
    """A folder of a bucket behind a gate."""

    gate: Gate
    folder: Folder
    bucket: str

    def meet(self, effect: Effect, **rule: object) -> Rule:
        """Let requests meet an effect from now on."""
        self.gate.rules = (Rule(effect, **{"kinds": (), **rule}),)  # type: ignore[arg-type]
        return self.gate.rules[0]


@pytest.fixture
def disturbed(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Disturbed]:
    # Connections are kept by bucket, so each test has its own.
    bucket = tmp_path.name.lower().replace("_", "-").strip("-")
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    monkeypatch.setattr(s3, "READ_TIMEOUT", 1)
    s3._connected_client.cache_clear()
    with Gate(s3_endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        yield Disturbed(gate, open_folder(f"s3://{bucket}/b"), bucket)
    s3._connected_client.cache_clear()


@pytest.mark.parametrize("name", ["a/1.jpg", "a//1.jpg"], ids=["obstore", "boto3"])
@pytest.mark.parametrize(
    ("effect", "kind"),
    [
        (Effect.SLOW_DOWN, ThrottledError),
        (Effect.SILENCE, TimedOutError),
        (Effect.RESET, ResetError),
        (Effect.CUT_SHORT, ResetError),
        (Effect.ACCESS_DENIED, RefusedError),
        (Effect.EXPIRED, ExpiredError),
        (Effect.NO_SUCH_BUCKET, NoSuchBucketError),
    ],
)
def test_what_s3_did_is_told_apart(
    effect: Effect, kind: type[OSError], name: str, disturbed: Disturbed
) -> None:
    write(disturbed, name, b"12" * 5000)
    disturbed.meet(effect)
    start = monotonic()
    with pytest.raises(kind) as error:
        disturbed.folder.read_once(name, limit=10**6, version=None)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    assert monotonic() - start < 10
    disturbed.gate.rules = ()
    assert disturbed.folder.read_once(name, limit=10**6, version=None).bytes == b"12" * 5000


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "InternalError", ServerError),
        (502, "", ServerError),
        (503, "", ThrottledError),
        (429, "", ThrottledError),
        (400, "RequestTimeout", TimedOutError),
        (400, "TokenRefreshRequired", ExpiredError),
        (403, "SignatureDoesNotMatch", RefusedError),
        (401, "", RefusedError),
        (403, "RequestTimeTooSkewed", WrongClockError),
        (400, "MalformedXML", OSError),
        (404, "NoSuchKey", FileNotFoundError),
    ],
)
def test_an_answers_kind_follows_from_its_status_and_code(
    status: int, code: str, kind: type[OSError]
) -> None:
    error = s3._of_answer(status, code, f"{code}: words")
    assert type(error) is kind
    assert str(error) == f"{code}: words"


@pytest.mark.parametrize("name", ["a/1.jpg", "a//1.jpg"], ids=["obstore", "boto3"])
def test_what_is_missing_and_what_changed(disturbed: Disturbed, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        disturbed.folder.read_once(name, limit=9, version=None)
    write(disturbed, name, b"one")
    listed = disturbed.folder.read_once(name, limit=9, version=None).version
    assert listed is not None
    requests = disturbed.gate.requests["GET"]
    assert disturbed.folder.read_once(name, limit=9, version=listed) == Content(b"one", listed)
    assert disturbed.gate.requests["GET"] == requests + 1, "one request"
    write(disturbed, name, b"two")
    read = disturbed.folder.read_once(name, limit=9, version=listed)
    assert read.bytes == b"two"
    assert read.version not in (None, listed)


OPERATIONS: dict[str, Callable[[Folder], object]] = {
    "exists": lambda folder: folder.exists(),
    "read": lambda folder: folder.read("x"),
    "entries": lambda folder: sorted(folder.entries(), key=lambda entry: entry.name),
    "files": lambda folder: folder.files(),
    "write": lambda folder: folder.write("y", b"1"),
    "copy": lambda folder: folder.copy("x", folder / "to", "x"),
    "delete": lambda folder: folder.delete(["x", "z"]),
    "read_tagged": lambda folder: folder.read_tagged("x"),
    "swap": lambda folder: folder.swap("pointer", b"1", None),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("effect", [Effect.SLOW_DOWN, Effect.RESET])
def test_all_else_is_asked_for_again(
    operation: str, effect: Effect, disturbed: Disturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    disturbed.folder.write("x", b"1")
    rule = disturbed.meet(effect, times=3)
    OPERATIONS[operation](disturbed.folder)
    assert rule.met == 3
    monkeypatch.setattr(retries, "PATIENCE", 0.05)
    disturbed.meet(effect)
    with pytest.raises(BusyError):
        OPERATIONS[operation](disturbed.folder)


def test_a_listing_goes_on_where_it_was_interrupted(
    disturbed: Disturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LIST_AT_ONCE", 5)
    names = [f"{label}/{number:02}" for label in "ab" for number in range(20)]
    for name in names:
        disturbed.folder.write(name, b"1")
    disturbed.meet(Effect.SLOW_DOWN, kinds=("LIST",), every=3)
    assert sorted(entry.name for entry in disturbed.folder.entries()) == names


def test_who_waits_in_vain_for_expired_credentials_is_told_soon(disturbed: Disturbed) -> None:
    rule = disturbed.meet(Effect.EXPIRED)
    with pytest.raises(ExpiredError, match=r"^ExpiredToken: The provided token has expired\.$"):
        disturbed.folder.exists()
    assert rule.met == retries.WITHOUT_HOPE


def test_a_swap_that_s3_answers_with_a_reset_is_not_done_twice(disturbed: Disturbed) -> None:
    """The write is carried out, and its answer lost: what is there is ours."""
    tag = disturbed.folder.swap("pointer", b"1", None)
    disturbed.meet(Effect.RESET, kinds=("PUT",), times=1)
    disturbed.folder.swap("pointer", b"2", tag)
    with pytest.raises(ConflictError):
        disturbed.folder.swap("pointer", b"3", tag)


class TestPace:
    def test_a_tenth_of_requests_throttled_costs_no_image(self, disturbed: Disturbed) -> None:
        images = plant(disturbed, 200)
        disturbed.meet(Effect.SLOW_DOWN, kinds=("GET",), every=10)
        reads = [read for _, read in read_ahead(disturbed.folder, images)]
        assert all(isinstance(read, Content) for read in reads)

    def test_what_stays_throttled_is_postponed_and_the_rest_is_read(
        self, disturbed: Disturbed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "IMAGE_AGAIN", 0.2)
        monkeypatch.setattr(reading, "FIRST_PATIENCE", 60.0)
        images = [*plant(disturbed, 20, "Kiwi"), *plant(disturbed, 20, "Plum")]
        disturbed.meet(Effect.SLOW_DOWN, kinds=("GET",), prefix=f"/{disturbed.bucket}/b/Kiwi/")
        reads = dict(read_ahead(disturbed.folder, images))
        for image in images:
            kind = ThrottledError if image.label == "Kiwi" else Content
            assert isinstance(reads[image], kind)

    def test_a_part_of_which_nothing_comes_is_postponed_without_asking_for_each(
        self, disturbed: Disturbed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "FIRST_PATIENCE", 0.5)
        images = [Image(f"{number}.jpg", None, 1, None) for number in range(5_000)]
        disturbed.meet(Effect.SLOW_DOWN)
        start = monotonic()
        reads = [read for _, read in read_ahead(disturbed.folder, images)]
        assert {type(read) for read in reads} == {ThrottledError}
        assert monotonic() - start < 10
        assert disturbed.gate.requests["GET"] < 1_000

    def test_where_a_part_was_given_up_few_requests_decide_about_the_next(
        self, disturbed: Disturbed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "FIRST_PATIENCE", 0.2)
        images = plant(disturbed, 50)
        disturbed.meet(Effect.SLOW_DOWN)
        assert all(is_busy(read) for _, read in read_ahead(disturbed.folder, images))
        before = disturbed.gate.requests["GET"]
        assert all(is_busy(read) for _, read in read_ahead(disturbed.folder, images))
        # How often the pace was halved before is a matter of the machine: once, at least.
        assert 1 <= disturbed.gate.requests["GET"] - before <= reading.READERS // 2
        disturbed.gate.rules = ()
        assert not any(is_busy(read) for _, read in read_ahead(disturbed.folder, images))

    def test_a_process_that_comes_late_to_the_second_pass_has_patience(
        self, disturbed: Disturbed
    ) -> None:
        images = plant(disturbed, 3)
        disturbed.meet(Effect.SLOW_DOWN, kinds=("GET",), times=12)
        pace = reading.second_pace(disturbed.folder, time() - 1_000)
        reads = [read for _, read in read_ahead(disturbed.folder, images, pace)]
        assert not any(map(is_busy, reads))
        assert reading.second_pace(disturbed.folder, time() - 1_000) is not pace

    def test_it_shrinks_when_throttled_and_grows_again(
        self, disturbed: Disturbed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "SHRINK_EVERY", 0.0)
        pace = Pace(16, patience=60.0, image_again=5.0)
        images = plant(disturbed, 30)
        disturbed.meet(Effect.SLOW_DOWN, kinds=("GET",), times=3)
        for image in images:
            pace.read(disturbed.folder, image)
            if image is images[0]:
                assert 2 <= pace._limit < 3, "halved thrice, and one success"
        assert 7 < pace._limit < 9, "one more for each round of successes"

    def test_no_more_requests_are_under_way_than_it_says(self) -> None:
        pace = Pace(3, patience=60.0, image_again=5.0)
        folder = Counting("", "")
        images = [Image(str(number), None, 1, None) for number in range(60)]
        threads = [Thread(target=pace.read, args=(folder, image)) for image in images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(folder.under_way) == 60
        assert max(folder.under_way) == 3


def is_busy(read: object) -> bool:
    return isinstance(read, BusyError)


class Counting(LocalFolder):
    """A folder that notes how many requests are under way with each."""

    under_way: ClassVar[list[int]] = []
    now: ClassVar[int] = 0
    lock: ClassVar[Any] = Lock()

    def read_once(self, name: str, *, limit: int, version: str | None) -> Content:  # noqa: ARG002
        with self.lock:
            Counting.now += 1
            self.under_way.append(Counting.now)
        sleep(0.002)
        with self.lock:
            Counting.now -= 1
        return Content(b"", None)


def write(disturbed: Disturbed, name: str, content: bytes) -> None:
    """Write an object past the gate."""
    boto3.client("s3").put_object(Bucket=disturbed.bucket, Key=f"b/{name}", Body=content)


def plant(disturbed: Disturbed, number: int, label: str = "Kiwi") -> list[Image]:
    images = [Image(f"{label}/{one}.jpg", label, 1, None) for one in range(number)]
    for image in images:
        disturbed.folder.write(image.path, b"1")
    return images


@pytest.mark.job
class TestJobs:
    """Whole runs on a bucket that is disturbed; results on a disk."""

    @pytest.fixture
    def batch(self, disturbed: Disturbed, few: Path) -> str:
        for path in sorted(few.rglob("*.jpg")):
            disturbed.folder.write(str(path.relative_to(few)), path.read_bytes())
        return disturbed.folder.uri

    def test_a_prefix_that_is_throttled_for_a_while_costs_no_image(
        self, batch: str, disturbed: Disturbed, tmp_path: Path
    ) -> None:
        kiwis = f"/{disturbed.bucket}/b/Kiwi/"
        disturbed.meet(Effect.SLOW_DOWN, kinds=("GET",), prefix=kiwis, seconds=9)
        job = run_job(batch, tmp_path / "out", "--components", "2")
        assert job.exit_code == 0, job.err
        assert set(job.outcomes().values()) == {"featurized"}
        assert "6 images were not given (6 throttled); they are asked for again" in job.err

    def test_a_prefix_that_is_throttled_for_ever_ends_the_run_and_keeps_what_is_done(
        self, batch: str, disturbed: Disturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline, "start_engine", lambda *_, **__: InlineEngine())
        monkeypatch.setattr(reading, "SECOND_PATIENCE", 1.0)
        kiwis = f"/{disturbed.bucket}/b/Kiwi/"
        disturbed.meet(Effect.SLOW_DOWN, kinds=("GET",), prefix=kiwis)
        settings = JobSettings(batch, str(tmp_path / "out"), "batch", "r", max_reject_rate=0.0)
        with pytest.raises(UnavailableError, match=r"^6 images could not be read.*6 throttled"):
            pipeline.run(settings)
        assert not (tmp_path / "out/results/batch/current.json").exists()
        done = parquet.read_table(tmp_path / "out/work/batch/r/features")
        assert set(done["label"].to_pylist()) == {"Plum"}
        disturbed.gate.rules = ()
        counts = pipeline.run(replace(settings, run="next")).counts
        assert counts.featurized == 12
        assert counts.carried_over, "what was read before is read no more"

    def test_credentials_that_expire_in_mid_run_end_it_soon(
        self, batch: str, disturbed: Disturbed, tmp_path: Path
    ) -> None:
        plums = f"/{disturbed.bucket}/b/Plum/"
        disturbed.meet(Effect.EXPIRED, kinds=("GET",), prefix=plums)
        job = run_job(batch, tmp_path / "out", "--components", "2")
        assert job.exit_code == 5
        assert "6 images could not be read" in job.err
        assert "Sign in again, and run it again" in job.err
        assert job.seconds < 40
        failure = read_json(next((tmp_path / "out/work").rglob("failure.json")))
        assert failure["error"] == "UnavailableError"

    def test_credentials_that_have_expired_before_it_begins_end_it_at_once(
        self, batch: str, disturbed: Disturbed, tmp_path: Path
    ) -> None:
        disturbed.meet(Effect.EXPIRED)
        job = run_job(batch, tmp_path / "out")
        assert job.exit_code == 5
        assert "the AWS credentials expired (ExpiredToken: The provided token has" in job.err
        assert "Sign in, and run it again" in job.err
        assert job.seconds < 20

    def test_an_output_that_is_busy_is_told_as_such(self, disturbed: Disturbed, few: Path) -> None:
        disturbed.meet(Effect.EXPIRED)
        job = run_job(few, disturbed.folder.uri)
        assert job.exit_code == 5
        assert "the AWS credentials expired" in job.err

    def test_bodies_that_end_too_soon_are_asked_for_again(
        self, batch: str, disturbed: Disturbed, tmp_path: Path
    ) -> None:
        rule = disturbed.meet(Effect.CUT_SHORT, kinds=("GET",), every=3)
        job = run_job(batch, tmp_path / "out", "--components", "2")
        assert job.exit_code == 0, job.err
        assert rule.met >= 4
        assert set(job.outcomes().values()) == {"featurized"}

    def test_keys_of_any_kind_are_images(
        self, batch: str, disturbed: Disturbed, few: Path, tmp_path: Path
    ) -> None:
        content = next(few.rglob("*.jpg")).read_bytes()
        # The server has no address for a newline; obstore refuses a tab all the same.
        odd = [
            "a\ttab.jpg",
            "a//1.jpg",
            "/2.jpg",
            "x%2Fy.jpg",
            "ends/",
            "b/3....jpg",
            "é ß.jpg",
        ]
        for name in odd:
            write(disturbed, name, b"" if name.endswith("/") else content)
        job = run_job(batch, tmp_path / "out", "--components", "2")
        assert job.exit_code == 0, job.err
        assert {*odd} - {"ends/"} <= {*job.outcomes()}
        assert set(job.outcomes().values()) == {"featurized"}

    def test_where_every_read_is_refused_the_run_ends_at_once_and_says_so(
        self, batch: str, disturbed: Disturbed, tmp_path: Path
    ) -> None:
        disturbed.meet(Effect.ACCESS_DENIED, kinds=("GET",))
        job = run_job(batch, tmp_path / "out", "--max-reject-rate", "1")
        assert job.exit_code == 2
        assert "none of 12 images tried in" in job.err
        assert "may be read (AccessDenied: Access Denied); check who runs the job" in job.err
        assert job.seconds < 20

    def test_where_some_reads_are_refused_they_are_rejects(
        self, batch: str, disturbed: Disturbed, tmp_path: Path
    ) -> None:
        kiwis = f"/{disturbed.bucket}/b/Kiwi/"
        disturbed.meet(Effect.ACCESS_DENIED, kinds=("GET",), prefix=kiwis)
        job = run_job(batch, tmp_path / "out", "--max-reject-rate", "0.5", "--components", "2")
        assert job.exit_code == 0, job.err
        for path, outcome in job.outcomes().items():
            assert outcome == (("read", "refused") if path.startswith("Kiwi") else "featurized")

    def test_an_endpoint_that_says_nothing_is_told(
        self, batch: str, disturbed: Disturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retries, "PATIENCE", 2.0)
        disturbed.meet(Effect.SILENCE)
        with pytest.raises(
            TimedOutError, match=r"^no answer from http://127\.0\.0\.1:\d+ in time$"
        ):
            pipeline.run(JobSettings(batch, str(tmp_path / "out"), "batch", "r"))

    def test_a_file_that_changed_since_it_was_listed_is_read_as_it_is_now(
        self, batch: str, disturbed: Disturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = disturbed.folder.read("Plum/Plum_000.jpg")

        def change(*arguments: Any) -> str:
            digest = write_listing(*arguments)
            write(disturbed, "Kiwi/Kiwi_000.jpg", other)
            return digest

        monkeypatch.setattr(pipeline, "write_listing", change)
        monkeypatch.setattr(pipeline, "start_engine", lambda *_, **__: InlineEngine())
        receipt = pipeline.run(
            JobSettings(batch, str(tmp_path / "out"), "batch", "r", components=2)
        )
        table = parquet.read_table(tmp_path / "out/results/batch/runs/r/features")
        rows = {row["path"]: row for row in table.to_pylist()}
        changed, same = rows["Kiwi/Kiwi_000.jpg"], rows["Plum/Plum_000.jpg"]
        assert changed["sha256"] == same["sha256"]
        assert changed["version"] == same["version"], "the ETag of equal content"
        assert receipt.counts.computed == 12
