"""The trigger: one run per batch at a time and one per write of the marker, however events come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from spark_job.settings import parse_args
from tests.stacks.answers import GOOD, RUN, RUNNING, TELL, gives, refuses, running
from tests.stacks.definitions import Outcome, RefusalError, execute, rendered, resolve

if TYPE_CHECKING:
    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

LIST = "aws-sdk:s3:listObjectsV2"
START = "aws-sdk:sfn:startExecution"
DESCRIBE = "aws-sdk:sfn:describeExecution"


@dataclass
class Account:
    """Step Functions and S3 as far as the trigger sees them."""

    runs: dict[str, dict[str, str]] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    started: list[str] = field(default_factory=list)

    def start(self, parameters: dict[str, Any]) -> dict[str, str]:
        name, given = parameters["Name"], parameters["Input"]
        taken = self.runs.get(name)
        if taken is not None and taken != {"Status": "RUNNING", "Input": given}:
            raise RefusalError("Sfn.ExecutionAlreadyExistsException", f"{name} exists")
        if taken is None:
            self.runs[name] = {"Status": "RUNNING", "Input": given}
            self.started.append(name)
        return {"ExecutionArn": f"arn:{name}"}

    def describe(self, parameters: dict[str, Any]) -> dict[str, str]:
        name = parameters["ExecutionArn"].rpartition(":")[2]
        if name not in self.runs:
            raise RefusalError("Sfn.ExecutionDoesNotExistException", f"{name} does not exist")
        return self.runs[name]

    def list(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"KeyCount": int(parameters["Prefix"] in self.results), "IsTruncated": False}

    def finish(self, name: str, status: str = "SUCCEEDED") -> None:
        self.runs[name]["Status"] = status
        if status == "SUCCEEDED":  # A run that failed settles nothing.
            self.results.add(f"results/{name.rpartition('.')[0]}/runs/{name}/")


def written(key: str = "images/b/_READY", sequencer: str = "0A") -> dict[str, Any]:
    return {
        "time": "2026-11-20T10:00:00Z",
        "detail": {"object": {"key": key, "sequencer": sequencer}},
    }


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture(scope="module")
def definition(fruits: Synthesis) -> dict[str, Any]:
    return rendered(fruits.template, "Trigger")


def hear(definition: dict[str, Any], account: Account, event: dict[str, Any]) -> Outcome:
    return execute(
        definition,
        event,
        {
            LIST: account.list,
            START: account.start,
            DESCRIBE: account.describe,
            TELL: gives({}),
        },
    )


def test_the_rule_hears_of_markers_of_the_data_bucket_alone(fruits: Synthesis) -> None:
    (pattern,) = (
        rule["EventPattern"]
        for rule in fruits.resources("AWS::Events::Rule").values()
        if "_READY" in str(rule["EventPattern"])
    )
    assert pattern["detail-type"] == ["Object Created"]
    assert resolve(fruits.template, pattern["detail"]["bucket"]["name"])[0].startswith(
        "storagedata"
    )
    assert pattern["detail"]["object"]["key"] == [{"wildcard": "images/*/_READY"}]


def test_a_marker_starts_a_run_that_the_workflow_accepts(
    fruits: Synthesis, definition: dict[str, Any], account: Account
) -> None:
    assert hear(definition, account, written("images/2026-11-20/_READY")).status == "SUCCEEDED"
    (name,) = account.started
    given = json.loads(account.runs[name]["Input"])
    run = execute(
        rendered(fruits.template, "Workflow"), given, {**GOOD, RUNNING: running(name)}, name=name
    )
    assert run.status == "SUCCEEDED"
    arguments = run.asked(RUN)[0]["Step"]["HadoopJarStep"]["Args"]
    settings = parse_args(arguments[arguments.index("--images") :])
    assert (settings.batch, settings.run) == ("2026-11-20", "2026-11-20.1")


def test_writing_it_again_starts_nothing_beside_a_running_run(
    definition: dict[str, Any], account: Account
) -> None:
    for sequencer in ("0A", "0B", "0C"):
        hear(definition, account, written(sequencer=sequencer))
    assert account.started == ["b.1"]


def test_writing_it_again_after_the_run_starts_another(
    definition: dict[str, Any], account: Account
) -> None:
    for number, status in enumerate(("SUCCEEDED", "FAILED", "ABORTED"), start=1):
        hear(definition, account, written(sequencer=f"0{number}"))
        account.finish(f"b.{number}", status)
    assert account.started == ["b.1", "b.2", "b.3"]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_an_event_delivered_again_starts_nothing_even_when_its_run_is_over(
    definition: dict[str, Any], account: Account, status: str
) -> None:
    hear(definition, account, written(sequencer="0A"))
    hear(definition, account, written(sequencer="0A"))
    account.finish("b.1", status)
    hear(definition, account, written(sequencer="0B"))
    account.finish("b.2", status)
    for sequencer in ("0A", "0B"):
        outcome = hear(definition, account, written(sequencer=sequencer))
        assert outcome.status == "SUCCEEDED"
    assert account.started == ["b.1", "b.2"]


@pytest.mark.parametrize("other", ["the same write", "another write"])
def test_two_events_at_once_start_one_run(
    definition: dict[str, Any], account: Account, other: str
) -> None:
    hear(definition, account, written(sequencer="0A"))
    account.finish("b.1")

    def start(parameters: dict[str, Any]) -> Any:
        if parameters["Name"] == "b.2":
            # The other event's trigger, as far along as this one, is a moment ahead of it.
            given = parameters["Input"] if other == "the same write" else '{"batch":"b"}'
            account.start({**parameters, "Input": given})
        return account.start(parameters)

    outcome = execute(
        definition,
        written(sequencer="0B"),
        {LIST: account.list, START: start, DESCRIBE: account.describe, TELL: gives({})},
    )
    assert outcome.status == "SUCCEEDED"
    assert account.started == ["b.1", "b.2"]


def test_batches_do_not_stand_in_each_other_s_way(
    definition: dict[str, Any], account: Account
) -> None:
    for batch in ("b", "b.1", "b.1.1"):
        hear(definition, account, written(f"images/{batch}/_READY"))
    assert account.started == ["b.1", "b.1.1", "b.1.1.1"]


def test_results_older_than_step_functions_memory_are_not_written_over(
    definition: dict[str, Any], account: Account
) -> None:
    account.results = {"results/b/runs/b.1/", "results/b/runs/b.2/"}
    hear(definition, account, written())
    assert account.started == ["b.3"]


def test_the_name_of_a_failed_run_is_free_when_step_functions_has_forgotten_it(
    definition: dict[str, Any], account: Account
) -> None:
    for number, status in enumerate(("FAILED", "SUCCEEDED"), start=1):
        hear(definition, account, written(sequencer=f"0{number}"))
        account.finish(f"b.{number}", status)
    account.runs.clear()
    hear(definition, account, written(sequencer="03"))
    account.finish("b.1")
    account.runs.clear()
    hear(definition, account, written(sequencer="04"))
    assert account.started == ["b.1", "b.2", "b.1", "b.3"]


@pytest.mark.parametrize(
    "key",
    [
        "images/a b/_READY",
        "images/été/_READY",
        "images/b/apple/_READY",
        "images//_READY",
        "images/-b/_READY",
        "images/{}/_READY",
        "images/a%20b/_READY",
        'images/a"b/_READY',
        "images/a'b/_READY",
    ],
)
def test_a_marker_that_names_no_batch_is_told_in_words(
    definition: dict[str, Any], account: Account, key: str
) -> None:
    outcome = hear(definition, account, written(key))
    assert (outcome.status, outcome.error) == ("FAILED", "MarkerRefused")
    (message,) = outcome.asked(TELL)
    assert message["Message"].startswith(f"The marker {key} starts nothing;")
    assert "images/<batch>/_READY" in message["Message"]
    assert account.started == []


@pytest.mark.parametrize("refused", [LIST, START])
def test_a_run_that_cannot_be_started_is_told_in_words(
    definition: dict[str, Any], account: Account, refused: str
) -> None:
    answers = {LIST: account.list, START: account.start, DESCRIBE: account.describe}
    outcome = execute(
        definition, written(), {**answers, TELL: gives({}), refused: refuses("denied")}
    )
    assert (outcome.status, outcome.error) == ("FAILED", "RunNotStarted")
    assert "Batch b was not started (denied)" in outcome.asked(TELL)[0]["Message"]
