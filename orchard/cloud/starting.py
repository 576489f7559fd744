"""What an execution is started with: the fields of the state machine as a command's options.

The fields, what they may say and the sentences that refuse them are `spark_job.run_input`'s, of
which the state machine's own conditions are made; the bounds are the deployed stack's.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spark_job import contract
from spark_job.corrections import read_corrections
from spark_job.errors import UsageError
from spark_job.listing import read_manifest
from spark_job.objects import open_folder
from spark_job.run_input import FOR_CLUSTERS, Bounds, File, Truth, input_fields, refusal
from spark_job.s3 import S3Folder
from spark_job.settings import make_parser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchard.cloud.stack import Stack

NOT_OPTIONS = ("batch", "marker")
"""Fields that are no options: what the command is about, and the trigger's."""

HELP = {
    "images": "where the pictures lie, if not in the folder of the batch's name",
    "core_instances": "nodes beside the primary one",
    "instance_type": "the nodes' type",
    "spot": "all nodes but one on Spot",
}
"""Of fields that are no options of the job."""

METAVARS = {"core_instances": "N", "instance_type": "TYPE"}

METAVARS = {"core_instances": "N", "instance_type": "TYPE"}

UNKNOWN = Bounds("auto", 0.8, 0.05, 1, 1_000_000, ("",), spot=False)
"""Of a stack that does not tell its own: they serve to read values, and refuse none."""


@dataclass
class Given:
    """What an execution is to be started with.

    Attributes
    ----------
    input
        For Step Functions.
    uploads
        Files of this machine that it names, by where they go in the data bucket.
    """

    input: dict[str, Any]
    uploads: dict[str, bytes] = field(default_factory=dict)

    def upload(self, stack: Stack) -> None:
        """Bring its files to where the job may read."""
        root = stack.root
        if isinstance(root, S3Folder):
            for name, content in self.uploads.items():
                root.write_checked(name, content)


def take_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command each field of the state machine's input as a keyword.

    What is said arrives as text, and a truth as True or False; `read_given` checks it.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [
        one
        for one in signature.parameters.values()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    # An option's negation comes after it.
    actions = {action.dest: action for action in reversed(make_parser()._actions)}
    options = [
        _parameter(each.name, each.kind, actions.get(each.name))
        for each in input_fields(UNKNOWN, "")
        if each.name not in NOT_OPTIONS
    ]
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return command


def read_given(batch: str, options: Mapping[str, str | bool | None], stack: Stack) -> Given:
    """Make the input of what was said, and refuse what the state machine would.

    Parameters
    ----------
    batch
        The batch.
    options
        What `take_fields` gave; None of what was not said.
    stack
        Whose bounds count.

    Raises
    ------
    UsageError
        Where something is not allowed, in the state machine's own words, or a file of this machine
        is not what it should be.
    """
    kinds = {
        each.name: each.kind for each in input_fields(stack.bounds or UNKNOWN, stack.data_bucket)
    }
    given = Given({"batch": batch})
    for name, said in options.items():
        if said is None:
            continue
        kind = kinds[name]
        value = kind.read(said) if isinstance(said, str) else said
        if isinstance(kind, File) and not str(value).startswith("s3://"):
            value = _take_file(given, batch, name, str(value), stack)
        given.input[name] = value
    if stack.bounds is not None:
        refused = refusal(given.input, stack.bounds, stack.data_bucket)
        if refused is not None:
            raise UsageError(refused)
    return given


def images_of(batch: str, given: Mapping[str, Any]) -> str:
    """Where a batch's pictures lie, below the data bucket."""
    said = given.get("images")
    return said.rstrip("/") if isinstance(said, str) else f"{contract.IMAGES}/{batch}"


def _take_file(given: Given, batch: str, name: str, said: str, stack: Stack) -> str:
    """Check a file of this machine, and return where it goes."""
    path = Path(said).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--{name} {said} cannot be read ({error.strerror}); check its name, or say where it "
            f"lies in the data bucket: s3://{stack.data_bucket}/{contract.IMAGES}/..."
        ) from error
    if name == "corrections":
        read_corrections(str(path))
    else:
        folder = f"s3://{stack.data_bucket}/{images_of(batch, given.input)}"
        read_manifest(str(path), open_folder(folder))
    # Another content has another name: a run that waits reads what it was started with.
    digest = hashlib.sha256(content).hexdigest()[:12]
    where = f"{contract.IMAGES}/{batch}-{name}-{digest}{path.suffix.lower()}"
    given.uploads[where] = content
    return f"s3://{stack.data_bucket}/{where}"


def _parameter(name: str, kind: Any, action: Any) -> inspect.Parameter:
    """Make the option of a field."""
    option = f"--{name.replace('_', '-')}"
    about = HELP.get(name) or str(action.help)
    if isinstance(kind, File):
        about += "; a file of this machine is uploaded first"
    shown: dict[str, Any] = {
        "help": about,
        "show_default": False,
        "rich_help_panel": "The cluster's" if name in FOR_CLUSTERS else "The job's",
    }
    annotation: Any
    if isinstance(kind, Truth):
        both = f"{option}/--no-{name.replace('_', '-')}"
        annotation = Annotated[bool | None, typer.Option(both, **shown)]
    else:
        metavar = str(getattr(action, "metavar", None) or METAVARS[name])
        annotation = Annotated[str | None, typer.Option(option, metavar=metavar, **shown)]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
