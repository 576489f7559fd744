"""Whether the AWS CLI has a command that a page or a message names.

Commands are held against the services' own models, by which the CLI makes its commands, as far as
it does: `aws s3`, `configure` and `sso`, and some options of `aws emr`, are its own.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from botocore import xform_name
from botocore.model import ListShape, StructureShape

from tests.pages import REPOSITORY, TEXT
from tests.stacks.definitions import check_call, service_model

if TYPE_CHECKING:
    from botocore.model import Shape

GLOBAL: Final = {"--region", "--profile", "--query", "--output"}
OWN: Final = {"s3 sync": 2, "s3 cp": 2, "configure sso": 0, "sso login": 0}
"""Commands that no service's model has, with how many words follow before an option."""
RENAMED: Final = {
    ("emr", "terminate-clusters"): ("terminate-job-flows", {"--cluster-ids": "--job-flow-ids"}),
    ("emr", "list-clusters"): ("list-clusters", {"--active": "--cluster-states"}),
}
"""What the CLI calls otherwise than the service: its operations, and their options."""

_ANY_ARN: Final = "arn:aws:iam::123456789012:policy/some"

_COMMAND: Final = re.compile(
    r"\b(?<!\.)aws (?!import )(?=[a-z0-9]+ [a-z])(?:'[^'\n]*'|[^`\n\"#|)])*"
)


def said() -> list[str]:
    """Return every command in the pages and in the code's texts."""
    documented = TEXT.replace("\\\n", " ")
    found = {match.strip(" )") for match in _COMMAND.findall(documented)}
    for folder in ("stacks", "operations", "rehearsal", "orchard", "spark_job", "bootstrap"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            # Texts that are written in parts are one.
            text = re.sub(r"\"\n\s+f?\"", "", path.read_text("utf-8"))
            found |= {match.strip(" )") for match in _COMMAND.findall(text)}
    return sorted(found)


def _values(shape: Shape, words: list[str]) -> Any:
    """Read an option's words as the CLI does, as far as pages and messages use it."""
    if isinstance(shape, StructureShape) and "=" in words[0]:
        pairs = dict(pair.split("=", 1) for pair in words[0].split(","))
        return {name: _values(shape.members[name], [value]) for name, value in pairs.items()}
    if isinstance(shape, ListShape):
        return [_values(shape.member, [word]) for word in words]
    if shape.type_name == "map":
        text = words[0]
        return {pair.split("=")[0]: [pair.split("=")[1]] for pair in text.split(",")}
    return {"boolean": True, "integer": 1}.get(shape.type_name, words[0] if words else "")


def check(command: str) -> None:
    """Assert that the CLI would take a command."""
    _, service, name, *words = shlex.split(command)
    words = [_ANY_ARN if word == "ARN" else word for word in words]
    if (own := f"{service} {name}") in OWN:
        places = [word for word in words if not word.startswith("--")][: OWN[own]]
        assert len(places) == OWN[own], command
        return
    operation, renamed = RENAMED.get((service, name), (name, {}))
    model = service_model({"s3api": "s3"}.get(service, service))
    by_name = {xform_name(each, "-"): each for each in model.operation_names}
    assert operation in by_name, f"aws {service} has no {name}"
    shape = model.operation_model(by_name[operation]).input_shape
    assert shape is not None
    members = {f"--{xform_name(member, '-')}": member for member in shape.members}
    given: dict[str, Any] = {}
    for option, *values in _options(words):
        if option in GLOBAL:
            continue
        option = renamed.get(option, option)
        assert option in members, f"aws {service} {name} has no {option}"
        member = members[option]
        given[member] = _values(shape.members[member], values or ["RUNNING"])
    if service == "stepfunctions":
        given = {key[0].upper() + key[1:]: value for key, value in given.items()}
        service = "sfn"
    check_call(f"aws-sdk:{ {'s3api': 's3'}.get(service, service) }:{by_name[operation]}", given)
    if "Input" in given:
        json.loads(given["Input"])


def _options(words: list[str]) -> list[list[str]]:
    """Divide words into options, each with the words that follow."""
    options: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            options.append([word])
        else:
            options[-1].append(word)
    return options
