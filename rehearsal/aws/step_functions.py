"""Step Functions as the rehearsal runs it: moto's interpreter, with what it lacks for EMR added.

Added are the optimized integrations ``elasticmapreduce:createCluster``, ``addStep(.sync)``,
``terminateCluster(.sync)``, requests in the name of the execution's own role, and the events that
report an execution's status. The interpreter itself, its errors, retries and paths are moto's.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from botocore.exceptions import ClientError, ParamValidationError
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import (
    CustomErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_aws_sdk,
    state_task_service_factory,
    state_task_service_sfn,
    state_task_service_sns,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import (
    ResourceCondition,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (  # noqa: E501
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from rehearsal.aws.calls import ACCOUNT, Permission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rehearsal.aws.endpoint import Endpoint

SYNC_RULE = "StepFunctionsGetEventForEMRAddJobFlowStepsRule"
"""The rule by which the real Step Functions is told that a step ended."""

FINAL = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")


@contextlib.contextmanager
def integrations(endpoint: Endpoint) -> Iterator[None]:
    """Teach moto's interpreter the EMR integrations, with requests sent to `endpoint`.

    moto has no place to register a service, so its factory and its maker of clients are replaced
    for as long as the context lasts.
    """

    def client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        del region  # One region is rehearsed.
        credentials = endpoint.assume(state_credentials.role_arn, "execution", "states")
        return endpoint.client(service, credentials)

    def service_for(service_name: str) -> Any:
        if service_name == "elasticmapreduce":
            return _Emr(endpoint)
        if service_name == "aws-sdk":
            return _AwsSdk()
        return original(service_name)

    original = state_task_service_factory.state_task_service_for
    replaced = [
        (state_task_factory, "state_task_service_for", service_for),
        (state_task_service_aws_sdk, "boto_client_for", client_for),
        (state_task_service_sns, "boto_client_for", client_for),
        (state_task_service_sfn, "boto_client_for", client_for),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class StatusEvents:
    """Reports each change of an execution's status, as Step Functions reports it to EventBridge.

    Parameters
    ----------
    region
        The region whose executions are watched.
    publish
        Called with each event's detail.
    """

    INTERVAL_S: ClassVar[float] = 0.2

    def __init__(self, region: str, publish: Callable[[dict[str, Any]], object]) -> None:
        self._backend = stepfunctions_parser_backends[ACCOUNT][region]
        self._publish = publish
        self._seen: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="execution-events", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self.INTERVAL_S):
            for machine in list(self._backend.state_machines):
                for execution in list(machine.executions):
                    if execution.exec_status is None:  # Made, and not started yet.
                        continue
                    if self._seen.get(execution.exec_arn) != execution.status:
                        self._seen[execution.exec_arn] = execution.status
                        self._publish(_detail(execution))


def _detail(execution: Any) -> dict[str, Any]:
    def milliseconds(moment: datetime.datetime | None) -> int | None:
        return int(moment.timestamp() * 1000) if moment else None

    return {
        "executionArn": execution.exec_arn,
        "stateMachineArn": execution.state_machine_arn,
        "name": execution.name,
        "status": execution.status,
        "startDate": milliseconds(execution.start_date),
        "stopDate": milliseconds(execution.stop_date),
        "input": json.dumps(execution.input_data),
        "output": json.dumps(execution.output) if execution.output is not None else None,
        "error": execution.error,
        "cause": execution.cause,
    }


class _AwsSdk(state_task_service_aws_sdk.StateTaskServiceAwsSdk):
    """moto's SDK integration, with names and dates written as Step Functions writes them."""

    def _eval_service_task(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        service, action = self._get_boto_service_name(), self._get_boto_service_action()
        region = resource_runtime_part.region
        client = state_task_service_aws_sdk.boto_client_for(region, service, state_credentials)
        model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[action])
        if model.input_shape:
            # The States Language says `StateMachineArn` where the API says `stateMachineArn`.
            self._to_boto_request(normalised_parameters, model.input_shape)
        response = getattr(client, action)(**normalised_parameters)
        response.pop("ResponseMetadata", None)
        if model.output_shape:
            self._from_boto_response(response, model.output_shape)
        env.stack.append(_plain(response))


