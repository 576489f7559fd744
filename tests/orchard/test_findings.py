"""``orchard findings``: what a person should look at, as tables and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from spark_job.findings.schemas import KINDS
from tests.orchard.command import refusal, rows, succeed
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from spark_job.objects import Folder


def test_it_says_how_much_there_is_of_each_kind(output: Folder) -> None:
    receipt = publish_batch(output, "apples", 30, findings=True)
    result = succeed("findings", "apples", output=output)
    found = rows(result)
    assert {row["kind"] for row in found} == set(KINDS)
    counts = {row["kind"]: row["found"] for row in found}
    assert (counts["neighbours"], counts["labels"], counts["suspects"]) == ("30", "1", "0")
    assert "orchard findings apples --kind suspects" in result.stderr
    told = json.loads(succeed("findings", "apples", "--json", output=output).stdout)
    assert receipt.findings is not None
    assert told["images"] == receipt.findings.images == 30


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_each_kind_are_shown(output: Folder, kind: str) -> None:
    publish_batch(output, "apples", 30, findings=True)
    shown = rows(succeed("findings", "apples", "--kind", kind, output=output))
    every = json.loads(
        succeed(
            "findings", "apples", "--kind", kind, "--number", "0", "--json", output=output
        ).stdout
    )
    assert len(shown) == min(20, len(every))
    for row, full in zip(shown, every, strict=False):
        assert set(row) < set(full)
        for name in set(row) & {"path", "label", "rank", "n"}:
            assert row[name] == str(full[name])


def test_what_is_left_out_is_told(local: Folder) -> None:
    publish_batch(local, "apples", 30, findings=True)
    for kind, more in (("outliers", 17), ("neighbours", 27)):
        result = succeed("findings", "apples", "--kind", kind, "--number", "3", output=local)
        assert len(rows(result)) == 3
        assert result.stderr == f"{more} more; --number 0 shows all\n"
        assert not succeed(
            "findings", "apples", "--kind", kind, "--number", "0", output=local
        ).stderr


def test_what_cannot_be_shown_is_a_sentence(local: Folder) -> None:
    receipt = publish_batch(local, "apples")
    assert refusal("findings", "apples", output=local) == (
        f"run {receipt.run} of batch 'apples' has no findings; run the batch again, without "
        "--findings none"
    )
    assert refusal("findings", "apples", "--kind", "spots", output=local).startswith(
        "--kind is one of neighbours, duplicates,"
    )
    assert "there are apples" in refusal("findings", "pears", output=local)
