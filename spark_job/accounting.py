"""Accounting for every image: what was listed is featurized or rejected, and the tables say so."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from spark_job import contract
from spark_job.errors import (
    JobError,
    NoImagesError,
    TooManyRejectsError,
    UnsupportedFormatsError,
)
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


def check_rejects(
    work: Folder, counts: Counts, most: float, *, allow_unsupported: bool = False
) -> None:
    """Fail the run where too many images were of no use.

    Raises
    ------
    UnsupportedFormatsError
        Where more are in formats that are not taken than could be used, unless that is allowed.
    TooManyRejectsError
        Where more than the share `most` of the others was rejected.
    NoImagesError
        Where nothing is left.
    """
    if counts.unsupported > counts.featurized and not allow_unsupported:
        raise UnsupportedFormatsError(
            f"{counts.unsupported:,} of {counts.listed:,} images are in formats that are not taken "
            f"({in_words(with_dots(counts.formats))}), more than the {counts.featurized:,} that "
            f"could be used, so nothing was published; {CONVERT}; {work.uri}/{contract.REJECTS} "
            "names them"
        )
    taken = counts.listed - counts.unsupported
    rate = counts.rejected / taken if taken else 0.0
    if rate > most:
        raise TooManyRejectsError(
            f"{counts.rejected:,} of {taken:,} images were rejected ({rate:.1%}: "
            f"{in_words(counts.rejects)}), more than --max-reject-rate "
            f"{most:g} allows, so nothing was published; see "
            f"{work.uri}/{contract.REJECTS}, mend or remove the images, or raise the limit"
        )
    if not counts.featurized:
        unsupported = {"in formats that are not taken": counts.unsupported}
        reasons = counts.rejects | (unsupported if counts.unsupported else {})
        raise NoImagesError(
            f"none of the {counts.listed:,} images could be used "
            f"({in_words(reasons)}); see {work.uri}/{contract.REJECTS}"
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
