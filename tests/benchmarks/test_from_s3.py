"""What is said of S3 is about the stages that read, and the server behind it is a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from benchmarks import s3_server
from benchmarks.from_s3 import (
    Beside,
    Disturbed,
    FromS3,
    Reading,
    disturb,
    from_s3_section,
    reading_rate,
    skipped_section,
)
from benchmarks.measure import BenchmarkError
from benchmarks.programs import Run
from benchmarks.results import TwoSizes
from rehearsal.aws.gate import Effect, Gate, Rule
from tests.spark_job.photographs import fruit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 24

built = pytest.mark.skipif(
    not s3_server.PROGRAM.is_file(), reason="versitygw is not built; python -m benchmarks builds it"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[s3_server.Server]:
    with s3_server.serve(tmp_path / "s3") as running:
        yield running


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Fruits, in a folder whose name needs encoding."""
    folder = tmp_path / "images-24"
    (folder / "Ananas é 1").mkdir(parents=True)
    for number in range(COUNT):
        fruit(number).save(folder / f"Ananas é 1/{number} 100.jpg")
    return folder


def test_cpu_is_compared_by_slope_and_shares_with_the_runs_around() -> None:
    pairs = [Beside(two(cpu=(5.0, 95.0)), two(cpu=(6.0, 96.0)))]
    readings = [Reading(read(0.1), read(0.1 + extra)) for extra in (0.2, 0.1, 0.9)]
    turn = Disturbed(run(50), run(60), run(90), run(70))
    found = from_s3_section(FromS3(readings, pairs, {"processes": [turn], "spark": [turn]})).targets
    assert [(target.name, target.reached, target.met) for target in found] == [
        ("reading: CPU per image, S3 less disk", "200.0 µs", True),
        ("processes: rate with 50 ms more per request", "97.2%", True),
        ("processes: rate with a tenth of GETs answered 503", "64.8%", False),
        ("Spark: rate with 50 ms more per request", "97.2%", True),
        ("Spark: rate with a tenth of GETs answered 503", "64.8%", False),
    ]


def test_a_stage_that_asks_again_counts_as_reading_and_the_fit_does_not() -> None:
    job = run(50)
    assert reading_rate(job) == 9_500 / 50
    job.details["seconds"]["second pass"] = 45
    assert reading_rate(job) == 100


def test_without_go_the_rows_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_server, "PROGRAM", tmp_path / "nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(s3_server.NoServerError) as refused, s3_server.serve(tmp_path / "s3"):
        pass
    section = skipped_section(str(refused.value))
    assert [target.reached for target in section.targets] == ["skipped: no Go"] * 3
    assert {target.met for target in section.targets} == {None}


def test_a_server_that_cannot_be_built_or_started_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    false = tmp_path / "go"
    false.write_text("#!/bin/sh\necho 'no such module' >&2; exit 1")
    false.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(s3_server, "PROGRAM", tmp_path / "nowhere")
    with pytest.raises(BenchmarkError, match="no such module"):
        s3_server.install()
    monkeypatch.setattr(s3_server, "PROGRAM", false)
    with (
        pytest.raises(BenchmarkError, match="does not start:\nno such module"),
        s3_server.serve(tmp_path / "s3"),
    ):
        pass


@built
def test_signatures_pass_the_gate_and_versions_are_those_of_the_content(
    server: s3_server.Server, images: Path
) -> None:
    assert server.upload(images) == "s3://orchard/images-24"
    with Gate(server.url) as gate:
        store = store_at(gate.url)
        listed = [one for block in obstore.list(store) for one in block]
        assert {one["path"] for one in listed} == {
            f"images-24/Ananas é 1/{number} 100.jpg" for number in range(COUNT)
        }
        assert len({one["e_tag"] for one in listed}) == COUNT
        path = listed[0]["path"]
        assert obstore.get(store, path).bytes() == (images.parent / path).read_bytes()
        with pytest.raises(BaseError, match="SignatureDoesNotMatch"):
            obstore.get(store_at(gate.url, secret="wrong"), path)
        with pytest.raises(FileNotFoundError):
            obstore.get(store, "images-24/missing.jpg")


@built
@pytest.mark.job
def test_the_job_reads_through_the_gate_and_is_held_against_itself(
    server: s3_server.Server, images: Path
) -> None:
    uri = server.upload(images)
    with Gate(server.url) as gate:
        turns = disturb(gate, uri, COUNT, "processes", rounds=1)
        # Every image in each of four runs, and again what was refused.
        assert gate.requests["GET"] > 4 * COUNT
        assert (gate.delay, list(gate.rules)) == (0, [])
    assert turns[0].refused.details["counts"]["computed"] == COUNT
    assert turns[0].delayed.details["seconds_in_workers"]["read"] >= 0.05


@built
@pytest.mark.job
def test_a_rate_that_was_reached_by_losing_images_does_not_count(
    server: s3_server.Server, images: Path
) -> None:
    uri = server.upload(images)
    with Gate(server.url) as gate:
        # It stays for two of the runs, and ends with the rules of the third.
        gate.rules = [Rule(Effect.ACCESS_DENIED, prefix="/orchard/images-24/Ananas é 1/7 ")]
        with pytest.raises(BenchmarkError, match="0 images were rejected, and not 1"):
            disturb(gate, uri, COUNT, "processes", rounds=1)


def run(seconds: float, images: int = 9_500) -> Run:
    """A job that reads for so long."""
    others = {"list and start": 9.0, "moments": 1.0, "fit": 1.0, "project": 1.0, "settle": 1.0}
    receipt = {"seconds": others | {"featurize": seconds, "total": seconds + 13}}
    return Run("job, processes, through the gate", images, seconds + 14, 1, receipt)


def two(cpu: tuple[float, float]) -> TwoSizes:
    """A job on 500 and on 9,500 images that takes so much CPU time."""
    few, many = cpu
    return TwoSizes(
        Run("job, processes", 500, 5.0, 1, cpu_seconds=few),
        Run("job, processes", 9_500, 50.0, 1, cpu_seconds=many),
    )


def read(cpu: float) -> Run:
    """A thousand images, read in so much CPU time."""
    details = {"images": 1_000, "cpu": cpu, "seconds": 1.0}
    return Run("reading alone, disk", 1_000, 2.0, 1, details)


def store_at(url: str, secret: str = s3_server.SECRET_KEY) -> S3Store:
    return S3Store(
        s3_server.BUCKET,
        endpoint=url,
        region=s3_server.REGION,
        access_key_id=s3_server.ACCESS_KEY,
        secret_access_key=secret,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
