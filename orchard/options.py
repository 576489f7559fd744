"""Options that several commands take, and what they mean."""

from pathlib import Path
from typing import Annotated

import typer

from spark_job import contract
from spark_job.errors import UsageError
from spark_job.objects import Folder, open_folder

ENVIRONMENT = "ORCHARD_OUTPUT"

DEFAULT = "out"
"""Where `make demo` puts an output for each batch, below the current folder."""

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="ROOT",
        envvar=ENVIRONMENT,
        help="The job's --output, local or s3:// (default: ./out, or the one output in it).",
        show_default=False,
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]

Batches = Annotated[
    str,
    typer.Option("--batches", metavar="A,B,C", help="Batches by name, with commas between them."),
]


def open_root(output: str | None) -> Folder:
    """Reach the root of all batches.

    Raises
    ------
    UsageError
        Where it is none, or where several could be meant.
    """
    asked = output or DEFAULT
    root = open_folder(asked if "://" in asked else str(Path(asked).expanduser()))
    if _is_root(root):
        return root
    inner = [root / name for name in root.folders()] if root.is_local else []
    roots = [folder for folder in inner if _is_root(folder)]
    if not output and len(roots) == 1:
        return roots[0]
    named = ", ".join(str(folder.uri) for folder in roots[:8])
    remedy = f"say --output with one of {named}" if roots else "check --output"
    raise UsageError(
        f"{root.uri} has neither {contract.RESULTS} nor {contract.MODELS} of the job; {remedy}"
    )


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
