"""The command itself, interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rehearsal import __main__ as command
from tests.spark_job.jobs import run_job
from tests.spark_job.photographs import plant

pytestmark = pytest.mark.rehearsal

REPOSITORY = Path(__file__).resolve().parents[2]


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "x.jpg").write_bytes(b"x")
    arguments = [sys.executable, "-u", "-m", "rehearsal", "--images", str(tmp_path / "images")]
    mark = {"ORCHARD_TEST_MARK": str(tmp_path), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        arguments, cwd=REPOSITORY, env={**os.environ, **mark}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "is BOOTSTRAPPING" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    left = [p for p in psutil.process_iter() if _belongs(p, str(tmp_path))]
    assert left == []
    assert list(tmp_path.glob("orchard-rehearsal-*")) == []


def test_a_path_with_a_space_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ROOT", Path("/home/a user/orchard"))
    monkeypatch.setattr(sys, "argv", ["rehearsal"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "move '/home/a user/orchard'" in capsys.readouterr().err


def test_the_published_run_is_summed_up_at_the_end(tmp_path: Path) -> None:
    """As a job leaves it, on a cluster or here."""
    plant(tmp_path / "images", {"Kiwi": 3, "Plum": 2})
    job = run_job(tmp_path / "images", tmp_path / "out")
    assert command.published(tmp_path / "out", "batch") == f"{job.out}\nFetched to {job.run}"


def _belongs(process: psutil.Process, mark: str) -> bool:
    try:
        named = any(mark in part for part in process.cmdline())
        return named or process.environ().get("ORCHARD_TEST_MARK") == mark
    except psutil.Error:
        return False
