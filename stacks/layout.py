"""Lays boxes out so that the ways between them lead down and can be followed.

The layout is Sugiyama's: boxes are put in layers, each layer is ordered so that few ways cross, and
boxes move sideways towards those that they are connected with. Ways to one far box share a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Final

CHARACTER, LINE, PADDING = 7.2, 17.0, 8.0
"""Width of a character, height of a line, and space around a box's text, in pixels."""

COLUMN_GAP, LAYER_GAP = 28.0, 40.0
_SWEEPS: Final = 12


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
        return max(len(n) for n in self.names) * CHARACTER + 2 * PADDING if self.names else 0.0

    @property
    def height(self) -> float:
        """Height, from the number of names."""
        return len(self.names) * LINE + 2 * PADDING if self.names else 0.0


@dataclass(frozen=True, eq=False)
class Way:
    """A way from one box to another; a caught one is taken when something failed."""

    source: Box
    target: Box
    caught: bool


@dataclass(frozen=True)
class Layout:
    """Boxes in their places.

    Attributes
    ----------
    layers
        From the top, each from the left, bends included.
    lines
        Between neighbouring layers, downwards.
    back
        The ways that lead up again.
    """

    layers: list[list[Box]]
    lines: list[Way]
    back: list[Way]


def lay_out(boxes: list[Box], ways: list[Way]) -> Layout:
    """Give boxes their places; the first is where everything starts."""
    first = boxes[0]
    back = _backward(first, ways)
    forward = [way for way in ways if way not in back]
    _put_in_layers(first, forward)
    layers, lines = _bend(boxes, forward)
    spine = _spine(first, forward, loops={way.source for way in back})
    _order(layers, spine)
    _place(layers, spine)
    return Layout(layers, lines, back)


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
        top += max(box.height for box in layer) + LAYER_GAP


def _spread(layer: list[Box], wanted: list[float], *, pinned: bool) -> None:
    """Put a layer's boxes near where they are wanted, apart; a pinned first one exactly there."""
    gaps = [(a.width + b.width) / 2 + COLUMN_GAP for a, b in pairwise(layer)]

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
