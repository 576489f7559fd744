"""The batch's state machine: what it refuses, what it asks of EMR, what it says, what it leaves."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from spark_job.contract import EXTENSIONS
from spark_job.dollars import Dollars
from spark_job.receipts import Counts
from spark_job.run_input import refusal
from spark_job.settings import make_parser, parse_args
from stacks.batch.run_input import bounds_of, input_fields
from tests.pages import inputs, section
from tests.stacks.answers import (
    CREATE,
    DESCRIBE,
    FAILED_STEP,
    FLEETS,
    GOOD,
    LIST,
    METRICS,
    PARAMETER,
    READ,
    RUN,
    RUNNING,
    STEPS,
    TELL,
    TERMINATE,
    cluster_ended,
    cluster_is,
    first,
    fleets,
    gives,
    holding,
    listing,
    receipt,
    refuses,
    running,
)
from tests.stacks.definitions import Answer, Outcome, edges, execute, rendered, tasks

if TYPE_CHECKING:
    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk


DATA = "DATA_BUCKET"
"""What stands in a case's input for the name of the data bucket."""


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
        (
            "an unknown PCA",
            {"batch": "b", "pca": "always"},
            ('pca is "always"', "auto, fit, reuse"),
        ),
        ("a model alone", {"batch": "b", "model": "01ab"}, ("model is 01ab and pca is auto;",)),
        ("a model of foreign letters", {"batch": "b", "pca": "reuse", "model": "a b"}, ('"a b";',)),
        ("a list of models", {"batch": "b", "pca": "reuse", "model": ["a"]}, ('model is ["a"];',)),
        ("an empty model", {"batch": "b", "pca": "reuse", "model": ""}, ('model is "";',)),
        ("a word for again", {"batch": "b", "again": "yes"}, ('again is "yes";',)),
        ("some findings", {"batch": "b", "findings": "some"}, ('"some";', "one of all, none")),
        ("no variance", {"batch": "b", "variance": 0}, ("variance is 0;", "above 0")),
        ("too much variance", {"batch": "b", "variance": 1.01}, ("variance is 1.01;", "at most 1")),
        ("variance in words", {"batch": "b", "variance": "0.8"}, ('variance is "0.8";',)),
        ("a negative rate", {"batch": "b", "max_reject_rate": -1}, ("max_reject_rate is -1;",)),
        ("no nodes", {"batch": "b", "core_instances": 0}, ("core_instances is 0;", "1 to 20")),
        ("too many nodes", {"batch": "b", "core_instances": 21}, ("is 21;", "1 to 20")),
        ("half a node", {"batch": "b", "core_instances": 2.5}, ("is 2.5;", "whole number")),
        ("nodes in words", {"batch": "b", "core_instances": "2"}, ('is "2";', "whole number")),
        ("another type", {"batch": "b", "instance_type": "p4d.24xlarge"}, ("p4d", "m5.xlarge")),
        ("both rules", {"batch": "b", "variance": 0.9, "components": 9}, ("0.9", "9", "one")),
        ("no components", {"batch": "b", "components": 0}, ("components is 0;", "1 to 100000")),
        ("half a component", {"batch": "b", "components": 2.5}, ("is 2.5;", "whole number")),
        ("components in words", {"batch": "b", "components": "few"}, ('is "few";',)),
        ("a list of components", {"batch": "b", "components": [1]}, ("components is [1];",)),
        ("a word for csv", {"batch": "b", "csv": "yes"}, ('csv is "yes";', "true or false")),
        ("a word for standardize", {"batch": "b", "standardize": "no"}, ('standardize is "no";',)),
        ("a number for full_decode", {"batch": "b", "full_decode": 1}, ("full_decode is 1;",)),
        (
            "a word for allow_unsupported",
            {"batch": "b", "allow_unsupported": "all"},
            ('allow_unsupported is "all";',),
        ),
        ("an unknown network", {"batch": "b", "network": "vgg"}, ('"vgg";', "mobilenet_v2")),
        ("a manifest elsewhere", {"batch": "b", "manifest": "s3://x/m.csv"}, ("s3://x/m.csv",)),
        ("a manifest of no kind", {"batch": "b", "manifest": "m.txt"}, ("data bucket",)),
        (
            "corrections elsewhere",
            {"batch": "b", "corrections": "s3://x/images/c.csv"},
            ('corrections is "s3://x/images/c.csv"', "images/2026-11-20-corrections.csv"),
        ),
        ("corrections in words", {"batch": "b", "corrections": "drop it"}, ('"drop it"; allowed',)),
        ("a list of corrections", {"batch": "b", "corrections": ["a"]}, ('corrections is ["a"];',)),
        ("too many pixels", {"batch": "b", "max_pixels": 10**10}, ("max_pixels is 10000000000;",)),
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
    "pictures that are not taken, on page after page": Case(
        answers={
            **GOOD,
            LIST: first(listing("images/b/1.HEIC", more=True), listing("images/b/2.HEIC")),
        },
        error="NoImages",
        says=("holds none that is taken",),
    ),
    "a marker alone": Case(
        answers={**GOOD, LIST: listing("images/b/", "images/b/_READY")},
        error="NoImages",
        says=("images/b/",),
    ),
    "a folder that may not be listed": Case(
        answers={**GOOD, LIST: refuses("Access Denied")},
        error="DataUnreadable",
        says=("Access Denied", "Batch b was not started"),
    ),
    **{
        f"{field} that is not there, below {folder}": Case(
            given={"batch": "b", field: f"s3://{DATA}/{folder}c.csv"},
            error="InputRefused",
            says=(f"/{folder}c.csv is not there", "start the batch again"),
        )
        for field in ("manifest", "corrections")
        for folder in ("images/", "images/d/", "images/d/e/")
    },
    "a manifest whose name only begins like one that is there": Case(
        given={"batch": "b", "manifest": f"s3://{DATA}/images/b.csv"},
        answers={**GOOD, LIST: holding("images/b.csv.csv")},
        error="InputRefused",
        says=("b.csv is not there",),
    ),
    "a manifest that cannot be looked for": Case(
        given={"batch": "b", "manifest": f"s3://{DATA}/images/b.csv"},
        answers={**GOOD, LIST: refuses("Access Denied")},
        error="DataUnreadable",
        says=("Access Denied",),
    ),
    "a model that is not there": Case(
        given={"batch": "b", "pca": "reuse", "model": "02"},
        error="InputRefused",
        says=("has no model 02", "models list"),
    ),
    "a model where there is none": Case(
        given={"batch": "b", "pca": "reuse", "model": "01"},
        answers={**GOOD, LIST: holding()},
        error="InputRefused",
        says=("has no model 01",),
    ),
    "a model of one extractor of two": Case(
        given={"batch": "b", "pca": "reuse", "model": "03"},
        answers={**GOOD, LIST: holding("models/e-1/01/model.npz", "models/e-2/02/model.npz")},
        error="InputRefused",
        says=("has no model 03",),
    ),
    "models that cannot be listed": Case(
        given={"batch": "b", "pca": "reuse", "model": "01"},
        answers={**GOOD, LIST: refuses("Access Denied")},
        error="DataUnreadable",
        says=("Access Denied",),
    ),
    "a model that cannot be looked for": Case(
        given={"batch": "b", "pca": "reuse", "model": "01"},
        answers={**GOOD, LIST: first(GOOD[LIST], *[refuses("Access Denied")] * 9)},
        error="DataUnreadable",
        says=("Access Denied",),
    ),
}
WAITED: dict[str, Case] = {
    "too many others, for ever": Case(
        answers={**GOOD, RUNNING: running("run-1", "c", "b", "a")},
        error="NoTurn",
        says=("for 1440 minutes 3 other batches", "max_concurrent_clusters"),
    ),
    "executions that cannot be listed": Case(
        answers={**GOOD, RUNNING: refuses("Access Denied")},
        error="NoTurn",
        says=("how many others run", "Access Denied"),
    ),
}
NOT_CREATED: dict[str, Case] = {
    "a refused cluster": Case(
        answers={**GOOD, CREATE: refuses("The quota is exceeded")},
        error="ClusterNotCreated",
        says=("The quota is exceeded", "no cluster could be made"),
    ),
    "a parameter that cannot be read": Case(
        answers={**GOOD, PARAMETER: refuses("Access Denied")},
        error="ClusterNotCreated",
        says=("Access Denied",),
    ),
    "a cluster throttled for ever": Case(
        answers={**GOOD, CREATE: refuses("Rate exceeded (Service: EMR)")},
        error="ClusterNotCreated",
        says=("Rate exceeded",),
    ),
}
NO_CAPACITY: dict[str, Case] = {
    "no nodes within the time, twice": Case(
        answers={
            **GOOD,
            DESCRIBE: cluster_is("STARTING"),
            FLEETS: fleets("We have no m5.xlarge", "nor r5.xlarge"),
        },
        error="NoCapacity",
        says=("25 minutes", "We have no m5.xlarge", "nor r5.xlarge", "instance_type", "later"),
    ),
    "no nodes, and no word why": Case(
        answers={**GOOD, DESCRIBE: cluster_is("BOOTSTRAPPING"), FLEETS: refuses("denied")},
        error="NoCapacity",
        says=("25 minutes",),
    ),
    "a zone without capacity, twice": Case(
        answers={
            **GOOD,
            DESCRIBE: cluster_ended(
                "INTERNAL_ERROR",
                "Failed to start the job flow due to an internal error",
                "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ: eu-west-1a has no m5.xlarge",
            ),
        },
        error="ClusterFailed",
        says=("internal error", "eu-west-1a has no m5.xlarge", "instance_type", "/emr/j-1/"),
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
            DESCRIBE: first(
                cluster_is("BOOTSTRAPPING"),
                cluster_ended("BOOTSTRAP_FAILURE", "On i-1, bootstrap action 1 returned 1"),
            ),
        },
        error="ClusterFailed",
        says=("bootstrap action 1 returned 1", "make wheelhouse", "/emr/j-1/"),
    ),
    "a cluster that ended without a word": Case(
        answers={
            **FAILED_STEP,
            DESCRIBE: gives({"Cluster": {"Status": {"State": "TERMINATED"}}}),
            STEPS: gives({"Steps": []}),
        },
        error="JobFailed",
        says=("ended before it was ready", "/emr/j-1/"),
    ),
    "a cluster that cannot be looked at": Case(
        answers={**FAILED_STEP, DESCRIBE: refuses("no such thing")},
        error="JobFailed",
        says=("no such thing",),
    ),
    "a first cluster that stays": Case(
        answers={
            **GOOD,
            DESCRIBE: cluster_ended("INSTANCE_FLEET_TIMEOUT", "none"),
            TERMINATE: refuses("denied"),
        },
        error="ClusterNotTerminated",
        says=("did not start", "(denied)", "terminate-clusters --cluster-ids j-1"),
    ),
    "a step throttled for ever": Case(
        answers={**FAILED_STEP, RUN: refuses("Rate exceeded"), STEPS: gives({"Steps": []})},
        error="JobFailed",
        says=("Rate exceeded",),
    ),
    "a step throttled while it runs": Case(
        answers={**FAILED_STEP, RUN: refuses("Rate exceeded")},
        error="JobFailed",
        says=("Rate exceeded",),
    ),
    **{
        f"a cluster that ended with {code}": Case(
            answers={
                **FAILED_STEP,
                DESCRIBE: first(
                    cluster_is("RUNNING"), cluster_ended(code, "EMR's words", "EC2's words")
                ),
            },
            error="ClusterFailed",
            says=("EMR's words; ", "EC2's words", code, advice, "/emr/j-1/"),
        )
        for code, advice in (
            ("INTERNAL_ERROR", "support"),
            ("STEP_FAILURE", "Start the batch again"),
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
            DESCRIBE: first(cluster_is("WAITING"), refuses("denied")),
            STEPS: refuses("denied"),
        },
        error="JobFailed",
        says=("the step failed",),
    ),
    "a cluster without steps or reasons": Case(
        answers={
            **FAILED_STEP,
            DESCRIBE: gives({"Cluster": {"Status": {"State": "WAITING"}}}),
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
            "standardize": False,
            "network": "mobilenet_v2",
            "full_decode": True,
            "max_pixels": 12_000_000,
            "allow_unsupported": True,
            "again": True,
            "findings": "none",
            "csv": True,
        }
    ),
    "a model by its name": Case(given={"batch": "b", "pca": "reuse", "model": "01ab"}),
    "the current model": Case(given={"batch": "b", "pca": "reuse", "model": "none"}),
    "a manifest that is there": Case(
        given={"batch": "b", "manifest": f"s3://{DATA}/images/b.csv"},
    ),
    "a manifest too deep to be looked for": Case(
        given={"batch": "b", "manifest": f"s3://{DATA}/images/1/2/3/b.csv"},
    ),
    "a manifest below a folder without a name": Case(
        given={"batch": "b", "manifest": f"s3://{DATA}/images//b.csv"},
    ),
    "a model that grows": Case(given={"batch": "b", "pca": "update"}),
    "components": Case(given={"batch": "b", "components": 200, "csv": False}),
    "a receipt that cannot be read": Case(answers={**GOOD, READ: refuses("denied")}),
    "a receipt of another kind": Case(answers={**GOOD, READ: gives({"Body": "{}"})}),
    "metrics that are refused": Case(answers={**GOOD, METRICS: refuses("denied")}),
    "a receipt with dollars": Case(
        answers={**GOOD, READ: receipt(dollars=Dollars(0.21, 0.25, 2, 0.8217))}
    ),
    "what the job would do by itself": Case(given={"batch": "b", "components": "none"}),
    "its turn after others": Case(
        answers={**GOOD, RUNNING: first(*[running("run-1", "c", "b", "a")] * 3, running("run-1"))}
    ),
    "its turn on the second page": Case(
        answers={**GOOD, RUNNING: first(running("e", "d", more="t"), running("c", "run-1"))}
    ),
    "nobody to tell that it waits": Case(
        answers={
            **GOOD,
            RUNNING: first(*[running("run-1", "c", "b", "a")] * 2, running("run-1")),
            TELL: refuses("no such topic"),
        }
    ),
    "a cluster that takes its time": Case(
        answers={
            **GOOD,
            DESCRIBE: first(
                cluster_is("STARTING"), cluster_is("BOOTSTRAPPING"), cluster_is("RUNNING")
            ),
        }
    ),
    "a step throttled once": Case(
        answers={
            **GOOD,
            RUN: first(refuses("Rate exceeded"), GOOD[RUN]),
            STEPS: gives({"Steps": []}),
        }
    ),
    "Spot": Case(given={"batch": "b", "spot": True}),
    "Spot of one node": Case(given={"batch": "b", "spot": True, "core_instances": 1}),
    "images further down a long listing": Case(
        answers={**GOOD, LIST: first(listing("images/b/a.txt", more=True), GOOD[LIST])}
    ),
    "no image among the first thousands of names": Case(
        answers={**GOOD, LIST: listing("images/b/a.txt", more=True)}
    ),
    "a throttled cluster": Case(
        answers={**GOOD, CREATE: first(refuses("Rate exceeded"), GOOD[CREATE])}
    ),
    "nobody to tell": Case(answers={**GOOD, TELL: refuses("no such topic")}),
}
SECOND_TRIES: dict[str, Case] = {
    "a late cluster": Case(
        answers={
            **GOOD,
            CREATE: first(gives({"ClusterId": "j-1"}), gives({"ClusterId": "j-2"})),
            DESCRIBE: first(*[cluster_is("STARTING")] * 51, cluster_is("WAITING")),
            FLEETS: fleets("none to be had"),
        }
    ),
    "a late cluster on Spot": Case(
        given={"batch": "b", "spot": True},
        answers={
            **GOOD,
            CREATE: first(gives({"ClusterId": "j-1"}), gives({"ClusterId": "j-2"})),
            DESCRIBE: first(cluster_ended("INSTANCE_FLEET_TIMEOUT", "no"), cluster_is("WAITING")),
        },
    ),
}
CASES = {
    **REFUSED,
    **BEFORE,
    **WAITED,
    **NOT_CREATED,
    **NO_CAPACITY,
    **CREATED,
    **SECOND_TRIES,
    **SUCCEEDED,
}

