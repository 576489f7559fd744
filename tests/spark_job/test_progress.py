from __future__ import annotations

import io
import logging
import sys
from time import sleep
from typing import TYPE_CHECKING

from spark_job import progress
from spark_job.progress import Progress

if TYPE_CHECKING:
    import pytest


def test_without_a_terminal_lines_tell_done_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.05)
    caplog.set_level(logging.INFO, "orchard")
    done = iter([0, 500])
    with Progress(2000, lambda: next(done, 3000)):
        sleep(0.4)
    first, second, third, *_ = caplog.messages
    assert first.startswith("0 of 2,000 images, 0 images/s")
    assert "left" not in first, "no time left is known before the first image"
    assert second.startswith("500 of 2,000 images")
    assert "s left" in second
    assert third.startswith("2,000 of 2,000"), "a repeated task counts twice, nobody sees that"
    assert "0 s left" in third


def test_on_a_terminal_a_bar_runs_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    done = 0

    def tell() -> int:
        return done

    with Progress(80, tell):
        done = 30
        sleep(0.3)
        done = 80
    assert "30/80" in terminal.getvalue()
    assert "80/80" in terminal.getvalue()
    assert "image/s" in terminal.getvalue()
