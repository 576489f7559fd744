"""Options that several commands take, and what they mean."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from orchard.cloud import stack as deployed_stack
from orchard.collection import batch_names
from spark_job import contract
from spark_job.errors import JobError, UsageError
from spark_job.objects import Folder, open_folder
from spark_job.s3 import require_credentials

ENVIRONMENT = "ORCHARD_OUTPUT"

RESULTS_HERE = "orchard-results"
"""Where `orchard run` puts all batches, below the current folder."""

DEMO = "out"
"""Where `make demo` puts an output for what it draws, below the current folder."""

NewOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="ROOT",
        envvar=ENVIRONMENT,
        help="Where results and models of all batches that are to compare lie, local or s3:// "
        f"(default: ./{RESULTS_HERE}).",
        show_default=False,
    ),
]

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="ROOT",
        envvar=ENVIRONMENT,
        help=f"Where results and models lie, local or s3:// (default: ./{RESULTS_HERE}, or what "
        "`make demo` made).",
        show_default=False,
    ),
]

Stack = Annotated[
    str | None,
    typer.Option(
        "--stack",
        metavar="NAME",
        envvar=deployed_stack.ENVIRONMENT,
        help="Look at the deployed stack of this name instead.",
        show_default=False,
    ),
]

TheStack = Annotated[
    str,
    typer.Option(
        "--stack",
        metavar="NAME",
        envvar=deployed_stack.ENVIRONMENT,
        help="The deployed stack's name.",
    ),
]


def _complete_batch(context: typer.Context, incomplete: str) -> list[str]:
    """Name the batches that a shell may mean, where that takes no time."""
    output = context.params.get("output") or os.environ.get(ENVIRONMENT)
    if "://" in (output or ""):
        return []
    with suppress(JobError, OSError):
        names = batch_names(open_root(output))
        return [name for name in names if name.startswith(incomplete)]
    return []


Batch = Annotated[
    str,
    typer.Argument(
        metavar="BATCH",
        help="The batch's name.",
        show_default=False,
        autocompletion=_complete_batch,
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]

Batches = Annotated[
    str,
    typer.Option("--batches", metavar="A,B,C", help="Batches by name, with commas between them."),
]


def expand(place: str) -> str:
    """Put the home folder in for ``~``, which a shell leaves alone behind ``=``."""
    return place if "://" in place else str(Path(place).expanduser())


def reach(place: str) -> Folder:
    """Open a folder as a person says it, local or in S3.

    Raises
    ------
    UsageError
        Where it is none, or is in S3 and nobody is signed in.
    """
    if place.startswith("s3://"):
        require_credentials()
    return open_folder(expand(place))


def open_root(output: str | None, stack: str | None = None) -> Folder:
    """Reach the root of all batches: what was said on the command line, else in the environment.

    Parameters
    ----------
    output
        A folder, local or in S3; None where none was said.
    stack
        The name of a deployed stack, whose data bucket it is; None where none was said.

    Raises
    ------
    UsageError
        Where it is none, or where several could be meant.
    """
    chosen = _choose_stack(output, stack)
    if chosen is not None:
        return deployed_stack.find_stack(chosen).root
    if not output:
        here = open_folder(RESULTS_HERE)
        if _is_root(here):
            return here
    root = reach(output or DEMO)
    if _is_root(root):
        return root
    inner = [root / name for name in root.folders()] if root.is_local else []
    roots = [folder for folder in inner if _is_root(folder)]
    if not output and len(roots) == 1:
        return roots[0]
    if roots:
        named = ", ".join(str(folder.uri) for folder in roots[:8])
        remedy = f"say --output with one of {named}"
    else:
        remedy = "check --output" if output else "say --output, or begin with `orchard run DIR`"
    where = root.uri if output or roots else open_folder(RESULTS_HERE).uri
    raise UsageError(
        f"{where} has neither {contract.RESULTS} nor {contract.MODELS} of the job; {remedy}"
    )


def _choose_stack(output: str | None, stack: str | None) -> str | None:
    """Choose between a folder and a stack; None for the folder, or for what lies here."""
    if output is None or stack is None:
        return stack
    folder_said = output != os.environ.get(ENVIRONMENT)
    stack_said = stack != os.environ.get(deployed_stack.ENVIRONMENT)
    if folder_said and stack_said:
        raise UsageError("--output and --stack each say where to look; say one of them")
    return stack if stack_said else None


def split_names(text: str) -> list[str]:
    """Split names at commas.

    Raises
    ------
    UsageError
        Where there is none, or an empty one.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--batches takes names with commas between them; not {text!r}")
    return names


def _is_root(folder: Folder) -> bool:
    known = {contract.RESULTS, contract.MODELS, contract.WORK}
    return bool(known & set(folder.folders()))