UNCHANGED = Counts(listed=293, carried_over=293)

Run = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def definition(fruits: Synthesis) -> dict[str, Any]:
    return rendered(fruits.template, "Workflow")


@pytest.fixture(scope="module")
def run(definition: dict[str, Any]) -> Run:
    done: dict[str, Outcome] = {}
    data = definition["States"]["ListExtractors"]["Parameters"]["Bucket"]

    def outcome(name: str) -> Outcome:
        if name not in done:
            case = CASES[name]
            given = json.loads(json.dumps(case.given).replace(DATA, data))
            done[name] = execute(definition, given, case.answers, name=case.name)
        return done[name]

    return outcome


@pytest.mark.parametrize("name", [*REFUSED, *BEFORE, *WAITED])
def test_what_cannot_work_is_told_in_words_before_anything_is_paid(run: Run, name: str) -> None:
    _assert_failed(run(name), CASES[name])
    assert not run(name).asked(CREATE)


@pytest.mark.parametrize(
    # The command makes an object of what it is told.
    "name",
    [name for name in (*REFUSED, *SUCCEEDED) if isinstance(CASES[name].given, dict)],
)
def test_the_command_refuses_in_the_machines_own_words_what_the_machine_does(
    run: Run, fruits: Synthesis, name: str
) -> None:
    bucket = run("the least input").output["results"].split("/")[2]
    given = json.loads(json.dumps(CASES[name].given).replace(DATA, bucket))
    told = refusal(given, bounds_of(fruits.stack.config), bucket)
    # moto escapes what is not ASCII.
    cause = re.sub(r"\\u(....)", lambda code: chr(int(code[1], 16)), run(name).cause)
    assert told == (None if name in SUCCEEDED else cause)


