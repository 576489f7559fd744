"""State machines as tests see them: read from a synthesized template, walked, and run."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import boto3
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from moto import mock_aws
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import (
    CustomErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import (  # noqa: E501
    StateTaskService,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

ACCOUNT = "123456789012"
REGION = "eu-west-1"
_PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "Fruits",
}


def rendered(template: Mapping[str, Any], construct: str) -> dict[str, Any]:
    """Return the definition of a construct's state machine, its references filled in."""
    (found,) = (
        resource
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::StepFunctions::StateMachine"
        and logical_id.startswith(f"{construct}StateMachine")
    )
    definition: dict[str, Any] = json.loads(
        resolve(template, found["Properties"]["DefinitionString"])
    )
    return definition


def resolve(template: Mapping[str, Any], value: Any) -> Any:
    """Return a template's value with its references filled in, as a deployment would."""
    if isinstance(value, list):
        return [resolve(template, item) for item in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return _PSEUDO.get(value["Ref"]) or _name(template, value["Ref"])
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return separator.join(resolve(template, parts))
    if "Fn::GetAtt" in value:
        logical_id, attribute = value["Fn::GetAtt"]
        if attribute == "Name":
            return logical_id
        return f"arn:aws:any:{REGION}:{ACCOUNT}:{_name(template, logical_id)}"
    if "Fn::Sub" in value:
        text: str = value["Fn::Sub"]
        for name, filled in _PSEUDO.items():
            text = text.replace(f"${{{name}}}", filled)
        return text
    return {key: resolve(template, item) for key, item in value.items()}


def _name(template: Mapping[str, Any], logical_id: str) -> str:
    kind = template["Resources"][logical_id]["Type"]
    if kind == "AWS::SNS::Topic":
        return f"arn:aws:sns:{REGION}:{ACCOUNT}:{logical_id}"
    if kind == "AWS::StepFunctions::StateMachine":
        return f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{logical_id}"
    if kind == "AWS::SSM::Parameter":
        return str(template["Resources"][logical_id]["Properties"]["Name"])
    return logical_id.lower() if kind == "AWS::S3::Bucket" else logical_id


def edges(state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a state's ways on, each with its kind: next, choice, default or catch."""
    if "Next" in state:
        yield "next", state["Next"]
    for choice in state.get("Choices", ()):
        yield "choice", choice["Next"]
    if "Default" in state:
        yield "default", state["Default"]
    for caught in state.get("Catch", ()):
        yield "catch", caught["Next"]


def tasks(states: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every Task, those inside Map states too."""
    for name, state in states.items():
        if state["Type"] == "Task":
            yield name, state
        elif state["Type"] == "Map":
            yield from tasks(state["ItemProcessor"]["States"])


class RefusalError(Exception):
    """What a service answers when it does not do what it was asked."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


Answer = Callable[[dict[str, Any]], Any]


@dataclass
class Outcome:
    """How an execution went."""

    status: str
    output: Any
    error: str
    cause: str
    states: list[str]
    calls: list[tuple[str, dict[str, Any]]] = field(repr=False)

    def asked(self, action: str) -> list[dict[str, Any]]:
        """Return the parameters of each call of an action, in order."""
        return [parameters for name, parameters in self.calls if name == action]


def execute(
    definition: Mapping[str, Any],
    given: Any,
    answers: Mapping[str, Answer],
    *,
    name: str = "run-1",
) -> Outcome:
    """Run a definition in moto's interpreter, with a function in the place of each service call.

    Every call is held against the service's own model first. Retries and waits do not wait. The
    keys of `answers` are what follows ``:::`` in a task's resource.
    """
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        outcome = _execute(definition, given, answers, name)
    for action, parameters in outcome.calls:
        check_call(action, parameters)
    return outcome


def _execute(
    definition: Mapping[str, Any], given: Any, answers: Mapping[str, Answer], name: str
) -> Outcome:
    calls: list[tuple[str, dict[str, Any]]] = []
    client = boto3.client("stepfunctions", region_name=REGION)
    with (
        patch.object(state_task_factory, "state_task_service_for", lambda **_: _Task()),
        patch.object(_Task, "answers", answers),
        patch.object(_Task, "calls", calls),
        patch.object(AmazonStateLanguageParser, "parse", _parse),
        patch.object(retrier_decl, "time", SimpleNamespace(sleep=lambda _: None)),
    ):
        machine = client.create_state_machine(
            name="machine",
            definition=json.dumps(_hurried(definition)),
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/any",
        )["stateMachineArn"]
        execution = client.start_execution(
            stateMachineArn=machine, name=name, input=json.dumps(given)
        )["executionArn"]
        deadline = time.monotonic() + 30
        while (seen := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < deadline, f"{name} still runs; it called {calls}"
            time.sleep(0.01)
    events = client.get_execution_history(executionArn=execution)["events"]
    return Outcome(
        status=seen["status"],
        output=json.loads(seen.get("output") or "null"),
        error=seen.get("error", ""),
        cause=seen.get("cause", ""),
        states=[
            event["stateEnteredEventDetails"]["name"]
            for event in events
            if "stateEnteredEventDetails" in event
        ],
        calls=calls,
    )


def check_call(action: str, parameters: dict[str, Any]) -> None:
    """Assert that a task's call is one that the service's own model allows."""
    operation = _operation(action)
    request = parameters
    if action == "elasticmapreduce:addStep.sync":
        request = {"JobFlowId": parameters["ClusterId"], "Steps": [parameters["Step"]]}
    elif action == "elasticmapreduce:terminateCluster":
        request = {"JobFlowIds": [parameters["ClusterId"]]}
    elif action.startswith("aws-sdk:sfn:"):
        # Tasks write every API's names in Pascal case, this one's own begin with a small letter.
        request = {name[0].lower() + name[1:]: value for name, value in parameters.items()}
    report = ParamValidator().validate(request, operation.input_shape)
    assert not report.has_errors(), f"{action}: {report.generate_report()}"
    _check_words(action, request, operation.input_shape)


def _operation(action: str) -> Any:
    kind, *rest = action.split(":")
    service, name = rest if kind == "aws-sdk" else (kind, rest[0].partition(".")[0])
    service = {"elasticmapreduce": "emr", "sfn": "stepfunctions"}.get(service, service)
    name = {
        "createCluster": "runJobFlow",
        "addStep": "addJobFlowSteps",
        "terminateCluster": "terminateJobFlows",
    }.get(name, name)
    return service_model(service).operation_model(name[0].upper() + name[1:])


@cache
def service_model(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def _check_words(action: str, value: Any, shape: Any) -> None:
    """Assert what botocore's validator leaves to the service: that a word is one of a list."""
    if shape.type_name == "structure":
        for name, member in value.items():
            _check_words(action, member, shape.members[name])
    elif shape.type_name == "list":
        for member in value:
            _check_words(action, member, shape.member)
    elif shape.type_name == "string" and shape.enum:
        assert value in shape.enum, f"{action}: {value} is none of {shape.enum}"


# Reading a definition takes moto longer than running it, and what it reads keeps no state.
_parse = cache(AmazonStateLanguageParser.parse)


class _Task(StateTaskService):
    """A task of any service, answered by the test that runs."""

    answers: ClassVar[Mapping[str, Answer]] = {}
    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def __init__(self) -> None:
        super().__init__()

    def _get_supported_parameters(self) -> set[str]:
        return set()

    def _eval_service_task(self, *_: Any) -> None:
        raise NotImplementedError

    def _eval_execution(self, env: Any) -> None:
        action = self.resource.resource_arn.split(":::")[1]
        parameters = copy.deepcopy(self._eval_parameters(env=env))
        self.calls.append((action, parameters))
        try:
            env.stack.append(copy.deepcopy(self.answers[action](parameters)))
        except RefusalError as refusal:
            name = (
                StatesErrorName(typ=StatesErrorNameType.StatesTimeout)
                if refusal.error == "States.Timeout"
                else CustomErrorName(refusal.error)
            )
            details = TaskFailedEventDetails(error=refusal.error, cause=refusal.cause)
            raise FailureEventException(
                FailureEvent(
                    env=env,
                    error_name=name,
                    event_type=HistoryEventType.TaskFailed,
                    event_details=EventDetails(taskFailedEventDetails=details),
                )
            ) from refusal


def _hurried(value: Any) -> Any:
    """Return a definition that waits nowhere."""
    if isinstance(value, list):
        return [_hurried(item) for item in value]
    if not isinstance(value, dict):
        return value
    slow = {"Seconds": 0}
    return {key: slow.get(key, _hurried(item)) for key, item in value.items()}
