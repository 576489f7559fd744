"""A section that is measured anew takes its own place on the page and leaves the others there."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.__main__ import main
from benchmarks.page import (
    ORDER,
    Context,
    Section,
    Target,
    at_least,
    at_least_share,
    at_most,
    put_into,
    render,
)

if TYPE_CHECKING:
    from pathlib import Path

TINY = ("--refs", "500", "--rows", "100", "200", "--parts", "5")


def test_a_section_tells_when_and_on_what_and_whether_its_targets_are_met() -> None:
    targets = [
        at_most("CPU", 250, 300.04, "µs"),
        at_least("ratio", 1.4, 1.5),
        at_least_share("share", 0.95, 0.949),
        Target("rate", "≥ 95%", "skipped: no Go", None),
    ]
    page = rendered("From S3", targets)
    assert "Measured on 2026-01-01 in 3 minutes; cores 2; python 3.11." in page
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in page.splitlines() if line[:1] == "|"][2:]
    assert rows == [
        ["CPU", "≤ 250 µs", "300.0 µs", "**not met**"],
        ["ratio", "≥ 1.4", "1.50", "met"],
        ["share", "≥ 95%", "94.9%", "**not met**"],
        ["rate", "≥ 95%", "skipped: no Go", "skipped"],
    ]


def test_sections_keep_their_order_and_their_text_whichever_is_measured_when() -> None:
    page = ""
    for title in reversed(ORDER):
        page = put_into(page, rendered(title, [], f"first\n\n### Below {title}\n\n| a | b |"))
    anew = put_into(page, rendered(ORDER[2], [], "second"))
    assert re.findall("^## (.+)$", anew, re.M) == list(ORDER)
    assert anew.count("first") == len(ORDER) - 1
    assert anew.index("second") < anew.index(ORDER[3])
    assert f"Below {ORDER[2]}" not in anew
    assert put_into(anew, rendered(ORDER[2], [], "second")) == anew
    assert (
        put_into(anew, rendered(ORDER[2], [], f"first\n\n### Below {ORDER[2]}\n\n| a | b |"))
        == page
    )


def test_one_section_is_measured_alone_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "R.md"
    output.write_text(put_into("", rendered("From S3", [], "as it was")))
    code = run(monkeypatch, "--only", "scale", *TINY, "--output", str(output))
    assert code == 0
    page = output.read_text()
    assert "as it was" in page
    assert "driver resident, 500 references" in page
    assert "driver resident, 500 references" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "engines,s3"], "engines and s3 cannot be measured without --images"),
        (["--only", "photographs"], "photographs cannot be measured without --photographs"),
        (["--only", "scale", "--output", "/nowhere/R.md"], "there is no folder /nowhere"),
        (["--only", "speed"], "no section 'speed'; they are engines, scale, s3"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    try:
        code = run(monkeypatch, *TINY, *arguments)
    except SystemExit as refused:  # argparse's own
        code = int(refused.code or 0)
    assert code in (1, 2)
    assert told in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``python -m benchmarks`` with these arguments; its exit code."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    return main()


def rendered(title: str, targets: list[Target], *blocks: str) -> str:
    context = Context("2026-01-01", 3.4, {"cores": "2"}, {"python": "3.11"})
    return render(Section(title, targets, list(blocks)), context)