@pytest.mark.parametrize("name", NOT_CREATED)
def test_a_cluster_that_was_not_created_is_told_in_words(run: Run, name: str) -> None:
    _assert_failed(run(name), CASES[name])


def test_a_refused_cluster_is_asked_for_once_and_a_throttled_one_again(run: Run) -> None:
    # A request that failed may have been heard: only a throttled one surely was not.
    assert len(run("a refused cluster").asked(CREATE)) == 1
    assert len(run("a throttled cluster").asked(CREATE)) == 2
    assert 10 < len(run("a cluster throttled for ever").asked(CREATE)) < 50


@pytest.mark.parametrize("name", NO_CAPACITY)
def test_what_ec2_has_not_is_asked_for_twice_and_told(run: Run, name: str) -> None:
    outcome = run(name)
    _assert_failed(outcome, CASES[name])
    first_try, second_try = (types(fleets_of(asked)["CORE"]) for asked in outcome.asked(CREATE))
    assert not set(first_try) & set(second_try)
    assert len(outcome.asked(TERMINATE)) == 2


@pytest.mark.parametrize("name", SECOND_TRIES)
def test_a_second_try_has_other_types_on_demand(run: Run, name: str) -> None:
    outcome = run(name)
    assert outcome.status == "SUCCEEDED"
    # Never two clusters at once.
    calls = [action for action, _ in outcome.calls if action in (CREATE, TERMINATE)]
    assert calls == [CREATE, TERMINATE, CREATE, TERMINATE]
    assert [call["ClusterId"] for call in outcome.asked(TERMINATE)] == ["j-1", "j-2"]
    (step,) = outcome.asked(RUN)
    assert step["ClusterId"] == "j-2"
    second = fleets_of(outcome.asked(CREATE)[1])
    assert set(second) == {"MASTER", "CORE"}
    assert second["CORE"]["TargetOnDemandCapacity"] == 2
    assert len(types(second["CORE"])) >= 3


