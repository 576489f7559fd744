"""Draws the state machines as they are synthesized: ``python -m stacks.diagram`` rewrites docs/.

The layout is Sugiyama's, in four steps: states that differ only in their words share a box, boxes
are put in layers so that ways lead down, each layer is ordered so that few of them cross, and boxes
move sideways towards those that they are connected with. Ways to one far box share a line.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"

_CHARACTER, _LINE, _PADDING = 7.2, 17.0, 8.0
_COLUMN_GAP, _LAYER_GAP, _MARGIN = 28.0, 40.0, 24.0
_SWEEPS: Final = 12
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


@dataclass(eq=False)
class Box:
    """States that share a box or, without any, a bend of the line to a far box.

    Attributes
    ----------
    names, kind
        The states and their type; none and "" for a bend.
    costs
        Whether a cluster is up while these states run.
    caught
        Of a bend, whether the line is taken after failures only.
    layer, x, y
        The layer, the centre and the top.
    above, below
        The boxes and bends in the neighbouring layers that lines lead from and to.
    """

    names: tuple[str, ...] = ()
    kind: str = ""
    costs: bool = False
    caught: bool = False
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    above: list[Box] = field(default_factory=list)
    below: list[Box] = field(default_factory=list)

    @property
    def width(self) -> float:
        """Width, from the longest name."""
        return max(len(n) for n in self.names) * _CHARACTER + 2 * _PADDING if self.names else 0.0

    @property
    def height(self) -> float:
        """Height, from the number of names."""
        return len(self.names) * _LINE + 2 * _PADDING if self.names else 0.0


@dataclass(frozen=True, eq=False)
class Way:
    """A way from one box to another; a caught one is taken when something failed."""

    source: Box
    target: Box
    caught: bool


def draw(definition: Mapping[str, Any]) -> str:
    """Return a state machine as an SVG document.

    Parameters
    ----------
    definition
        In the Amazon States Language; the insides of Map states are not drawn.
    """
    states = definition["States"]
    box_of = _share_boxes(states)
    first = box_of[definition["StartAt"]]
    ways = _ways(states, box_of)
    back = _backward(first, ways)
    forward = [way for way in ways if way not in back]
    _put_in_layers(first, forward)
    layers, lines = _bend(list(dict.fromkeys(box_of.values())), forward)
    spine = _spine(first, forward, loops={way.source for way in back})
    _order(layers, spine)
    _place(layers, spine)
    return _svg(str(definition["Comment"]), layers, lines, back)


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


def _backward(first: Box, ways: list[Way]) -> list[Way]:
    """Return the ways that lead to where one came from, found by walking depth first."""
    back: list[Way] = []
    done: set[Box] = set()

    def walk(box: Box, behind: tuple[Box, ...]) -> None:
        done.add(box)
        for way in (w for w in ways if w.source is box):
            if way.target in (*behind, box):
                back.append(way)
            elif way.target not in done:
                walk(way.target, (*behind, box))

    walk(first, ())
    return back


def _put_in_layers(first: Box, forward: list[Way]) -> None:
    """Put each box one layer below the lowest of those that lead to it."""
    waiting = [first]
    while waiting:
        box = waiting.pop()
        for way in forward:
            if way.source is box and way.target.layer <= box.layer:
                way.target.layer = box.layer + 1
                waiting.append(way.target)


def _bend(boxes: list[Box], forward: list[Way]) -> tuple[list[list[Box]], list[Way]]:
    """Return the layers, bends included, and the lines between neighbouring layers."""
    layers: list[list[Box]] = [[] for _ in range(max(box.layer for box in boxes) + 1)]
    for box in boxes:
        layers[box.layer].append(box)
    bends: dict[tuple[Box, int], Box] = {}
    lines: dict[tuple[Box, Box], Way] = {}
    for way in forward:
        here = way.source
        for layer in range(way.source.layer + 1, way.target.layer + 1):
            there = way.target
            if layer < way.target.layer:
                if (way.target, layer) not in bends:
                    bends[way.target, layer] = Box(layer=layer, caught=True)
                    layers[layer].append(bends[way.target, layer])
                there = bends[way.target, layer]
                there.caught &= way.caught
            if (here, there) not in lines or not way.caught:
                lines[here, there] = Way(here, there, way.caught)
            if there not in here.below:
                here.below.append(there)
                there.above.append(here)
            here = there
    return layers, list(lines.values())


def _spine(first: Box, forward: list[Way], *, loops: set[Box]) -> list[Box]:
    """Return the shortest way to a good end, which the drawing puts on a straight line."""
    queue = [[first]]
    seen = {first}
    for path in queue:
        following = [w.target for w in forward if w.source is path[-1] and not w.caught]
        if not following and path[-1].kind != "Fail" and path[-1] not in loops:
            return path
        for box in following:
            if box not in seen:
                seen.add(box)
                queue.append([*path, box])
    return [first]


def _order(layers: list[list[Box]], spine: list[Box]) -> None:
    """Order each layer by where its boxes' neighbours are, down and up in turns."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            place = {box: index for row in layers for index, box in enumerate(row)}

            def key(box: Box, place: dict[Box, int] = place, down: bool = down) -> float:
                if box in spine:
                    return -1.0
                neighbours = box.above if down else box.below
                return fmean(place[n] for n in neighbours) if neighbours else place[box]

            layer.sort(key=key)


