"""``orchard sql``: queries over the published runs of all batches."""

import csv as comma_separated
import json as notation
from itertools import islice
from typing import Annotated, Any

import typer

from orchard import console
from orchard.options import Json, Output, open_root
from spark_job.errors import UsageError

EXAMPLE = (
    'Example: orchard sql "select label, count(*) from vectors group by label" --output out/fruits'
)

MOST_DRAWN = 1_000
"""Rows that are drawn on a terminal."""


def sql(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help="In DuckDB's SQL, of features, vectors, images (both in one row), rejects, runs "
            "and findings_KIND, where a run has such.",
            show_default=False,
        ),
    ],
    output: Output = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
) -> None:
    """Ask a query over the published run of each batch.

    Every table has columns batch and run. `describe vectors` names a table's columns, and
    `show tables` the tables.
    """
    from orchard.querying import ask  # which loads DuckDB

    if json and csv:
        raise UsageError("--json and --csv each say how to write the rows; say one of them")
    with ask(open_root(output), query) as answer:
        if json:
            console.write_records(
                dict(zip(answer.columns, row, strict=True)) for row in answer.rows
            )
        elif csv:
            lines = comma_separated.writer(_Lines(), lineterminator="\n")
            lines.writerow(answer.columns)
            lines.writerows(map(_text, row) for row in answer.rows)
        elif answer.columns:
            drawn = answer.rows
            if console.is_terminal():
                drawn = islice(answer.rows, MOST_DRAWN)
            console.write_table(answer.columns, (list(map(_text, row)) for row in drawn))
            if next(answer.rows, None) is not None:
                console.say(
                    f"These are the first {MOST_DRAWN:,} rows; --csv or --json writes all of them"
                )


class _Lines:
    """Takes lines for stdout."""

    def write(self, line: str) -> None:
        """Write a line that has its end."""
        console.write(line.removesuffix("\n"))


def _text(value: Any) -> str:
    """Write a value in a cell; null is nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else notation.dumps(value, ensure_ascii=False)
