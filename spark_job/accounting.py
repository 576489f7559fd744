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
    UnsupportedFormatsError,
)
from spark_job.objects import ExpiredError
from spark_job.receipts import Counts, Digests, add_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spark_job.listing import Listing
    from spark_job.objects import Folder
    from spark_job.receipts import PartReceipt

MOST_NAMED = 8

CONVERT = (
    "convert them to JPEG (a phone can be told to take JPEGs; an iPhone by Settings, Camera, "
    "Formats, Most Compatible), or say --allow-unsupported to go on without them"
)


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
        formats=add_up(receipt.counts.formats for receipt in receipts),
        ignored=dict(listing.ignored),
        dropped=listing.dropped,
        relabelled=listing.relabelled,
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


def check_listed(listing: Listing, *, allow_unsupported: bool) -> None:
    """Fail a run that cannot but end as too many unsupported images do, before it begins.

    Raises
    ------
    UnsupportedFormatsError
        Where raw files, which their names tell, are more than all other images.
    """
    raw = listing.raw
    number = sum(raw.values())
    if number > len(listing) - number and not allow_unsupported:
        raise UnsupportedFormatsError(
            f"{number:,} of {len(listing):,} images are raw files of cameras "
            f"({in_words(with_dots(raw))}), which are not taken, so nothing was begun; {CONVERT}"
        )


class RejectLimit:
    """Ends a run as soon as it is certain that too much of it will be of no use.

    Parameters
    ----------
    work
        The run's work folder.
    listed
        Images of the batch.
    most
        Share of them, without those in formats that are not taken, that may be rejected.
    allow_unsupported
        Whether more images may be in formats that are not taken than can be used.
    """

    def __init__(self, work: Folder, listed: int, most: float, *, allow_unsupported: bool) -> None:
        self._where = f"{work.uri}/{contract.REJECTS}"
        self._listed = listed
        self._most = most
        self._allow_unsupported = allow_unsupported
        self._rejected = 0
        self._unsupported = 0
        self._reasons: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()

    def __call__(self, receipt: PartReceipt) -> None:
        """Take a part into account; see `take`."""
        self.take(receipt.counts)

    def take(self, counts: Counts) -> None:
        """Take counts into account.

        Raises
        ------
        UnsupportedFormatsError
            Where more are in formats that are not taken than can be used by now, whatever comes.
        TooManyRejectsError
            Where more than the share of the others is rejected by now, whatever comes.
        """
        self._rejected += counts.rejected
        self._unsupported += counts.unsupported
        self._reasons.update(counts.rejects)
        self._formats.update(counts.formats)
        taken = self._listed - self._unsupported
        if self._unsupported > taken - self._rejected and not self._allow_unsupported:
            raise UnsupportedFormatsError(
                f"{self._unsupported:,} of {self._listed:,} images were in formats that are not "
                f"taken by the time the run was ended ({in_words(with_dots(self._formats))}), more "
                f"than could be used, so nothing was published; {CONVERT}; {self._where} names them"
            )
        rate = self._rejected / taken if taken else 0.0
        if rate > self._most:
            raise TooManyRejectsError(
                f"{self._rejected:,} of {taken:,} images were rejected by the time the run was "
                f"ended ({rate:.1%}: {in_words(self._reasons)}), more than --max-reject-rate "
                f"{self._most:g} allows, so nothing was published; see {self._where}, mend or "
                "remove the images, or raise the limit"
            )


def require_usable(work: Folder, counts: Counts) -> None:
    """Fail the run where nothing is left of it."""
    if not counts.featurized:
        unsupported = {"in formats that are not taken": counts.unsupported}
        reasons = counts.rejects | (unsupported if counts.unsupported else {})
        raise NoImagesError(
            f"none of the {counts.listed:,} images could be used "
            f"({in_words(reasons)}); see {work.uri}/{contract.REJECTS}"
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


def with_dots(extensions: Mapping[str, int]) -> dict[str, int]:
    """Write extensions as they are seen in names."""
    return {name and f".{name}": count for name, count in extensions.items()}


def _shown(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