def test_a_throttled_step_is_added_again_unless_there_is_one(run: Run) -> None:
    assert len(run("a step throttled once").asked(RUN)) == 2
    assert len(run("a step throttled while it runs").asked(RUN)) == 1
    assert 10 < len(run("a step throttled for ever").asked(RUN)) < 50
    assert len(run("a step failed without details").asked(RUN)) == 1


def test_who_waits_says_so_once(run: Run) -> None:
    for name in ("its turn after others", "too many others, for ever"):
        told = [call["Message"] for call in run(name).asked(TELL)]
        assert [text for text in told if text.startswith("Batch b waits: 3 batches")] == told[:1]
    assert not any("waits" in call["Message"] for call in run("the least input").asked(TELL))


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
    assert outcome.output["results"] in outcome.asked(TELL)[-1]["Message"]


def test_every_state_is_entered_by_some_case(definition: dict[str, Any], run: Run) -> None:
    # So no Pass state has a path that is missing when it is needed: nothing could catch that.
    entered = {state for name in CASES for state in run(name).states}
    inner = {
        name
        for state in definition["States"].values()
        if state["Type"] == "Map"
        for name in state["ItemProcessor"]["States"]
    }
    never = (set(definition["States"]) | inner) - entered
    assert {name for name in never if not name.startswith("Prefer ")} == set()


