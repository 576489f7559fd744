"""Whether a batch is fine, in one sentence, and what to look at before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_job.accounting import in_words, with_dots
from spark_job.drift import FINE
from spark_job.drift import in_words as drift_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.receipts import RunReceipt

MUCH = 0.02
"""Share of a batch's images above which what is wrong with them is no small thing."""


@dataclass(frozen=True)
class Remark:
    """Something to look at: a sentence, the section that shows it, whether it is no small thing."""

    text: str
    section: str
    grave: bool = False


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a batch first.

    Attributes
    ----------
    level
        ``fine``, or ``look`` where something should be looked at before the batch is used.
    sentence
        For a person.
    remarks
        What there is to look at, the gravest first.
    """

    level: Literal["fine", "look"]
    sentence: str
    remarks: list[Remark]


def judge_batch(receipt: RunReceipt) -> Verdict:
    """Say whether a batch is fine."""
    remarks = sorted(_remarks(receipt), key=lambda one: not one.grave)
    number = receipt.counts.featurized
    if any(one.grave for one in remarks):
        pictures = "picture" if number == 1 else f"{number:,} pictures"
        return Verdict("look", f"Look at this before you use the {pictures}.", remarks)
    if receipt.findings is None:
        told = "Its files look fine; copies, doubtful labels and outliers were not looked for."
        return Verdict("fine", told, remarks)
    if remarks:
        things = "a few things" if len(remarks) > 1 else "one thing"
        told = f"This batch looks fine, with {things} to look at."
        return Verdict("fine", told, remarks)
    return Verdict("fine", "This batch looks fine: nothing stands out.", [])


def _remarks(receipt: RunReceipt) -> Iterator[Remark]:
    counts, drift, card = receipt.counts, receipt.drift, receipt.findings
    images = max(1, counts.featurized)
    if drift is not None and drift.advice != FINE:
        yield Remark(drift_in_words(drift), "model", drift.advice is not None)
    if counts.unsupported:
        formats = in_words(with_dots(counts.formats))
        told = f"{counts.unsupported:,} pictures are in formats that are not taken ({formats})"
        remedy = "convert them to JPEG"
        if counts.unsupported == 1:
            told, remedy = (
                f"One picture is in a format that is not taken ({formats})",
                "convert it to JPEG",
            )
        yield Remark(f"{told}: {remedy}", "rejects", True)
    if counts.rejected:
        told = f"{_counted(counts.rejected, 'file')} could not be used ({in_words(counts.rejects)})"
        yield Remark(told, "rejects", counts.rejected > MUCH * counts.listed)
    if card is None:
        return
    if card.suspects:
        told = "One label may be wrong: the pictures most like its own have another"
        if card.suspects > 1:
            told = f"{card.suspects:,} labels may be wrong: the pictures most like them have others"
        yield Remark(told, "suspects", card.suspects > MUCH * images)
    if card.identical:
        told = f"{card.identical:,} pictures have the same content as another one"
        yield Remark(told, "duplicates", card.identical > MUCH * images)
    if card.near_groups:
        told = f"{_counted(card.near_groups, 'group')} of pictures look nearly the same"
        if card.near_groups == 1:
            told = "One group of pictures looks nearly the same"
        yield Remark(told, "duplicates", card.near_groups > MUCH * images)
    if card.outliers:
        told = f"{card.outliers:,} pictures stand out from the rest"
        if card.outliers == 1:
            told = "One picture stands out from the rest"
        yield Remark(told, "outliers", card.outliers > MUCH * images)


def _counted(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"
