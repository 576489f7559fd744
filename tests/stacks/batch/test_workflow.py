"""The batch's state machine: what it refuses, what it asks of EMR, what it says, what it leaves."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from spark_job.contract import EXTENSIONS
from spark_job.settings import parse_args
from tests.stacks.answers import (
    CREATE,
    DESCRIBE,
    FAILED_STEP,
    GOOD,
    LIST,
    READ,
    RUN,
    STEPS,
    TELL,
    TERMINATE,
    cluster_ended,
    first,
    gives,
    listing,
    refuses,
)
from tests.stacks.definitions import Answer, Outcome, edges, execute, rendered, tasks

if TYPE_CHECKING:
    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk


@dataclass(frozen=True)
class Case:
    """An execution, and how it must end."""

    given: Any = field(default_factory=lambda: {"batch": "b"})
    answers: Mapping[str, Answer] = field(default_factory=lambda: GOOD)
    error: str = ""
    says: tuple[str, ...] = ()
    name: str = "run-1"


REFUSED: dict[str, Case] = {
    name: Case(given=given, error="InputRefused", says=says)
    for name, given, says in (
        ("no batch", {}, ("{}", "2026-11-20")),
        ("a number for a batch", {"batch": 20261120}, ('{"batch":20261120}', "2026-11-20")),
        ("a list", [{"batch": "b"}], ("batch",)),
        ("an empty batch", {"batch": ""}, ('batch is ""', "letters, digits")),
        ("a batch with a space", {"batch": "a b"}, ('batch is "a b"', "letters, digits")),
        ("a batch of foreign letters", {"batch": "été"}, ("batch is", "letters, digits")),
        ("a batch that climbs", {"batch": "../b"}, ('batch is "../b"', "first a letter or digit")),
        ("a batch with a slash", {"batch": "a/b"}, ('batch is "a/b"', "letters, digits")),
        ("images elsewhere", {"batch": "b", "images": "s3://x/"}, ('images is "s3://x/"',)),
        ("images without an end", {"batch": "b", "images": "images/b"}, ("to a last slash",)),
        ("an unknown PCA", {"batch": "b", "pca": "always"}, ('pca is "always"', "auto or fit")),
        ("no variance", {"batch": "b", "variance": 0}, ("variance is 0;", "above 0")),
        ("too much variance", {"batch": "b", "variance": 1.01}, ("variance is 1.01;", "at most 1")),
        ("variance in words", {"batch": "b", "variance": "0.8"}, ('variance is "0.8";',)),
        ("a negative rate", {"batch": "b", "max_reject_rate": -1}, ("max_reject_rate is -1;",)),
        ("no nodes", {"batch": "b", "core_instances": 0}, ("core_instances is 0;", "1 to 20")),
        ("too many nodes", {"batch": "b", "core_instances": 21}, ("is 21;", "1 to 20")),
        ("half a node", {"batch": "b", "core_instances": 2.5}, ("is 2.5;", "whole number")),
        ("nodes in words", {"batch": "b", "core_instances": "2"}, ('is "2";', "whole number")),
        ("another type", {"batch": "b", "instance_type": "p4d.24xlarge"}, ("p4d", "m5.xlarge")),
        ("a word for spot", {"batch": "b", "spot": "no"}, ('spot is "no";', "true or false")),
        ("nothing for spot", {"batch": "b", "spot": None}, ("spot is null;", "true or false")),
        ("a number for the marker", {"batch": "b", "marker": 1}, ("marker is 1;",)),
        ("an unknown field", {"batch": "b", "varience": 1}, ('"varience":1', "variance")),
        (
            "unknown fields among odd values",
            {"batch": "b", "a": "batch", "pca": "fit", 'q"': 'x","y', "nested": {"spot": 1}},
            ('"a":"batch"', '"nested":', "allowed are batch"),
        ),
    )
}
BEFORE: dict[str, Case] = {
    "a run that no folder can be named after": Case(
        name="run@1", error="InputRefused", says=("run@1", "letters, digits")
    ),
    "an empty batch folder": Case(
        answers={**GOOD, LIST: listing()}, error="NoImages", says=("Batch b has no images", "s3://")
    ),
    "pictures that are not taken": Case(
        answers={**GOOD, LIST: listing("images/b/apple/IMG_1.HEIC", "images/b/apple/2.dng")},
        error="NoImages",
        says=("holds none that is taken (jpg, jpeg,", "png, webp, avif", "no HEIC, no raw files"),
    ),
    "a marker alone": Case(
        answers={**GOOD, LIST: listing("images/b/", "images/b/_READY")},
        error="NoImages",
        says=("images/b/",),
    ),
    "a folder that may not be listed": Case(
        answers={**GOOD, LIST: refuses("Access Denied")},
        error="ImagesUnreadable",
        says=("Access Denied", "Batch b was not started"),
    ),
}
NOT_CREATED: dict[str, Case] = {
    "a refused cluster": Case(
        answers={**GOOD, CREATE: refuses("The quota is exceeded")},
        error="ClusterNotCreated",
        says=("The quota is exceeded", "EMR made no cluster"),
    ),
    "a cluster throttled for ever": Case(
        answers={**GOOD, CREATE: refuses("Rate exceeded (Service: EMR)")},
        error="ClusterNotCreated",
        says=("Rate exceeded",),
    ),
}
CREATED: dict[str, Case] = {
    "a job that says why": Case(
        answers={
            **FAILED_STEP,
            READ: gives(
                {
                    "Body": json.dumps(
                        {"exit_code": 4, "error": "TooManyRejects", "message": "5 of 10 rejected"}
                    )
                }
            ),
        },
        error="JobFailed",
        says=("Batch b failed", "5 of 10 rejected", "/emr/j-1/"),
    ),
    "a job that left rubbish": Case(
        answers={**FAILED_STEP, READ: gives({"Body": "<html>"})},
        error="JobFailed",
        says=("neither job nor cluster said why", "the step failed"),
    ),
    "a job that left another object": Case(
        answers={**FAILED_STEP, READ: gives({"Body": '{"message": 7}'})}, error="JobFailed"
    ),
    "a job too long": Case(
        answers={**FAILED_STEP, RUN: refuses("", "States.Timeout")},
        error="JobFailed",
        says=("240 minutes", "core_instances", "/emr/j-1/"),
    ),
    "a bootstrap that failed": Case(
        answers={
            **FAILED_STEP,
            DESCRIBE: cluster_ended("BOOTSTRAP_FAILURE", "On i-1, bootstrap action 1 returned 1"),
        },
        error="ClusterFailed",
        says=("bootstrap action 1 returned 1", "make wheelhouse", "/emr/j-1/"),
    ),
    **{
        f"a cluster that ended with {code}": Case(
            answers={**FAILED_STEP, DESCRIBE: cluster_ended(code, "EMR's words")},
            error="ClusterFailed",
            says=("EMR's words", advice, "/emr/j-1/"),
        )
        for code, advice in (
            ("INSTANCE_FLEET_TIMEOUT", "instance_type"),
            ("INSTANCE_FAILURE", "start the batch again"),
            ("VALIDATION_ERROR", "quotas"),
            ("USER_REQUEST", "Someone terminated"),
        )
    },
    "a driver that was killed": Case(
        answers={
            **FAILED_STEP,
            STEPS: gives(
                {
                    "Steps": [
                        {
                            "Status": {
                                "FailureDetails": {
                                    "Reason": "Unknown Error.",
                                    "LogFile": "s3://logs/stderr.gz",
                                }
                            }
                        }
                    ]
                }
            ),
        },
        error="JobFailed",
        says=("could not say why", "Unknown Error.", "s3://logs/stderr.gz"),
    ),
    "nothing that says why": Case(
        answers={
            **FAILED_STEP,
            READ: refuses("denied"),
            DESCRIBE: refuses("denied"),
            STEPS: refuses("denied"),
        },
        error="JobFailed",
        says=("the step failed",),
    ),
    "a cluster without steps or reasons": Case(
        answers={
            **FAILED_STEP,
            DESCRIBE: gives({"Cluster": {"Status": {"State": "STARTING"}}}),
            STEPS: gives({"Steps": []}),
        },
        error="JobFailed",
        says=("the step failed",),
    ),
    "a step failed without details": Case(answers=FAILED_STEP, error="JobFailed"),
    "a termination refused once": Case(
        answers={**FAILED_STEP, TERMINATE: first(refuses("busy"), gives({}))}, error="JobFailed"
    ),
    "a failed job's cluster that stays": Case(
        answers={**FAILED_STEP, TERMINATE: refuses("denied")},
        error="ClusterNotTerminated",
        says=("Batch b failed", "(denied)", "terminate-clusters --cluster-ids j-1"),
    ),
    "a good job's cluster that stays": Case(
        answers={**GOOD, TERMINATE: refuses("denied")},
        error="ClusterNotTerminated",
        says=("done and published", "(denied)", "terminate-clusters --cluster-ids j-1"),
    ),
    "a topic that is gone": Case(
        answers={**FAILED_STEP, TELL: refuses("no such topic")}, error="JobFailed"
    ),
}
SUCCEEDED: dict[str, Case] = {
    "the least input": Case(),
    "everything said": Case(
        given={
            "batch": "2026-11-20_b.c",
            "images": "images/elsewhere/b/",
            "pca": "fit",
            "variance": 1,
            "max_reject_rate": 0,
            "core_instances": 20,
            "instance_type": "m6i.xlarge",
            "spot": False,
            "marker": "2026-11-20T10:00:00Z 0A",
        }
    ),
    "Spot": Case(given={"batch": "b", "spot": True}),
    "Spot of one type": Case(given={"batch": "b", "spot": True, "instance_type": "m6a.xlarge"}),
    "images further down a long listing": Case(
        answers={**GOOD, LIST: listing("images/b/a.txt", more=True)}
    ),
    "a throttled cluster": Case(
        answers={**GOOD, CREATE: first(refuses("Rate exceeded"), GOOD[CREATE])}
    ),
    "nobody to tell": Case(answers={**GOOD, TELL: refuses("no such topic")}),
}
CASES = {**REFUSED, **BEFORE, **NOT_CREATED, **CREATED, **SUCCEEDED}

Run = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def definition(fruits: Synthesis) -> dict[str, Any]:
    return rendered(fruits.template, "Workflow")


@pytest.fixture(scope="module")
def run(definition: dict[str, Any]) -> Run:
    done: dict[str, Outcome] = {}

    def outcome(name: str) -> Outcome:
        if name not in done:
            case = CASES[name]
            done[name] = execute(definition, case.given, case.answers, name=case.name)
        return done[name]

    return outcome


@pytest.mark.parametrize("name", [*REFUSED, *BEFORE])
def test_what_cannot_work_is_told_in_words_before_anything_is_paid(run: Run, name: str) -> None:
    _assert_failed(run(name), CASES[name])
    assert not run(name).asked(CREATE)


@pytest.mark.parametrize("name", NOT_CREATED)
def test_a_cluster_that_was_not_created_is_told_in_words(run: Run, name: str) -> None:
    _assert_failed(run(name), CASES[name])


def test_a_refused_cluster_is_asked_for_once_and_a_throttled_one_again(run: Run) -> None:
    # A request that failed may have been heard: only a throttled one surely was not.
    assert len(run("a refused cluster").asked(CREATE)) == 1
    assert len(run("a throttled cluster").asked(CREATE)) == 2
    assert 10 < len(run("a cluster throttled for ever").asked(CREATE)) < 50


@pytest.mark.parametrize("name", CREATED)
def test_a_failure_after_creation_is_told_and_its_cluster_terminated(run: Run, name: str) -> None:
    _assert_failed(run(name), CASES[name])
    assert {call["ClusterId"] for call in run(name).asked(TERMINATE)} == {"j-1"}


@pytest.mark.parametrize("name", SUCCEEDED)
def test_a_good_run_ends_its_cluster_and_says_where_its_results_are(run: Run, name: str) -> None:
    outcome = run(name)
    batch = CASES[name].given["batch"]
    assert outcome.status == "SUCCEEDED"
    assert outcome.asked(TERMINATE) == [{"ClusterId": "j-1"}]
    assert outcome.output["batch"] == batch
    assert outcome.output["results"].endswith(f"/results/{batch}/runs/run-1/")
    assert outcome.output["results"] in outcome.asked(TELL)[0]["Message"]


def test_every_state_is_entered_by_some_case(definition: dict[str, Any], run: Run) -> None:
    # So no Pass state has a path that is missing when it is needed: nothing could catch that.
    entered = {state for name in CASES for state in run(name).states}
    inner = {
        name
        for state in definition["States"].values()
        if state["Type"] == "Map"
        for name in state["ItemProcessor"]["States"]
    }
    assert set(definition["States"]) | inner == entered


@pytest.mark.parametrize("name", SUCCEEDED)
def test_the_job_accepts_the_arguments_that_the_step_gives(run: Run, name: str) -> None:
    (step,) = run(name).asked(RUN)
    arguments = step["Step"]["HadoopJarStep"]["Args"]
    assert arguments[0] == "spark-submit"
    entry_point = next(i for i, text in enumerate(arguments) if text.endswith(".py"))
    given = {
        "images": f"images/{CASES[name].given['batch']}/",
        "pca": "auto",
        "variance": 0.8,
        "max_reject_rate": 0.05,
        **CASES[name].given,
    }

    settings = parse_args(arguments[entry_point + 1 :])

    assert settings.images.endswith("/" + given["images"])
    assert settings.images.startswith(settings.output + "/")
    assert (settings.batch, settings.run) == (given["batch"], "run-1")
    assert (settings.pca, settings.variance) == (given["pca"], given["variance"])
    assert settings.max_reject_rate == given["max_reject_rate"]


def test_the_job_may_read_its_failure_from_where_the_machine_looks(run: Run) -> None:
    (read, *_) = run("a job that says why").asked(READ)
    assert read["Key"] == "work/b/run-1/failure.json"


def test_an_image_is_what_the_job_takes_for_one(definition: dict[str, Any]) -> None:
    for extension in (*EXTENSIONS, "JPG"):
        answers = {**GOOD, LIST: listing(f"images/b/apple/1.{extension}")}
        assert execute(definition, {"batch": "b"}, answers).status == "SUCCEEDED", extension


def test_every_path_from_a_created_cluster_reaches_its_termination(
    definition: dict[str, Any],
) -> None:
    assert _ways_to_leave_a_cluster(definition) == []


@pytest.mark.parametrize(
    ("state", "change", "found"),
    [
        ("RunJob", {"Catch": []}, "RunJob may fail uncaught"),
        ("RunJob", {"Catch": [{"ErrorEquals": ["A"], "Next": "DescribeFailure"}]}, "uncaught"),
        ("RunJob", {"Next": "NotifySuccess"}, "ends at Done"),
        ("TellTimeout", {"Next": "NotifyFailure"}, "ends at Failed"),
        ("DescribeStep", {"Catch": []}, "DescribeStep may fail uncaught"),
        ("DidStepSayWhy", {"Default": None}, "DidStepSayWhy may fail uncaught"),
        ("TellError", {"Next": "DescribeFailure"}, "goes round"),
        ("TerminateCluster", {"Parameters": {"ClusterId": "j-0"}}, "another cluster"),
        ("TerminateCluster", {"Retry": []}, "gives up"),
        ("ReadJobFailure", {"Resource": "arn:aws:states:::" + CREATE}, "created in 2 places"),
    ],
)
def test_the_proof_finds_a_way_to_leave_a_cluster(
    definition: dict[str, Any], state: str, change: dict[str, Any], found: str
) -> None:
    broken = copy.deepcopy(definition)
    broken["States"][state].update(change)
    assert any(found in way for way in _ways_to_leave_a_cluster(broken))


def test_the_machine_outlives_its_longest_job(definition: dict[str, Any]) -> None:
    # Else the whole execution would time out, and run no Catch.
    assert definition["TimeoutSeconds"] > definition["States"]["RunJob"]["TimeoutSeconds"] + 900


def _assert_failed(outcome: Outcome, case: Case) -> None:
    assert (outcome.status, outcome.error) == ("FAILED", case.error)
    for words in case.says:
        assert words in outcome.cause
    (message, *_) = outcome.asked(TELL)
    assert message["Message"].startswith(outcome.cause)


def _ways_to_leave_a_cluster(definition: Mapping[str, Any]) -> list[str]:
    """Walk the graph from where the cluster's id is known, and list what could leave it.

    A way through the graph is safe when it comes to a state that terminates the cluster, patiently,
    before it ends, goes round, or meets a state that can fail without a Catch.
    """
    states = definition["States"]
    creators = [name for name, task in tasks(states) if _action(task) in (CREATE, "runJobFlow")]
    if len(creators) != 1:
        return [f"A cluster is created in {len(creators)} places: {creators}."]
    found: list[str] = []

    def walk(name: str, way: tuple[str, ...]) -> None:
        state = states[name]
        if name in way:
            found.append(f"{' > '.join(way)} goes round at {name}.")
            return
        if _action(state) == TERMINATE:
            if state["Parameters"] != {"ClusterId.$": "$.cluster.id"}:
                found.append(f"{name} terminates another cluster.")
            if not _is_patient(state):
                found.append(f"{name} gives up.")
            return
        if state["Type"] in ("Succeed", "Fail") or state.get("End"):
            found.append(f"{' > '.join(way)} ends at {name}.")
            return
        if not _cannot_fail(state):
            found.append(f"{name} may fail uncaught.")
        for _, following in edges(state):
            if following is not None:
                walk(following, (*way, name))

    walk(states[creators[0]]["Next"], (creators[0],))
    return found


def _action(state: Mapping[str, Any]) -> str:
    resource: str = state.get("Resource", ":::")
    return resource.split(":::")[1]


def _is_patient(state: Mapping[str, Any]) -> bool:
    retries = [r for r in state.get("Retry", []) if r["ErrorEquals"] == ["States.ALL"]]
    return any(r["MaxAttempts"] >= 5 for r in retries) and _catches_all(state)


def _cannot_fail(state: Mapping[str, Any]) -> bool:
    if state["Type"] in ("Task", "Map", "Parallel"):
        return _catches_all(state)
    if state["Type"] == "Choice":
        return bool(state.get("Default"))
    return state["Type"] in ("Pass", "Wait")


def _catches_all(state: Mapping[str, Any]) -> bool:
    return any(caught["ErrorEquals"] == ["States.ALL"] for caught in state.get("Catch", []))
