"""The deployed stack, found by its name: its outputs say where everything is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchard import console
from orchard.cloud.session import MissingError, client, find_region, in_sentences
from spark_job import __version__, contract, deployed
from spark_job.errors import UsageError
from spark_job.objects import open_folder
from spark_job.run_input import Bounds

if TYPE_CHECKING:
    from spark_job.objects import Folder

DEFAULT = "Orchard"
"""The name of a stack, where nothing else is said."""

ENVIRONMENT = "ORCHARD_STACK"

NEEDED = (deployed.DATA_BUCKET, deployed.LOG_BUCKET, deployed.STATE_MACHINE)


@dataclass(frozen=True)
class Stack:
    """A deployed stack.

    Attributes
    ----------
    name, region
        Which.
    account
        The account's number.
    version
        Of which Orchard it is; None where it is of one that did not say.
    data_bucket, log_bucket
        Names.
    state_machine
        The ARN of the machine that runs batches.
    bounds
        What it decides of executions' input; None where it does not say.
    monthly_budget
        In US dollars; None where it does not say.
    budget
        The budget's name; None where it has none.
    """

    name: str
    region: str
    account: str
    version: str | None
    data_bucket: str
    log_bucket: str
    state_machine: str
    bounds: Bounds | None = None
    monthly_budget: float | None = None
    budget: str | None = None

    @property
    def root(self) -> Folder:
        """The root of all batches."""
        return self._open(self.data_bucket)

    @property
    def logs(self) -> Folder:
        """The root of all logs."""
        return self._open(self.log_bucket)

    def execution(self, run: str) -> str:
        """Return the ARN of the execution of a run."""
        return f"{self.state_machine.replace(':stateMachine:', ':execution:', 1)}:{run}"

    def again(self, command: str) -> str:
        """Return a command to say next, for this very stack."""
        named = "" if self.name == os.environ.get(ENVIRONMENT, DEFAULT) else f" --stack {self.name}"
        return f"`orchard {command}{named}`"

    def looking(self, command: str) -> str:
        """Return a command to say next that looks at results here, and elsewhere by default."""
        return f"`orchard {command} --stack {self.name}`"

    def _open(self, bucket: str) -> Folder:
        # Looking a bucket's region up takes a right of its own; the stack's is known.
        os.environ.setdefault("AWS_REGION", self.region)
        return open_folder(f"s3://{bucket}")


def find_stack(name: str) -> Stack:
    """Find a deployed stack; one of another version is warned of.

    Raises
    ------
    UsageError
        Where there is none, or it is of another contract.
    """
    region = find_region()
    cloudformation = client("cloudformation")
    try:
        with in_sentences(
            f"look for the stack {name} in {region}", if_denied="check --stack and AWS_REGION"
        ):
            [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except MissingError as error:
        raise UsageError(
            f"there is no stack {name} in {region}; say --stack or AWS_REGION with where it is, or "
            "`make deploy` in a checkout"
        ) from error
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}
    lacking = [output for output in NEEDED if output not in outputs]
    if lacking:
        raise UsageError(
            f"the stack {name} in {region} has no output {', '.join(lacking)}: it is none of "
            "Orchard's, or its deployment did not end well; say --stack with another name"
        )
    _check(name, outputs)
    return Stack(
        name=name,
        region=region,
        account=found["StackId"].split(":")[4],
        version=outputs.get(deployed.VERSION),
        data_bucket=outputs[deployed.DATA_BUCKET],
        log_bucket=outputs[deployed.LOG_BUCKET],
        state_machine=outputs[deployed.STATE_MACHINE],
        bounds=_bounds(outputs.get(deployed.RUN_INPUT)),
        monthly_budget=_number(outputs.get(deployed.MONTHLY_BUDGET)),
        budget=outputs.get(deployed.BUDGET),
    )


def _check(name: str, outputs: dict[str, str]) -> None:
    """Refuse a stack of another contract, and warn of one of another version."""
    theirs, ours = outputs.get(deployed.CONTRACT), str(contract.CONTRACT)
    version = outputs.get(deployed.VERSION, "a version that does not say which")
    if theirs not in (None, ours):
        raise UsageError(
            f"the stack {name} is of {version}, whose results are of contract {theirs}, and this "
            f"Orchard, {__version__}, reads contract {ours}; install that one here, or deploy this "
            "one over it (`make deploy` in a checkout)"
        )
    if version != __version__:
        console.say(
            f"orchard: the stack {name} is of {version}, and this is {__version__}: what they say "
            "to each other may differ; install that one here, or deploy this one over it"
        )


def _bounds(text: str | None) -> Bounds | None:
    try:
        return None if text is None else Bounds.from_json(text)
    except ValueError:  # of another version
        return None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
