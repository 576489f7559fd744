"""Whole runs, undisturbed and disturbed: what is published is the same, or nothing is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from moto.cloudwatch.models import cloudwatch_backends

from rehearsal.aws.calls import ACCOUNT
from rehearsal.aws.faults import Effect, Fault
from spark_job.contract import CURRENT, MODEL_CARD, models_folder
from stacks.grants import METRICS
from tests.rehearsal.tables import Published, first_difference
from tests.rehearsal.watching import alive, clusters_of, container, disturb

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


def test_its_mail_and_its_metrics_have_its_numbers_and_dollars(
    cloud: LocalCloud, reference: Published, photographs: dict[str, bytes]
) -> None:
    receipt = reference.receipt
    (mail,) = told(cloud, "reference")
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


def test_a_killed_executor_costs_time_and_nothing_else(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    killed: list[Container] = []

    def kill() -> None:
        killed.append(container(cloud, driver=False))
        cloud.yarn.kill_container(killed[0])

    put("executor-killed", photographs)
    disturb(cloud, "executor-killed", kill)
    reference.assert_same(succeed(cloud, "executor-killed", tmp_path))
    assert killed


def test_a_lost_node_costs_time_and_nothing_else(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    lost: list[int] = []

    def lose() -> None:
        lost.append(1 - container(cloud, driver=True).node)
        cloud.yarn.lose_node(lost[0])

    put("node-lost", photographs)
    disturb(cloud, "node-lost", lose)
    try:
        reference.assert_same(succeed(cloud, "node-lost", tmp_path))
    finally:
        cloud.yarn.restart()
    assert lost


def test_a_killed_driver_fails_the_run_and_the_next_goes_on_where_it_was(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    failed: Callable[[str], Outcome],
    tmp_path: Path,
) -> None:
    """The next one with a model that is named, which is that of another batch."""
    # More than one part, however few work at a time; bytes after a JPEG's end change no pixel.
    copies = [
        {f"copy {number}/{path}": content + b"%d" % number for path, content in photographs.items()}
        for number in (1, 2)
    ]
    images = {**photographs, **copies[0], **copies[1]}
    put("driver-killed", images)

    def kill() -> None:
        cloud.yarn.kill_container(container(cloud, driver=True))

    # When one part is finished.
    receipt = Fault(
        "s3:PutObject",
        resource="/parts/part-",
        after=1,
        before=lambda _: Thread(target=kill).start(),
    )
    cloud.endpoint.faults.add(receipt)
    arn = cloud.start_execution({"batch": "driver-killed"})
    outcome = failed(arn)
    assert "driver-killed" in outcome.cause
    assert cloud.objects("results/driver-killed/") == []
    done = sum(
        json.loads(cloud.fetch(key, tmp_path).joinpath(key).read_bytes())["counts"]["listed"]
        for key in cloud.objects("work/driver-killed/")
        if "/parts/" in key
    )
    assert done
    model = reference.receipt["model"]["model"]
    given = {"batch": "driver-killed", "pca": "reuse", "model": model}
    outcome = cloud.wait(cloud.start_execution(given))
    assert outcome.status == "SUCCEEDED", outcome
    published = Published.of(cloud, "driver-killed", tmp_path)
    paths = pa.array(sorted(photographs))
    for table in ("features", "vectors"):
        ours = getattr(published, table)
        same = ours.filter(pc.is_in(ours["path"], paths))
        assert first_difference(getattr(reference, table), same) is None, table
    counts = published.receipt["counts"]
    (mail,) = told(cloud, "driver-killed")
    known = f"{counts['computed']} computed, {done} known from before"
    assert f"{len(images)} images ({known})" in mail
    assert counts["carried_over"] == done, "what was done was done"
    assert counts["carried_over"] + counts["computed"] == len(images)
    assert published.receipt["model"]["reused"]
    # The dead run may be alive, as far as S3 tells in its first two minutes: it is left alone.
    left = {key.split("/")[2] for key in cloud.objects("work/driver-killed/")}
    assert left <= {arn.rpartition(":")[2]}


def test_a_busy_s3_costs_time_and_nothing_else(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    nodes = cloud.role("InstanceRole")
    put("busy", photographs)
    for effect in (Effect.SLOW_DOWN, Effect.RESET):
        cloud.endpoint.faults.add(
            Fault("s3:*", effect, principal=nodes, resource="/busy/", after=2, every=4, times=12)
        )
    reference.assert_same(succeed(cloud, "busy", tmp_path))
    assert cloud.endpoint.faults.pending < 24, "S3 was not busy"


def test_an_object_that_vanishes_before_it_is_read_is_a_reject(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    path = sorted(photographs)[5]
    key = f"images/vanished/{path}"
    s3 = cloud.endpoint.client("s3")
    cloud.endpoint.faults.add(
        Fault(
            "s3:GetObject",
            resource=key,
            before=lambda _: s3.delete_object(Bucket=cloud.bucket, Key=key),
        )
    )
    put("vanished", photographs)
    published = succeed(cloud, "vanished", tmp_path)
    assert published.rejects.select(["path", "stage"]).to_pylist() == [
        {"path": path, "stage": "read"}
    ]
    assert len(published.features) == len(photographs) - 1


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


def test_two_batches_at_once_update_one_model(
    cloud: LocalCloud,
    put: Callable[[str, dict[str, bytes]], None],
    photographs: dict[str, bytes],
    reference: Published,
    tmp_path: Path,
) -> None:
    batches = ("morning", "evening")
    for batch in batches:
        put(batch, photographs)
    arns = [cloud.start_execution({"batch": batch, "pca": "update"}) for batch in batches]
    outcomes = [cloud.wait(arn, timeout_s=300) for arn in arns]
    assert [outcome.status for outcome in outcomes] == ["SUCCEEDED", "SUCCEEDED"], outcomes
    clusters = [cluster for arn in arns for cluster in clusters_of(cloud, arn)]
    assert len(clusters) == len(batches)
    found = [Published.of(cloud, batch, tmp_path) for batch in batches]
    for published in found:
        assert first_difference(reference.features, published.features) is None
    models = tmp_path / models_folder(reference.receipt["extractor"])
    current = json.loads((models / CURRENT).read_bytes())["model"]
    card = json.loads((models / current / MODEL_CARD).read_bytes())
    assert {*batches} <= {one["batch"] for one in card["batches"]}, "neither is lost"
    assert current in [published.receipt["model"]["model"] for published in found]
