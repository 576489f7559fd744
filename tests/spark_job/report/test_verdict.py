"""Whether a batch is fine, as the page says it first."""

from __future__ import annotations

from typing import Any

import pytest

from spark_job.drift import FINE, UNLIKE, UPDATE, DriftCard
from spark_job.receipts import Counts
from spark_job.report.page import SECTIONS
from spark_job.report.verdict import Verdict, judge_batch
from tests.spark_job.report.made_up import card, receipt

BECAUSE = "a loss of 70%, up to 40% known"


def judged(counts: Counts | None = None, /, **findings: Any) -> Verdict:
    return judge_batch(receipt(counts, card(**findings)))


def drift(advice: str | None) -> DriftCard:
    numbers: dict[str, Any] = dict.fromkeys(DriftCard.__dataclass_fields__)
    told = {
        "n": 1000,
        "small": False,
        "advice": advice,
        "because": BECAUSE,
    }
    return DriftCard(**(numbers | told))


def test_of_a_batch_in_which_nothing_was_found_it_says_so() -> None:
    assert judged() == Verdict("fine", "This batch looks fine: nothing stands out.", [])


@pytest.mark.parametrize(
    ("findings", "section", "text"),
    [
        (
            {"suspects": 1},
            "suspects",
            "One label may be wrong: the pictures most like its own have another",
        ),
        (
            {"suspects": 12},
            "suspects",
            "12 labels may be wrong: the pictures most like them have others",
        ),
        ({"identical": 2}, "duplicates", "2 pictures have the same content as another one"),
        ({"near_groups": 1}, "duplicates", "One group of pictures looks nearly the same"),
        ({"near_groups": 3}, "duplicates", "3 groups of pictures look nearly the same"),
        ({"outliers": 1}, "outliers", "One picture stands out from the rest"),
        ({"outliers": 4}, "outliers", "4 pictures stand out from the rest"),
    ],
)
def test_a_few_findings_leave_a_batch_fine(
    findings: dict[str, int], section: str, text: str
) -> None:
    verdict = judged(**findings)
    assert verdict.level == "fine"
    assert verdict.sentence == "This batch looks fine, with one thing to look at."
    [remark] = verdict.remarks
    assert (remark.section, remark.text, remark.grave) == (section, text, False)


@pytest.mark.parametrize("kind", ["suspects", "identical", "near_groups", "outliers"])
def test_many_are_to_be_looked_at_before_it_is_used(kind: str) -> None:
    assert judged(**{kind: 20}).level == "fine", "2 in 100 and no more"
    verdict = judged(**{kind: 21})
    assert (verdict.level, verdict.remarks[0].grave) == ("look", True)
    assert verdict.sentence == "Look at this before you use the 1,000 pictures."


def test_series_of_pictures_that_look_alike_are_no_fault() -> None:
    assert judged(near=900, near_share=0.9, near_groups=None).remarks == []


def test_rejects_are_told_by_reason_and_many_of_them_are_grave() -> None:
    few = judged(Counts(1001, computed=1000, rejected=1, rejects={"empty": 1}))
    assert [(one.text, one.grave) for one in few.remarks] == [
        ("1 file could not be used (1 empty)", False)
    ]
    rejects = {"truncated": 40, "empty": 10}
    many = judged(Counts(1050, computed=1000, rejected=50, rejects=rejects))
    assert [(one.text, one.grave) for one in many.remarks] == [
        ("50 files could not be used (40 truncated, 10 empty)", True)
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "One picture is in a format that is not taken (1 .heic): convert it to JPEG"),
        (3, "3 pictures are in formats that are not taken (3 .heic): convert them to JPEG"),
    ],
)
def test_pictures_that_are_not_taken_are_always_grave(number: int, text: str) -> None:
    counts = Counts(1003, computed=1000, unsupported=number, formats={"heic": number})
    verdict = judged(counts)
    assert (verdict.level, verdict.remarks[0].text) == ("look", text)


@pytest.mark.parametrize(
    ("advice", "level", "told"),
    [
        (FINE, "fine", []),
        (UPDATE, "look", [f"{UPDATE}: {BECAUSE}"]),
        (UNLIKE, "look", [f"{UNLIKE}: {BECAUSE}"]),
        (None, "fine", [f"no advice: {BECAUSE}"]),
    ],
)
def test_drift_is_told_where_reuse_is_not_fine(
    advice: str | None, level: str, told: list[str]
) -> None:
    verdict = judge_batch(receipt(findings=card(), drift=drift(advice)))
    assert verdict.level == level
    assert [one.text for one in verdict.remarks] == told


def test_the_gravest_stands_first() -> None:
    verdict = judged(suspects=3, outliers=30)
    assert [one.section for one in verdict.remarks] == ["outliers", "suspects"]


def test_what_was_not_looked_for_is_not_called_fine() -> None:
    verdict = judge_batch(receipt())
    assert verdict.sentence == (
        "Its files look fine; copies, doubtful labels and outliers were not looked for."
    )


def test_every_remark_leads_to_a_section_of_the_page() -> None:
    counts = Counts(
        1002, computed=1000, rejected=1, unsupported=1, rejects={"empty": 1}, formats={"heic": 1}
    )
    found = card(suspects=1, identical=2, near_groups=1, outliers=1)
    verdict = judge_batch(receipt(counts, found, drift(UPDATE)))
    assert len(verdict.remarks) == 7
    assert {one.section for one in verdict.remarks} <= {name for name, _ in SECTIONS}
    assert verdict.sentence.startswith("Look at this")


def test_of_one_picture_the_words_are_those_of_one() -> None:
    verdict = judge_batch(receipt(Counts(2, computed=1, rejected=1, rejects={"empty": 1})))
    assert verdict.sentence == "Look at this before you use the picture."
