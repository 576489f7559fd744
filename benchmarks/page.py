"""The page of results: Markdown that is also read on a terminal, a section per kind of question.

Each section says when and on what it was measured, so that one can be measured anew by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ORDER = (
    "The job on both engines",
    "Without images",
    "From S3",
    "Real photographs",
    "Poisonous images",
    "On a phone",
    "Batches that were run before",
    "Findings and the report",
    "How far the plan is off",
)
"""Titles of the sections, as they follow each other."""

HEAD = """\
# Benchmark results

Reproduce with `make benchmark IMAGES=path/to/images WEIGHTS=path/to/no_top.h5 \
ARGS='--photographs path/to/photographs'`; `python -m benchmarks --help` tells how to measure one \
section alone. Machines differ, so compare ratios within one section and not rates between \
sections.

By slope: rates between two sizes, so without start-up. Whole: a program's time from interpreter \
start to exit. The ceiling reads, decodes and infers with the job's own code in a plain process \
per core, fits nothing and writes nothing.
"""


@dataclass(frozen=True)
class Target:
    """A number to reach, and the one that was reached; `met` is None where it was not measured."""

    name: str
    wanted: str
    reached: str
    met: bool | None


@dataclass(frozen=True)
class Section:
    """What was found about one kind of question.

    Attributes
    ----------
    title
        One of `ORDER`.
    targets
        What it is held against.
    blocks
        Tables and paragraphs below them.
    """

    title: str
    targets: list[Target]
    blocks: list[str]


@dataclass(frozen=True)
class Context:
    """What a section holds for."""

    date: str
    minutes: float
    machine: dict[str, str]
    versions: dict[str, str]


def at_most(name: str, wanted: float, reached: float, unit: str = "") -> Target:
    """Hold a number that is to be small against its limit."""
    told = f"{reached:.2f}" if not unit else f"{reached:.1f} {unit}"
    return Target(name, f"≤ {wanted:g}{unit and f' {unit}'}", told, reached <= wanted)


def at_least(name: str, wanted: float, reached: float) -> Target:
    """Hold a ratio that is to be large against its limit."""
    return Target(name, f"≥ {wanted:g}", f"{reached:.2f}", reached >= wanted)


def at_least_share(name: str, wanted: float, reached: float) -> Target:
    """Hold a share of something against the share that is wanted."""
    return Target(name, f"≥ {wanted:.0%}", f"{reached:.1%}", reached >= wanted)


def render(section: Section, context: Context) -> str:
    """Render one section, without a line break at its end."""
    rows = [
        (target.name, target.wanted, target.reached, _verdict(target)) for target in section.targets
    ]
    machine = ", ".join(f"{name} {value}" for name, value in context.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in context.versions.items())
    blocks = [
        f"## {section.title}",
        f"Measured on {context.date} in {context.minutes:.0f} minutes; {machine}; {versions}.",
        table(("target", "wanted", "reached", ""), rows),
        *section.blocks,
    ]
    return "\n\n".join(blocks)


def _verdict(target: Target) -> str:
    if target.met is None:
        return "skipped"
    return "met" if target.met else "**not met**"


def put_into(page: str, section: str) -> str:
    """Give `page` with a rendered section in place of what it has of the same title."""
    found = {_title(text): text.rstrip("\n") for text in re.split(r"^## ", page, flags=re.M)[1:]}
    found[_title(section.removeprefix("## "))] = section.removeprefix("## ")
    return "\n".join([HEAD, *(f"## {found[title]}\n" for title in ORDER if title in found)])


def _title(text: str) -> str:
    return text.partition("\n")[0]


def gigabytes(count: float) -> str:
    """Tell bytes."""
    return f"{count / 1e9:.2f} GB"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns also line up as plain text."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)
