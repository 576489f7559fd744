"""All that is printed: data on stdout, everything else on stderr, colours on a terminal only."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spark_job.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)
"""Where everything goes that is no data."""

_SEPARATORS = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}
"""What would end a cell or a line inside of it."""

_CONTROLS = {
    number: f"\\x{number:02x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if chr(number) not in "\t\n"
}
"""What a terminal obeys and does not show: it is written out, as names of files may have it."""

_IN_CELLS = _CONTROLS | _SEPARATORS

_BLOCK = 1_000
"""Lines that are written at a time."""


def write(text: str) -> None:
    """Write a line of data."""
    typer.echo(text)


def write_json(content: Any) -> None:
    """Write data as JSON."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def write_records(records: Iterable[dict[str, Any]]) -> None:
    """Write data as a JSON array, object by object as they come."""
    before = "["
    for record in records:
        typer.echo(before + json.dumps(record, ensure_ascii=False, allow_nan=False), nl=False)
        before = ",\n "
    typer.echo("[]" if before == "[" else "]")


def is_terminal() -> bool:
    """Whether a person looks at what is written."""
    return _OUT.is_terminal


def write_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()
) -> None:
    """Write a table: drawn on a terminal, and lines with tabs between the cells elsewhere.

    Parameters
    ----------
    columns, rows
        Names and cells.
    numbers
        The columns that are aligned on the right.
    """
    if not is_terminal():
        lines = (
            "\t".join(cell.translate(_IN_CELLS) for cell in row) for row in chain([columns], rows)
        )
        while block := list(islice(lines, _BLOCK)):
            typer.echo("\n".join(block))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        right = name in numbers
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell.translate(_CONTROLS)) for cell in row))
    _OUT.print(table)


def say(text: str) -> None:
    """Tell a person something, on stderr."""
    ERR.print(text.translate(_CONTROLS), markup=False, soft_wrap=True)


def ask(question: str) -> bool:
    """Ask a person on stderr.

    Raises
    ------
    UsageError
        Where nobody can answer.
    """
    told = question.translate(_CONTROLS)
    ERR.print(f"{told} [y/N] ", end="", markup=False, soft_wrap=True)
    answer = sys.stdin.readline()
    if not answer:
        say("")
        raise UsageError(
            "nobody answered, and nothing was done; say --yes to go on without a question"
        )
    return answer.strip().lower() in ("y", "yes")


def in_bytes(number: int) -> str:
    """Write a number of bytes in the unit that suits it, a power of 1000."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def counted(number: int, one: str, several: str | None = None) -> str:
    """Write a number with the word for it: ``1 run``, ``2 runs``."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


class Handler(logging.Handler):
    """Says what the job's code logs.

    Parameters
    ----------
    debug
        Whether to show where an error was met.
    """

    def __init__(self, *, debug: bool = False) -> None:
        super().__init__()
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        """Say one message."""
        if record.exc_info is None:
            say(f"orchard: {record.getMessage()}")
        elif self._debug:
            say("".join(traceback.format_exception(record.exc_info[1])))
        else:
            say("orchard: `orchard --debug` and the same command show where, for a bug report")
