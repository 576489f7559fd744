"""What is fetched is what is there, checked, and commands look at it as at any other root."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from orchard.cloud import fetching, moving
from orchard.cloud.fetching import fetch
from spark_job import contract
from spark_job.errors import JobError, UnavailableError, UsageError
from spark_job.objects import Folder, ThrottledError, open_folder
from spark_job.pointers import BatchPointer, ModelPointer, read_pointer
from spark_job.s3 import S3Folder
from tests.orchard.command import refusal, rows, succeed
from tests.spark_job.jobs import files_below
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchard.cloud.stack import Stack
    from spark_job.objects import Entry


@pytest.fixture
def there(stack: Stack) -> Folder:
    publish_batch(stack.root, "july", findings=True)
    return stack.root


@pytest.fixture
def here(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "here"))


def test_a_run_is_here_with_its_model_and_no_more(there: Folder, here: Folder) -> None:
    publish_batch(there, "august")
    found = fetch(there, "july", here)
    run = contract.run_folder("july", found.receipt.run)
    model = f"{contract.models_folder(found.receipt.extractor)}/{found.receipt.model.model}"
    expected = {
        f"{place}/{one.name}" for place in (run, model) for one in (there / place).entries()
    }
    pointers = {
        f"{contract.results_folder('july')}/{contract.CURRENT}",
        f"{contract.models_folder(found.receipt.extractor)}/{contract.CURRENT}",
    }
    assert files_below(Path(here.uri)) == expected | pointers
    assert found.files == found.moved.files == len(expected)
    for name in expected:
        assert here.read(name) == there.read(name), name
    assert rows(succeed("batches", output=here))[0]["run"] == found.published


def test_the_same_command_does_the_rest_and_mends_what_is_damaged(
    there: Folder, here: Folder
) -> None:
    first = fetch(there, "july", here)
    run = Path(here.uri, contract.run_folder("july", first.receipt.run))
    (run / contract.RUN).unlink()
    damaged = next((run / contract.VECTORS).iterdir())
    content = damaged.read_bytes()
    damaged.write_bytes(bytes(len(content)))
    again = fetch(there, "july", here)
    assert (again.moved.files, again.moved.there) == (2, first.files - 2)
    assert damaged.read_bytes() == content


def test_what_is_not_what_the_receipt_says_is_told(there: Folder, here: Folder) -> None:
    receipt = fetch(there, "july", here).receipt
    folder = there / f"{contract.run_folder('july', receipt.run)}/{contract.FEATURES}"
    name = folder.files()[0]
    table = parquet.read_table(pa.BufferReader(folder.read(name)))
    features = table["features"].combine_chunks()
    other = pa.FixedSizeListArray.from_arrays(
        pa.array([value + 1 for value in features.flatten().to_pylist()], pa.float32()),
        features.type.list_size,
    )
    place = table.schema.get_field_index("features")
    for changed, words in (
        (table.set_column(place, table.schema.field(place), other), "are not those that"),
        (table.slice(1), "has 11 rows, and the run's receipt says 12"),
    ):
        sink = pa.BufferOutputStream()
        parquet.write_table(changed, sink)
        folder.write(name, sink.getvalue().to_pybytes())
        with pytest.raises(JobError, match=words):
            fetch(there, "july", here)


def test_an_etag_that_is_no_md5_is_found_out_once(
    there: Folder, here: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a bucket whose objects a key of KMS encrypts."""
    entries: Callable[[Any], Iterator[Entry]] = S3Folder.entries

    def encrypted(folder: S3Folder) -> Iterator[Entry]:
        return (replace(one, version=f'"{"a" * 32}"') for one in entries(folder))

    monkeypatch.setattr(S3Folder, "entries", encrypted)
    first = fetch(there, "july", here)
    assert first.moved.files == first.files
    assert fetch(there, "july", here).moved.files == 0
    # Of the same size, no table whose rows are counted, and not the first that is looked at.
    monkeypatch.setattr(moving, "THREADS", 1)
    model = contract.models_folder(first.receipt.extractor)
    damaged = next(Path(here.uri, model).rglob("*.npz"))
    content = damaged.read_bytes()
    damaged.write_bytes(bytes(len(content)))
    assert fetch(there, "july", here).moved.files == 1
    assert damaged.read_bytes() == content


