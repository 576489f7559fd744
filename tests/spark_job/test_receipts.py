"""What parts and runs say of themselves, and the digests by which they are held to it."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spark_job.drift import DriftCard, LabelDrift
from spark_job.receipts import (
    EMPTY_DIGEST,
    Clock,
    Counts,
    Digests,
    EngineReceipt,
    ModelReceipt,
    PartReceipt,
    RunReceipt,
    add_digests,
    add_up,
    digest,
    processor,
    to_json,
    versions,
)

ROWS = st.lists(st.binary(max_size=4), max_size=8)
NUMBERS = st.integers(0, 2**63)
COUNTS = st.builds(
    Counts,
    *[NUMBERS] * 5,
    *[st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3)] * 3,
    *[NUMBERS] * 2,
)
SHA = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
DIGESTS = st.builds(Digests, SHA, SHA, SHA)
SECONDS = st.dictionaries(st.text(max_size=5), st.floats(0, 1e9), max_size=3)
TEXT = st.text(max_size=8)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=3)
SHARE = st.floats(0, 1)

PART_RECEIPTS = st.builds(
    PartReceipt,
    part=NUMBERS,
    attempt=TEXT,
    features=st.none() | TEXT,
    rejects=st.none() | TEXT,
    counts=COUNTS,
    digests=DIGESTS,
    seconds=SECONDS,
    processor=TEXT,
    versions=TEXTS,
)
SHARES = st.dictionaries(TEXT, SHARE, max_size=2)
DRIFT = st.builds(
    DriftCard,
    n=NUMBERS,
    small=st.booleans(),
    advice=st.none() | TEXT,
    because=TEXT,
    **dict.fromkeys(("shift", "variance_kept", "loss", "error", "concentration"), SHARE),
    **dict.fromkeys(("shift_expected", "variance_kept_here", "far", "far_known"), st.none()),
    **dict.fromkeys(("loss_known", "loss_unknown", "error_unknown"), st.none() | SHARE),
    **dict.fromkeys(("errors", "errors_known", "losses"), SHARES),
    labels=st.lists(
        st.builds(LabelDrift, TEXT, NUMBERS, SHARE, st.none(), SHARE, SHARE, SHARE, TEXT),
        max_size=2,
    ),
)
RUN_RECEIPTS = st.builds(
    RunReceipt,
    **dict.fromkeys(("batch", "run", "images", "output", "results", "network"), TEXT),
    **dict.fromkeys(("started", "finished", "extractor"), TEXT),
    counts=COUNTS,
    digests=DIGESTS,
    model=st.builds(
        ModelReceipt, TEXT, NUMBERS, NUMBERS, st.dictionaries(TEXT, SHARE), st.booleans(),
        SHARE, SHARE, SHARE, st.booleans(),
    ),
    engine=st.builds(EngineReceipt, TEXT, NUMBERS, st.none() | TEXT),
    processors=st.dictionaries(TEXT, NUMBERS),
    images_per_second=SHARE,
    seconds=SECONDS,
    seconds_in_workers=SECONDS,
    settings=TEXTS,
    versions=TEXTS,
    drift=st.none() | DRIFT,
)  # fmt: skip


@given(PART_RECEIPTS)
@settings(deadline=None)
def test_a_parts_receipt_comes_back_as_it_was_written(receipt: PartReceipt) -> None:
    assert PartReceipt.from_json(receipt.to_json()) == receipt


@given(RUN_RECEIPTS)
@settings(deadline=None)
def test_a_runs_receipt_comes_back_as_it_was_written(receipt: RunReceipt) -> None:
    assert RunReceipt.from_json(receipt.to_json(), "run") == receipt
    assert json.loads(receipt.to_json())["contract"] == 1


@given(RUN_RECEIPTS)
@settings(deadline=None, max_examples=5)
def test_a_receipt_of_before_the_drift_card_can_be_read(receipt: RunReceipt) -> None:
    fields = json.loads(replace(receipt, drift=None).to_json())
    del fields["drift"]
    assert RunReceipt.from_json(to_json(fields), "run") == replace(receipt, drift=None)


def test_receipts_are_for_people_too() -> None:
    assert to_json({"batch": "リンゴ", "n": 1}).decode() == '{\n  "batch": "リンゴ",\n  "n": 1\n}\n'


@given(ROWS, st.randoms(use_true_random=False))
def test_a_sets_digest_depends_on_its_members_and_on_nothing_else(
    rows: list[bytes], random: Any
) -> None:
    whole = digest(rows)
    assert len(whole) == 64
    assert int(whole, 16) == sum(int(sha256(row).hexdigest(), 16) for row in rows) % 2**256
    cut = random.randint(0, len(rows))
    parts = [digest(rows[:cut]), digest(rows[cut:])]
    shuffled = random.sample(rows, len(rows))
    assert digest(shuffled) == add_digests(parts) == add_digests(reversed(parts)) == whole


@given(st.sets(st.binary(max_size=3), min_size=1, max_size=8), st.binary(max_size=3))
def test_another_member_is_another_set(rows: set[bytes], other: bytes) -> None:
    one = min(rows)
    changed = digest([*(rows - {one}), other])
    assert (changed == digest(rows)) == (other == one)
    assert digest([*rows, one]) != digest(rows), "what is twice in a set counts twice"


def test_nothing_has_the_neutral_digest() -> None:
    assert digest([]) == add_digests([]) == EMPTY_DIGEST
    assert Digests() + Digests() == Digests()


@given(st.lists(DIGESTS, min_size=2, max_size=5))
def test_digests_of_three_things_add_up_one_by_one(several: list[Digests]) -> None:
    total = sum(several, Digests())
    for name in ("listing", "images", "features"):
        assert getattr(total, name) == add_digests(getattr(one, name) for one in several)
    assert total == sum(reversed(several), Digests())


def test_numbers_add_up_by_name_the_largest_first() -> None:
    total = add_up([{"read": 1.0004, "infer": 5.0}, {}, {"read": 1.0, "write": 0.5}])
    assert list(total.items()) == [("infer", 5.0), ("read", 2.0), ("write", 0.5)]
    assert add_up([{"empty": 2}, {"empty": 1}]) == {"empty": 3}


def test_rows_of_the_features_table_are_those_computed_and_carried_over() -> None:
    assert Counts(listed=10, computed=4, carried_over=3, rejected=2, unsupported=1).featurized == 7


def test_the_processor_is_named() -> None:
    name = processor()
    assert name == name.strip() != ""
    assert len(name.split()) > 1, "the architecture, and which of its processors"
    assert processor() == name


def test_versions_are_those_of_the_installed_packages() -> None:
    found = versions()
    assert found.keys() == {"orchard", "python", "ai-edge-litert", "numpy", "pillow", "pyarrow"}
    assert found["numpy"] == version("numpy")
    assert found["pillow"] == version("pillow")
    assert found["python"].startswith("3.11.")
    assert versions("hypothesis") == found | {"hypothesis": version("hypothesis")}


def test_a_clock_books_each_lap_and_knows_all() -> None:
    clock = Clock()
    clock.lap("list")
    clock.lap("featurize")
    before = clock.seconds["list"]
    clock.lap("list")
    assert clock.seconds.keys() == {"list", "featurize"}
    assert clock.seconds["list"] >= before >= 0
    assert sum(clock.seconds.values()) <= clock.total + 0.002