@pytest.mark.parametrize("name", SUCCEEDED)
def test_the_job_accepts_the_arguments_that_the_step_gives(run: Run, name: str) -> None:
    (*_, step) = run(name).asked(RUN)
    arguments = step["Step"]["HadoopJarStep"]["Args"]
    assert arguments[0] == "spark-submit"
    entry_point = next(i for i, text in enumerate(arguments) if text.endswith(".py"))
    given = {
        "images": f"images/{CASES[name].given['batch']}/",
        "pca": "auto",
        "variance": "none",
        "max_reject_rate": 0.05,
        "components": "none",
        "csv": False,
        "standardize": None,
        "network": "mobilenet_v2",
        "full_decode": False,
        "max_pixels": 64_000_000,
        "allow_unsupported": False,
        "again": False,
        "findings": "all",
        "model": "none",
        **CASES[name].given,
    }

    settings = parse_args(arguments[entry_point + 1 :])

    assert settings.nodes == CASES[name].given.get("core_instances", 2)
    assert settings.billed_since is not None
    assert settings.images.endswith("/" + given["images"])
    assert settings.images.startswith(settings.output + "/")
    assert (settings.batch, settings.run) == (given["batch"], "run-1")
    assert settings.model == (None if given["model"] == "none" else given["model"])
    said = {name: given[name] for name in ("variance", "components") if given[name] != "none"}
    assert settings.rule == said, "what nobody said would refuse a model of another rule"
    assert settings.default_variance == 0.8
    for name_of in (
        "pca",
        "max_reject_rate",
        "csv",
        "standardize",
        "network",
        "full_decode",
        "max_pixels",
        "allow_unsupported",
        "again",
        "findings",
    ):
        assert getattr(settings, name_of) == given[name_of], name_of


