"""Counts in words."""

from __future__ import annotations

from spark_job.accounting import in_words


def test_counts_read_largest_first_and_rare_kinds_together() -> None:
    assert in_words({"": 2, "pem": 1_145, "gz": 7}) == "1,145 pem, 7 gz, 2 without extension"
    many = {f"k{number}": number for number in range(1, 12)}
    assert in_words(many).endswith(", 5 k5, 4 k4 and 6 of other kinds")
