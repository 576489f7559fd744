"""Making a report in a child process, and what is left where that does not come about."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from spark_job import contract
from spark_job.errors import JobError, UsageError
from spark_job.objects import open_folder
from spark_job.report import making
from spark_job.report.making import make_report, report_after, write_report
from tests.spark_job.jobs import run_job
from tests.spark_job.photographs import encoded, fruit
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.objects import Folder

pytestmark = pytest.mark.slow

BATCH = "monday"
N = 12

DIES = "os.kill(os.getpid(), signal.SIGSEGV)"
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
HANGS = "time.sleep(60)"
NEEDS_TOO_MUCH = "bytearray(5_000_000_000)"
RAISES = "raise ValueError('nobody thought of this')"


@dataclass(frozen=True)
class Run:
    """A published run."""

    output: Folder
    name: str

    @property
    def folder(self) -> Folder:
        return self.output / contract.run_folder(BATCH, self.name)

    @property
    def page(self) -> str:
        return self.folder.read(contract.REPORT).decode()

    @property
    def again(self) -> str:
        """The next step that a warning names."""
        command = f"orchard report {BATCH} --run {self.name} --output {self.output.uri}"
        return f"; try again with: {command}"


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of drawn fruit with made-up features; its pictures lie beside its results."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path
    if request.param == "s3":
        root = f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}"  # type: ignore[assignment]
    output = open_folder(f"{root}/out")
    images = open_folder(f"{root}/images/{BATCH}")
    receipt = publish_batch(output, BATCH, N)
    for number in range(N):
        name = f"Fruit/{BATCH}-{number // 6}-{number % 6}.jpg"
        images.write(name, encoded(fruit(number), "JPEG"))
    run = Run(output, receipt.run)
    fields = json.loads(run.folder.read(contract.RUN))
    run.folder.write(contract.RUN, json.dumps(fields | {"images": images.uri}).encode())
    return run


def accident(tmp_path: Path, what: str, where: str) -> Path:
    """A folder which, on the path of a child that makes a report, has something befall it."""
    folder = tmp_path / "accident"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        f"if {making.__name__!r} in sys.orig_argv:\n"
        "    import os, signal, time\n"
        f"    import spark_job.report.{where.rpartition('.')[0]} as room\n"
        "    def befall(*_, **__):\n"
        f"        {what}\n"
        f"    room.{where.rpartition('.')[2]} = befall\n"
    )
    return folder


def pictures(page: str) -> int:
    return len(re.findall(r"<image id=", page))


def test_it_is_written_into_the_runs_folder(run: Run) -> None:
    where = report_after(run.output, BATCH, run.name)
    assert where == f"{run.folder.uri}/report.html"
    assert run.page == make_report(run.output, BATCH, run.name)
    assert pictures(run.page) == N


@pytest.mark.parametrize(
    ("what", "because"),
    [
        (DIES, "its process was ended by SIGSEGV"),
        (KILLED, "its process was killed, most likely for want of memory"),
        (HANGS, "it took more than 4 s"),
        (NEEDS_TOO_MUCH, "it took more than 4 GB of memory"),
        (RAISES, "ValueError: nobody thought of this"),
    ],
)
@pytest.mark.parametrize("run", ["local"], indirect=True)
def test_where_its_pictures_are_to_blame_it_is_made_without_them(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    because: str,
) -> None:
    monkeypatch.syspath_prepend(accident(tmp_path, what, "pictures.make_gallery"))
    if what == HANGS:
        monkeypatch.setattr(making, "SECONDS", 4.0)
    with caplog.at_level(logging.WARNING, "orchard"):
        where = report_after(run.output, BATCH, run.name)
    assert where == f"{run.folder.uri}/report.html"
    assert pictures(run.page) == 0
    assert "This page was made without pictures." in run.page
    [warning] = caplog.messages
    assert warning == (
        f"the report has no pictures: with them it could not be made ({because}){run.again}"
    )


@pytest.mark.parametrize("run", ["local"], indirect=True)
@pytest.mark.parametrize(
    "what", ["print('no JSON'); os._exit(0)", "os._exit(0)", "print(7, flush=True); os._exit(0)"]
)
def test_a_child_that_does_not_say_what_it_made_is_an_error_of_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.syspath_prepend(accident(tmp_path, what, "page.render"))
    with pytest.raises(JobError, match="its process did not say where the report is"):
        write_report(run.output, BATCH, run.name)


@pytest.mark.parametrize("run", ["local"], indirect=True)
def test_what_a_child_says_need_not_be_text(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = "os.write(2, b'the file \\xff\\xfe is none'); os._exit(1)"
    monkeypatch.syspath_prepend(accident(tmp_path, what, "page.render"))
    with pytest.raises(JobError, match="the file \ufffd\ufffd is none"):
        write_report(run.output, BATCH, run.name)


@pytest.mark.parametrize("run", ["local"], indirect=True)
def test_where_it_cannot_be_made_at_all_a_warning_says_why_and_what_to_do(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.syspath_prepend(accident(tmp_path, DIES, "page.render"))
    with caplog.at_level(logging.WARNING, "orchard"):
        assert report_after(run.output, BATCH, run.name) is None
    assert contract.REPORT not in run.folder.files()
    [warning] = caplog.messages
    assert warning == (
        "the run is published, but its report could not be made (its process was ended by "
        f"SIGSEGV){run.again}"
    )


@pytest.mark.job
@pytest.mark.parametrize(
    ("where", "told", "made"),
    [
        ("pictures.make_gallery", "the report has no pictures", True),
        ("page.render", "its report could not be made", False),
    ],
)
def test_no_run_fails_for_want_of_a_report(
    few: Path, tmp_path: Path, where: str, told: str, made: bool
) -> None:
    folder = accident(tmp_path, DIES, where)
    job = run_job(few, tmp_path / "out", environment={"PYTHONPATH": str(folder)})
    assert job.exit_code == 0
    assert job.receipt["counts"]["computed"] == 12
    [warning] = [line for line in job.err.splitlines() if told in line]
    assert "SIGSEGV" in warning
    assert warning.endswith(
        f"orchard report batch --run {job.current['run']} --output {tmp_path / 'out'}"
    )
    assert (job.run / "report.html").exists() == made
    assert ("report.html" in job.out) == made


@pytest.mark.parametrize("run", ["local"], indirect=True)
def test_pictures_that_are_gone_are_told_on_the_page(run: Run, tmp_path: Path) -> None:
    images = tmp_path / "images" / BATCH / "Fruit"
    for name in ("monday-0-0.jpg", "monday-1-1.jpg"):
        (images / name).unlink()
    made = write_report(run.output, BATCH, run.name)
    assert (made.pictures, made.missing) == (N - 2, 2)
    assert "2 pictures that the page would show are not to be had any more" in run.page
    shutil.rmtree(images)
    made = write_report(run.output, BATCH, run.name)
    assert (made.pictures, made.missing) == (0, N)
    assert pictures(run.page) == 0


def test_without_pictures_none_is_read(run: Run) -> None:
    made = write_report(run.output, BATCH, run.name, pictures=False)
    assert (made.pictures, made.missing) == (0, 0)
    assert pictures(run.page) == 0


def test_it_is_written_where_it_is_wanted(run: Run, tmp_path: Path) -> None:
    to = tmp_path / "pages" / "monday.html"
    made = write_report(run.output, BATCH, run.name, to=to)
    assert made.where == str(to)
    assert pictures(to.read_text("utf-8")) == N
    assert contract.REPORT not in run.folder.files(), "only there"
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="file"):
        write_report(run.output, BATCH, run.name, to=tmp_path / "file" / "page.html")


def test_a_run_without_vectors_or_with_a_damaged_receipt_is_told(run: Run) -> None:
    (run.folder / contract.VECTORS).clear()
    with pytest.raises(UsageError, match=r"vectors has no files; restore them, or run"):
        make_report(run.output, BATCH, run.name)
    with pytest.raises(JobError, match=r"vectors has no files; restore them, or run"):
        write_report(run.output, BATCH, run.name)
    run.folder.write(contract.RUN, b"{}")
    with pytest.raises(JobError, match="is of another layout"):
        write_report(run.output, BATCH, run.name)
