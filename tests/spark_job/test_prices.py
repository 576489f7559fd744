"""The list of prices: dated, with its source, and of types that clusters may have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spark_job import prices
from stacks.emr.instances import fitting

LIST = json.loads(Path(prices.__file__).with_name("prices.json").read_text())


def test_the_list_is_dated_and_has_a_source() -> None:
    assert LIST["as_of"]
    assert LIST["source"].startswith("https://aws.amazon.com/")


def test_every_price_is_of_a_type_that_fits() -> None:
    known = {*fitting("x86_64"), *fitting("arm64")}
    assert set(LIST["eu-west-1"]) <= known


def test_a_node_costs_ec2_emr_and_its_disks() -> None:
    disks = 96 * 0.088 / 730
    assert prices.node_price("eu-west-1", "m5.xlarge", 64) == pytest.approx(0.262 + disks, abs=1e-4)
    large = prices.node_price("eu-west-1", "m5.4xlarge", 64)
    assert large == pytest.approx(4 * 0.262 + disks, abs=1e-4)


def test_what_is_not_on_the_list_has_no_price() -> None:
    assert prices.node_price("eu-west-1", "m7i.xlarge", 64) is None
    assert prices.node_price("eu-north-1", "m5.xlarge", 64) is None
