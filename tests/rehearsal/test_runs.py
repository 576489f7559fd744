"""Whole runs, undisturbed and disturbed: what is published is the same, or nothing is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from moto.cloudwatch.models import cloudwatch_backends

from rehearsal.aws.calls import ACCOUNT
from rehearsal.aws.faults import Effect, Fault
from rehearsal.emr.clusters import Shortage
from spark_job.contract import (
    CURRENT,
    MODEL_CARD,
    RUN,
    SPARK_EVENTS,
    models_folder,
    run_folder,
    work_folder,
)
from stacks.grants import METRICS
from tests.rehearsal.partitions import assert_partitions_follow
from tests.rehearsal.tables import Published, first_difference
from tests.rehearsal.watching import alive, clusters_of, container, disturb, types

if TYPE_CHECKING:
    from collections.abc import Callable

    from rehearsal.emr.yarn import Container
    from rehearsal.local_cloud import LocalCloud
    from rehearsal.pipeline import Outcome

pytestmark = pytest.mark.rehearsal

REPOSITORY = Path(__file__).resolve().parents[2]


def succeed(cloud: LocalCloud, batch: str, folder: Path) -> Published:
    """Run `batch` to its good end, and return what it published."""
    arn = cloud.start_execution({"batch": batch, "pca": "fit"})
    outcome = cloud.wait(arn)
    assert outcome.status == "SUCCEEDED", outcome
    assert alive(cloud, arn) == []
    return Published.of(cloud, batch, folder)


def test_a_marker_written_twice_starts_one_run_that_publishes_every_image(
    cloud: LocalCloud, reference: Published, photographs: dict[str, bytes]
) -> None:
    assert reference.features["path"].to_pylist() == sorted(photographs)
    assert reference.receipt["counts"]["listed"] == len(photographs)
    assert len([arn for arn in cloud.executions() if ":reference." in arn]) == 1
    assert cloud.objects("work/reference/") == [], "a published run leaves nothing at work"


def test_spark_leaves_its_event_log_in_the_log_bucket(
    cloud: LocalCloud, reference: Published
) -> None:
    del reference
    listed = cloud.endpoint.client("s3").list_objects_v2(
        Bucket=cloud.deployment.outputs["LogBucket"], Prefix=f"{SPARK_EVENTS}/"
    )
    logs = {found["Key"]: found["Size"] for found in listed["Contents"] if found["Size"]}
    events = {key: size for key, size in logs.items() if "/events_1_application_" in key}
    assert events
    assert all(size > 1000 for size in events.values())


def test_its_mail_and_its_metrics_have_its_numbers_and_dollars(
    cloud: LocalCloud, reference: Published, photographs: dict[str, bytes]
) -> None:
    receipt = reference.receipt
    mail, *_ = told(cloud, "reference")
    assert f"{len(photographs)} images ({len(photographs)} computed, 0 known from before)" in mail
    assert "0 rejected, 0 in formats that are not taken" in mail
    assert f"{receipt['model']['k']} components; {receipt['seconds']['total']} s of job" in mail
    assert f"{receipt['images_per_second']} images a second" in mail
    dollars = receipt["dollars"]["estimate"]
    assert dollars > 0
    assert f"about {dollars} dollars (an estimate)" in mail
    measured = metrics(cloud)
    assert measured["Images"][0] == measured["Computed"][0] == len(photographs)
    assert measured["Rejects"][0] == measured["Unsupported"][0] == 0
    assert measured["JobSeconds"][0] == receipt["seconds"]["total"]
    assert measured["ImagesPerSecond"][0] == receipt["images_per_second"]
    assert measured["Dollars"][0] == dollars


def told(cloud: LocalCloud, batch: str) -> list[str]:
    """Return the mails about a batch's publications, the oldest first."""
    return [text for text in cloud.messages() if text.startswith(f"Batch {batch} is published")]


