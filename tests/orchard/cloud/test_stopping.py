"""What `orchard stop` takes for all of a run's clusters; with a real one it is tried in
`tests/rehearsal/test_first_hour.py`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from threading import Timer
from typing import TYPE_CHECKING

import boto3
import pytest

from orchard.cloud import executions
from orchard.cloud.clusters import Cluster, clusters
from orchard.cloud.journal import CREATE_CLUSTER, Entered, Journal
from orchard.commands import stop
from spark_job.deployed import cluster_name_prefix
from tests.orchard.command import orchard, refusal, succeed

if TYPE_CHECKING:
    from orchard.cloud.stack import Stack

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "POLL", 0.1)
    monkeypatch.setattr(stop, "JANITOR", 0.0)
    monkeypatch.setattr(stop, "APPEARS", 2.0)


def make_cluster(stack: Stack, run: str) -> str:
    made = boto3.client("emr").run_job_flow(
        Name=f"{cluster_name_prefix(stack.name)}{run}",
        Instances={"KeepJobFlowAliveWhenNoSteps": True, "InstanceCount": 1},
    )
    return str(made["JobFlowId"])


def test_a_cluster_that_emr_was_only_just_making_is_waited_for(stack: Stack) -> None:
    executions.start(stack, {"batch": "july"})
    made: list[str] = []
    late = Timer(0.8, lambda: made.append(make_cluster(stack, "july.1")))
    late.start()
    told = succeed("stop", "july.1", "--yes", "--json", "--stack", stack.name)
    late.join()
    assert json.loads(told.stdout) == {"run": "july.1", "stopped": True, "clusters": made}
    assert clusters(stack) == []


def test_nor_is_none_left_a_moment_after_somebody_stopped_it(stack: Stack) -> None:
    executions.start(stack, {"batch": "july"})
    executions.stop(stack, "july.1", "by somebody")
    late = Timer(0.5, lambda: make_cluster(stack, "july.1"))
    late.start()
    told = succeed("stop", "july.1", "--stack", stack.name)
    late.join()
    assert "EMR may be making its cluster" in told.stderr
    assert clusters(stack) == []


def test_what_ended_long_ago_is_not_waited_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    executions.start(stack, {"batch": "july"})
    executions.stop(stack, "july.1", "by somebody")
    monkeypatch.setattr(stop, "APPEARS", 0.0)
    told = succeed("stop", "july.1", "--stack", stack.name)
    assert told.stderr.endswith("No cluster of the run july.1 is left\n")
    assert "EMR may be" not in told.stderr


@pytest.mark.parametrize(
    ("state", "made", "seen", "all_of_them"),
    [
        ("RunJob", ["j-1"], ["j-1"], True),
        ("RunJob", ["j-1"], [], False),
        ("WaitForTurn", [], [], False),  # its history may be behind
        (CREATE_CLUSTER, [], [], False),
        (CREATE_CLUSTER, [], ["j-1"], True),
        (CREATE_CLUSTER, ["j-1"], ["j-1"], False),  # a second try, of other types
        (CREATE_CLUSTER, ["j-1"], ["j-1", "j-2"], True),
    ],
)
def test_the_history_says_which_clusters_there_must_be(
    stack: Stack, state: str, made: list[str], seen: list[str], all_of_them: bool
) -> None:
    journal = Journal(stack, "july.1", [Entered(state, NOW)], made)
    known = {one: Cluster(one, "july.1", "RUNNING", NOW) for one in seen}
    assert stop._are_all(journal, known) == all_of_them


def test_a_cluster_whose_run_nobody_knows_any_more_is_ended(stack: Stack) -> None:
    stray = make_cluster(stack, "july.1")
    asked = orchard("stop", "july.1", "--stack", stack.name, answer="n\n")
    assert asked.stderr.endswith("Nothing was ended\n")
    assert [one.id for one in clusters(stack)] == [stray]
    told = succeed("stop", "july.1", "--yes", "--json", "--stack", stack.name)
    assert json.loads(told.stdout) == {"run": "july.1", "stopped": False, "clusters": [stray]}
    assert clusters(stack) == []
    assert "neither a run nor" in refusal("stop", "july.1", "--yes", "--stack", stack.name)
