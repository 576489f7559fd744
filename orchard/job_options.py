"""The job's options as those of a command: taken from its own parser, so that none is missing."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from spark_job.errors import UsageError
from spark_job.settings import Parser, make_parser, parse_args

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from spark_job.settings import JobSettings

PANEL = "The job's options"

FOR_CLUSTERS = {"default_variance", "billed_since", "nodes", "node_price", "primary_price"}
"""What a deployed stack tells the job: taken here too, and not in the help."""


def take_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command each of the job's options that it has no parameter for, as keywords.

    What is said arrives as text, and a flag as True; `read_settings` has the job check it.
    """
    own = [
        one
        for one in inspect.signature(command, eval_str=True).parameters.values()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    declared = {one.name for one in own} | {"help", "images"}
    options: dict[str, inspect.Parameter] = {}
    for action in make_parser()._actions:
        name = action.option_strings[-1][2:].replace("-", "_")
        if name not in declared:
            options[name] = _parameter(name, action)
    signature = inspect.Signature([*own, *options.values()])
    command.__signature__ = signature  # type: ignore[attr-defined]
    return command


def read_settings(required: Mapping[str, str], options: Mapping[str, str | bool]) -> JobSettings:
    """Have the job's parser read a command's options.

    Parameters
    ----------
    required
        Values of options by their names.
    options
        What `take_job_options` gave, and None of what was not said.

    Raises
    ------
    UsageError
        Where the job would refuse one.
    """
    said = {name: value for name, value in options.items() if value is not None}
    words = [
        f"--{name.replace('_', '-')}{'' if value is True else f'={value}'}"
        for name, value in {**required, **said}.items()
    ]
    return parse_args(words, make_parser(_Sentences))


class _Sentences(Parser):
    """Refuses in a sentence of a command's."""

    def refuse(self, message: str) -> NoReturn:
        raise UsageError(re.sub(r"^argument (--\S+: )", r"\1", message))


def _parameter(name: str, action: argparse.Action) -> inspect.Parameter:
    """Make the parameter of an option."""
    option = f"--{name.replace('_', '-')}"
    about: dict[str, Any] = {
        "help": action.help,
        "show_default": False,
        "rich_help_panel": PANEL,
        "hidden": name in FOR_CLUSTERS,
    }
    annotation: Any
    if action.nargs in ("?", 0):  # a flag
        annotation = Annotated[bool | None, typer.Option(option, **about)]
    else:
        metavar = str(action.metavar or name.upper())
        annotation = Annotated[str | None, typer.Option(option, metavar=metavar, **about)]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
