"""Synthesized stacks, each configuration once per session."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# jsii would take the path's Node, which may be an older one than the environment's own.
_NODE = Path(sys.prefix) / "bin" / "node"
if _NODE.exists():
    os.environ.setdefault("JSII_NODE", str(_NODE))

from aws_cdk import App, Environment  # noqa: E402

from stacks.config import OrchardConfig  # noqa: E402
from stacks.pipeline_stack import PipelineStack  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REPOSITORY = Path(__file__).parents[2]


@dataclass
class Synthesis:
    """An app of one or more pipeline stacks, and their templates."""

    app: App
    stacks: dict[str, PipelineStack]
    messages: list[str] = field(default_factory=list)

    @cached_property
    def templates(self) -> dict[str, dict[str, Any]]:
        assembly = self.app.synth()
        for stack in assembly.stacks:
            self.messages += [str(message.entry.data) for message in stack.messages]
        return {name: assembly.get_stack_by_name(name).template for name in self.stacks}

    @property
    def stack(self) -> PipelineStack:
        """The only stack."""
        (stack,) = self.stacks.values()
        return stack

    @property
    def template(self) -> dict[str, Any]:
        """The only stack's template."""
        (template,) = self.templates.values()
        return template

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the only stack's resources of a kind, by logical id."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == kind
        }

    def one(self, kind: str, part: str = "") -> dict[str, Any]:
        """The properties of the one resource of a kind whose logical id has a part."""
        (found,) = [p for name, p in self.resources(kind).items() if part in name]
        return found

    def statements(self, role: str) -> list[dict[str, Any]]:
        """The statements of the policies attached to the role whose logical id has a part."""
        found = []
        for policy in self.resources("AWS::IAM::Policy").values():
            if any(role in attached["Ref"] for attached in policy["Roles"]):
                found += policy["PolicyDocument"]["Statement"]
        return found


@pytest.fixture(scope="session")
def cdk_context() -> dict[str, Any]:
    """The context of cdk.json: the flags that a deployment has."""
    context: dict[str, Any] = json.loads((_REPOSITORY / "cdk.json").read_text())["context"]
    return context


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheelhouse of one empty wheel: enough to be published."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    (folder / "fruit-1.0-py3-none-any.whl").write_bytes(b"")
    (folder / "requirements.txt").write_text("fruit==1.0 --hash=sha256:0\n")
    return folder


@pytest.fixture(scope="session")
def synthesize(
    cdk_context: dict[str, Any],
    wheelhouse: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Synthesis]]:
    """A function from configuration values to the synthesized app, remembered."""
    made: dict[str, Synthesis] = {}

    def build(*names: str, **values: Any) -> Synthesis:
        names = names or ("Fruits",)
        key = repr((names, sorted(values.items())))
        if key not in made:
            app = App(context=cdk_context, outdir=str(tmp_path_factory.mktemp("cdk")))
            config = OrchardConfig(**{"wheelhouse": str(wheelhouse), **values})
            env = Environment(region=config.region or "eu-west-1")
            made[key] = Synthesis(
                app, {name: PipelineStack(app, name, config=config, env=env) for name in names}
            )
        return made[key]

    yield build
    made.clear()


@pytest.fixture(scope="session")
def fruits(synthesize: Callable[..., Synthesis]) -> Synthesis:
    """The defaults, in a stack called Fruits."""
    return synthesize()
