"""What the README and the pages of docs/ say, for the tests that hold them to it."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            *("walkthrough", "commands", "job", "results", "phone"),
            *("rehearsal", "deploying", "operating"),
        )
    ),
)
TEXT = "\n".join((REPOSITORY / page).read_text("utf-8") for page in PAGES)


def section(page: str, heading: str) -> str:
    """Return the text below a heading, to the next one."""
    text = (REPOSITORY / page).read_text("utf-8")
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return str(found)


def commands(start: str, text: str = TEXT) -> list[str]:
    """Find the commands that begin so, without the remarks beside them."""
    found = re.findall(rf"^    ({re.escape(start)}.*)$", text, re.MULTILINE)
    return [re.split(r"  +#", command)[0] for command in found]


def inputs() -> list[str]:
    """Find the inputs of executions."""
    return re.findall(r"--input '?(\{.*?\})'", TEXT)
