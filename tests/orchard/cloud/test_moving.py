"""Many files at once: all of them, or as many as went well before one did not."""

from __future__ import annotations

from threading import Event, Lock
from time import monotonic, sleep

import pytest

from orchard.cloud import moving
from orchard.cloud.moving import File, Moved, move

FILES = [File(f"{number}", 10) for number in range(100)]


def test_all_are_moved_and_counted() -> None:
    moved = Moved()
    move(FILES, lambda file: int(file.name) % 4 != 0, doing="move", moved=moved)
    assert (moved.files, moved.there, moved.done, moved.bytes) == (75, 25, 100, 750)
    nothing = Moved()
    move([], lambda _: True, doing="move", moved=nothing)
    assert nothing.done == 0


def test_the_first_failure_ends_it() -> None:
    moved, left = Moved(), []

    def act(file: File) -> bool:
        if file.name == "20":
            raise OSError("the disk")
        left.append(file)
        sleep(0.01)
        return True

    with pytest.raises(OSError, match="the disk"):
        move(FILES, act, doing="move", moved=moved)
    assert moved.done <= len(left) < 100


def test_no_more_is_on_its_way_than_a_slow_line_bears() -> None:
    lock, now, most = Lock(), 0, 0

    def act(_: File) -> bool:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        sleep(0.002)
        with lock:
            now -= 1
        return True

    files = [*FILES, File("large", 1000)]
    move(files, act, doing="move", moved=Moved(), in_flight=35)
    assert most == 3


def test_an_interrupt_does_not_wait_for_a_store_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = Event()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(moving._Pool, "wait", interrupt)
    begun = monotonic()
    with pytest.raises(KeyboardInterrupt):
        move(FILES, lambda _: silent.wait(30), doing="move", moved=Moved())
    assert monotonic() - begun < 5
    silent.set()


def test_where_there_is_no_terminal_it_is_said_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(moving, "LINE_EVERY", 0.0)
    monkeypatch.setattr(moving, "THREADS", 1)

    def act(_: File) -> bool:
        sleep(0.15)
        return True

    move(FILES[:4], act, doing="upload", moved=Moved())
    said = capsys.readouterr().err.splitlines()
    assert any(line.startswith("upload: 2 of 4 files, 20 B, ") for line in said), said
