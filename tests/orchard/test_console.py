"""What is printed: names of files reach a terminal as text, whatever is in them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchard import console

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9bK\x7f\x08\r[bold].jpg"
SHOWN = r"a\x1b]0;owned\x07\x1b[2J\x9bK\x7f\x08{}[bold].jpg"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal is sent, on either way."""
    sent = io.StringIO()
    shown = Console(file=sent, force_terminal=True, color_system=None, highlight=False, width=200)
    monkeypatch.setattr(console, "_OUT", shown)
    monkeypatch.setattr(console, "ERR", shown)
    return sent


def test_a_terminal_is_told_nothing_by_a_name(terminal: io.StringIO) -> None:
    console.write_table(["path"], [[HOSTILE], ["Äpfel/リンゴ.jpg"]])
    console.say(f"there is no {HOSTILE}\n\tas if")
    lines = terminal.getvalue().splitlines()
    assert lines[1].rstrip() == SHOWN.format(r"\x0d")
    assert lines[2].rstrip() == "Äpfel/リンゴ.jpg"
    assert lines[3] == f"there is no {SHOWN.format(chr(92) + 'x0d')}"
    assert lines[4].strip() == "as if", "which stays on a line of its own"


def test_a_question_is_asked_as_text(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert console.ask(f"Remove {HOSTILE}?")
    assert terminal.getvalue() == f"Remove {SHOWN.format(chr(92) + 'x0d')}? [y/N] "


def test_cells_in_lines_are_text_too(capsys: pytest.CaptureFixture[str]) -> None:
    console.write_table(["path", "label"], [[HOSTILE, "two\twords\nor more"]])
    assert capsys.readouterr().out.splitlines() == [
        "path\tlabel",
        SHOWN.format(r"\r") + "\ttwo\\twords\\nor more",
    ]