def test_an_execution_may_say_all_that_the_job_can_be_told(
    fruits: Synthesis, definition: dict[str, Any]
) -> None:
    cluster = {"core_instances", "instance_type", "spot"}
    fields = {field.name for field in input_fields(fruits.stack.config, fruits.stack.storage.data)}
    options = {action.dest for action in make_parser()._actions} - {"help"}
    # The machine's own doing: where, under which name, and on which engine.
    given_by_the_machine = {"output", "run", "engine", "master", "default_variance"}
    given_by_the_machine |= {"billed_since", "nodes", "node_price", "primary_price"}
    assert fields - cluster - {"marker"} == options - given_by_the_machine
    step = json.dumps(definition["States"]["RunJob"]["Parameters"])
    for option in options - {"engine", "master"}:
        assert f"'--{option.replace('_', '-')}'" in step


@pytest.mark.parametrize("documented", inputs())
def test_the_inputs_that_the_pages_show_are_taken_and_reach_the_job(
    definition: dict[str, Any], documented: str
) -> None:
    given = {"batch": "b", **json.loads(documented)}
    outcome = execute(definition, given, GOOD)
    assert outcome.status == "SUCCEEDED", outcome.cause
    (step,) = outcome.asked(RUN)
    arguments = step["Step"]["HadoopJarStep"]["Args"]
    entry_point = next(i for i, text in enumerate(arguments) if text.endswith(".py"))
    settings = parse_args(arguments[entry_point + 1 :])
    for name, value in given.items():
        assert getattr(settings, name) == value, name


