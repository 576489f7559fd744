"""Accounting for every image: what was listed is featurized or rejected, and the tables say so."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from spark_job import catalog
from spark_job.errors import JobError, NoImagesError, TooManyRejectsError

if TYPE_CHECKING:
    from spark_job.listing import Listing
    from spark_job.objects import Folder

MOST_NAMED = 8


def count(listing: Listing, receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the parts' counts up; images listed = featurized + rejected, or the run fails."""
    reasons = sum_of(receipts, "rejects")
    counts = {
        "listed": listing.table.num_rows,
        "featurized": sum(receipt["featurized"] for receipt in receipts),
        "rejected": sum(reasons.values()),
        "rejects": reasons,
        "ignored": dict(listing.ignored),
    }
    accounted = counts["featurized"] + counts["rejected"]
    require_equal("images accounted for", accounted, counts["listed"])
    return counts


def require_equal(what: str, found: int, expected: int) -> None:
    """Fail the run where `found` of something is not what was `expected`."""
    if found != expected:
        raise JobError(
            f"{what}: {found:,}, where {expected:,} were expected; nothing was published. Images "
            "or results changed while the job ran, or this is a bug: run it again"
        )


def settle_tables(folder: Folder, receipts: list[dict[str, Any]], ids: dict[str, str]) -> None:
    """Make the tables what the receipts say, whatever repeated tasks left; an empty one exists.

    The rows of features are counted when the moments are computed.
    """
    featurized = [receipt["part"] for receipt in receipts if receipt["featurized"]]
    catalog.keep_only(folder, "features", featurized)
    if not featurized:
        catalog.write_part(folder, "features", 0, catalog.FEATURES_SCHEMA.empty_table(), ids)
    rejecting = [receipt["part"] for receipt in receipts if receipt["rejects"]]
    catalog.keep_only(folder, "rejects", rejecting)
    if not rejecting:
        catalog.write_part(folder, "rejects", 0, catalog.REJECTS_SCHEMA.empty_table(), ids)
    rejected = sum(sum_of(receipts, "rejects").values())
    require_equal("rejects written", catalog.count_rows(folder, "rejects", rejecting), rejected)


def check_rejects(folder: Folder, counts: dict[str, Any], most: float) -> None:
    """Fail the run where more than the share `most` was rejected, or nothing is left."""
    rate = counts["rejected"] / counts["listed"]
    if rate > most:
        raise TooManyRejectsError(
            f"{counts['rejected']:,} of {counts['listed']:,} images were rejected ({rate:.1%}: "
            f"{in_words(counts['rejects'])}), more than --max-reject-rate "
            f"{most:g} allows, so nothing was published; see "
            f"{folder.uri}/rejects, mend or remove the images, or raise the limit"
        )
    if not counts["featurized"]:
        raise NoImagesError(
            f"none of the {counts['listed']:,} images could be used "
            f"({in_words(counts['rejects'])}); see {folder.uri}/rejects"
        )


def sum_of(receipts: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Add up the parts' numbers under `key`, name by name, the largest first."""
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt[key])
    return {name: round(value, 3) for name, value in total.most_common()}


def in_words(counts: Counter[str] | dict[str, int]) -> str:
    """Render counts by name, the largest first; what is beyond `MOST_NAMED` together."""
    most_first = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{number:,} {name or 'without extension'}" for name, number in most_first]
    others = sum(number for _, number in most_first[MOST_NAMED:])
    return ", ".join(words[:MOST_NAMED]) + (f" and {others:,} of other kinds" if others else "")
