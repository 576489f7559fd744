"""Claiming, settling and publishing: what a crash, a rival and a late worker can do, and cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from spark_job import claims as claims_module
from spark_job import contract, pipeline, runs
from spark_job.engines import Attempt
from spark_job.errors import JobError, OutputRefusedError, TooManyRejectsError, UsageError
from spark_job.objects import Folder, LocalFolder, open_folder
from spark_job.receipts import (
    Counts,
    Digests,
    EngineReceipt,
    Failure,
    ModelReceipt,
    RunReceipt,
    processor,
    to_json,
)
from spark_job.settings import JobSettings
from tests.spark_job.inline import InlineEngine
from tests.spark_job.jobs import REPOSITORY, files_below, read_json, run_job
from tests.spark_job.photographs import plant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from spark_job.claims import Claim
    from spark_job.featurize import Featurizer
    from spark_job.progress import Progress


FIRST = Attempt(0, lambda _: None)


class Killed(BaseException):
    """Stands for the end of this process: nothing catches it."""


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "out"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


@pytest.fixture
def claims() -> Iterator[list[Claim]]:
    """Claims to be given back when the test ends."""
    held: list[Claim] = []
    yield held
    for claim in held:
        claim.release()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five fruits of two labels."""
    folder = tmp_path_factory.mktemp("tiny")
    plant(folder, {"Kiwi": 3, "Plum": 2}, seed=700)
    return folder


def claim(output: Folder, run: str = "r", images: str = "images") -> Claim:
    return runs.claim_run(output, "b", run, images, "e")


def receipt(run: str = "r", *, started: str = "2026-11-20T00:00:00.000000+00:00") -> RunReceipt:
    return RunReceipt(
        batch="b",
        run=run,
        images="images",
        output="out",
        results=f"out/results/b/runs/{run}",
        started=started,
        finished=started,
        counts=Counts(),
        digests=Digests(),
        model=ModelReceipt(f"model-of-{run}", 1, 2, {"variance": 0.8}, True, 0.8, 0.8, 3.0, False),
        engine=EngineReceipt("processes", 1),
        network="n",
        extractor="e",
        processors={},
        images_per_second=1.0,
        seconds={"total": 1.0},
        seconds_in_workers={},
        settings={},
        versions={},
    )


def current(output: Folder) -> dict[str, Any]:
    pointer: dict[str, Any] = json.loads((output / "results/b").read("current.json"))
    return pointer


