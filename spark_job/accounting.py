"""Accounting for every image: what was listed is featurized or rejected, and the tables say so."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from spark_job import contract
from spark_job.errors import (
    JobError,
    NoImagesError,
    TooManyRejectsError,
    UnavailableError,
)
from spark_job.objects import ExpiredError
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


class RejectLimit:
    """Ends a run as soon as it is certain that too much of it will be rejected.

    Parameters
    ----------
    work
        The run's work folder.
    listed
        Images of the batch.
    most
        Share of them that may be rejected.
    """

    def __init__(self, work: Folder, listed: int, most: float) -> None:
        self._work = work
        self._listed = listed
        self._most = most
        self._rejected = 0
        self._reasons: Counter[str] = Counter()

    def __call__(self, receipt: PartReceipt) -> None:
        """Take a part's rejects into account.

        Raises
        ------
        TooManyRejectsError
            Where they are too many by now, whatever comes.
        """
        self._rejected += receipt.counts.rejected
        self._reasons.update(receipt.counts.rejects)
        if self._rejected / self._listed > self._most:
            raise TooManyRejectsError(
                f"{self._rejected:,} of {self._listed:,} images were rejected by the time the run "
                f"was ended ({self._rejected / self._listed:.1%}: {in_words(self._reasons)}), more "
                f"than --max-reject-rate {self._most:g} allows, so nothing was published; see "
                f"{self._work.uri}/{contract.REJECTS}, mend or remove the images, or raise the "
                "limit"
            )


def require_usable(work: Folder, counts: Counts) -> None:
    """Fail the run where nothing is left of it."""
    if not counts.featurized:
        raise NoImagesError(
            f"none of the {counts.listed:,} images could be used "
            f"({in_words(counts.rejects)}); see {work.uri}/{contract.REJECTS}"
        )


def require_all_read(receipts: list[PartReceipt]) -> None:
    """Fail the run where the store did not give some images for as long as they were asked for."""
    busy = add_up(receipt.busy for receipt in receipts)
    if not busy:
        return
    remedy = (
        "sign in again"
        if set(busy) == {ExpiredError.kind}
        else "S3 is busy or out of reach: wait a while"
    )
    raise UnavailableError(
        f"{sum(busy.values()):,} images could not be read, though they were asked for again and "
        f"again ({in_words(busy)}); nothing was published, and what was done stays in the work "
        f"folder. {remedy[0].upper()}{remedy[1:]}, and run it again"
    )


def in_words(counts: dict[str, int]) -> str:
    """Render counts by name, the largest first; what is beyond `MOST_NAMED` together."""
    most_first = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{number:,} {name or 'without extension'}" for name, number in most_first]
    others = sum(number for _, number in most_first[MOST_NAMED:])
    return ", ".join(words[:MOST_NAMED]) + (f" and {others:,} of other kinds" if others else "")


def _shown(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
