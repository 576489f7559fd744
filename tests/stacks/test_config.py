"""A deployment's configuration: where it is read from, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from aws_cdk import App
from hypothesis import given
from hypothesis import strategies as st

from stacks.config import ConfigError, OrchardConfig, cluster_name_prefix
from stacks.knobs import describe

pytestmark = pytest.mark.cdk


def read(**context: Any) -> OrchardConfig:
    return OrchardConfig.from_context(App(context=context).node)


def test_the_block_in_cdk_json_is_read() -> None:
    config = read(orchard={"core_instances": 4, "spot": True, "instance_types": ["m6i.xlarge"]})
    assert (config.core_instances, config.spot, config.types) == (4, True, ("m6i.xlarge",))


def test_the_repositorys_own_block_holds_defaults_only(cdk_context: dict[str, Any]) -> None:
    assert read(**cdk_context) == OrchardConfig()


def test_the_command_line_wins_and_is_text() -> None:
    config = read(
        orchard={"core_instances": 4, "variance": 0.5},
        core_instances="6",
        variance="0.9",
        spot="true",
        kms="false",
        instance_types="m6i.xlarge, m5.xlarge",
        alert_email="grower@example.com",
        vpc_id="",
    )
    assert config == OrchardConfig(
        core_instances=6,
        variance=0.9,
        spot=True,
        instance_types=("m6i.xlarge", "m5.xlarge"),
        alert_email="grower@example.com",
    )


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("core_instances", 0, "1 to 500"),
        ("core_instances", "many", "a whole number"),
        ("core_instances", True, "a whole number"),
        ("core_instances", 21, "max_core_instances"),
        ("variance", 0, "above 0"),
        ("variance", 1.5, "up to 1"),
        ("max_reject_rate", -0.1, "from 0"),
        ("architecture", "sparc", "x86_64, arm64"),
        ("region", "us-east-1", "eu-west-1"),
        ("emr_release", "emr-6.15.0", "emr-7"),
        ("primary_instance_type", "m6g.xlarge", "x86_64"),
        ("instance_types", ["m5.xlarge", "c6i.large"], "from xlarge to 4xlarge"),
        ("instance_types", ["m5.xlarge", "m7g.xlarge"], "x86_64"),
        ("execution_timeout_minutes", 300, "at least 320"),
        ("max_concurrent_clusters", 0, "1 to 20"),
        ("start_timeout_minutes", 15, "20 to 120"),
        ("emr_release", "emr-7.1.0", "7.2.0"),
        ("primary_instance_type", "m5.metal", "4xlarge"),
        ("kms", "yes", "ARN of a KMS key"),
        ("tls_certificates", "certificates.zip", "s3://my-bucket"),
        ("tls_certificates", "s3://bucket/certificates.pem", "of a zip"),
        ("tls_certificates", "s3://bucket/*.zip", "of a zip"),
        ("log_retention_days", 31, "30"),
        ("removal_policy", "snapshot", "retain, destroy"),
        ("alert_email", "nobody", "e-mail"),
        ("spot", "perhaps", "true or false"),
        ("subnet_ids", ["subnet-0123456789abcdef0"], "vpc_id|VPC id"),
        ("vpc_id", "vpc-0123456789abcdef0", "private subnets"),
        ("managed_scaling_min_units", 2, "managed_scaling_max_units"),
        ("vpc_cidr", "10.0.0.0/8", "/16"),
    ],
)
def test_a_bad_value_is_one_sentence_with_key_value_and_what_is_allowed(
    key: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        read(orchard={key: value})
    message = str(caught.value)
    assert message.startswith("orchard.")
    assert "\n" not in message
    assert message.endswith(".")


def test_the_sentence_names_the_value() -> None:
    with pytest.raises(ConfigError, match=r'orchard\.architecture is "sparc"; allowed is one of'):
        read(architecture="sparc")


def test_a_misspelt_key_is_refused_wherever_it_stands() -> None:
    with pytest.raises(ConfigError, match=r"core_instance is not .* did you mean core_instances"):
        read(orchard={"core_instance": 2})
    with pytest.raises(ConfigError, match="did you mean core_instances"):
        read(core_instance="2")


def test_other_tools_context_is_left_alone() -> None:
    assert read(**{"aws:cdk:bundling": 1, "@aws-cdk/x": True, "vpc-provider:a=b": {}}) == (
        OrchardConfig()
    )


def test_graviton_changes_every_default_type() -> None:
    config = OrchardConfig(architecture="arm64")
    assert config.primary_type.startswith("m6g.")
    assert all("g" in t.partition(".")[0] for t in config.types)


def test_deleting_data_takes_both_keys() -> None:
    assert not OrchardConfig(removal_policy="destroy").deletes_data
    assert not OrchardConfig(delete_data=True).deletes_data
    assert OrchardConfig(removal_policy="destroy", delete_data=True).deletes_data


def test_no_stacks_clusters_are_anothers_by_name() -> None:
    assert not cluster_name_prefix("Fruits-dev").startswith(cluster_name_prefix("Fruits"))


@given(
    key=st.sampled_from([f.name for f in dataclasses.fields(OrchardConfig)]),
    value=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())
    ),
)
def test_any_value_is_taken_or_refused_in_one_sentence(key: str, value: Any) -> None:
    given_value: Any = tuple(value) if isinstance(value, list) else value
    refused = ""
    try:
        config = dataclasses.replace(OrchardConfig(), **{key: given_value})
    except ConfigError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
    else:
        assert getattr(config, key) == given_value


def test_the_table_of_knobs_has_them_all() -> None:
    table = describe(OrchardConfig).splitlines()
    assert len(table) == len(dataclasses.fields(OrchardConfig)) + 2
    assert any("`core_instances` | `2` | Nodes of a cluster" in row for row in table)
