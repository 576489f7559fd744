"""``orchard plan``: a sample of the very pictures says how long all take, here and on a cluster."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchard.commands.plan import _advise, in_time, make_plan
from orchard.planning import (
    READY,
    SPARK_START,
    VOLUME_GIB,
    Cluster,
    Measured,
    _choose,
    _evenly,
    plan,
    primary_type,
)
from spark_job import prices
from spark_job.dollars import SHUT_DOWN_SECONDS
from spark_job.listing import label_of, list_images, plan_parts
from spark_job.objects import open_folder
from tests.orchard.command import refusal, succeed
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from pathlib import Path

MEASURED = Measured(
    images=1_000_000,
    bytes=10**10,
    listing=60.0,
    sample=192,
    featurized=190,
    cores=2,
    processor="abacus",
    start=3.0,
    per_image={"infer": 0.008, "decode": 0.002, "read": 0.0018},
)


class TestArithmetic:
    def test_here_takes_a_start_the_listing_and_each_image_on_so_many_cores(self) -> None:
        assert MEASURED.core_seconds == pytest.approx(0.012)
        assert MEASURED.here == pytest.approx(3 + 60 + 1_000_000 * 0.012 / 2)

    def test_there_a_cluster_is_waited_for_and_paid_until_its_end(self) -> None:
        cluster = Cluster.of("m5.xlarge", 4, None)
        found = plan(MEASURED, cluster)
        assert cluster.cores == 16
        node = prices.node_price("eu-west-1", "m5.xlarge", 64)
        assert node is not None
        assert cluster.per_hour == pytest.approx(5 * node)
        work = found.there - READY - SPARK_START
        assert 0.0102 / 16 < work / 1_000_000 < 0.0112 / 16, "what is read is read ahead"
        hours = (found.there + SHUT_DOWN_SECONDS) / 3600
        assert found.dollars == pytest.approx(hours * 5 * node, abs=0.005)
        assert found.worth_it

    def test_from_the_break_even_on_a_cluster_is_faster(self) -> None:
        cluster = Cluster.of("m5.xlarge", 4, None)
        images = MEASURED.break_even(cluster)
        assert images is not None
        assert plan(replace(MEASURED, images=images), cluster).there == pytest.approx(
            replace(MEASURED, images=images).here, rel=0.001
        )
        few = plan(replace(MEASURED, images=1_000), cluster)
        assert not few.worth_it
        assert few.there > few.here
        many_cores = replace(MEASURED, cores=64)
        assert many_cores.break_even(Cluster.of("m5.xlarge", 2, None)) is None

    def test_larger_types_have_more_cores_and_cost_as_much_more(self) -> None:
        assert Cluster.of("c6i.4xlarge", 3, None).cores == 48
        assert Cluster.of("m6g.xlarge", 1, None).per_hour == pytest.approx(
            2 * (prices.node_price("eu-west-1", "m6g.xlarge", 64) or 0)
        )

    def test_a_price_that_the_list_does_not_know_can_be_said(self) -> None:
        unknown = Cluster.of("m8i.xlarge", 4, None)
        assert (unknown.per_hour, plan(MEASURED, unknown).dollars) == (None, None)
        primary = prices.node_price("eu-west-1", "m5.xlarge", 64) or 0
        assert Cluster.of("m8i.xlarge", 4, 0.3).per_hour == pytest.approx(primary + 1.2)

    def test_the_advice_is_one_sentence(self) -> None:
        cluster = Cluster.of("m5.xlarge", 4, None)
        assert _advise(plan(MEASURED, cluster)) == (
            "A cluster is worth it: it saves 78 min, for about 0.59 dollars"
        )
        assert _advise(plan(replace(MEASURED, images=200_000), cluster)) == (
            "Run it here: a cluster would save 7 min, for about 0.38 dollars"
        )
        assert _advise(plan(replace(MEASURED, images=1_000), cluster)) == (
            "Run it here: a cluster would not be faster; it is faster from about 120,000 such "
            "pictures on"
        )
        unknown = Cluster.of("m8i.xlarge", 4, None)
        assert _advise(plan(MEASURED, unknown)).endswith("for an unknown price")


@pytest.mark.cdk
def test_a_cluster_is_what_a_deployment_makes_unless_told_otherwise() -> None:
    from stacks.config import OrchardConfig

    defaults = inspect.signature(make_plan).parameters
    for config, on in (
        (OrchardConfig(), defaults["on"].default),
        (OrchardConfig(architecture="arm64"), "m6g.xlarge"),
    ):
        assert config.primary_type == primary_type(on)
        assert config.types[0] == on
        assert config.core_instances == defaults["nodes"].default
        assert config.node_volume_gib == VOLUME_GIB


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(5.2, "5 s"), (89, "89 s"), (600, "10 min"), (8_400, "2 h 20 min"), (200_000, "2 days 7 h")],
)
def test_times_are_told_as_a_person_does(seconds: float, told: str) -> None:
    assert in_time(seconds) == told


def test_the_sample_is_spread_over_the_labels_and_smaller_of_large_pictures(tmp_path: Path) -> None:
    plant(tmp_path, {"Fig": 20, "Kiwi": 60, "Plum": 20})
    listing = list_images(open_folder(str(tmp_path)))
    chosen = _choose(listing, 10)["path"].to_pylist()
    assert Counter(map(label_of, chosen)) == {"Fig": 2, "Kiwi": 6, "Plum": 2}
    assert len(_choose(listing, None)) == 100, "all"
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
        with (tmp_path / f"{number}.jpg").open("r+b") as file:
            file.truncate(4_000_000_000)
    assert len(_choose(list_images(open_folder(str(tmp_path))), None)) == 32


@pytest.mark.parametrize("workers", [2, 3, 4, 8, 64])
@pytest.mark.parametrize("sample", [32, 100, 192, 512])
def test_each_worker_gets_one_part_of_the_sample_and_all_end_together(
    sample: int, workers: int
) -> None:
    parts = plan_parts(_evenly(sample, workers), workers)
    assert len(parts) == workers
    assert len(set(parts)) == 1
    assert _evenly(sample, 1) == sample


@pytest.mark.job
def test_pictures_are_measured_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "july"
    plant(images, {"Kiwi": 40, "Plum": 30})
    (images / "Plum" / "bad.jpg").write_bytes(b"no picture")
    (images / "Plum" / "phone.heic").write_bytes(b"no picture either")
    rest = tmp_path / "rest"
    rest.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(rest))
    monkeypatch.chdir(tmp_path)
    found = json.loads(
        succeed("plan", "july", "--on", "m6i.xlarge", "--nodes", "3", "--json").stdout
    )
    measured: dict[str, Any] = found["measured"]
    assert (measured["images"], measured["sample"], measured["featurized"]) == (72, 72, 70)
    assert set(measured["per_image"]) >= {"read", "decode", "infer"}
    assert 0 < found["here"] < 120
    assert found["dollars"] > 0
    assert not found["worth_it"]
    assert found["advice"].startswith("Run it here: a cluster would not be faster")
    assert any("a virtual core is as fast as one here" in one for one in found["assumed"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["july", "rest"]
    assert not list(rest.iterdir())
    shown = succeed("plan", "july", "--sample", "8")
    assert "measured\t8 of 8 that were tried can be used" in shown.stdout
    assert shown.stderr == ""


@pytest.mark.job
def test_pictures_in_s3_are_measured_too(bucket: str, tmp_path: Path) -> None:
    plant(tmp_path, {"Kiwi": 10, "Plum": 10})
    folder = open_folder(f"s3://{bucket}/{tmp_path.name}/july")
    for path in tmp_path.rglob("*.jpg"):
        folder.write(str(path.relative_to(tmp_path)), path.read_bytes())
    found = json.loads(succeed("plan", folder.uri, "--json").stdout)
    assert found["measured"]["featurized"] == 20


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere"], 2, "there is no folder {place}/nowhere; check DIR"),
        (["empty"], 3, "no images in {place}/empty; name a folder with pictures below it"),
        (["empty", "--on", "m5.large"], 2, "--on takes an instance type from xlarge on"),
    ],
)
def test_what_cannot_be_planned_is_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert sentence.format(place=tmp_path) in refusal("plan", *arguments, code=code)