def test_a_file_that_was_written_in_parts_is_not_fetched_again(
    there: Folder, here: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = fetch(there, "july", here).receipt
    large = f"{contract.run_folder('july', receipt.run)}/large.bin"
    with there.create(large) as stream:
        stream.write(os.urandom(12_000_000))
    assert fetch(there, "july", here).moved.files == 1
    read: list[str] = []
    reads = S3Folder.read

    def noted(folder: S3Folder, name: str, **named: Any) -> bytes:
        read.append(name)
        return reads(folder, name, **named)

    monkeypatch.setattr(S3Folder, "read", noted)
    assert fetch(there, "july", here).moved.files == 0
    assert large not in read
    Path(here.uri, large).write_bytes(bytes(12_000_000))
    assert fetch(there, "july", here).moved.files == 1


def test_the_receipt_comes_after_all_others(
    there: Folder, here: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after those that take longer."""
    read = S3Folder.read

    def slowly(folder: S3Folder, name: str, **named: Any) -> bytes:
        if f"/{contract.VECTORS}/" in name:
            sleep(1.0)
        elif name.endswith(f"/{contract.RUN}") and folder.prefix == "":
            vectors = list(Path(here.uri).rglob(f"{contract.VECTORS}/*.parquet"))
            assert vectors, "the receipt is here, and they are not"
        return read(folder, name, **named)

    monkeypatch.setattr(S3Folder, "read", slowly)
    assert fetch(there, "july", here).moved.files > 0


def test_what_comes_damaged_twice_is_not_kept(
    there: Folder, here: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = S3Folder.read
    damages = iter(range(1, 256))

    def damaged(folder: S3Folder, name: str, **named: Any) -> bytes:
        content = read(folder, name, **named)
        if not name.endswith(".npz"):
            return content
        return content[:-1] + bytes([content[-1] ^ next(damages)])

    monkeypatch.setattr(S3Folder, "read", damaged)
    with pytest.raises(JobError, match=r"\.npz came damaged, twice; fetch it again"):
        fetch(there, "july", here)
    assert not list(Path(here.uri).rglob("*.npz"))


def test_a_run_that_was_made_here_later_stays_the_batchs(there: Folder, here: Folder) -> None:
    mine = publish_batch(here, "july")
    chosen = read_pointer(here / contract.models_folder(mine.extractor), ModelPointer)
    found = fetch(there, "july", here)
    assert found.published == mine.run != found.receipt.run
    pointer = read_pointer(here / contract.results_folder("july"), BatchPointer)
    assert pointer is not None
    assert pointer.run == mine.run
    assert read_pointer(here / contract.models_folder(mine.extractor), ModelPointer) == chosen


def test_another_run_is_fetched_and_not_pointed_at(stack: Stack, tmp_path: Path) -> None:
    first = publish_batch(stack.root, "july")
    publish_batch(stack.root, "july")
    told = succeed("fetch", "july", str(tmp_path), "--run", first.run, "--stack", stack.name)
    assert told.stdout == f"{tmp_path}/{contract.run_folder('july', first.run)}\n"
    assert f"`orchard show july --run {first.run} --output {tmp_path}` shows it" in told.stderr
    assert rows(succeed("batches", "--output", str(tmp_path))) == []


def test_what_cannot_be_fetched_is_a_sentence(
    stack: Stack, there: Folder, here: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no batch 'june'" in refusal("fetch", "june", "x", "--stack", stack.name)
    with pytest.raises(UsageError, match="is in S3; DIR is a folder of this machine"):
        fetch(there, "july", there)

    def busy(*_: Any, **__: Any) -> None:
        raise ThrottledError("slow down")

    monkeypatch.setattr(fetching, "move", busy)
    with pytest.raises(UnavailableError, match="0 files are here: check the network, and the same"):
        fetch(there, "july", here)
