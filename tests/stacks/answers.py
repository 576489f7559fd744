"""What services answer the state machines in tests: good answers, refusals, and what EMR says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.stacks.definitions import Answer, RefusalError

if TYPE_CHECKING:
    from collections.abc import Mapping

CREATE = "elasticmapreduce:createCluster"
RUN = "elasticmapreduce:addStep.sync"
TERMINATE = "elasticmapreduce:terminateCluster"
LIST = "aws-sdk:s3:listObjectsV2"
READ = "aws-sdk:s3:getObject"
DESCRIBE = "aws-sdk:emr:describeCluster"
STEPS = "aws-sdk:emr:listSteps"
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
    return gives({"IsTruncated": more, "KeyCount": len(keys), "Prefix": "images/b/", **contents})


def cluster_ended(code: str, message: str) -> Answer:
    status = {
        "State": "TERMINATED_WITH_ERRORS",
        "StateChangeReason": {"Code": code, "Message": message},
    }
    return gives({"Cluster": {"Status": status}})


GOOD: Mapping[str, Answer] = {
    LIST: listing("images/b/apple/1.jpg", "images/b/_READY"),
    CREATE: gives({"ClusterId": "j-1", "ClusterArn": "arn:any"}),
    RUN: gives({"Step": {"Id": "s-1"}}),
    TERMINATE: gives({}),
    TELL: gives({"MessageId": "m-1"}),
}
FAILED_STEP: Mapping[str, Answer] = {
    **GOOD,
    RUN: refuses("the step failed", "EMR.StepFailed"),
    READ: refuses("The specified key does not exist.", "S3.NoSuchKeyException"),
    DESCRIBE: gives(
        {"Cluster": {"Status": {"State": "WAITING", "StateChangeReason": {"Message": "any"}}}}
    ),
    STEPS: gives({"Steps": [{"Status": {"State": "FAILED"}}]}),
}
