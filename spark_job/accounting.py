"""Accounting for every image: what was listed is featurized or rejected, and the tables say so."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from spark_job import contract
from spark_job.errors import JobError, NoImagesError, TooManyRejectsError
from spark_job.receipts import Counts, Digests, add_up

if TYPE_CHECKING:
    from spark_job.listing import Listing
    from spark_job.objects import Folder
    from spark_job.receipts import PartReceipt

MOST_NAMED = 8


def account(listing: Listing, digest: str, receipts: list[PartReceipt]) -> tuple[Counts, Digests]:
    """Add the parts' counts and digests up, and hold them against what was listed.

    Raises
    ------
    JobError
        Where they are not the same images.
    """
    counts = Counts(
        listed=len(listing),
        computed=sum(receipt.counts.computed for receipt in receipts),
        carried_over=sum(receipt.counts.carried_over for receipt in receipts),
        rejected=sum(receipt.counts.rejected for receipt in receipts),
        unsupported=sum(receipt.counts.unsupported for receipt in receipts),
        rejects=add_up(receipt.counts.rejects for receipt in receipts),
        ignored=dict(listing.ignored),
    )
    accounted = counts.featurized + counts.rejected + counts.unsupported
    require_equal("images accounted for", accounted, counts.listed)
    digests = reduce(add, (receipt.digests for receipt in receipts), Digests())
    require_equal("images accounted for, by name and version", digests.listing, digest)
    return counts, digests


def require_equal(what: str, found: int | str, expected: int | str) -> None:
    """Fail the run where what was `found` is not what was `expected`."""
    if found != expected:
        raise JobError(
            f"{what}: {_shown(found)}, where {_shown(expected)} was expected; nothing was "
            "published. Results changed while the job ran, or this is a bug: run it again"
        )


def check_rejects(work: Folder, counts: Counts, most: float) -> None:
    """Fail the run where more than the share `most` was rejected, or nothing is left."""
    rate = counts.rejected / counts.listed
    if rate > most:
        raise TooManyRejectsError(
            f"{counts.rejected:,} of {counts.listed:,} images were rejected ({rate:.1%}: "
            f"{in_words(counts.rejects)}), more than --max-reject-rate "
            f"{most:g} allows, so nothing was published; see "
            f"{work.uri}/{contract.REJECTS}, mend or remove the images, or raise the limit"
        )
    if not counts.featurized:
        raise NoImagesError(
            f"none of the {counts.listed:,} images could be used "
            f"({in_words(counts.rejects)}); see {work.uri}/{contract.REJECTS}"
        )


def in_words(counts: dict[str, int]) -> str:
    """Render counts by name, the largest first; what is beyond `MOST_NAMED` together."""
    most_first = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{number:,} {name or 'without extension'}" for name, number in most_first]
    others = sum(number for _, number in most_first[MOST_NAMED:])
    return ", ".join(words[:MOST_NAMED]) + (f" and {others:,} of other kinds" if others else "")


def _shown(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
