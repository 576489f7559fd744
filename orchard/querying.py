"""SQL over published runs: DuckDB asks Arrow's datasets, which read what a query needs.

No extension of DuckDB is downloaded: what lies in S3 is read as the job reads it.
"""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from orchard.published import find_tables
from spark_job import contract
from spark_job.errors import JobError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchard.published import Tables
    from spark_job.objects import Folder

IMAGES = "images"
"""The view that has features and vector of an image in one row, as Athena's has."""

JOINED = {contract.FEATURES, contract.VECTORS}
"""What it is made of."""

IMAGES_SQL = (
    "create view images as select f.*, v.model, v.vector from features f "
    "join vectors v on f.batch = v.batch and f.run = v.run and f.path = v.path"
)

ROWS = 5_000
"""Rows that become Python objects at a time."""

MOST_SAID = 400
"""Characters of DuckDB's own words in a sentence."""

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",  # or a table's name could be a variable's of ours
}


@dataclass(frozen=True)
class Answer:
    """What a query gives: rows as they come, of plain Python values.

    Attributes
    ----------
    columns
        Their names, each once.
    rows
        Lists in the order of the columns.
    """

    columns: list[str]
    rows: Iterator[list[Any]]


@contextmanager
def ask(root: Folder, query: str) -> Iterator[Answer]:
    """Ask a query, for the time of a block.

    Parameters
    ----------
    root
        The root of all batches.
    query
        In DuckDB's SQL.

    Raises
    ------
    UsageError
        Where there is nothing to query, or the query is wrong.
    """
    if not query.strip():
        raise UsageError('the query is empty; `orchard sql "show tables"` names the tables')
    tables = find_tables(root)
    if not tables.runs:
        raise UsageError(f"{root.uri} has no published batch to query; `orchard run DIR` makes one")
    with _in_sentences(tables, query):
        views = _named_tables(tables, query)
        with duckdb.connect(":memory:", config=SETTINGS) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for name, table in views.items():
                connection.register(name, table)
            if views.keys() >= JOINED:
                connection.execute(IMAGES_SQL)
            relation = connection.sql(query)
            if relation is None:  # a statement that gives no rows
                yield Answer([], iter(()))
                return
            reader: Any = relation.to_arrow_reader(ROWS)
            yield Answer(_distinct(reader.schema.names), _rows(reader))


def _named_tables(tables: Tables, query: str) -> dict[str, Any]:
    """Open the tables that a query needs by what it names, or all where it names none."""
    needs = {name: {name} for name in tables.names}
    if needs.keys() >= JOINED:
        needs[IMAGES] = JOINED
    named = {name for name in needs if _is_named(name, query)}
    wanted = set().union(*(needs[name] for name in named or needs))
    return {name: tables.open(name) for name in sorted(wanted)}


def _rows(reader: Any) -> Iterator[list[Any]]:
    for batch in reader:
        columns = [
            [None if value is None else dict(value) for value in column.to_pylist()]
            if pa.types.is_map(column.type)
            else column.to_pylist()
            for column in batch.columns
        ]
        for values in zip(*columns, strict=True):
            yield [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """Make of a value what JSON has; a number that is none, or infinite, is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _distinct(names: list[str]) -> list[str]:
    """Tell columns of the same name apart by numbers."""
    distinct: list[str] = []
    for name in names:
        number, unused = 1, name
        while unused in distinct:
            unused, number = f"{name}_{number}", number + 1
        distinct.append(unused)
    return distinct


@contextmanager
def _in_sentences(tables: Tables, query: str) -> Iterator[None]:
    """Raise what reading met as it was met, and what DuckDB says in a sentence.

    Raises
    ------
    UsageError
        Where the query is wrong.
    JobError
        Where it asks for more than this machine has.
    """
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        read = not isinstance(error, duckdb.Error) or "reading the stream" in str(error)
        if read or tables.failures:
            tables.explain(error)
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
            raise JobError(f"{_words(error)}; ask for less, or with a limit") from error
        raise UsageError(f"{_words(error)}; {_remedy(error, tables, query)}") from error


def _words(error: Exception) -> str:
    """Give DuckDB's words without the picture of the query and without candidates one by one."""
    text = str(error).partition("\n\nLINE ")[0].partition("\n\tCandidate")[0]
    text = " ".join(text.split()).rstrip(".!;")
    return f"{text[:MOST_SAID]}..." if len(text) > MOST_SAID else text


def _remedy(error: Exception, tables: Tables, query: str) -> str:
    views = [*tables.names, IMAGES]
    if isinstance(error, duckdb.CatalogException) and "Table with name" in str(error):
        return f"the tables are {', '.join(views)}"
    named = [name for name in views if _is_named(name, query)]
    if named and "column" in str(error).lower():
        return f'`orchard sql "describe {named[0]}"` names the columns of {named[0]}'
    return "correct the query, which is in DuckDB's SQL"


def _is_named(table: str, query: str) -> bool:
    return re.search(rf"\b{re.escape(table)}\b", query, re.IGNORECASE) is not None
