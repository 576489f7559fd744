"""The state machine that runs one batch: check, create a cluster, run the job, end the cluster.

    CheckInput -> LookForFiles -> LookForModel -> CheckImages -> Admission -> CreateCluster
        -> wait -> RunJob -> TerminateCluster -> NotifySuccess

with a way from every state to words about what failed, and from every state after the cluster's
creation through its termination. `docs/state-machines.md` is drawn from it.

The tests run it in moto's interpreter and hold its calls against AWS's own models. What neither
shows, such as the texts of EMR's errors, is from AWS's documentation and not tried on AWS.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from aws_cdk import Stack
from constructs import Construct

from spark_job.contract import EXTENSIONS
from stacks.batch.admission import admit
from stacks.batch.publication import tell_published
from stacks.batch.references import check_references
from stacks.batch.run_input import check_input
from stacks.emr.cluster import Cluster
from stacks.emr.creation import create_cluster
from stacks.emr.failures import describe_failure
from stacks.emr.job import run_job, terminate_failed_cluster
from stacks.states import (
    RETRY_BRIEFLY,
    catch,
    format_string,
    make_state_machine,
    notify_failure,
    record_failure,
    service,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_cdk import aws_s3, aws_sns

    from stacks.artifacts import Artifacts
    from stacks.config import OrchardConfig
    from stacks.identity import Identity
    from stacks.network import Network
    from stacks.states import State, States
    from stacks.storage import Storage

_NAMES: Final = 80
"""How many names a look takes: with their text beside them they must fit a state's data."""
_LOOKS: Final = 30
"""After so many names without an image it is left to the job, which lists them all."""


