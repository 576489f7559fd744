"""What is read from a card, what is refused, and what an extractor's id depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from spark_job.errors import JobError, UsageError
from spark_job.networks import (
    DEFAULT,
    Card,
    Scaling,
    load_card,
    load_network,
    load_provenance,
    names,
)
from spark_job.networks.card import format_card, parse_card
from tests.spark_job.jobs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NETWORKS = REPOSITORY / "spark_job" / "networks"


def test_the_card_describes_the_network_that_lies_beside_it() -> None:
    card = load_card()
    assert (card.name, card.width, card.height, card.features) == (DEFAULT, 224, 224, 1280)
    assert (card.channels, card.tolerance, card.decode.version) == ("RGB", 1e-4, 2)
    assert card.scaling == Scaling(divide_by=(127.5,) * 3, subtract=(1.0,) * 3)
    assert hashlib.sha256(load_network(card)).hexdigest() == card.sha256


def test_the_provenance_is_told() -> None:
    provenance = load_provenance()
    assert provenance["licence"] == "Apache-2.0"
    assert len(provenance["weights"]["sha256"]) == 64
    assert provenance["compared_with_keras"]["largest_distance"] < load_card().tolerance


def test_what_is_written_is_read() -> None:
    card = replace(
        load_card(),
        channels="BGR",
        scaling=Scaling(subtract=(103.939, 116.779, 123.68)),
        width=320,
    )
    assert parse_card(card.name, format_card(card, {"by": "a test"}).encode()) == card


CHANGES: dict[str, Any] = {
    "sha256": "0" * 64,
    "width": 225,
    "height": 225,
    "channels": "BGR",
    "scaling": Scaling(),
    "features": 1281,
    "decode": replace(load_card().decode, version=3),
}
IRRELEVANT: dict[str, Any] = {"name": "other", "tolerance": 1.0}


def test_these_are_all_fields_of_a_card() -> None:
    assert {field.name for field in fields(Card)} == CHANGES.keys() | IRRELEVANT.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_what_determines_a_feature_changes_the_extractor(field: str) -> None:
    assert replace(load_card(), **{field: CHANGES[field]}).extractor != load_card().extractor


@pytest.mark.parametrize("field", IRRELEVANT)
def test_nothing_else_does(field: str) -> None:
    digits = replace(load_card(), **{field: IRRELEVANT[field]}).extractor.rpartition("-")[2]
    assert digits == load_card().extractor.rpartition("-")[2]


def test_prose_and_the_way_a_number_is_written_change_nothing() -> None:
    content = json.loads(format_card(load_card(), {}))
    content["provenance"] = {"origin": "other words"}
    content["input"]["scaling"] = {"then_divide_by": 1, "divide_by": [127.5] * 3, "subtract": 1}
    assert parse_card(DEFAULT, json.dumps(content).encode()).extractor == load_card().extractor


def test_decoding_in_full_is_another_extractor_of_the_same_network() -> None:
    card = load_card()
    assert card.in_full() == replace(card, decode=replace(card.decode, draft=None))
    assert card.in_full().extractor != card.extractor
    assert load_network(card.in_full()) == load_network(card)


@pytest.mark.parametrize("card", [load_card(), load_card().in_full()], ids=["scaled", "in full"])
def test_a_card_may_ask_for_either_kind_of_decoding(card: Card) -> None:
    assert parse_card(card.name, format_card(card, {}).encode()) == card


def test_rules_that_are_no_longer_followed_are_refused() -> None:
    """Those of cards from before: their pixels are not made any more."""
    content = json.loads(format_card(load_card(), {}))
    content["decode"] = {
        "version": 1,
        "orientation": "exif",
        "frame": "first",
        "transparency": "white",
        "grey16": "value / 257",
        "resize": "bicubic",
    }
    with pytest.raises(JobError, match=r'the card asks for .*"value / 257".*export the network'):
        parse_card("kiwi_net", json.dumps(content).encode())


def test_an_extractor_is_named_after_its_network_and_16_digits() -> None:
    name, _, digits = load_card().extractor.rpartition("-")
    assert name == DEFAULT
    assert len(digits) == 16
    assert set(digits) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "name", ["nothing", "", "..", "../networks", "mobilenet_v2/", "__pycache__"]
)
def test_a_network_that_is_not_installed_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_card(name)
    assert f"there is no network {name!r}" in str(refused.value)
    assert f"installed: {', '.join(names())}" in str(refused.value)


@pytest.mark.parametrize("name", ["mobilenetv2", "MobileNetV2", "mobilenet-v2"])
def test_a_slip_of_the_pen_is_answered_with_the_name(name: str) -> None:
    with pytest.raises(UsageError, match="did you mean 'mobilenet_v2'"):
        load_card(name)


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(card: dict[str, Any]) -> None:
        for key in keys[:-1]:
            card = card[key]
        del card[keys[-1]]

    return change


def with_value(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(card: dict[str, Any]) -> None:
        for key in keys[:-1]:
            card = card[key]
        card[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("sha256"), "the card has no 'sha256'"),
        (without("input", "height"), "'input' has no 'height'"),
        (without("output"), "the card has no 'output'"),
        (without("provenance"), "the card has no 'provenance'"),
        (with_value([], "input"), "'input' is not an object"),
        (with_value(1, "input", "dept"), "'input' has 'dept', of which"),
        (with_value("dfc7", "sha256"), "64 hexadecimal digits, not 'dfc7'"),
        (with_value(0, "input", "width"), "'width' is a whole number from 1, not 0"),
        (with_value("224", "input", "height"), "'height' is a whole number from 1, not '224'"),
        (with_value(True, "output", "features"), "'features' is a whole number from 1, not True"),
        (with_value("GBR", "input", "channels"), "'RGB' or 'BGR', not 'GBR'"),
        (with_value(0, "input", "scaling", "divide_by"), "nothing can be divided by 0"),
        (with_value([1, 2], "input", "scaling", "subtract"), "a number or three numbers"),
        (with_value(float("nan"), "input", "scaling", "subtract"), "a number or three numbers"),
        (with_value("1e-4", "tolerance"), "'tolerance' is a number above 0, not '1e-4'"),
        (with_value(-1, "tolerance"), "'tolerance' is a number above 0, not -1"),
        (with_value("text", "provenance"), "'provenance' is not an object"),
        (with_value("x / 127.5 - 1", "decode"), "'decode' is not an object"),
        (with_value(99, "decode", "version"), 'the card asks for {"version": 99'),
        (with_value("lanczos", "decode", "resize"), '"resize": "lanczos"'),
        (with_value(1, "decode", "draft"), '"draft": 1'),
        (with_value("sRGB", "decode", "gamut"), '"gamut": "sRGB"'),
        (without("decode", "frame"), "this version of Orchard decodes by"),
    ],
)
def test_a_malformed_card_is_refused_in_a_sentence(
    change: Callable[[dict[str, Any]], None], told: str
) -> None:
    content = json.loads(format_card(load_card(), {}))
    change(content)
    with pytest.raises(JobError) as refused:
        parse_card("kiwi_net", json.dumps(content).encode())
    assert not isinstance(refused.value, UsageError)
    assert "the card spark_job/networks/kiwi_net/card.json cannot be used" in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe{}"])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(JobError, match=r"card\.json cannot be used"):
        parse_card("kiwi_net", content)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the installed networks, which this process takes for the installed ones."""
    shutil.copytree(NETWORKS, tmp_path / "networks")
    patched = "spark_job.networks.card.resources.files"
    monkeypatch.setattr(patched, lambda _: tmp_path / "networks")
    return tmp_path / "networks"


