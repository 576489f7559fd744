"""Draws the state machines as they are synthesized: ``python -m stacks.diagram`` rewrites docs/.

States that differ only in their words share a box, so that the picture shows ways and not texts.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

from stacks.layout import LAYER_GAP, LINE, PADDING, Box, Layout, Way, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"

_MARGIN: Final = 24.0
_UP: Final = "#ea580c"
_KINDS: Final = {
    "Task": ("#dbeafe", "#1d4ed8", "calls a service"),
    "Map": ("#dbeafe", "#1d4ed8", "for each of several"),
    "Choice": ("#fef3c7", "#b45309", "decides"),
    "Pass": ("#f1f5f9", "#475569", "computes or words"),
    "Wait": ("#ede9fe", "#6d28d9", "waits"),
    "Succeed": ("#dcfce7", "#15803d", "ends well"),
    "Fail": ("#fee2e2", "#b91c1c", "ends in failure"),
}


def draw(definition: Mapping[str, Any]) -> str:
    """Return a state machine as an SVG document.

    Parameters
    ----------
    definition
        In the Amazon States Language; the insides of Map states are not drawn.
    """
    states = definition["States"]
    box_of = _share_boxes(states)
    boxes = list(dict.fromkeys((box_of[definition["StartAt"]], *box_of.values())))
    return _svg(str(definition["Comment"]), lay_out(boxes, _ways(states, box_of)))


def edges(state: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the states that may follow a state, and whether only after a failure."""
    if "Next" in state:
        yield state["Next"], False
    for choice in state.get("Choices", ()):
        yield choice["Next"], False
    if "Default" in state:
        yield state["Default"], False
    for caught in state.get("Catch", ()):
        yield caught["Next"], True


def _share_boxes(states: Mapping[str, Any]) -> dict[str, Box]:
    """Give each state a box; Pass states with the same neighbours share one, as do rows of them."""
    sources: dict[str, list[str]] = defaultdict(list)
    for name, state in states.items():
        for following, _ in edges(state):
            sources[following].append(name)
    costly = _while_a_cluster_is_up(states)
    groups: dict[Any, list[str]] = defaultdict(list)
    head: dict[str, str] = {}
    for name, state in states.items():
        before = sources[name]
        if state["Type"] != "Pass":
            groups[name].append(name)
        elif len(before) == 1 and states[before[0]]["Type"] == "Pass":
            head[name] = head.get(before[0], before[0])
            groups[next(key for key, names in groups.items() if head[name] in names)].append(name)
        else:
            groups[(tuple(sorted(set(before))), state.get("Next"))].append(name)
    boxes: dict[str, Box] = {}
    for names in groups.values():
        box = Box(tuple(names), states[names[0]]["Type"], names[0] in costly)
        boxes.update(dict.fromkeys(names, box))
    return boxes


def _while_a_cluster_is_up(states: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [
        state["Next"]
        for state in states.values()
        if state.get("Resource", "").endswith(":createCluster")
    ]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if not states[name].get("Resource", "").endswith(":terminateCluster"):
                waiting += [following for following, _ in edges(states[name])]
    return found


def _ways(states: Mapping[str, Any], box_of: Mapping[str, Box]) -> list[Way]:
    ways: dict[tuple[Box, Box], Way] = {}
    for name, state in states.items():
        for following, caught in edges(state):
            source, target = box_of[name], box_of[following]
            if source is not target:
                ways.setdefault((source, target), Way(source, target, caught))
    return list(ways.values())


def _svg(title: str, layout: Layout) -> str:
    layers, lines, back = layout.layers, layout.lines, layout.back
    boxes = [box for layer in layers for box in layer if box.names]
    bottoms = [max(box.y + box.height for box in layer) for layer in layers]
    left = min(box.x - box.width / 2 for box in boxes) - _MARGIN
    right = max(box.x + box.width / 2 for layer in layers for box in layer) + _MARGIN
    loops = [_loop(way, right + 14 * index) for index, way in enumerate(back)]
    right = max(right + 14 * len(back), left + 2 * _MARGIN + len(title) * 9.5)
    kinds = [kind for kind in _KINDS if any(box.kind == kind for box in boxes)]
    costs = any(box.costs for box in boxes)
    legend = _legend(kinds, costs, left + _MARGIN, bottoms[-1] + LAYER_GAP)
    top, head = -_MARGIN - 30, -_MARGIN - 4
    height = bottoms[-1] + LAYER_GAP + 20 * (len(kinds) + 2 + costs) + _MARGIN - top
    size = f"{right - left:.0f}", f"{height:.0f}"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}"'
            f' viewBox="{left:.0f} {top:.0f} {size[0]} {size[1]}"'
            ' font-family="DejaVu Sans, Verdana, Helvetica, sans-serif" font-size="11.5">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke"/>'
            "</marker></defs>",
            f'<rect x="{left:.0f}" y="{top:.0f}" width="100%" height="100%" fill="#fff"/>',
            f'<text x="{left + _MARGIN:.0f}" y="{head:.0f}" font-size="15" font-weight="bold">'
            f"{escape(title)}</text>",
            *(_line(line, bottoms) for line in lines),
            *(_through(box, bottoms) for layer in layers for box in layer if not box.names),
            *loops,
            *(part for box in boxes for part in _box(box)),
            *legend,
            "</svg>\n",
        )
    )


