"""Counts in words, and what a run fails on where they do not add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_job.accounting import (
    RejectLimit,
    account,
    check_listed,
    in_words,
    require_all_read,
    require_equal,
    require_usable,
)
from spark_job.errors import (
    JobError,
    NoImagesError,
    TooManyRejectsError,
    UnavailableError,
    UnsupportedFormatsError,
)
from spark_job.listing import Listing
from spark_job.objects import ENTRIES, open_folder
from spark_job.receipts import Counts, Digests, PartReceipt, digest


def test_counts_read_largest_first_and_rare_kinds_together() -> None:
    assert in_words({"": 2, "pem": 1_145, "gz": 7}) == "1,145 pem, 7 gz, 2 without extension"
    many = {f"k{number}": number for number in range(1, 12)}
    assert in_words(many).endswith(", 5 k5, 4 k4 and 6 of other kinds")


def part(number: int, computed: int, **rejects: int) -> PartReceipt:
    rejected = sum(rejects.values())
    rows = [b"%d-%d" % (number, row) for row in range(computed + rejected)]
    return PartReceipt(
        part=number,
        attempt="a",
        features="f",
        rejects="r",
        counts=Counts(computed + rejected, computed, rejected=rejected, rejects=rejects),
        digests=Digests(digest(rows), digest(rows[:computed]), digest(rows[:computed])),
        seconds={},
        processor="p",
        versions={},
    )


def listing(images: int) -> Listing:
    return Listing(ENTRIES.empty_table(), np.arange(images, dtype=np.uint64), Counter({"txt": 2}))


def rows(*parts: int) -> str:
    """Digest of the rows of parts of so many."""
    return digest(
        b"%d-%d" % (number, row) for number, size in enumerate(parts) for row in range(size)
    )


def test_the_parts_counts_and_digests_add_up() -> None:
    parts = [part(0, 3, empty=1), part(1, 2, empty=1, missing=2), part(2, 4)]
    counts, digests = account(listing(13), rows(4, 5, 4), parts)
    assert counts == Counts(
        listed=13,
        computed=9,
        rejected=4,
        rejects={"empty": 2, "missing": 2},
        ignored={"txt": 2},
    )
    assert digests == parts[2].digests + parts[0].digests + parts[1].digests


@pytest.mark.parametrize("images", [3, 5])
def test_an_image_too_many_or_too_few_fails_the_run(images: int) -> None:
    with pytest.raises(JobError, match=r"where .* expected; nothing was published"):
        account(listing(images), rows(images), [part(0, 4)])


def test_the_same_number_of_other_images_fails_the_run() -> None:
    with pytest.raises(JobError, match=r"where .* expected; nothing was published"):
        account(listing(4), digest([b"other", b"images", b"of a", b"batch"]), [part(0, 4)])


def test_a_part_that_came_twice_fails_the_run() -> None:
    with pytest.raises(JobError, match="expected"):
        account(listing(4), rows(2, 2), [part(0, 2), part(0, 2)])


@pytest.mark.parametrize("change", [{"computed": 5}, {"rejected": 1}, {"unsupported": 1}])
def test_a_parts_counts_are_held_against_what_was_listed(change: dict[str, Any]) -> None:
    one = part(0, 4)
    wrong = replace(one, counts=replace(one.counts, **change))
    with pytest.raises(JobError, match="expected"):
        account(listing(4), rows(4), [wrong])


def test_what_is_not_equal_is_shown_from_both_sides() -> None:
    require_equal("vectors", 7, 7)
    with pytest.raises(JobError, match=r"vectors: 1,234, where 1,235 was expected; nothing was"):
        require_equal("vectors", 1234, 1235)
    with pytest.raises(JobError, match=r"digests: ab, where cd was expected"):
        require_equal("digests", "ab", "cd")


WORK = open_folder("/out/work/b/r")


@given(st.integers(2, 5_000), st.data())
@settings(deadline=None)
def test_a_reject_rate_of_exactly_the_limit_passes_and_one_reject_more_fails(
    listed: int, data: st.DataObject
) -> None:
    rejected = data.draw(st.integers(0, listed - 2))
    limit = rejected / listed

    RejectLimit(WORK, listed, limit, allow_unsupported=True)(rejecting(rejected))
    with pytest.raises(TooManyRejectsError, match="more than --max-reject-rate"):
        RejectLimit(WORK, listed, limit, allow_unsupported=True)(rejecting(rejected + 1))


@pytest.mark.parametrize(("rejected", "listed", "limit"), [(5, 100, 0.05), (3, 10, 0.3), (0, 9, 0)])
def test_a_limit_in_decimals_is_met_exactly(rejected: int, listed: int, limit: float) -> None:
    RejectLimit(WORK, listed, limit, allow_unsupported=True)(rejecting(rejected))


def test_too_many_rejects_are_told_with_reasons_and_where_they_are_once_they_are_certain() -> None:
    limit = RejectLimit(WORK, 20, 0.1, allow_unsupported=True)
    limit(rejecting(0))
    limit(rejecting(2))
    with pytest.raises(TooManyRejectsError) as error:
        limit(part(1, 0, missing=1))
    assert str(error.value) == (
        "3 of 20 images were rejected by the time the run was ended (15.0%: 2 empty, 1 missing), "
        "more than --max-reject-rate 0.1 allows, so nothing was published; see "
        "/out/work/b/r/rejects, mend or remove the images, or raise the limit"
    )
    assert error.value.exit_code == 4


def test_where_no_image_is_left_a_run_fails_whatever_the_limit() -> None:
    counts = Counts(2, 0, rejected=2, rejects={"empty": 2})
    with pytest.raises(NoImagesError, match=r"none of the 2 images could be used \(2 empty\)"):
        require_usable(WORK, counts)
    require_usable(WORK, replace(counts, listed=3, carried_over=1))


def test_what_the_store_never_gave_ends_the_run_and_says_what_to_do() -> None:
    require_all_read([part(0, 4)])
    throttled = replace(part(0, 4), postponed="x", busy={"throttled": 2, "timed out": 1})
    with pytest.raises(UnavailableError) as error:
        require_all_read([throttled, replace(throttled, busy={"throttled": 1000})])
    assert str(error.value) == (
        "1,003 images could not be read, though they were asked for again and again (1,002 "
        "throttled, 1 timed out); nothing was published, and what was done stays in the work "
        "folder. S3 is busy or out of reach: wait a while, and run it again"
    )
    assert error.value.exit_code == 5
    with pytest.raises(UnavailableError, match="Sign in again, and run it again"):
        require_all_read([replace(throttled, busy={"credentials expired": 1})])


class TestUnsupportedFormats:
    def test_are_added_up_apart_from_rejects(self) -> None:
        one = part(0, 3, empty=1)
        counts = replace(one.counts, listed=9, unsupported=5, formats={"heic": 4, "dng": 1})
        digests = replace(one.digests, listing=digest([b"nine"]))
        other = part(1, 2, empty=1)
        other = replace(
            other, counts=replace(other.counts, listed=4, unsupported=1, formats={"dng": 1})
        )
        total, _ = account(
            listing(13),
            (digests + other.digests).listing,
            [replace(one, counts=counts, digests=digests), other],
        )
        assert total == Counts(
            listed=13,
            computed=5,
            rejected=2,
            unsupported=6,
            rejects={"empty": 2},
            formats={"heic": 4, "dng": 2},
            ignored={"txt": 2},
        )

    @given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 1000))
    @settings(deadline=None)
    def test_may_be_as_many_as_could_be_used_and_no_more(
        self, computed: int, carried_over: int, more: int
    ) -> None:
        featurized = computed + carried_over

        def counts(unsupported: int) -> Counts:
            return Counts(
                featurized + unsupported,
                computed,
                carried_over,
                unsupported=unsupported,
                formats={"heic": unsupported},
            )

        check(counts(featurized), 0.0)
        with pytest.raises(UnsupportedFormatsError):
            check(counts(featurized + 1 + more), 1.0)
        check(counts(featurized + 1 + more), 0.0, allow_unsupported=True)

    def test_are_no_part_of_the_reject_rate(self) -> None:
        counts = Counts(20, 9, rejected=1, unsupported=10, rejects={"empty": 1})
        check(counts, 0.1, allow_unsupported=True)
        with pytest.raises(TooManyRejectsError, match=r"1 of 10 images were rejected .* \(10\.0%"):
            check(counts, 0.09, allow_unsupported=True)

    def test_are_named_by_number_with_what_to_do(self) -> None:
        counts = Counts(1200, 40, rejected=10, unsupported=1150, formats={"heic": 1100, "dng": 50})
        with pytest.raises(UnsupportedFormatsError) as error:
            check(counts, 1.0)
        assert str(error.value) == (
            "1,150 of 1,200 images were in formats that are not taken by the time the run was "
            "ended (1,100 .heic, 50 .dng), more than could be used, so nothing was published; "
            "convert them to JPEG (a "
            "phone can be told to take JPEGs; an iPhone by Settings, Camera, Formats, Most "
            "Compatible), or say --allow-unsupported to go on without them; /out/work/b/r/rejects "
            "names them"
        )
        assert isinstance(error.value, TooManyRejectsError)
        assert error.value.exit_code == 4

    def test_are_what_is_told_where_there_is_nothing_else(self) -> None:
        counts = Counts(3, 0, unsupported=3, formats={"heic": 3})
        with pytest.raises(UnsupportedFormatsError, match=r"3 of 3 .* \(3 \.heic\)"):
            check(counts, 0.05)
        with pytest.raises(NoImagesError, match=r"\(3 in formats that are not taken\)"):
            check(counts, 0.05, allow_unsupported=True)

    @pytest.mark.parametrize(("raw", "others"), [(0, 0), (0, 3), (2, 2), (3, 2), (1, 0)])
    def test_that_names_tell_are_refused_before_anything_is_read(
        self, raw: int, others: int
    ) -> None:
        names = [f"a/{n}.DNG" for n in range(raw)] + [f"a/{n}.heic" for n in range(others)]
        found = pa.table([names, pa.nulls(len(names)), pa.nulls(len(names))], schema=ENTRIES)
        listed = Listing(found, np.arange(len(names), dtype=np.uint32), Counter())
        check_listed(listed, allow_unsupported=True)
        if raw <= others:
            check_listed(listed, allow_unsupported=False)
            return
        with pytest.raises(UnsupportedFormatsError) as error:
            check_listed(listed, allow_unsupported=False)
        assert f"{raw} of {raw + others} images are raw files of cameras ({raw} .dng)" in str(
            error.value
        )
        assert "so nothing was begun; convert them to JPEG" in str(error.value)


def rejecting(rejected: int) -> PartReceipt:
    return part(0, 0, empty=rejected)


def check(counts: Counts, most: float, *, allow_unsupported: bool = False) -> None:
    """Hold the counts of a run of one part against the limits."""
    limit = RejectLimit(WORK, counts.listed, most, allow_unsupported=allow_unsupported)
    limit(replace(part(0, 0), counts=counts))
    require_usable(WORK, counts)