def _place(layers: list[list[Box]], spine: list[Box]) -> None:
    """Move boxes towards their neighbours, in order and apart; give layers their heights."""
    for layer in layers:
        _spread(layer, [0.0] * len(layer), pinned=True)
    for sweep in range(2 * _SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = []
            for box in layer:
                near = box.above + box.below
                wanted.append(0.0 if box in spine or not near else fmean(n.x for n in near))
            _spread(layer, wanted, pinned=layer[0] in spine)
    top = 0.0
    for layer in layers:
        for box in layer:
            box.y = top
        top += max(box.height for box in layer) + _LAYER_GAP


def _spread(layer: list[Box], wanted: list[float], *, pinned: bool) -> None:
    """Put a layer's boxes near where they are wanted, apart; a pinned first one exactly there."""
    gaps = [(a.width + b.width) / 2 + _COLUMN_GAP for a, b in pairwise(layer)]

    def push(places: list[float], gaps: list[float]) -> list[float]:
        pushed = places[:1]
        for place, gap in zip(places[1:], gaps, strict=True):
            pushed.append(max(place, pushed[-1] + gap))
        return pushed

    # Pushed to the right, and to the left, both keep the gaps, and so does what lies between.
    right = push(wanted, gaps)
    left = [-x for x in reversed(push([-x for x in reversed(wanted)], gaps[::-1]))]
    middle = [(x + y) / 2 for x, y in zip(left, right, strict=True)]
    if pinned:
        middle = push([wanted[0], *middle[1:]], gaps)
    for box, x in zip(layer, middle, strict=True):
        box.x = x


def _svg(title: str, layers: list[list[Box]], lines: list[Way], back: list[Way]) -> str:
    boxes = [box for layer in layers for box in layer if box.names]
    bottoms = [max(box.y + box.height for box in layer) for layer in layers]
    left = min(box.x - box.width / 2 for box in boxes) - _MARGIN
    right = max(box.x + box.width / 2 for layer in layers for box in layer) + _MARGIN
    loops = [_loop(way, right + 14 * index) for index, way in enumerate(back)]
    right = max(right + 14 * len(back), left + 2 * _MARGIN + len(title) * 9.5)
    kinds = [kind for kind in _KINDS if any(box.kind == kind for box in boxes)]
    costs = any(box.costs for box in boxes)
    legend = _legend(kinds, costs, left + _MARGIN, bottoms[-1] + _LAYER_GAP)
    top, head = -_MARGIN - 30, -_MARGIN - 4
    height = bottoms[-1] + _LAYER_GAP + 20 * (len(kinds) + 2 + costs) + _MARGIN - top
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
    above, end = b.y - _LAYER_GAP / 3, b.x + b.width / 2 - 12
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
        y = box.y + _PADDING + _LINE * index + 12.5
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
