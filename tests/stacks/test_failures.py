"""What a failure says: a name that the pages explain, and what to do next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.pages import section
from tests.stacks.definitions import rendered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

STEP: Final = re.compile(
    r"\b(start (it|the batch)|put them|give (it|the (batch|deployment))|allowed (is|are)|run:"
    r"|look for|end it with:|try again|say (one|that)|write \{\}|read node/|check the"
    r"|ask the support)",
    re.IGNORECASE,
)
"""How a sentence begins that says what to do; a new way of saying it belongs here."""
OTHERS_WORDS: Final = {"TellJobFailure"}
"""What passes on the words of the job, which has its own tests of its sentences."""


def failures(value: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield each state that records a failure, with its error and its text."""
    if isinstance(value, list):
        for item in value:
            yield from failures(item, name)
    elif isinstance(value, dict):
        if "error" in value and "message.$" in value:
            yield name, value["error"], value["message.$"]
        for key, item in value.items():
            yield from failures(item, key if isinstance(item, dict) and "Type" in item else name)


@pytest.fixture(scope="module")
def told(fruits: Synthesis) -> list[tuple[str, str, str]]:
    return [
        found
        for machine in fruits.stack.machines
        for found in failures(rendered(fruits.template, type(machine).__name__)["States"])
    ]


def test_every_failure_says_what_to_do_next(told: list[tuple[str, str, str]]) -> None:
    assert len(told) > 40
    silent = [
        (state, text)
        for state, _, text in told
        if state not in OTHERS_WORDS and not STEP.search(text)
    ]
    assert silent == []


def test_the_pages_explain_every_error_and_no_other(told: list[tuple[str, str, str]]) -> None:
    table = section("docs/operating.md", "What failures mean")
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == {error for _, error, _ in told}


def test_a_text_without_a_step_is_noticed() -> None:
    assert not STEP.search("Batch {} was not started, for no cluster could be made: {}")
    assert STEP.search("Batch {} was not started ({}); write {} again to try again.")