def test_a_damaged_network_is_refused(copied: Path) -> None:
    network = copied / DEFAULT / "network.tflite"
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    with pytest.raises(JobError, match=r"network\.tflite is damaged: .*restore the file"):
        load_network(load_card())


def test_a_missing_network_is_refused(copied: Path) -> None:
    (copied / DEFAULT / "network.tflite").unlink()
    with pytest.raises(JobError, match=r"network\.tflite is missing; restore the file"):
        load_network(load_card())


def test_a_folder_with_a_card_is_a_network_and_no_other_is(copied: Path) -> None:
    (copied / "notes").mkdir()
    assert names() == [DEFAULT]
    shutil.copytree(copied / DEFAULT, copied / "another")
    assert names() == ["another", DEFAULT]
    assert load_card("another").name == "another"


def test_a_card_costs_neither_numpy_nor_litert() -> None:
    code = (
        "import sys; from spark_job.networks import load_card; load_card().extractor;"
        "print([m for m in ('numpy', 'PIL', 'ai_edge_litert') if m in sys.modules])"
    )
    assert run_python(code, REPOSITORY) == "[]"


def test_networks_travel_in_a_zip(tmp_path: Path) -> None:
    """As Spark ships the job to its executors, without entries for folders."""
    archive = tmp_path / "job.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in (REPOSITORY / "spark_job").rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                packed.write(file, file.relative_to(REPOSITORY))
    code = (
        "import numpy; from spark_job.networks import names, load_card;"
        "from spark_job.networks.extractor import shared_extractor;"
        "card = load_card(names()[0]);"
        "pixels = numpy.zeros((card.height, card.width, 3), 'uint8');"
        "features = shared_extractor(card.name)(pixels);"
        "print(__import__('spark_job').__file__, features.shape, card.extractor)"
    )
    found = run_python(code, tmp_path, PYTHONPATH=str(archive))
    assert found == f"{archive}/spark_job/__init__.py (1280,) {load_card().extractor}"


def run_python(code: str, folder: Path, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()
