"""What tells people: alarms, the watch over clusters, the dashboard, the budget."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from stacks.batch.publication import DOLLARS_METRIC, METRICS
from tests.stacks.definitions import RefusalError, execute
from tests.stacks.policies import Deployed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stacks.conftest import Synthesis
    from tests.stacks.definitions import Outcome

pytestmark = pytest.mark.cdk


def watch_of(stack: Synthesis) -> dict[str, Any]:
    definitions = {
        name: definition
        for name, _, definition in Deployed(stack.template, "Fruits").state_machines()
    }
    (found,) = [d for name, d in definitions.items() if name.startswith("Watch")]
    return found


@pytest.mark.parametrize("ending", ["Failed", "TimedOut", "Aborted"])
def test_a_batch_that_ends_badly_rings_and_reaches_the_topic(
    fruits: Synthesis, ending: str
) -> None:
    alarm = fruits.one("AWS::CloudWatch::Alarm", f"{ending}Executions")
    assert alarm["MetricName"] == f"Executions{ending}"
    assert "WorkflowStateMachine" in alarm["Dimensions"][0]["Value"]["Ref"]
    assert alarm["Statistic"] == "Sum"
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (
        1,
        "GreaterThanOrEqualToThreshold",
    )
    assert alarm["TreatMissingData"] == "notBreaching"
    (topic,) = fruits.resources("AWS::SNS::Topic")
    assert alarm["AlarmActions"] == [{"Ref": topic}]


HELPERS = ("Janitor", "Registrar", "Trigger")
"""The machines that an alarm listens to beside the batches' own and the watch."""


def machine_of(dimensions: list[dict[str, Any]]) -> str:
    """Return whose state machine a metric is of."""
    (dimension,) = dimensions
    assert dimension["Name"] == "StateMachineArn"
    logical_id: str = dimension["Value"]["Ref"]
    return logical_id.partition("StateMachine")[0]


def test_every_alarm_rings_at_the_first_event_and_reaches_the_topic(
    fruits: Synthesis, synthesize: Callable[..., Synthesis]
) -> None:
    alarms = fruits.resources("AWS::CloudWatch::Alarm")
    names = [
        "FailedExecutions",
        "TimedOutExecutions",
        "AbortedExecutions",
        "ClusterAliveTooLong",
        "EventsUndelivered",
        *(f"{helper}Failed" for helper in HELPERS),
    ]
    assert len(alarms) == len(names)
    (topic,) = fruits.resources("AWS::SNS::Topic")
    for name in names:
        alarm = fruits.one("AWS::CloudWatch::Alarm", f"Monitoring{name}")
        assert alarm["Threshold"] == 1, name
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold", name
        assert alarm["EvaluationPeriods"] == 1, name
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert alarm["AlarmActions"] == [{"Ref": topic}], name
        assert alarm.get("ActionsEnabled", True), name
    without = synthesize(trigger=False).resources("AWS::CloudWatch::Alarm")
    assert {name for name in alarms if name not in without} == {
        name for name in alarms if "TriggerFailed" in name
    }


@pytest.mark.parametrize("helper", HELPERS)
def test_a_helper_that_failed_or_took_too_long_rings(fruits: Synthesis, helper: str) -> None:
    alarm = fruits.one("AWS::CloudWatch::Alarm", f"{helper}Failed")
    (returned,) = (query for query in alarm["Metrics"] if query.get("ReturnData", True))
    assert returned["Expression"] == "FILL(failed, 0) + FILL(late, 0)"
    stats = {
        query["Id"]: query["MetricStat"] for query in alarm["Metrics"] if "MetricStat" in query
    }
    assert {name: stat["Metric"]["MetricName"] for name, stat in stats.items()} == {
        "failed": "ExecutionsFailed",
        "late": "ExecutionsTimedOut",
    }
    for stat in stats.values():
        assert machine_of(stat["Metric"]["Dimensions"]) == helper
        assert (stat["Metric"]["Namespace"], stat["Stat"]) == ("AWS/States", "Sum")


