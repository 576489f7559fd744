"""Several tables in one file, of which each can be read by itself: Arrow streams, end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import ipc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spark_job.objects import Folder


def write_streams(folder: Folder, name: str, tables: Iterable[pa.Table]) -> list[int]:
    """Write tables to the file `name`; where each begins in it, and where the last one ends."""
    places = [0]
    with folder.create(name) as file:
        for table in tables:
            sink = pa.BufferOutputStream()
            with ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            content = sink.getvalue()
            file.write(content)
            places.append(places[-1] + content.size)
    return places


def read_stream(folder: Folder, name: str, start: int, end: int) -> pa.Table:
    """Read one of the tables of a file."""
    return ipc.open_stream(folder.read_range(name, start, end - start)).read_all()