class _Emr(StateTaskServiceCallback):
    """The optimized integration of Amazon EMR."""

    # What each task accepts; the EMR client checks the rest.
    ACTIONS: ClassVar[dict[str, set[str]]] = {
        "createcluster": set(),
        "addstep": {"ClusterId", "Step", "ExecutionRoleArn"},
        "terminatecluster": {"ClusterId"},
        "cancelstep": {"ClusterId", "StepId"},
    }

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(supported_integration_patterns={ResourceCondition.Sync})
        self._endpoint = endpoint

    def _get_supported_parameters(self) -> set[str] | None:
        return self.ACTIONS.get(self.resource.api_action.lower())

    def _eval_integration_pattern(
        self, env: Any, resource_runtime_part: Any, normalised_parameters: Any, **named: Any
    ) -> None:
        # moto's own waits for a task token too, which no EMR task has.
        del resource_runtime_part
        submitted = env.stack.pop()
        client = self._client(named["state_credentials"])
        while env.is_running():
            done = self._poll(env, client, normalised_parameters, submitted)
            if done is not None:
                break
            time.sleep(0.5)
        env.stack.append(done if env.is_running() else submitted)

    def _eval_body(self, env: Any) -> None:
        super(StateTaskServiceCallback, self)._eval_body(env)

    def _client(self, state_credentials: Any) -> Any:
        credentials = self._endpoint.assume(state_credentials.role_arn, "execution", "states")
        return self._endpoint.client("emr", credentials)

    def _eval_service_task(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        del resource_runtime_part  # One region is rehearsed.
        client = self._client(state_credentials)
        action, given = self.resource.api_action.lower(), normalised_parameters
        if action == "createcluster":
            created = client.run_job_flow(**given)
            result = {"ClusterId": created["JobFlowId"], "ClusterArn": created["ClusterArn"]}
        elif action == "addstep":
            added = client.add_job_flow_steps(JobFlowId=given["ClusterId"], Steps=[given["Step"]])
            result = {"StepId": added["StepIds"][0]}
            if self.resource.condition == ResourceCondition.Sync:
                self._expect_event(state_credentials.role_arn)
        elif action == "cancelstep":
            client.cancel_steps(ClusterId=given["ClusterId"], StepIds=[given["StepId"]])
            result = {"StepId": given["StepId"]}
        else:
            client.terminate_job_flows(JobFlowIds=[given["ClusterId"]])
            result = {}
        env.stack.append(result)

    def _expect_event(self, role_arn: str) -> None:
        """Record what Step Functions needs to be told of the step's end, as AWS checks it."""
        role, region = role_arn.rpartition("/")[2], self._endpoint.region
        arn = f"arn:aws:events:{region}:{ACCOUNT}:rule/{SYNC_RULE}"
        for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
            self._endpoint.record(role, Permission(action, arn))

    def _poll(
        self, env: Any, client: Any, given: dict[str, Any], submitted: dict[str, Any]
    ) -> dict[str, Any] | None:
        cluster = given["ClusterId"]
        if self.resource.api_action.lower() == "terminatecluster":
            described = client.describe_cluster(ClusterId=cluster)["Cluster"]
            ended = described["Status"]["State"].startswith("TERMINATED")
            return {"Cluster": _plain(described)} if ended else None
        step = client.describe_step(ClusterId=cluster, StepId=submitted["StepId"])["Step"]
        if step["Status"]["State"] not in FINAL:
            return None
        described = {"Step": _plain(step)}
        if step["Status"]["State"] != "COMPLETED":
            raise FailureEventException(
                self._failure(env, "States.TaskFailed", json.dumps(described))
            )
        return described

    def _from_error(self, env: Any, ex: Exception) -> FailureEvent:
        if isinstance(ex, ClientError):
            error = ex.response["Error"]
            code = error["Code"].removesuffix("Exception")
            status = ex.response["ResponseMetadata"]["HTTPStatusCode"]
            cause = (
                f"{error['Message']} (Service: AmazonElasticMapReduce; Status Code: {status}; "
                f"Error Code: {error['Code']})"
            )
            return self._failure(env, f"ElasticMapReduce.{code}Exception", cause)
        if isinstance(ex, ParamValidationError):
            return self._failure(env, "States.Runtime", str(ex))
        return super()._from_error(env=env, ex=ex)

    def _failure(self, env: Any, error: str, cause: str) -> FailureEvent:
        return FailureEvent(
            env=env,
            error_name=CustomErrorName(error),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(
                taskFailedEventDetails=TaskFailedEventDetails(
                    resource=self._get_sfn_resource(),
                    resourceType=self._get_sfn_resource_type(),
                    error=error,
                    cause=cause,
                )
            ),
        )


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it: dates as ISO text."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    return value
