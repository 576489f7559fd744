"""How a failed run is told: the states that find out what failed, in words, while there is time.

They run while the cluster is up, so none of them may fail: every task has a way on, and every
path that a Pass reads was made sure of by the states before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spark_job.contract import FAILURE, work_folder
from stacks.identity import EMR_LOGS
from stacks.states import RETRY_BRIEFLY, catch, format_string, record_failure, service

if TYPE_CHECKING:
    from aws_cdk import aws_s3

    from stacks.config import OrchardConfig
    from stacks.states import State, States

JOB: Final = "JobFailed"
CLUSTER: Final = "ClusterFailed"

_LOGS: Final = "(Logs: s3://{}/" + EMR_LOGS + "{}/)"

STATUS: Final = "$.described.Cluster.Status"
"""Where the states that describe a cluster leave its status."""

ENDED: Final = ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")

# Each may be missing from EMR's answer, and a selector of a missing path could not be caught: the
# answers are kept whole, and Choice states look whether these are there.
_REASON: Final = f"{STATUS}.StateChangeReason"
_ERROR: Final = f"{STATUS}.ErrorDetails[0].ErrorMessage"
_DETAILS: Final = "$.listed.Steps[0].Status.FailureDetails"

_THROTTLED: Final = ("*Rate exceeded*", "*ThrottlingException*")
_MOST_ATTEMPTS: Final = 20

# EMR's codes for the end of a cluster, and what helps.
_FIXES: Final = {
    "BOOTSTRAP_FAILURE": "Read node/<instance>/bootstrap-actions/1/stderr.gz in its logs; a"
    " wheelhouse that is incomplete, or of another architecture, is mended by `make wheelhouse` and"
    " `cdk deploy`.",
    "INSTANCE_FLEET_TIMEOUT": "EC2 had no such instances to give; try again later, with another"
    " instance_type, or with spot false.",
    "INSTANCE_FAILURE": "An instance was lost, as Spot ones can be; start the batch again.",
    "INTERNAL_ERROR": "Where EC2 had too few such instances, start the batch again later, with"
    " another instance_type or with fewer core_instances; else start it again, and ask the"
    " support of AWS where that does not help.",
    "VALIDATION_ERROR": "EC2 or EMR refused the request: check the quotas of the account, the"
    " subnets and the roles.",
    "USER_REQUEST": "Someone terminated the cluster; start the batch again if that was a mistake.",
}


_OTHER_END: Final = "Start the batch again, unless these words say what to change first."


def was_throttled() -> State:
    """Return the condition that a request was turned away unheard, and not too often yet.

    How often that happened is counted in ``$.throttled.count``.
    """
    return {
        "And": [
            {"Variable": "$.throttled.count", "NumericLessThan": _MOST_ATTEMPTS},
            {
                "Or": [
                    {"Variable": "$.error.Cause", "StringMatches": pattern}
                    for pattern in _THROTTLED
                ]
            },
        ]
    }


def describe_failure(
    config: OrchardConfig, *, data: aws_s3.IBucket, logs: aws_s3.IBucket, then: str
) -> States:
    """Return the states from ``DescribeFailure`` on, which leave ``$.failure``.

    They ask the job itself, then the cluster, then the step, and take the first answer.

    Parameters
    ----------
    config
        The deployment's configuration.
    data, logs
        The buckets in which the job and EMR leave their reasons.
    then
        The state that follows, whatever happens here.
    """
    where = f"'{logs.bucket_name}'"
    return {
        "DescribeFailure": {
            "Type": "Choice",
            "Choices": [
                {
                    "Variable": "$.error.Error",
                    "StringEquals": "States.Timeout",
                    "Next": "TellTimeout",
                }
            ],
            "Default": "ReadJobFailure",
        },
        "TellTimeout": record_failure(
            then,
            JOB,
            f"Batch {{}} was not done after {config.job_timeout_minutes} minutes and was stopped;"
            " give it more core_instances, or the deployment a longer job_timeout_minutes."
            f" {_LOGS}",
            "$.settings.batch",
            where,
            "$.cluster.id",
        ),
        "ReadJobFailure": {
            "Type": "Task",
            "Resource": service("aws-sdk:s3:getObject"),
            "Parameters": {
                "Bucket": data.bucket_name,
                "Key.$": format_string(
                    f"{work_folder('{}', '{}')}/{FAILURE}", "$.settings.batch", "$.run"
                ),
            },
            "ResultSelector": {"job.$": "States.StringToJson($.Body)"},
            "ResultPath": "$.report",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("DescribeCluster", "$.unread"),
            "Next": "DidJobSayWhy",
        },
        "DidJobSayWhy": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.report.job.message", "IsPresent": True},
                        {"Variable": "$.report.job.message", "IsString": True},
                    ],
                    "Next": "TellJobFailure",
                }
            ],
            "Default": "DescribeCluster",
        },
        "TellJobFailure": record_failure(
            then,
            JOB,
            f"Batch {{}} failed: {{}} {_LOGS}",
            "$.settings.batch",
            "$.report.job.message",
            where,
            "$.cluster.id",
        ),
        "DescribeCluster": {
            "Type": "Task",
            "Resource": service("aws-sdk:emr:describeCluster"),
            "Parameters": {"ClusterId.$": "$.cluster.id"},
            "ResultPath": "$.described",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("DescribeStep", "$.unread"),
            "Next": "AreThereDetails",
        },
        **_describe_end(then, where),
        "DescribeStep": {
            "Type": "Task",
            "Resource": service("aws-sdk:emr:listSteps"),
            "Parameters": {"ClusterId.$": "$.cluster.id"},
            "ResultPath": "$.listed",
            "Retry": RETRY_BRIEFLY,
            "Catch": catch("TellError", "$.unread"),
            "Next": "DidStepSayWhy",
        },
        "DidStepSayWhy": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": f"{_DETAILS}.Reason", "IsPresent": True},
                        {"Variable": f"{_DETAILS}.LogFile", "IsPresent": True},
                    ],
                    "Next": "TellStepFailure",
                }
            ],
            "Default": "TellError",
        },
        "TellStepFailure": record_failure(
            then,
            JOB,
            "Batch {} failed and its job could not say why, as when its memory ran out or its node"
            f" was lost: {{}} See {{}}. Start it again: it goes on where it was. If it fails alike,"
            f" name a larger instance_type. {_LOGS}",
            "$.settings.batch",
            f"{_DETAILS}.Reason",
            f"{_DETAILS}.LogFile",
            where,
            "$.cluster.id",
        ),
        "TellError": record_failure(
            then,
            JOB,
            "Batch {} failed, and neither job nor cluster said why; Step Functions has {}. Start it"
            f" again: it goes on where it was. If it fails alike, read its logs. {_LOGS}",
            "$.settings.batch",
            "States.JsonToString($.error)",
            where,
            "$.cluster.id",
        ),
    }


def _describe_end(then: str, where: str) -> States:
    """Return the states that tell the end of a cluster in EMR's words, with what helps."""
    said = [
        {"Variable": f"{_REASON}.Code", "IsPresent": True},
        {"Variable": f"{_REASON}.Message", "IsPresent": True},
    ]

    def teller(fix: str) -> State:
        return record_failure(
            then,
            CLUSTER,
            f"Batch {{}} failed, for its cluster ended: {{}}{{}} ({{}}). {fix} {_LOGS}",
            "$.settings.batch",
            f"{_REASON}.Message",
            "$.details.text",
            f"{_REASON}.Code",
            where,
            "$.cluster.id",
        )

    return {
        "AreThereDetails": {
            "Type": "Choice",
            "Choices": [{"Variable": _ERROR, "IsPresent": True, "Next": "ReadDetails"}],
            "Default": "NoDetails",
        },
        "ReadDetails": {
            "Type": "Pass",
            "Parameters": {"text.$": format_string("; {}", _ERROR)},
            "ResultPath": "$.details",
            "Next": "DidClusterSayWhy",
        },
        "NoDetails": {
            "Type": "Pass",
            "Result": {"text": ""},
            "ResultPath": "$.details",
            "Next": "DidClusterSayWhy",
        },
        "DidClusterSayWhy": {
            "Type": "Choice",
            "Choices": [
                *(
                    {
                        "And": [*said, {"Variable": f"{_REASON}.Code", "StringEquals": code}],
                        "Next": _teller(code),
                    }
                    for code in _FIXES
                ),
                {
                    "And": [
                        *said,
                        {
                            "Or": [
                                {"Variable": f"{STATUS}.State", "StringEquals": state}
                                for state in ENDED
                            ]
                        },
                    ],
                    "Next": "TellOtherEnd",
                },
            ],
            "Default": "DescribeStep",
        },
        **{_teller(code): teller(fix) for code, fix in _FIXES.items()},
        "TellOtherEnd": teller(_OTHER_END),
    }


def _teller(code: str) -> str:
    return "Tell" + "".join(part.capitalize() for part in code.split("_"))