def test_no_event_is_lost_without_a_word(fruits: Synthesis) -> None:
    """Every target of every rule has the queue, which takes it, and which an alarm listens to."""
    (queue,) = fruits.resources("AWS::SQS::Queue")
    rules = fruits.resources("AWS::Events::Rule")
    assert len(rules) == 4
    admitted = [
        statement["Condition"]["ArnEquals"]["aws:SourceArn"]
        for policy in fruits.resources("AWS::SQS::QueuePolicy").values()
        if policy["Queues"] == [{"Ref": queue}]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
        and statement["Principal"] == {"Service": "events.amazonaws.com"}
        and statement["Action"] == "sqs:SendMessage"
    ]
    for logical_id, rule in rules.items():
        assert rule["Targets"], logical_id
        for target in rule["Targets"]:
            where = {"Fn::GetAtt": [queue, "Arn"]}
            assert target["DeadLetterConfig"] == {"Arn": where}, logical_id
        assert {"Fn::GetAtt": [logical_id, "Arn"]} in admitted
    alarm = fruits.one("AWS::CloudWatch::Alarm", "EventsUndelivered")
    assert (alarm["Namespace"], alarm["Statistic"]) == ("AWS/SQS", "Maximum")
    assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert alarm["Dimensions"] == [
        {"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}
    ]


def test_alarms_may_publish_and_nobody_may_in_the_clear(fruits: Synthesis) -> None:
    statements = fruits.one("AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    assert any(
        s["Effect"] == "Allow" and s["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        for s in statements
    )
    assert any(
        s["Effect"] == "Deny" and s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for s in statements
    )


def test_each_cluster_of_this_stack_alone_is_watched_from_its_start(fruits: Synthesis) -> None:
    rule = fruits.one("AWS::Events::Rule", "ClusterStarted")
    pattern = rule["EventPattern"]
    assert pattern["source"] == ["aws.emr"]
    assert pattern["detail"]["state"] == ["STARTING"]
    (name,) = pattern["detail"]["name"]
    assert name == {"prefix": "orchard/Fruits/"}
    workflow = json.dumps(
        next(d for n, _, d in Deployed(fruits.template, "Fruits").state_machines() if "Workf" in n)
    )
    created = re.search(r"States\.Format\('(orchard/[^{]+)\{\}'", workflow)
    assert created is not None, "the state machine names its clusters otherwise"
    assert created[1] == name["prefix"]


def test_the_watch_looks_late_and_fails_when_the_cluster_lives(
    synthesize: Callable[..., Synthesis],
) -> None:
    stack = synthesize(cluster_alive_alarm_minutes=60)
    watch = watch_of(stack)
    assert watch["States"][watch["StartAt"]]["Seconds"] == 60 * 60
    assert watch["TimeoutSeconds"] > 60 * 60
    started = {"detail": {"clusterId": "j-1", "name": "orchard/Fruits/b.1"}}

    def look(state: str) -> Outcome:
        return execute(
            watch,
            started,
            {
                "aws-sdk:emr:describeCluster": lambda _: {"Cluster": {"Status": {"State": state}}},
                "sns:publish": lambda _: {},
            },
        )

    for state in ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS"):
        ended = look(state)
        assert ended.status == "SUCCEEDED"
        assert ended.asked("sns:publish") == []
    lives = look("WAITING")
    assert (lives.status, lives.error) == ("FAILED", "ClusterAliveTooLong")
    (told,) = lives.asked("sns:publish")
    assert "j-1 (orchard/Fruits/b.1) is still WAITING after 60 minutes" in told["Message"]
    assert "aws emr terminate-clusters --cluster-ids j-1" in told["Message"]

    alarm = stack.one("AWS::CloudWatch::Alarm", "ClusterAliveTooLong")
    assert alarm["MetricName"] == "ExecutionsFailed"
    assert alarm["Dimensions"][0]["Value"]["Ref"].startswith("Watch")
    assert alarm["AlarmActions"]
    assert "60 minutes" in alarm["AlarmDescription"]


def test_a_cluster_that_cannot_be_looked_at_is_alarming(fruits: Synthesis) -> None:
    def refuse(_: dict[str, Any]) -> Any:
        raise RefusalError("Emr.EmrException", "denied")

    outcome = execute(
        watch_of(fruits),
        {"detail": {"clusterId": "j-1", "name": "orchard/Fruits/b.1"}},
        {"aws-sdk:emr:describeCluster": refuse},
    )
    assert outcome.status == "FAILED"


def test_the_dashboard_shows_alarms_batches_nodes_and_data(fruits: Synthesis) -> None:
    body = json.loads(
        Deployed(fruits.template, "Fruits").resolve(
            without_attributes(fruits.one("AWS::CloudWatch::Dashboard")["DashboardBody"])
        )
    )
    shown = json.dumps(body)
    for metric in ("ExecutionsSucceeded", "ExecutionTime", "CoreNodesRunning", "BucketSizeBytes"):
        assert metric in shown
    assert body["widgets"][0]["type"] == "alarm"
    graphed = [
        metric[1:4]
        for widget in body["widgets"]
        for metric in (
            *widget["properties"].get("metrics", ()),
            *widget["properties"].get("right", ()),
        )
        if metric[0] == "Orchard"
    ]
    assert all(of == ["Stack", "Fruits"] for _, *of in graphed)
    assert {name for name, *_ in graphed} == {*METRICS, DOLLARS_METRIC}


def without_attributes(value: Any) -> Any:
    """Put a plain text in the place of each alarm's ARN, which is no role's business."""
    if isinstance(value, dict):
        if "Fn::GetAtt" in value:
            return "arn"
        return {key: without_attributes(item) for key, item in value.items()}
    return [without_attributes(item) for item in value] if isinstance(value, list) else value


def test_there_is_a_budget_when_there_is_someone_to_tell(
    synthesize: Callable[..., Synthesis],
) -> None:
    assert synthesize().resources("AWS::Budgets::Budget") == {}
    assert synthesize().resources("AWS::SNS::Subscription") == {}

    stack = synthesize(alert_email="grower@example.com", monthly_budget_usd=120)
    budget = stack.one("AWS::Budgets::Budget")
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 120, "Unit": "USD"}
    assert budget["Budget"]["CostFilters"] == {"TagKeyValue": ["user:orchard-stack$Fruits"]}
    alerts = {
        (n["Notification"]["NotificationType"], n["Notification"]["Threshold"])
        for n in budget["NotificationsWithSubscribers"]
    }
    assert alerts == {("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)}
    assert stack.one("AWS::SNS::Subscription")["Endpoint"] == "grower@example.com"


def test_every_state_machine_is_traced_and_logged_for_the_time_configured(
    synthesize: Callable[..., Synthesis],
) -> None:
    stack = synthesize(log_retention_days=30)
    for machine in stack.resources("AWS::StepFunctions::StateMachine").values():
        assert machine["TracingConfiguration"] == {"Enabled": True}
        assert machine["LoggingConfiguration"]["Level"] == "ALL"
    groups = stack.resources("AWS::Logs::LogGroup").values()
    assert {group["RetentionInDays"] for group in groups} == {30}
    assert all(g["LogGroupName"].startswith("/aws/vendedlogs/states/Fruits-") for g in groups)
