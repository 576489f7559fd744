"""The state machines as Mermaid text: ``python -m stacks.diagram`` rewrites docs/state-machines.md.

States that differ only in their words share a box, so that the picture shows ways and not texts.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "state-machines.md"

_SHAPES: Final = {
    "Task": '["{}"]',
    "Map": '[["{}"]]',
    "Choice": '{{"{}"}}',
    "Pass": '("{}")',
    "Wait": '[/"{}"/]',
    "Succeed": '(["{}"])',
    "Fail": '(["{}"])',
}
_HEAD: Final = """# The state machines

Written by `make diagram` from what is deployed by default. A box calls a service, a box with double
sides does so for each of several things, a diamond decides, rounded corners compute or word, and
slanted sides wait. A dashed way is taken after a failure.
"""


def document(machines: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a page of state machines.

    Parameters
    ----------
    machines
        Their definitions in the Amazon States Language, by name.
    """
    parts = [
        f"\n## {name}\n\n{definition['Comment']}\n\n```mermaid\n{draw(definition)}```\n"
        for name, definition in machines.items()
    ]
    return _HEAD + "".join(parts)


def draw(definition: Mapping[str, Any]) -> str:
    """Return a state machine as a Mermaid flowchart; the insides of Map states are not drawn."""
    states = definition["States"]
    box_of = _boxes(states)
    lines = ["flowchart TD", f"    start(( )) --> {_id(box_of[definition['StartAt']])}"]
    for names in dict.fromkeys(box_of.values()):
        shape = _SHAPES[states[names[0]]["Type"]].format("<br>".join(names))
        lines.append(f"    {_id(names)}{shape}")
    ways: dict[tuple[str, str], str] = {}
    for name, state in states.items():
        for following, caught in _ways(state):
            pair = _id(box_of[name]), _id(box_of[following])
            if pair[0] != pair[1]:
                ways.setdefault(pair, "-.->" if caught else "-->")
    lines += [f"    {source} {arrow} {target}" for (source, target), arrow in ways.items()]
    return "\n".join(lines) + "\n"


def _id(names: tuple[str, ...]) -> str:
    return re.sub(r"\W", "_", names[0])


def _ways(state: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the states that may follow a state, and whether only after a failure."""
    if "Next" in state:
        yield state["Next"], False
    for choice in state.get("Choices", ()):
        yield choice["Next"], False
    if "Default" in state:
        yield state["Default"], False
    for caught in state.get("Catch", ()):
        yield caught["Next"], True


def _boxes(states: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names that share each state's box: of Pass states between the same others."""
    sources: dict[str, set[str]] = defaultdict(set)
    for name, state in states.items():
        for following, _ in _ways(state):
            sources[following].add(name)
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, state in states.items():
        between = (frozenset(sources[name]), state.get("Next"))
        groups[between if state["Type"] == "Pass" else name].append(name)
    return {name: tuple(names) for names in groups.values() for name in names}


def current() -> str:
    """Return the page of the default configuration's machines."""
    from aws_cdk import App

    from stacks.config import OrchardConfig
    from stacks.pipeline_stack import PipelineStack

    stack = PipelineStack(App(), "Orchard", config=OrchardConfig())
    return document({type(part).__name__: part.definition for part in stack.machines})


if __name__ == "__main__":
    DOCUMENT.write_text(current(), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT}\n")