def _line(line: Way, bottoms: list[float]) -> str:
    a, b = line.source, line.target
    # A caught way leaves beside the others, which it would hide.
    x = a.x + a.width / 4 if line.caught else a.x
    start, bottom = a.y + a.height, bottoms[a.layer]
    middle = (bottom + b.y) / 2
    path = (
        f"M{x:.1f} {start:.1f}V{bottom:.1f}"
        f"C{x:.1f} {middle:.1f} {b.x:.1f} {middle:.1f} {b.x:.1f} {b.y:.1f}"
    )
    return _stroke(path, caught=line.caught, end=bool(b.names))


def _through(bend: Box, bottoms: list[float]) -> str:
    path = f"M{bend.x:.1f} {bend.y:.1f}V{bottoms[bend.layer]:.1f}"
    return _stroke(path, caught=bend.caught, end=False)


def _loop(way: Way, x: float) -> str:
    """Lead back up beside everything, and in between the layers to the target's top."""
    a, b = way.source, way.target
    start, bend = a.y + a.height / 2, 7
    above, end = b.y - LAYER_GAP / 3, b.x + b.width / 2 - 12
    path = (
        f"M{a.x + a.width / 2:.1f} {start:.1f}H{x - bend:.1f}Q{x:.1f} {start:.1f} {x:.1f}"
        f" {start - bend:.1f}V{above + bend:.1f}Q{x:.1f} {above:.1f} {x - bend:.1f} {above:.1f}"
        f"H{end + bend:.1f}Q{end:.1f} {above:.1f} {end:.1f} {above + bend:.1f}V{b.y:.1f}"
    )
    return _stroke(path, caught=way.caught, end=True)


def _stroke(path: str, *, caught: bool, end: bool) -> str:
    colour, dashes = ("#dc2626", ' stroke-dasharray="5 3"') if caught else ("#64748b", "")
    arrow = ' marker-end="url(#end)"' if end else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.3"{dashes}{arrow}/>'


def _box(box: Box) -> Iterable[str]:
    fill, ink, _ = _KINDS[box.kind]
    left = box.x - box.width / 2
    yield (
        f'<rect x="{left:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
        f' rx="5" fill="{fill}" stroke="{ink}"/>'
    )
    if box.costs:
        yield (
            f'<rect x="{left - 2:.1f}" y="{box.y - 1:.1f}" width="5" height="{box.height + 2:.1f}"'
            f' rx="2" fill="{_UP}"/>'
        )
    for index, name in enumerate(box.names):
        y = box.y + PADDING + LINE * index + 12.5
        yield f'<text x="{box.x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(name)}</text>'


def _legend(kinds: list[str], costs: bool, x: float, y: float) -> list[str]:
    parts = []
    for kind in kinds:
        fill, ink, words = _KINDS[kind]
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="22" height="13" rx="3" fill="{fill}"'
            f' stroke="{ink}"/><text x="{x + 30:.1f}" y="{y + 11:.1f}">{kind}: {words}</text>'
        )
        y += 20
    if costs:
        parts.append(
            f'<rect x="{x + 8:.1f}" y="{y:.1f}" width="5" height="14" rx="2" fill="{_UP}"/>'
            f'<text x="{x + 30:.1f}" y="{y + 11:.1f}">while a cluster is up</text>'
        )
        y += 20
    for caught, words in ((False, "the way on"), (True, "the way on after a failure")):
        parts.append(_stroke(f"M{x:.1f} {y + 7:.1f}h22", caught=caught, end=True))
        parts.append(f'<text x="{x + 30:.1f}" y="{y + 11:.1f}">{words}</text>')
        y += 20
    return parts


def drawings() -> dict[str, str]:
    """Return the documents in docs/ by name, drawn from the default configuration."""
    from aws_cdk import App

    from stacks.config import OrchardConfig
    from stacks.pipeline_stack import PipelineStack

    stack = PipelineStack(App(), "Orchard", config=OrchardConfig())
    machines = {
        "state-machine": stack.workflow.definition,
        "janitor": stack.janitor.definition,
    }
    if stack.trigger is not None:
        machines["trigger"] = stack.trigger.definition
    return {f"{name}.svg": draw(definition) for name, definition in machines.items()}


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    for name, document in drawings().items():
        (DOCS / name).write_text(document, encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")
