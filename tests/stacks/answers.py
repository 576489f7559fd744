"""What services answer the state machines in tests: good answers, refusals, and what EMR says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.stacks.definitions import ACCOUNT, REGION, Answer, RefusalError

if TYPE_CHECKING:
    from collections.abc import Mapping

CREATE = "elasticmapreduce:createCluster"
RUN = "elasticmapreduce:addStep.sync"
TERMINATE = "elasticmapreduce:terminateCluster"
LIST = "aws-sdk:s3:listObjectsV2"
READ = "aws-sdk:s3:getObject"
DESCRIBE = "aws-sdk:emr:describeCluster"
STEPS = "aws-sdk:emr:listSteps"
FLEETS = "aws-sdk:emr:listInstanceFleets"
PUT = "aws-sdk:s3:putObject"
METRICS = "aws-sdk:cloudwatch:putMetricData"
RUNNING = "aws-sdk:sfn:listExecutions"
PARAMETER = "aws-sdk:ssm:getParameter"
TELL = "sns:publish"


def gives(value: Any) -> Answer:
    return lambda _: value


def refuses(cause: str, error: str = "Service.Exception") -> Answer:
    def answer(_: dict[str, Any]) -> Any:
        raise RefusalError(error, cause)

    return answer


def first(*answers: Answer) -> Answer:
    """Give each answer once, and the last one for ever."""
    left = list(answers)

    def answer(parameters: dict[str, Any]) -> Any:
        return (left.pop(0) if len(left) > 1 else left[0])(parameters)

    return answer


def listing(*keys: str, more: bool = False) -> Answer:
    contents = {"Contents": [{"Key": key, "Size": 1} for key in keys]} if keys else {}
    further = {"NextContinuationToken": "token"} if more else {}
    page = {"IsTruncated": more, "KeyCount": len(keys), "Prefix": "images/b/"}
    return gives({**page, **contents, **further})


def cluster_ended(code: str, message: str, detail: str = "") -> Answer:
    """Describe a cluster that ended, with EMR's reason and perhaps with what EC2 said."""
    status: dict[str, Any] = {
        "State": "TERMINATED_WITH_ERRORS",
        "StateChangeReason": {"Code": code, "Message": message},
    }
    if detail:
        status["ErrorDetails"] = [{"ErrorCode": "any", "ErrorMessage": detail}]
    return gives({"Cluster": {"Status": status}})


def cluster_is(state: str) -> Answer:
    """Describe a cluster as EMR does while it has nothing to complain of."""
    return gives({"Cluster": {"Status": {"State": state, "StateChangeReason": {"Message": "any"}}}})


def running(*names: str, more: str = "") -> Answer:
    """List the executions that run, the newest first, as Step Functions does."""
    arns = [f"arn:aws:states:{REGION}:{ACCOUNT}:execution:machine:{name}" for name in names]
    page: dict[str, Any] = {"Executions": [{"ExecutionArn": arn} for arn in arns]}
    return gives({**page, "NextToken": more} if more else page)


def fleets(*words: str) -> Answer:
    """Give the words of EMR about each fleet."""
    return gives(
        {
            "InstanceFleets": [
                {"Id": "if-1", "Status": {"StateChangeReason": {"Message": said}}} for said in words
            ]
        }
    )


RECEIPT = {
    "counts": {"computed": 288, "rejected": 4, "unsupported": 1},
    "images_per_second": 71.25,
    "seconds": {"total": 26.5},
    "model": {"k": 15},
}

GOOD: Mapping[str, Answer] = {
    LIST: listing("images/b/apple/1.jpg", "images/b/_READY"),
    RUNNING: running("run-1"),
    PARAMETER: gives({"Parameter": {"Value": "a-security-configuration"}}),
    CREATE: gives({"ClusterId": "j-1", "ClusterArn": "arn:any"}),
    DESCRIBE: cluster_is("WAITING"),
    PUT: gives({}),
    RUN: gives({"Step": {"Id": "s-1"}}),
    READ: gives({"Body": json.dumps(RECEIPT)}),
    METRICS: gives({}),
    TERMINATE: gives({}),
    TELL: gives({"MessageId": "m-1"}),
}
FAILED_STEP: Mapping[str, Answer] = {
    **GOOD,
    RUN: refuses("the step failed", "EMR.StepFailed"),
    READ: refuses("The specified key does not exist.", "S3.NoSuchKeyException"),
    STEPS: gives({"Steps": [{"Status": {"State": "FAILED"}}]}),
}