def metrics(cloud: LocalCloud) -> dict[str, list[float]]:
    """Return the values that runs have put so far, the oldest first, by the metric's name."""
    values: dict[str, list[float]] = {}
    for datum in cloudwatch_backends[ACCOUNT][cloud.endpoint.region].metric_data:
        if datum.namespace == METRICS:
            assert [(d.name, d.value) for d in datum.dimensions] == [("Stack", "Orchard")]
            values.setdefault(datum.name, []).append(datum.value)
    return values


def test_a_laptop_gives_the_same_tables(
    reference: Published, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    for name, content in photographs.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    command = [sys.executable, "-m", "spark_job", "--batch", "reference", "--pca", "fit"]
    command += ["--images", str(tmp_path / "images"), "--output", str(tmp_path / "out")]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    laptop = Published.read(tmp_path / "out", "reference")
    assert laptop.receipt["engine"]["name"] == "processes"
    assert reference.receipt["engine"]["name"] == "spark"
    # Moments are summed over other parts, in another order: the model's last digits may differ.
    reference.assert_same(laptop, vectors_within=1e-5)


def test_no_capacity_a_busy_s3_and_a_killed_executor_cost_time_and_nothing_else(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    """One after the other, in one run; what a lost node costs is in `test_capacity`."""
    killed: list[Container] = []

    def kill() -> None:
        killed.append(container(cloud, driver=False))
        cloud.yarn.kill_container(killed[0])

    put("busy", photographs)
    cloud.emr.shortages = [Shortage.ENDED]
    # First, for a request meets one fault at most.
    disturb(cloud, "busy", kill)
    nodes = cloud.role("InstanceRole")
    for effect in (Effect.SLOW_DOWN, Effect.RESET):
        cloud.endpoint.faults.add(
            Fault("s3:*", effect, principal=nodes, resource="/busy/", after=2, every=4, times=12)
        )
    reference.assert_same(succeed(cloud, "busy", tmp_path))
    assert killed
    assert cloud.endpoint.faults.pending < 24, "S3 was not busy"
    first, second = clusters_of(cloud, cloud.executions()[0])
    assert first.errors
    assert first.state == "TERMINATED_WITH_ERRORS"
    assert not types(first) & types(second)


@dataclass(frozen=True)
class Killed:
    """A run whose driver was killed: its batch, its images, and how many of them were done."""

    batch: str
    images: dict[str, bytes]
    run: str
    done: int


@pytest.fixture(scope="module")
def killed(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path_factory: pytest.TempPathFactory,
) -> Killed:
    """Run a batch of more than one part, and kill the driver when one is finished."""
    del reference  # The other tests' first batch must have fitted its model before.
    # However few parts work at a time; bytes after a JPEG's end change no pixel.
    copies = [
        {f"copy {number}/{path}": content + b"%d" % number for path, content in photographs.items()}
        for number in (1, 2)
    ]
    images = {**photographs, **copies[0], **copies[1]}
    batch = "driver-killed"
    put(batch, images)

    def kill() -> None:
        cloud.yarn.kill_container(container(cloud, driver=True))

    cloud.endpoint.faults.add(
        Fault(
            "s3:PutObject",
            resource="/parts/part-",
            after=1,
            before=lambda _: Thread(target=kill).start(),
        )
    )
    arn = cloud.start_execution({"batch": batch})
    cloud.wait(arn)
    folder = tmp_path_factory.mktemp("killed")
    done = sum(
        json.loads(cloud.fetch(key, folder).joinpath(key).read_bytes())["counts"]["listed"]
        for key in cloud.objects(f"{work_folder(batch, arn.rpartition(':')[2])}/")
        if "/parts/" in key
    )
    return Killed(batch, images, arn, done)


def test_a_killed_driver_fails_the_run_and_leaves_what_was_done(
    cloud: LocalCloud, killed: Killed, failed: Callable[[str], Outcome]
) -> None:
    outcome = failed(killed.run)
    assert killed.batch in outcome.cause
    assert "memory ran out" in outcome.cause
    run = killed.run.rpartition(":")[2]
    assert cloud.objects(f"{run_folder(killed.batch, run)}/") == [], "nothing is published"
    assert killed.done


def test_too_many_rejects_publish_nothing_and_say_how_many(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    failed: Callable[[str], Outcome],
) -> None:
    broken = {f"fruit 9/{n}.jpg": b"not a photograph" for n in range(10)}
    put("spoiled", {**photographs, **broken})
    outcome = failed(cloud.start_execution({"batch": "spoiled"}))
    assert "10" in outcome.cause, outcome.cause
    assert cloud.objects("results/spoiled/") == []
    run = outcome.arn.rpartition(":")[2]
    assert f"work/spoiled/{run}/failure.json" in cloud.objects("work/spoiled/")


def test_runs_at_once_update_one_model_and_partitions_follow(
    cloud: LocalCloud,
    killed: Killed,
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    """The next run of a batch whose driver was killed, and two reruns of one that is published."""
    batches = ("reference", killed.batch, "reference")
    arns = [cloud.start_execution({"batch": batch, "pca": "update"}) for batch in batches]
    outcomes = [cloud.wait(arn, timeout_s=400) for arn in arns]
    assert [outcome.status for outcome in outcomes] == ["SUCCEEDED"] * 3, outcomes
    assert len([cluster for arn in arns for cluster in clusters_of(cloud, arn)]) == len(batches)
    found = {batch: Published.of(cloud, batch, tmp_path) for batch in batches}
    # One model of both batches.
    models = tmp_path / models_folder(reference.receipt["extractor"])
    current = json.loads((models / CURRENT).read_bytes())["model"]
    card = json.loads((models / current / MODEL_CARD).read_bytes())
    assert {*batches} <= {one["batch"] for one in card["batches"]}, "neither is lost"
    assert current in [published.receipt["model"]["model"] for published in found.values()]
    # What the killed run had done was done, and the rest is what it would have been.
    assert_goes_on(cloud, killed, found[killed.batch])
    ours = found[killed.batch].features
    shared = ours.filter(pc.is_in(ours["path"], pa.array(sorted(photographs))))
    assert first_difference(reference.features, shared) is None
    # Nothing of the reruns was new, the later one is what is published, and partitions are its.
    rerun = found["reference"]
    assert first_difference(reference.features, rerun.features) is None
    counts = rerun.receipt["counts"]
    assert (counts["computed"], counts["carried_over"]) == (0, len(photographs))
    known = f"{len(photographs)} images (0 computed, {len(photographs)} known from before)"
    assert any(known in mail for mail in told(cloud, "reference"))
    receipts = [
        tmp_path / run_folder("reference", arns[number].rpartition(":")[2]) / RUN
        for number in (0, 2)
    ]
    started = {
        json.loads(receipt.read_bytes())["started"]: receipt.parent.name
        for receipt in receipts
        if receipt.exists()
    }
    assert rerun.receipt["run"] == started[max(started)]
    for batch in found:
        assert_partitions_follow(cloud, batch)


def assert_goes_on(cloud: LocalCloud, killed: Killed, published: Published) -> None:
    """Fail unless a run took over what a killed one had done, and left it alone otherwise."""
    counts = published.receipt["counts"]
    assert counts["carried_over"] == killed.done
    assert counts["carried_over"] + counts["computed"] == len(killed.images)
    (mail,) = told(cloud, killed.batch)
    known = f"{counts['computed']} computed, {killed.done} known from before"
    assert f"{len(killed.images)} images ({known})" in mail
    # The dead run may be alive, as far as S3 tells in its first two minutes.
    left = {key.split("/")[2] for key in cloud.objects(f"work/{killed.batch}/")}
    assert left <= {killed.run.rpartition(":")[2]}