class TestClaiming:
    def test_a_new_attempt_starts_from_finished_parts_alone(self, output: Folder) -> None:
        left = output / "work/b/r"
        finished = "features/part-00007-0123.parquet"
        left.write(finished, b"of an attempt that crashed")
        left.write("listing/00000.parquet", b"of the same one")
        left.write("failure.json", b"{}")
        half = output / "results/b/runs/r"
        half.write("features/part-00007.parquet", b"of a run that died while it was settled")
        other = output / "results/b/runs/r2"
        other.write("run.json", b"{}")
        taken = claim(output)
        taken.release()
        assert sorted(entry.name for entry in left.entries()) == ["claim.json", finished]
        assert not list(half.entries())
        assert other.read("run.json") == b"{}"

    def test_a_run_at_work_is_left_alone(self, output: Folder, claims: list[Claim]) -> None:
        claims.append(claim(output))
        (output / "work/b/r").write("features/part-00000-1.parquet", b"of the first")
        with pytest.raises(OutputRefusedError, match=r"run 'r' of batch 'b' is at work \(process"):
            claim(output)
        assert (output / "work/b/r").read("features/part-00000-1.parquet") == b"of the first"
        claims.append(claim(output, "r2"))

    def test_a_run_that_was_given_back_can_be_claimed_again(self, output: Folder) -> None:
        claim(output).release()
        claim(output).release()

    def test_a_killed_holder_on_a_disk_blocks_nobody(self, tmp_path: Path) -> None:
        code = (
            "import sys, time; from spark_job import runs; from spark_job.objects import *;"
            "runs.claim_run(open_folder(sys.argv[1]), 'b', 'r', 'images', 'e');"
            "print('claimed', flush=True); time.sleep(60)"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"claimed\n"
        with pytest.raises(UsageError, match=f"process {holder.pid} of "):
            claim(open_folder(str(tmp_path)))
        holder.kill()
        holder.wait()
        holder.stdout.close()
        claim(open_folder(str(tmp_path))).release()

    def test_in_s3_a_silent_holder_is_followed_and_learns_of_it(
        self, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: list[Claim]
    ) -> None:
        output = open_folder(f"s3://{bucket}/{tmp_path.name}")
        monkeypatch.setattr(claims_module, "HEARTBEAT", 0.2)
        first = claim(output)
        claims.append(first)
        # It is silent as far as others can tell, and goes on.
        long_ago = (datetime.now(UTC) - timedelta(seconds=claims_module.SILENCE + 1)).isoformat()
        monkeypatch.setattr(claims_module, "now", lambda: long_ago)
        wait_until(lambda: json.loads(first.work.read("claim.json"))["heartbeat"] == long_ago)
        monkeypatch.undo()
        second = claim(output)
        claims.append(second)
        wait_until(lambda: _raises(first.require))
        with pytest.raises(JobError, match="another process took it over; nothing was published"):
            runs.settle(first, receipt())
        second.require()

    def test_a_sign_of_life_is_given_again_and_again(
        self, output: Folder, monkeypatch: pytest.MonkeyPatch, claims: list[Claim]
    ) -> None:
        monkeypatch.setattr(claims_module, "HEARTBEAT", 0.05)
        claims.append(claim(output))
        first = json.loads(claims[0].work.read("claim.json"))
        wait_until(
            lambda: json.loads(claims[0].work.read("claim.json"))["heartbeat"] > first["heartbeat"]
        )
        assert first["process"] == os.getpid()
        assert first["extractor"] == "e"

    def test_a_batchs_name_belongs_to_its_images(self, output: Folder) -> None:
        runs.publish(output, receipt())
        with pytest.raises(UsageError, match="already holds a batch 'b', made from images"):
            claim(output, "r2", "other images")

    def test_a_published_run_is_never_claimed_again(self, output: Folder) -> None:
        settled(output, receipt())
        runs.publish(output, receipt())
        with pytest.raises(UsageError, match="r holds a finished run; choose another --run"):
            claim(output)
        claim(output, "r2").release()

    def test_a_settled_run_that_was_not_published_is_given_as_it_is(self, output: Folder) -> None:
        settled(output, receipt())
        taken = claim(output)
        taken.release()
        assert taken.settled == receipt()

    def test_a_settled_run_that_lost_is_finished(self, output: Folder) -> None:
        settled(output, receipt())
        runs.publish(output, receipt("later", started="2026-11-21T00:00:00.000000+00:00"))
        with pytest.raises(UsageError, match="holds a finished run"):
            claim(output)

    def test_results_of_the_former_layout_are_refused(self, output: Folder) -> None:
        (output / "results/b").write("current.json", to_json({"run": "old", "images": "images"}))
        with pytest.raises(UsageError, match=r"is of an earlier layout, .* choose another"):
            claim(output)

    def test_models_of_the_former_layout_are_refused(self, output: Folder) -> None:
        (output / "models").write("current.json", to_json({"model": "old"}))
        with pytest.raises(UsageError, match=r"is of an earlier layout, .* choose another"):
            claim(output)

    def test_a_later_contract_is_refused(self, output: Folder) -> None:
        (output / "results/b").write("current.json", to_json({"contract": 2, "run": "x"}))
        with pytest.raises(UsageError, match="is of contract 2, and this Orchard"):
            claim(output)

    def test_a_run_that_ends_while_it_is_claimed_keeps_what_it_published(
        self, output: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process settles and publishes between our first look and our claim."""
        take = claims_module.Claim._take

        def late(ours: Claim) -> int | None:
            settled(output, receipt())
            (output / "results/b/runs/r").write("features/part-00000.parquet", b"published")
            runs.publish(output, receipt())
            return take(ours)

        monkeypatch.setattr(claims_module.Claim, "_take", late)
        with pytest.raises(UsageError, match="r holds a finished run; choose another --run"):
            claim(output)
        kept = (output / "results/b/runs/r").read("features/part-00000.parquet")
        assert kept == b"published"
        monkeypatch.undo()
        claim(output, "r2").release()

    def test_in_s3_a_run_whose_folder_was_cleared_learns_of_it_before_it_settles(
        self, bucket: str, tmp_path: Path, claims: list[Claim]
    ) -> None:
        """Its process was paused, and another run took it for dead."""
        output = open_folder(f"s3://{bucket}/{tmp_path.name}")
        claims.append(claim(output))
        claims[0].work.clear()
        with pytest.raises(JobError, match="another process took it over"):
            runs.settle(claims[0], receipt())
        assert runs.state_of(output, "b", "r") is runs.State.UNSETTLED

    def test_a_run_that_lost_files_is_not_settled(
        self, output: Folder, claims: list[Claim]
    ) -> None:
        claims.append(claim(output))
        files = [(f"features/{n}-x", f"features/part-{n}.parquet") for n in range(3)]
        for name, _ in files:
            claims[0].work.write(name, b"1")
        runs.copy_files(claims[0], files)
        claims[0].results.delete([files[1][1]])
        with pytest.raises(JobError, match=r"1 files of .* have gone \(features/part-1\.parquet"):
            runs.require_complete(claims[0], files)
        assert runs.state_of(output, "b", "r") is runs.State.UNSETTLED

    def test_a_sign_of_life_survives_that_s3_fails_for_a_while(
        self, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: list[Claim]
    ) -> None:
        monkeypatch.setattr(claims_module, "HEARTBEAT", 0.05)
        output = open_folder(f"s3://{bucket}/{tmp_path.name}")
        claims.append(claim(output))
        failed = Event()

        def fail(*_: Any) -> str:
            failed.set()
            raise OSError("connection refused")

        with monkeypatch.context() as patch:
            patch.setattr(type(output), "swap", fail)
            assert failed.wait(10)
        before = json.loads(claims[0].work.read("claim.json"))["heartbeat"]
        wait_until(lambda: json.loads(claims[0].work.read("claim.json"))["heartbeat"] > before)
        claims[0].require()

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{half"])
    def test_a_damaged_claim_hinders_nobody(self, output: Folder, content: bytes) -> None:
        (output / "work/b/dead").write("claim.json", content)
        (output / "work/b/r").write("claim.json", content)
        ours = claim(output)
        settled(output, receipt())
        runs.publish(output, receipt())
        runs.clean_up(ours)
        ours.release()
        assert not list((output / "work").entries())

    def test_a_folder_that_cannot_be_made_is_told_and_not_waited_for(self) -> None:
        with pytest.raises(OutputRefusedError, match=r"cannot write to /proc/x: .*check --output"):
            claim(open_folder("/proc/x"))

    def test_a_failure_is_not_written_where_another_process_works(
        self, output: Folder, claims: list[Claim]
    ) -> None:
        failure = Failure(2, "UsageError", "a sentence")
        claims.append(claim(output))
        runs.record_failure(output, "b", "r", failure)
        assert (output / "work/b/r").files() == ["claim.json"]
        claims[0].release()
        runs.record_failure(output, "b", "r", failure)
        told = json.loads((output / "work/b/r").read("failure.json"))
        assert told == {"exit_code": 2, "error": "UsageError", "message": "a sentence"}

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b'{"counts": {"featurized": 1}}', "is of another layout than contract 1"),
            (b'{"contract": 1}', "the receipt in .* is damaged"),
            (b"{half", "the receipt in .* is damaged"),
        ],
    )
    def test_a_receipt_that_cannot_be_read_is_told(
        self, output: Folder, content: bytes, sentence: str
    ) -> None:
        (output / "results/b/runs/r").write("run.json", content)
        with pytest.raises(UsageError, match=sentence):
            claim(output)

    def test_a_damaged_pointer_is_told(self, output: Folder) -> None:
        for content in (b"{half", b'{"contract": 1}', b"[]"):
            (output / "results/b").write("current.json", content)
            with pytest.raises(UsageError, match=r"current\.json is damaged .*; restore it, or"):
                claim(output)


class TestPublishing:
    def test_of_two_runs_the_later_started_wins_in_either_order(self, output: Folder) -> None:
        early, late = (receipt(run, started=f"2026-11-2{day}") for day, run in ((0, "a"), (1, "z")))
        assert runs.publish(output, late).run == "z"
        lost = runs.publish(output, early)
        assert (lost.run, lost.started) == ("z", "2026-11-21")
        assert current(output)["run"] == "z"
        later = replace(late, run="later", started="2026-11-22")
        assert runs.publish(output, later).run == "later"

    def test_a_repeated_publication_has_not_lost_to_itself(self, output: Folder) -> None:
        runs.publish(output, receipt())
        assert runs.publish(output, receipt()).run == "r"

    def test_a_pointer_that_changes_meanwhile_is_read_again(
        self, output: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A rival publishes between our look at the pointer and our write."""
        rival = receipt("rival", started="2026-11-19")
        swap = type(output).swap

        def race(folder: Folder, name: str, content: bytes, expected: str | None) -> str:
            monkeypatch.undo()
            runs.publish(output, rival)
            return swap(folder, name, content, expected)

        monkeypatch.setattr(type(output), "swap", race)
        assert runs.publish(output, receipt()).run == "r"
        assert current(output)["run"] == "r"

    def test_a_run_is_settled_once(self, output: Folder, claims: list[Claim]) -> None:
        claims.append(claim(output))
        runs.settle(claims[0], receipt())
        runs.settle(claims[0], receipt())
        with pytest.raises(JobError, match="was settled by another process"):
            runs.settle(claims[0], receipt(started="2026-11-21"))


class TestCleaningUp:
    def test_what_dead_runs_of_the_batch_left_goes_and_what_lives_stays(
        self, output: Folder, claims: list[Claim]
    ) -> None:
        dead = claim(output, "dead")
        dead.work.write("features/part-00000-1.parquet", b"x")
        (output / "results/b/runs/dead").write("features/part-00000.parquet", b"half settled")
        dead.release()
        lost = claim(output, "lost")
        settled(output, receipt("lost"))
        lost.release()
        living, ours = claim(output, "living"), claim(output, "ours")
        claims += [living, ours]
        other = runs.claim_run(output, "b", "other", "images", "another extractor")
        other.release()
        runs.clean_up(ours)
        left = {entry.name for entry in output.entries()}
        assert left == {
            "work/b/living/claim.json",
            "work/b/other/claim.json",
            "results/b/runs/lost/run.json",
        }


@pytest.mark.job
class TestCrashes:
    """The whole job, with its workers in this process; killed at each of the driver's writes."""

    def test_after_a_crash_at_any_step_the_next_run_publishes_the_same(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reference = published(run(tiny, tmp_path / "reference", "r"))
        steps = count_steps(tiny, tmp_path / "counted", monkeypatch)
        assert steps > 15
        for step in range(steps):
            folder = tmp_path / str(step)
            crash(step, tiny, folder, "r", monkeypatch)
            pointers = {name for name in files_below(folder) if name.endswith("current.json")}
            if "results/batch/current.json" in pointers:
                # It was killed when all was done: what is published is whole.
                assert published(folder) == reference, f"step {step}"
            assert published(run(tiny, folder, f"next-{step % 2}")) == reference, f"step {step}"
            assert_tidy(folder)

    def test_after_a_crash_at_any_step_the_same_run_can_be_repeated(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reference = published(run(tiny, tmp_path / "reference", "r"))
        steps = count_steps(tiny, tmp_path / "counted", monkeypatch)
        for step in range(0, steps, 2):
            folder = tmp_path / str(step)
            crash(step, tiny, folder, "r", monkeypatch)
            if (folder / "results/batch/current.json").exists():
                with pytest.raises(UsageError, match="holds a finished run"):
                    run(tiny, folder, "r")
            else:
                run(tiny, folder, "r")
                assert_tidy(folder)
            assert published(folder) == reference, f"step {step}"


class TestLateWorkers:
    def test_one_that_writes_on_after_its_part_was_accepted_changes_nothing(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reference = published(run(tiny, tmp_path / "reference", "r"))

        def again(description: str, work: Any) -> None:
            if description == "features":
                for part in (0, 1):
                    work(part, FIRST)

        use(InlineEngine(again), monkeypatch)
        run_in_process(tiny, tmp_path / "out", "r")
        assert published(tmp_path / "out") == reference
        assert_tidy(tmp_path / "out")

    def test_one_that_writes_on_after_its_run_was_settled_changes_nothing(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = Event()
        late: list[Thread] = []

        def lag(description: str, work: Featurizer) -> None:
            if description == "features":
                late.append(Thread(target=lagging(work, go_on), args=(0, FIRST)))
                late[0].start()

        use(InlineEngine(lag), monkeypatch)
        run_in_process(tiny, tmp_path / "out", "r")
        run_folder = tmp_path / "out/results/batch/runs/r"
        before = contents(run_folder)
        go_on.set()
        late[0].join(30)
        assert contents(run_folder) == before
        assert list((tmp_path / "out/work").rglob("*.parquet")), "it did write on"
        use(InlineEngine(), monkeypatch)
        run_in_process(tiny, tmp_path / "out", "next")
        assert_tidy(tmp_path / "out")


class MixedEngine(InlineEngine):
    """As if the first part had been computed on another kind of machine."""

    def run(
        self,
        description: str,
        work: Any,
        parts: Sequence[int],
        progress: Progress | None = None,
        check: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        results = super().run(description, work, parts, progress, check)
        if description == "features":
            results[0] = replace(results[0], processor="aarch64 another")
        return results


class DeafEngine(InlineEngine):
    """Shows none of the results on their way, as Spark may lose some."""

    def run(
        self,
        description: str,
        work: Any,
        parts: Sequence[int],
        progress: Progress | None = None,
        check: Callable[[Any], None] | None = None,  # noqa: ARG002
    ) -> list[Any]:
        return super().run(description, work, parts, progress)


def test_too_many_rejects_are_found_by_the_end_whatever_the_engine_showed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "in", {"Kiwi": 3})
    (tmp_path / "in/Kiwi/empty.jpg").touch()
    use(DeafEngine(), monkeypatch)
    with pytest.raises(TooManyRejectsError, match="1 of 4 images were rejected"):
        run_in_process(tmp_path / "in", tmp_path / "out", "r")


def test_several_kinds_of_processor_are_in_the_receipt_and_warned_of(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(MixedEngine(), monkeypatch)
    run_in_process(tiny, tmp_path, "r")
    told = read_json(tmp_path / "results/batch/runs/r/run.json")["processors"]
    assert told.pop("aarch64 another") == 1
    assert list(told) == [processor()]
    assert "several kinds of processor computed this run (aarch64 another; " in caplog.text


@pytest.mark.job
class TestRivals:
    def test_two_runs_of_a_batch_at_once_are_both_complete_and_the_later_is_published(
        self, tiny: Path, tmp_path: Path
    ) -> None:
        ended = side_by_side(tiny, tmp_path, "one", "two")
        assert [code for code, _ in ended.values()] == [0, 0], ended
        receipts = {
            name: read_json(tmp_path / f"out/results/batch/runs/{name}/run.json") for name in ended
        }
        later = max(receipts, key=lambda name: receipts[name]["started"])
        assert read_json(tmp_path / "out/results/batch/current.json")["run"] == later
        assert not list((tmp_path / "out/work").rglob("*.parquet"))

    def test_of_two_runs_of_one_name_at_once_one_is_refused(
        self, tiny: Path, tmp_path: Path
    ) -> None:
        ended = side_by_side(tiny, tmp_path, "same", "same")
        assert sorted(code for code, _ in ended.values()) == [0, 2], ended
        [refusal] = [err for code, err in ended.values() if code == 2]
        assert "run 'same' of batch 'batch' is at work (process" in refusal
        assert read_json(tmp_path / "out/results/batch/current.json")["run"] == "same"
        assert_tidy(tmp_path / "out")


def side_by_side(images: Path, folder: Path, *names: str) -> dict[str, tuple[int, str]]:
    """Run the job so many times at once; exit code and stderr by name (and number)."""
    ended: dict[str, tuple[int, str]] = {}

    def one(number: int, name: str) -> None:
        job = run_job(images, folder / "out", "--run", name, "--pca", "fit")
        ended[name if name not in ended else f"{name} {number}"] = (job.exit_code, job.err)

    threads = [Thread(target=one, args=pair) for pair in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def use(engine: InlineEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "start_engine", lambda *_, **__: engine)


def run(images: Path, output: Path, name: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        use(InlineEngine(), patch)
        run_in_process(images, output, name)
    return output


def run_in_process(images: Path, output: Path, name: str) -> None:
    settings = JobSettings(str(images), str(output), "batch", name, pca="fit", csv=True)
    pipeline.run(settings)


def published(output: Path) -> dict[str, Any]:
    """What a reader who follows the pointer finds, in comparable form."""
    run = output / "results/batch/runs" / read_json(output / "results/batch/current.json")["run"]
    found: dict[str, Any] = {}
    for table in ("features", "vectors", "rejects"):
        found[table] = parquet.read_table(run / table).sort_by("path").to_pylist()
    told = read_json(run / "run.json")
    found |= {name: told[name] for name in ("counts", "digests", "model")}
    # What a crash had finished is not computed again.
    counts = found["counts"]
    counts["featurized"] = counts.pop("computed") + counts.pop("carried_over")
    found["csv"] = (run / "vectors.csv").read_bytes()
    return found


def assert_tidy(output: Path) -> None:
    """Check that nothing half is left: every run has a receipt, and nothing is at work."""
    for folder in (output / "results/batch/runs").iterdir():
        assert (folder / "run.json").is_file(), f"{folder.name} is half a run"
    assert not list((output / "work").iterdir()), "something is still at work"


WRITES = ("create", "copy", "delete", "clear", "swap")


def count_steps(images: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Count the driver's writes from the end of the workers' work on."""
    steps = [0]

    def count() -> None:
        steps[0] += 1

    with monkeypatch.context() as patch:
        _interpose(patch, count)
        run_in_process(images, output, "r")
    return steps[0]


def crash(
    step: int, images: Path, output: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the job and end it right before the driver's write number `step`."""
    steps = [0]

    def die() -> None:
        steps[0] += 1
        if steps[0] > step:
            raise Killed

    with monkeypatch.context() as patch:
        _interpose(patch, die)
        with pytest.raises(Killed):
            run_in_process(images, output, name)


def _interpose(patch: pytest.MonkeyPatch, step: Any) -> None:
    """Call `step` before each write of the driver, once the vectors are made."""
    working = [True]

    def vectors_are_made(description: str, _: Any) -> None:
        working[0] = description != "join vectors"

    for name in WRITES:
        write = getattr(LocalFolder, name)

        def interposed(folder: LocalFolder, *given: Any, _write: Any = write) -> Any:
            if not working[0]:
                step()
            return _write(folder, *given)

        patch.setattr(LocalFolder, name, interposed)
    use(InlineEngine(vectors_are_made), patch)


def lagging(work: Featurizer, go_on: Event) -> Any:
    """The same work, by a worker that has read its part and then hangs for a while."""
    from spark_job import featurize, listing

    read = listing.read_part

    def lag(part: int, report: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:

            def read_and_hang(folder: Folder, number: int) -> Any:
                listed = read(folder, number)
                go_on.wait(60)
                return listed

            patch.setattr(featurize, "read_part", read_and_hang)
            return work(part, report)

    return lag


def settled(output: Folder, receipt: RunReceipt) -> None:
    (output / contract.run_folder("b", receipt.run)).write("run.json", receipt.to_json())


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def _raises(check: Any) -> bool:
    try:
        check()
    except JobError:
        return True
    return False


def wait_until(condition: Any) -> None:
    done = Event()
    for _ in range(200):
        if condition():
            return
        done.wait(0.05)
    raise AssertionError("it did not come about")
