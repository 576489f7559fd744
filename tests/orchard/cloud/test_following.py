"""How a run stands and how it ended, in words; against the real state machine it is followed in
`tests/rehearsal/test_first_hour.py`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchard.cloud import clusters, executions, following
from orchard.cloud.clusters import Nodes
from orchard.cloud.executions import Execution
from orchard.cloud.following import Follower, outcome, progress, wait_until_admitted
from orchard.cloud.journal import Entered, Journal, _cluster_of
from orchard.cloud.session import ExpiredCredentialsError, MissingError, OutOfReachError
from spark_job.errors import JobError
from spark_job.objects import ThrottledError
from tests.orchard.command import succeed
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from orchard.cloud.stack import Stack

STARTED = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


def ended(stack: Stack, **changed: Any) -> Execution:
    usual: dict[str, Any] = {
        "arn": stack.execution("july.1"),
        "run": "july.1",
        "status": "FAILED",
        "started": STARTED,
        "ended": STARTED + timedelta(minutes=10),
        "batch": "july",
        "given": {"batch": "july"},
    }
    return Execution(**(usual | changed))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (None, None),
        (b"{", None),
        (b"{}", None),
        (
            b'{"done": 120, "images": 1292, "images_per_second": 35.16}',
            "120 of 1,292 images, 35 a second, 33 s left",
        ),
        (b'{"done": 0, "images": 9, "images_per_second": 0.0}', "0 of 9 images, 0 a second"),
        (
            b'{"done": 9, "images": 9, "images_per_second": 1.0}',
            "all of 9 images are done; model, vectors and findings follow",
        ),
    ],
)
def test_how_far_the_job_is(stack: Stack, written: bytes | None, words: str | None) -> None:
    if written is not None:
        stack.root.write("work/july/july.1/progress.json", written)
    assert progress(stack, "july", "july.1") == words


@pytest.mark.parametrize(
    ("changed", "code", "start", "end"),
    [
        (
            {"error": "JobFailed", "cause": "Batch july failed: so. (Logs: s3://x/)"},
            1,
            "run july.1: Batch july failed: so. (Logs: s3://x/)",
            "shows the logs",
        ),
        (
            {"error": "InputRefused", "cause": "csv is 1; allowed is true."},
            2,
            "run july.1: csv",
            "",
        ),
        ({"error": "NoImages", "cause": "Batch july has no images."}, 3, "run july.1: Batch", ""),
        ({"error": "NoCapacity", "cause": "Batch july was not run."}, 5, "run july.1: Batch", ""),
        ({"status": "ABORTED"}, 1, "the run july.1 was stopped; `orchard start july", "it was"),
        (
            {"status": "ABORTED", "cause": "by orchard stop"},
            1,
            "the run july.1 was stopped (by orchard stop); ",
            "goes on where it was",
        ),
        ({"status": "TIMED_OUT"}, 1, "the run july.1 took longer than it may; ", "goes on"),
    ],
)
def test_why_there_is_no_result_is_a_sentence(
    stack: Stack, changed: dict[str, Any], code: int, start: str, end: str
) -> None:
    with pytest.raises(JobError) as raised:
        outcome(stack, ended(stack, **changed))
    assert raised.value.exit_code == code
    assert str(raised.value).startswith(start)
    assert str(raised.value).endswith(end)


def test_a_job_that_says_its_exit_code_is_told_with_it(stack: Stack) -> None:
    failure = {"exit_code": 4, "error": "TooManyRejectsError", "message": "too many"}
    stack.root.write("work/july/july.1/failure.json", json.dumps(failure).encode())
    with pytest.raises(JobError) as raised:
        outcome(stack, ended(stack, error="JobFailed", cause="Batch july failed."))
    assert raised.value.exit_code == 4


def test_a_run_that_succeeded_has_its_receipt_and_its_report(stack: Stack) -> None:
    receipt = publish_batch(stack.root, "july", run="july.1")
    good = ended(stack, status="SUCCEEDED")
    assert outcome(stack, good).receipt == receipt
    assert outcome(stack, good).report is None
    stack.root.write("results/july/runs/july.1/report.html", b"<html>")
    assert outcome(stack, good).report == f"{receipt.results}/report.html"
    assert outcome(stack, replace(good, batch=None)).receipt is None
    assert outcome(stack, replace(good, run="july.2")).receipt is None, "it was pruned"


def test_a_cluster_is_what_a_task_says_that_it_made() -> None:
    made = {"taskSucceededEventDetails": {"output": '{"ClusterId": "j-1", "ClusterArn": "x"}'}}
    assert _cluster_of(made) == "j-1"
    for other in ("", "[]", '"ClusterId"', '{"ClusterId": 1}', '{"ClusterId": '):
        assert _cluster_of({"taskSucceededEventDetails": {"output": other}}) is None
    assert _cluster_of({"stateEnteredEventDetails": {"name": "A"}}) is None


def test_nodes_in_words() -> None:
    assert str(Nodes(0, 3, {}, 0)) == "0 nodes are up, and 3 on their way"
    assert (
        str(Nodes(3, 0, {"m5.xlarge": 2, "m6i.xlarge": 1}, 2))
        == "3 nodes are up (2 m5.xlarge, 1 m6i.xlarge, 2 of them on Spot)"
    )


class TestWhileStepFunctionsDoesNotTellYet:
    """What was started a moment ago may not be described for some seconds."""

    @pytest.fixture
    def untold(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
        stack.root.write("images/july/1.png", b"1")
        monkeypatch.setattr(executions, "describe", lambda *_: None)
        monkeypatch.setattr(following, "POLL", 0.0)
        return stack

    def test_it_is_followed(self, untold: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not there at all here, which is what is answered at first."""
        execution = ended(untold, status="RUNNING", ended=None)
        looks = iter(range(3))

        def describe(*_: Any) -> Execution | None:
            return None if next(looks, None) is not None else ended(untold, status="ABORTED")

        monkeypatch.setattr(executions, "describe", describe)
        update, told = Journal.update, []

        def late(journal: Journal) -> list[Entered]:
            told.append(1)
            return [] if len(told) > 3 else update(journal)

        monkeypatch.setattr(Journal, "update", late)
        with pytest.raises(JobError, match=r"the run july\.1 was stopped"):
            Follower(untold, execution).follow()
        assert len(told) == 4

    def test_for_a_while_only(self, untold: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(following, "APPEARS", 0.0)
        with pytest.raises(MissingError, match=r"cannot read how the run july\.1 goes"):
            Follower(untold, ended(untold, status="RUNNING", ended=None)).follow()

    def test_its_name_is_told(self, untold: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        def busy(*_: Any) -> None:
            raise OutOfReachError("no way")

        assert wait_until_admitted(untold, "july.1", 0.2) is None
        monkeypatch.setattr(executions, "describe", busy)
        assert succeed("start", "july", "--stack", untold.name).stdout == "july.1\n"


def test_a_look_at_the_nodes_that_fails_ends_nothing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "NODES_EVERY", 0.0)
    follower = Follower(stack, ended(stack, status="RUNNING", ended=None))
    follower._journal.clusters.append("j-0")  # of which EMR knows nothing
    assert follower._tell_cluster() == ""
    follower._nodes = "3 nodes are up"
    assert follower._tell_cluster() == "3 nodes are up"

    def expired(_: str) -> None:
        raise ExpiredCredentialsError("sign in")

    monkeypatch.setattr(clusters, "nodes_of", expired)
    with pytest.raises(ExpiredCredentialsError):
        follower._tell_cluster()


class TestWhileAwsIsOutOfReach:
    """Following goes on for a while, and says that the run does in any case."""

    @pytest.fixture
    def follower(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Follower:
        monkeypatch.setattr(following, "POLL", 0.0)
        return Follower(stack, ended(stack, status="RUNNING", ended=None))

    def test_it_is_asked_again(
        self, follower: Follower, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish_batch(stack.root, "july", run="july.1")
        answers: list[Any] = [
            OutOfReachError("no way"),
            ThrottledError("slow down"),
            ended(stack, status="SUCCEEDED"),
        ]

        def describe(*_: Any) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(executions, "describe", describe)
        monkeypatch.setattr(Journal, "update", lambda _: [Entered("RunJob", STARTED)])
        assert follower.follow().receipt is not None

    @pytest.mark.parametrize("kind", [OutOfReachError, ExpiredCredentialsError])
    def test_in_the_end_it_says_how_to_come_back(
        self, follower: Follower, monkeypatch: pytest.MonkeyPatch, kind: type[JobError]
    ) -> None:
        def describe(*_: Any) -> None:
            raise kind("no way")

        monkeypatch.setattr(executions, "describe", describe)
        monkeypatch.setattr(following, "PATIENCE", 0.0)
        with pytest.raises(kind, match=r"^no way\. The run july\.1 goes on: `orchard follow july"):
            follower.follow()
