"""A listing of many chunks is that of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from spark_job import listing, objects
from spark_job.errors import UsageError
from spark_job.listing import (
    SCHEMA,
    list_images,
    listing_digest,
    read_manifest,
    read_part,
    write_listing,
)
from spark_job.objects import Entry, LocalFolder, open_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 101
PATHS = [f"label-{number % 7}/{number * 37 % COUNT:03d}.jpg" for number in range(COUNT)]


class Folder(LocalFolder):
    """Names `PATHS`, a few of them twice."""

    def entries(self) -> Iterator[Entry]:
        for number, path in enumerate([*PATHS, *PATHS[:5]]):
            size = number % COUNT
            yield Entry(path, size, f"version-{size}")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "BLOCK", 7)
    monkeypatch.setattr(listing, "CHUNK", 14)
    monkeypatch.setattr(objects, "BLOCK", 7)


def test_rows_of_any_range_are_those_of_the_sorted_paths(tmp_path: Path) -> None:
    listed = list_images(Folder(str(tmp_path), str(tmp_path)))
    rows = sorted((path, path[:7], size, f"version-{size}") for size, path in enumerate(PATHS))
    assert len(listed) == COUNT
    for start, size in ((0, COUNT), (0, 1), (13, 40), (COUNT - 1, 1), (COUNT, 5)):
        found = listed.rows(start, size)
        assert found.schema == SCHEMA
        columns = found.to_pydict().values()
        assert list(zip(*columns, strict=True)) == rows[start : start + size]


def test_written_parts_are_the_listing_whatever_their_sizes(tmp_path: Path) -> None:
    listed = list_images(Folder(str(tmp_path), str(tmp_path)))
    work = open_folder(str(tmp_path / "work"))
    sizes = [30, 1, 2, 4, 50, 14]
    digest = write_listing(work, listed, sizes)
    parts = [read_part(work, part) for part in range(len(sizes))]
    assert [len(part) for part in parts] == sizes
    images = [image for part in parts for image in part]
    assert [image.path for image in images] == sorted(PATHS)
    assert digest == listing_digest((image.path, image.version) for image in images)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_manifest_of_many_chunks_is_read_and_its_repeats_are_refused(
    tmp_path: Path, kind: str
) -> None:
    folder = open_folder(str(tmp_path))
    manifest = str(tmp_path / f"manifest.{kind}")
    write = csv.write_csv if kind == "csv" else parquet.write_table
    write(pa.table({"path": PATHS, "other": range(COUNT)}), manifest)
    rows = read_manifest(manifest, folder).rows(0, COUNT)
    assert rows.schema == SCHEMA
    assert rows["path"].to_pylist() == sorted(PATHS)
    assert rows["bytes"].null_count == rows["version"].null_count == COUNT
    write(pa.table({"path": [*PATHS, PATHS[3]]}), manifest)
    with pytest.raises(UsageError, match=f"names '{PATHS[3]}' more than once"):
        read_manifest(manifest, folder)