class Workflow(Construct):
    """The state machine of a stack's batches.

    An execution's input is ``{"batch": "2026-11-20"}`` and whatever of
    :func:`stacks.batch.run_input.input_fields` it says differently from the deployment. The
    execution's name is the run's.

    Attributes
    ----------
    state_machine
        The state machine.
    definition
        What it was made of, in the Amazon States Language.
    cluster
        What its clusters have in common.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        storage: Storage,
        artifacts: Artifacts,
        identity: Identity,
        network: Network,
        topic: aws_sns.ITopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self.cluster = cluster = Cluster(
            self,
            "Cluster",
            config=config,
            storage=storage,
            artifacts=artifacts,
            identity=identity,
            network=network,
        )
        states: States = {
            **check_input(config, storage.data, then="NameFiles", refused="NotifyFailure"),
            **check_references(storage.data, then="LookForImages", unreadable="TellUnreadable"),
            **_check_images(storage.data, then="Admission"),
            **admit(config, topic, then="ChooseType"),
            **create_cluster(
                config,
                Stack.of(self).region,
                cluster.request,
                cluster.security_parameter,
                then="BeginJob",
            ),
            **run_job(
                config,
                _arguments(config, artifacts, storage.data),
                storage.logs,
                then="ReadReceipt",
            ),
            **describe_failure(
                config, data=storage.data, logs=storage.logs, then="TerminateFailedCluster"
            ),
            **terminate_failed_cluster(config),
            **tell_published(topic, storage.data),
            **notify_failure(topic, "Orchard: a batch failed"),
        }
        self.definition: State = {
            "Comment": "Runs one batch of images on a cluster of its own.",
            "StartAt": "CheckInput",
            "TimeoutSeconds": 60 * (config.wait_timeout_minutes + config.execution_timeout_minutes),
            "States": states,
        }
        self.state_machine = make_state_machine(
            self, name="Workflow", definition=self.definition, config=config
        )


def _check_images(data: aws_s3.IBucket, *, then: str) -> States:
    names, more = "$.looked.names", "$.listing.NextContinuationToken"
    return {
        "LookForImages": {
            "Type": "Pass",
            "Result": {"looks": 0},
            "ResultPath": "$.looked",
            "Next": "CheckImages",
        },
        "CheckImages": _list_images(data),
        "ReadNames": {
            "Type": "Pass",
            # As text, which can be searched for a suffix; the marker and folders have none.
            "Parameters": {
                "names.$": "States.JsonToString($.listing)",
                "looks.$": "States.MathAdd($.looked.looks, 1)",
            },
            "ResultPath": "$.looked",
            "Next": "AreThereImages",
        },
        "AreThereImages": {
            "Type": "Choice",
            "Choices": [
                {
                    "Or": [
                        {"Variable": names, "StringMatches": f"*.{suffix}*"}
                        for extension in EXTENSIONS
                        for suffix in _spellings(extension)
                    ],
                    "Next": then,
                },
                {"Variable": more, "IsPresent": False, "Next": "TellNoImages"},
                {
                    "Variable": "$.looked.looks",
                    "NumericLessThan": _LOOKS,
                    "Next": "CheckMoreImages",
                },
            ],
            "Default": then,
        },
        "CheckMoreImages": _list_images(data, **{"ContinuationToken.$": more}),
        "TellNoImages": record_failure(
            "NotifyFailure",
            "NoImages",
            "Batch {} has no images: s3://{}/{} holds none that is taken"
            f" ({', '.join(EXTENSIONS)}; no HEIC, no raw files); put them under a folder for each"
            " label there, and then start the batch again.",
            "$.settings.batch",
            f"'{data.bucket_name}'",
            "$.settings.images",
        ),
        "TellUnreadable": record_failure(
            "NotifyFailure",
            "DataUnreadable",
            "Batch {} was not started, for s3://{} cannot be listed ({}). Where S3 was busy,"
            " start it again; where it denies access, look for a policy of the bucket or of the"
            " organization that does.",
            "$.settings.batch",
            f"'{data.bucket_name}'",
            "$.error.Cause",
        ),
    }


def _list_images(data: aws_s3.IBucket, **further: str) -> State:
    """Return the state that lists some names of the batch, from the first or further on."""
    return {
        "Type": "Task",
        "Resource": service("aws-sdk:s3:listObjectsV2"),
        "Parameters": {
            "Bucket": data.bucket_name,
            "Prefix.$": "$.settings.images",
            "MaxKeys": _NAMES,
            **further,
        },
        "ResultPath": "$.listing",
        "Retry": RETRY_BRIEFLY,
        "Catch": catch("TellUnreadable"),
        "Next": "ReadNames",
    }


def _spellings(extension: str) -> Iterator[str]:
    """Yield an extension in every mixture of small and capital letters: there is no other way."""
    return map("".join, product(*((letter, letter.upper()) for letter in extension)))


def _arguments(config: OrchardConfig, artifacts: Artifacts, data: aws_s3.IBucket) -> str:
    """Return the step's command line, whose reader is `spark_job.settings`."""
    bucket = f"'{data.bucket_name}'"
    command = (
        "'spark-submit'",
        # The driver lives in a container of its own, whose log YARN collects and whose memory
        # NodeShape reckons with.
        "'--deploy-mode'",
        "'cluster'",
        "'--name'",
        format_string("orchard {} {}", "$.settings.batch", "$.run"),
        "'--py-files'",
        f"'{artifacts.job_zip_uri}'",
        f"'{artifacts.entry_point_uri}'",
        "'--images'",
        format_string("s3://{}/{}", bucket, "$.settings.images"),
        "'--output'",
        format_string("s3://{}", bucket),
        "'--batch'",
        "$.settings.batch",
        "'--run'",
        "$.run",
        "'--pca'",
        "$.settings.pca",
        "'--model'",
        "$.settings.model",
        "'--variance'",
        format_string("{}", "$.settings.variance"),
        "'--default-variance'",
        f"'{config.variance:g}'",
        "'--components'",
        format_string("{}", "$.settings.components"),
        "'--standardize'",
        format_string("{}", "$.settings.standardize"),
        "'--network'",
        "$.settings.network",
        "'--full-decode'",
        format_string("{}", "$.settings.full_decode"),
        "'--manifest'",
        "$.settings.manifest",
        "'--corrections'",
        "$.settings.corrections",
        "'--max-pixels'",
        format_string("{}", "$.settings.max_pixels"),
        "'--max-reject-rate'",
        format_string("{}", "$.settings.max_reject_rate"),
        "'--allow-unsupported'",
        format_string("{}", "$.settings.allow_unsupported"),
        "'--again'",
        format_string("{}", "$.settings.again"),
        "'--findings'",
        "$.settings.findings",
        "'--csv'",
        format_string("{}", "$.settings.csv"),
        "'--billed-since'",
        "$.capacity.since",
        "'--nodes'",
        format_string("{}", "$.settings.core_instances"),
        "'--node-price'",
        "$.capacity.node_price",
        "'--primary-price'",
        "$.prices.primary",
    )
    return f"States.Array({', '.join(command)})"