def test_the_pages_name_what_an_execution_may_say(fruits: Synthesis) -> None:
    table = section("docs/operating.md", "Running a batch")
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    fields = {field.name for field in input_fields(fruits.stack.config, fruits.stack.storage.data)}
    # The batch is in every example, and the marker is the trigger's.
    assert named == fields - {"batch", "marker"}


def test_a_published_batch_is_told_in_numbers(definition: dict[str, Any], run: Run) -> None:
    outcome = run("the least input")
    (message,) = (call["Message"] for call in outcome.asked(TELL))
    for words in (
        "288 images (8 computed, 280 known from before), 4 rejected, 1 in formats",
        "15 components",
        "26.5 s of job",
        "71.25 images a second",
        "no price is known",
    ):
        assert words in message
    (put,) = outcome.asked(METRICS)
    told = {metric["MetricName"]: metric["Value"] for metric in put["MetricData"]}
    assert told == {
        "Images": 288,
        "Computed": 8,
        "Rejects": 4,
        "Unsupported": 1,
        "ImagesPerSecond": 71.25,
        "JobSeconds": 26.5,
    }
    assert {d["Value"] for metric in put["MetricData"] for d in metric["Dimensions"]} == {"Fruits"}
    again = execute(definition, {"batch": "b"}, {**GOOD, READ: receipt(counts=UNCHANGED)})
    assert "293 images (0 computed, 293 known from before)" in again.asked(TELL)[-1]["Message"]
    (put,) = again.asked(METRICS)
    told = {metric["MetricName"]: metric["Value"] for metric in put["MetricData"]}
    assert (told["Images"], told["Computed"]) == (293, 0)
    assert not run("a receipt of another kind").asked(METRICS)
    with_dollars = run("a receipt with dollars")
    assert with_dollars.asked(METRICS)[1]["MetricData"][0]["Value"] == 0.21
    assert "about 0.21 dollars (an estimate)" in with_dollars.asked(TELL)[-1]["Message"]


@pytest.mark.parametrize(
    ("field", "suffixes"), [("manifest", ["csv", "parquet"]), ("corrections", ["csv"])]
)
def test_a_file_of_the_data_bucket_is_passed_on(
    run: Run, definition: dict[str, Any], field: str, suffixes: list[str]
) -> None:
    bucket = run("the least input").output["results"].split("/")[2]
    for suffix in suffixes:
        file = f"s3://{bucket}/images/b.{suffix}"
        (step,) = execute(definition, {"batch": "b", field: file}, GOOD).asked(RUN)
        arguments = step["Step"]["HadoopJarStep"]["Args"]
        assert arguments[arguments.index(f"--{field}") + 1] == file
    for wrong in (f"s3://{bucket}/images/b.txt", f"s3://{bucket}/results/b.csv"):
        outcome = execute(definition, {"batch": "b", field: wrong}, GOOD)
        assert outcome.status == "FAILED"
        assert not outcome.asked(RUN)


