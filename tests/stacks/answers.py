"""What services answer the state machines in tests: good answers, refusals, and what EMR says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spark_job.receipts import Counts, Digests, EngineReceipt, ModelReceipt, RunReceipt
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


def holding(*keys: str) -> Answer:
    """List a bucket that has these keys, and images in any batch's folder."""
    images = listing("images/b/apple/1.jpg", "images/b/_READY")

    def answer(parameters: dict[str, Any]) -> Any:
        prefix = parameters["Prefix"]
        if prefix.startswith("images/") and parameters["MaxKeys"] > 1:
            return images(parameters)
        found = sorted(key for key in keys if key.startswith(prefix))
        if "Delimiter" not in parameters:
            return listing(*found[: parameters["MaxKeys"]])(parameters)
        folders = {prefix + key.removeprefix(prefix).split("/")[0] + "/" for key in found}
        common = {"CommonPrefixes": [{"Prefix": folder} for folder in sorted(folders)]}
        page = {"IsTruncated": False, "KeyCount": len(folders), "Prefix": prefix}
        return {**page, **(common if folders else {})}

    return answer


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


RECEIPT = RunReceipt(
    batch="b",
    run="run-1",
    images="s3://data/images/b/",
    output="s3://data",
    results="s3://data/results/b/runs/run-1",
    started="2026-11-20T10:00:00+00:00",
    finished="2026-11-20T10:00:26+00:00",
    counts=Counts(listed=293, computed=8, carried_over=280, rejected=4, unsupported=1),
    digests=Digests(),
    model=ModelReceipt("01ab", 15, 288, {"variance": 0.8}, True, 0.81, 0.81, 5.0, True),
    engine=EngineReceipt("spark", 8),
    network="mobilenet_v2",
    extractor="mobilenet_v2-0",
    processors={},
    images_per_second=71.25,
    seconds={"total": 26.5},
    seconds_in_workers={},
    settings={},
    versions={},
)
"""Of a batch that had most of its images before."""


def receipt(**changed: Any) -> Answer:
    """Give a run's receipt as the job writes it."""
    return gives({"Body": replace(RECEIPT, **changed).to_json().decode()})


GOOD: Mapping[str, Answer] = {
    LIST: holding(
        "images/b.csv",
        "images/b.parquet",
        "models/mobilenet_v2-0/current.json",
        "models/mobilenet_v2-0/01ab/model.npz",
    ),
    RUNNING: running("run-1"),
    PARAMETER: gives({"Parameter": {"Value": "a-security-configuration"}}),
    CREATE: gives({"ClusterId": "j-1", "ClusterArn": "arn:any"}),
    DESCRIBE: cluster_is("WAITING"),
    PUT: gives({}),
    RUN: gives({"Step": {"Id": "s-1"}}),
    READ: receipt(),
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
