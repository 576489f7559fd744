"""CloudWatch's alarms as the rehearsal has them: the template's, over what the local AWS shows.

The thresholds, comparisons, statistics and actions are the template's. What differs from AWS:

- Metrics are not collected: an execution's end and the messages of a queue are looked at when an
  alarm is evaluated, once a second, and not with minutes of delay.
- A period is as many times shorter as the state machines' waits are, and reaches back from now,
  where CloudWatch's begin with the clock's minutes.
- Of CloudWatch's mathematics there is the sum of filled metrics, which the stack uses.
"""

from __future__ import annotations

import json
import operator
import re
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from moto.cloudwatch.models import cloudwatch_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from rehearsal.aws.calls import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rehearsal.aws.endpoint import Endpoint

RINGING: Final = "ALARM"
SILENT: Final = "OK"

_ENDINGS: Final = {
    "ExecutionsFailed": "FAILED",
    "ExecutionsTimedOut": "TIMED_OUT",
    "ExecutionsAborted": "ABORTED",
}
_COMPARISONS: Final = {"GreaterThanOrEqualToThreshold": operator.ge}
_SUM: Final = re.compile(r"FILL\(\w+, 0\)( \+ FILL\(\w+, 0\))*")


def put(endpoint: Endpoint, name: str, properties: Mapping[str, Any]) -> None:
    """Make or change an alarm as CloudFormation does: it has the properties of the API."""
    endpoint.client("cloudwatch").put_metric_alarm(AlarmName=name, **properties)


def delete(endpoint: Endpoint, name: str) -> None:
    """Delete an alarm."""
    endpoint.client("cloudwatch").delete_alarms(AlarmNames=[name])


class Alarms:
    """Evaluates the alarms that there are, and tells their topics when one begins to ring.

    Parameters
    ----------
    endpoint
        The local AWS.
    pace
        How many times shorter than on AWS a period is.
    """

    INTERVAL_S: ClassVar[float] = 1.0

    def __init__(self, endpoint: Endpoint, pace: int) -> None:
        self._endpoint = endpoint
        self._pace = pace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="alarms", daemon=True)

    def start(self) -> None:
        """Start evaluating."""
        self._thread.start()

    def stop(self) -> None:
        """Stop evaluating."""
        self._ended.set()
        self._thread.join()

    def evaluate(self) -> None:
        """Look at every alarm once."""
        backend = cloudwatch_backends[ACCOUNT][self._endpoint.region]
        for alarm in list(backend.alarms.values()):
            value = self._value(alarm)
            breaching = value is not None and _COMPARISONS[alarm.comparison_operator](
                value, float(alarm.threshold)
            )
            state = RINGING if breaching else SILENT
            if state == alarm.state_value:
                continue
            alarm.update_state(f"{value} against {alarm.threshold}", "{}", state)
            if state == RINGING:
                for topic in alarm.alarm_actions:
                    self._tell(topic, alarm)

    def _watch(self) -> None:
        while not self._ended.wait(self.INTERVAL_S):
            self.evaluate()

    def _value(self, alarm: Any) -> float | None:
        """Return an alarm's value now; None where its metric has none, which is no breach."""
        if alarm.evaluation_periods != 1 or alarm.treat_missing_data != "notBreaching":
            raise NotImplementedError(f"The rehearsal has no alarms such as {alarm.name}.")
        if not alarm.metric_data_queries:
            dimensions = {found.name: found.value for found in alarm.dimensions}
            return self._metric(alarm.namespace, alarm.metric_name, dimensions, alarm.period)
        values: dict[str, float | None] = {}
        expression = ""
        for query in alarm.metric_data_queries:
            if query.expression:
                expression = query.expression
            else:
                metric = query.metric_stat.metric
                dimensions = {found.name: found.value for found in metric.dimensions}
                values[query.id] = self._metric(
                    metric.namespace, metric.metric_name, dimensions, query.metric_stat.period
                )
        if not _SUM.fullmatch(expression):
            raise NotImplementedError(f"The rehearsal cannot compute {expression}.")
        return sum(values[name] or 0.0 for name in re.findall(r"FILL\((\w+),", expression))

    def _metric(
        self, namespace: str, name: str, dimensions: Mapping[str, str], period: int
    ) -> float | None:
        region = self._endpoint.region
        if namespace == "AWS/States" and name in _ENDINGS:
            since = time.time() - int(period) / self._pace
            ended = [
                execution
                for machine in list(stepfunctions_parser_backends[ACCOUNT][region].state_machines)
                if machine.arn == dimensions["StateMachineArn"]
                for execution in list(machine.executions)
                if execution.status == _ENDINGS[name]
                and execution.stop_date
                and execution.stop_date.timestamp() > since
            ]
            # Step Functions has no value for what did not happen.
            return float(len(ended)) or None
        if namespace == "AWS/SQS" and name == "ApproximateNumberOfMessagesVisible":
            queue = sqs_backends[ACCOUNT][region].queues[dimensions["QueueName"]]
            return float(queue.approximate_number_of_messages)
        raise NotImplementedError(f"The rehearsal has no metric {name} of {namespace}.")

    def _tell(self, topic: str, alarm: Any) -> None:
        self._endpoint.client("sns").publish(
            TopicArn=topic,
            Subject=f"{RINGING}: {alarm.name}"[:100],
            Message=json.dumps(
                {
                    "AlarmName": alarm.name,
                    "AlarmDescription": alarm.description,
                    "NewStateValue": RINGING,
                    "NewStateReason": alarm.state_reason,
                }
            ),
        )