def test_the_job_may_read_its_failure_from_where_the_machine_looks(run: Run) -> None:
    (read,) = run("a job that says why").asked(READ)
    assert read["Key"] == "work/b/run-1/failure.json"


def test_an_image_is_what_the_job_takes_for_one(definition: dict[str, Any]) -> None:
    for extension in (*EXTENSIONS, "JPG", "Jpg", "jPeG"):
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
        ("CountLook", {"Parameters": {"count": 0}}, "goes round"),
        ("IsThereAStep", {"Default": "RunJob"}, "goes round"),
        ("IsItWorthASecondTry", {"Default": "UseOtherTypes"}, "goes round"),
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


def test_the_longest_wait_fits_into_an_executions_history(
    synthesize: Callable[..., Synthesis],
) -> None:
    """Step Functions ends an execution at 25,000 events: 5 of a task, 2 of any other state."""
    longest = rendered(
        synthesize(
            wait_timeout_minutes=2_000, start_timeout_minutes=120, execution_timeout_minutes=1_000
        ).template,
        "Workflow",
    )["States"]
    events = 0
    for wait, look in (("WaitForTurn", "IsItMyTurn"), ("WaitForNodes", "IsItReady")):
        (most,) = {
            rule["NumericGreaterThanEquals"]
            for rule in longest[look]["Choices"]
            if "NumericGreaterThanEquals" in rule
        }
        name, around = longest[wait]["Next"], [wait]
        while name != wait:
            around.append(name)
            name = longest[name].get("Next") or longest[name]["Default"]
        each = sum(5 if longest[name]["Type"] == "Task" else 2 for name in around)
        events += (2 if wait == "WaitForNodes" else 1) * most * each
    assert 10_000 < events < 24_000


def test_the_machine_outlives_its_longest_job(definition: dict[str, Any]) -> None:
    # Else the whole execution would time out, and run no Catch.
    waiting = 1440 + 2 * 25
    longest = definition["States"]["RunJob"]["TimeoutSeconds"] + 60 * waiting
    assert definition["TimeoutSeconds"] > longest + 900


def _assert_failed(outcome: Outcome, case: Case) -> None:
    assert (outcome.status, outcome.error) == ("FAILED", case.error)
    for words in case.says:
        assert words in outcome.cause
    (*_, message) = outcome.asked(TELL)
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
            if not _is_counted(states, way[way.index(name) :]):
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


def _is_counted(states: Mapping[str, Any], cycle: tuple[str, ...]) -> bool:
    """Return whether a way around comes to an end: it counts, and looks at what it counts."""
    counted = {
        f"{where}.count"
        for name in cycle
        if states[name]["Type"] == "Pass"
        and (where := states[name].get("ResultPath"))
        and states[name].get("Parameters") == {"count.$": f"States.MathAdd({where}.count, 1)"}
    }
    looked_at = {
        rule.get("Variable")
        for name in cycle
        for choice in states[name].get("Choices", ())
        for rule in (choice, *choice.get("And", ()))
        if any(comparison.startswith("Numeric") for comparison in rule)
    }
    return bool(counted & looked_at)


def fleets_of(asked: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the fleets of a RunJobFlow, by kind."""
    return {fleet["InstanceFleetType"]: fleet for fleet in asked["Instances"]["InstanceFleets"]}


def types(fleet: Mapping[str, Any]) -> list[str]:
    """Return a fleet's types, the preferred first."""
    return [config["InstanceType"] for config in fleet["InstanceTypeConfigs"]]


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
