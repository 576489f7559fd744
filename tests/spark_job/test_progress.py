from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from spark_job import progress
from spark_job.objects import Folder, open_folder
from spark_job.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def work(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "work"))


def test_parts_and_what_is_done_of_unfinished_ones_add_up(work: Folder) -> None:
    shown = Progress([10, 20, 5], work)
    assert shown.done == 0
    shown.report(1, 7)
    shown.report(1, 9)
    assert shown.done == 9, "a report says how many, not how many more"
    shown.finish(0)
    assert shown.done == 19
    assert (shown.is_finished(0), shown.is_finished(1)) == (True, False)
    shown.finish(1)
    assert shown.done == 30


def test_what_is_heard_of_a_part_after_its_end_counts_for_nothing(work: Folder) -> None:
    shown = Progress([10, 20], work)
    shown.report(0, 4)
    shown.finish(0)
    shown.report(0, 6)
    shown.finish(0)
    assert shown.done == 10


def test_a_part_that_is_begun_again_is_as_far_as_its_new_worker_is(work: Folder) -> None:
    shown = Progress([10, 20], work)
    shown.report(1, 15)
    shown.report(1, 2)
    assert shown.done == 2


def test_never_is_more_done_than_there_is(work: Folder) -> None:
    shown = Progress([10], work)
    shown.report(0, 12)
    assert shown.done == 10


def test_without_a_terminal_lines_tell_done_rate_and_time_left(
    work: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.05)
    caplog.set_level(logging.INFO, "orchard")
    with Progress([500, 1500], work) as shown:
        wait_for(lambda: caplog.messages)
        shown.finish(0)
        wait_for(lambda: caplog.messages[-1].startswith("500"))
        shown.finish(1)
        wait_for(lambda: caplog.messages[-1].startswith("2,000"))
    first, last = caplog.messages[0], caplog.messages[-1]
    second = next(message for message in caplog.messages if message.startswith("500"))
    assert first == "0 of 2,000 images, 0 images/s, none finished yet"
    assert second.startswith("500 of 2,000 images")
    assert "s left" in second
    assert last.startswith("2,000 of 2,000 images")
    assert last.endswith(" 0 s left")


def test_on_a_terminal_a_bar_runs_to_the_end(work: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress([50, 30], work) as shown:
        shown.report(0, 40)
        wait_for(lambda: "40/80" in terminal.getvalue())
        shown.report(0, 30)  # its worker died, and another one began it again
        wait_for(lambda: "30/80" in terminal.getvalue())
        shown.finish(0)
        shown.finish(1)
    assert "80/80" in terminal.getvalue()
    assert "image/s" in terminal.getvalue()


def test_who_follows_from_afar_reads_the_same_in_a_file(
    work: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FILE_EVERY", 0.05)
    with Progress([500, 1500], work) as shown:
        wait_for(lambda: written(work))
        assert (written(work)["done"], written(work)["images"]) == (0, 2000)
        shown.finish(0)
        shown.report(1, 100)
        wait_for(lambda: written(work)["done"] == 600)
        assert (written(work)["parts"], written(work)["parts_done"]) == (2, 1)
        shown.finish(1)
    found = written(work)
    at = datetime.fromisoformat(found.pop("at"))
    assert 0 <= (datetime.now(UTC) - at).total_seconds() < 60
    assert found.pop("seconds") > 0
    assert found.pop("images_per_second") > 0
    assert found == {"contract": 1, "images": 2000, "done": 2000, "parts": 2, "parts_done": 2}


def test_the_last_word_is_written_however_short_the_work_was(work: Folder) -> None:
    with Progress([3], work) as shown:
        shown.finish(0)
    assert written(work)["done"] == 3


def test_a_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FILE_EVERY", 0.01)
    (tmp_path / "file").touch()
    with Progress([3], open_folder(str(tmp_path / "file" / "work"))) as shown:
        sleep(0.1)
        shown.finish(0)
    assert shown.done == 3


def wait_for(condition: Callable[[], object]) -> None:
    end = monotonic() + 20
    while not condition():
        assert monotonic() < end, "it did not come to pass in 20 s"
        sleep(0.01)


def written(work: Folder) -> dict[str, Any]:
    content = work.read_or_none("progress.json")
    found: dict[str, Any] = json.loads(content) if content else {}
    return found
