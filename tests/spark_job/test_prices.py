"""The list of prices: with sources, and complete for the types that clusters may have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spark_job import prices
from stacks.config import EU_REGIONS
from stacks.emr.instances import fitting

LIST = json.loads(Path(prices.__file__).with_name("prices.json").read_text())
SMALLEST = {
    name
    for architecture in ("x86_64", "arm64")
    for name in fitting(architecture)
    if name.endswith(".xlarge")
}
HOME = "eu-west-1"


def test_every_group_of_figures_names_its_source() -> None:
    told = " ".join(source["figures"] for source in LIST["sources"])
    assert all(group in told for group in ("ec2", "emr", "gp3_gib_month"))
    assert all(source["source"] for source in LIST["sources"])
    # A source without a date says by what its age can be judged, or that nothing tells it.
    assert all(source["date"] or source["note"] for source in LIST["sources"])


@pytest.mark.parametrize("region", LIST["ec2"])
def test_a_listed_region_has_every_type_that_fits(region: str) -> None:
    assert set(LIST["ec2"][region]) == set(LIST["emr"]) == SMALLEST


def test_every_region_of_the_default_is_listed_and_the_first_one_offers_all() -> None:
    assert set(LIST["ec2"]) == set(EU_REGIONS)
    assert None not in LIST["ec2"][HOME].values()
    assert all(prices.node_price(region, "m5.xlarge", 64) for region in EU_REGIONS)


def test_emr_takes_less_than_a_third_of_what_ec2_does() -> None:
    for region in LIST["ec2"].values():
        for name, price in region.items():
            assert price is None or 0.15 * price < LIST["emr"][name] < 0.33 * price, name


def test_a_node_costs_ec2_emr_and_its_disks() -> None:
    disks = 96 * 0.088 / 730
    assert prices.node_price(HOME, "m5.xlarge", 64) == pytest.approx(0.262 + disks, abs=1e-4)
    large = prices.node_price(HOME, "m5.4xlarge", 64)
    assert large == pytest.approx(4 * 0.262 + disks, abs=1e-4)


def test_disks_without_a_listed_price_cost_the_dearest() -> None:
    disks = 96 * max(LIST["gp3_gib_month"].values()) / 730
    found = prices.node_price("eu-west-3", "m5.xlarge", 64)
    assert found == pytest.approx(0.224 + 0.048 + disks, abs=1e-4)


def test_what_is_not_on_the_list_has_no_price() -> None:
    assert prices.node_price(HOME, "m8i.xlarge", 64) is None
    assert prices.node_price("us-east-1", "m5.xlarge", 64) is None
    # Not offered there.
    assert prices.node_price("eu-north-1", "m6a.xlarge", 64) is None


def test_the_types_that_a_region_offers_can_be_told_and_of_when_the_list_is() -> None:
    assert prices.as_of() in {source["date"] for source in LIST["sources"]}
    assert set(prices.priced_types(HOME)) == SMALLEST
    assert "m6a.xlarge" not in prices.priced_types("eu-north-1")
    assert prices.priced_types("us-east-1") == []
