"""The pictures in docs/: current, complete, and with nothing drawn over anything else."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from stacks.diagram import DOCS, draw, drawings
from tests.stacks.definitions import rendered

if TYPE_CHECKING:
    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk

SVG = "{http://www.w3.org/2000/svg}"
MACHINES = {"state-machine.svg": "Workflow", "janitor.svg": "Janitor", "trigger.svg": "Trigger"}


@pytest.fixture(scope="module")
def current() -> dict[str, str]:
    return drawings()


@pytest.mark.parametrize("name", MACHINES)
def test_the_picture_is_current(current: dict[str, str], name: str) -> None:
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == current[name], f"docs/{name} is out of date: python -m stacks.diagram"


@pytest.mark.parametrize(("name", "construct"), MACHINES.items())
def test_the_picture_shows_every_state_that_is_deployed(
    current: dict[str, str], fruits: Synthesis, name: str, construct: str
) -> None:
    shown = [text.text for text in ElementTree.fromstring(current[name]).iter(f"{SVG}text")]
    for state in rendered(fruits.template, construct)["States"]:
        assert shown.count(state) == 1


@pytest.mark.parametrize("name", MACHINES)
def test_no_box_lies_on_another_or_outside(current: dict[str, str], name: str) -> None:
    svg = ElementTree.fromstring(current[name])
    left, top, width, height = (float(part) for part in svg.attrib["viewBox"].split())
    boxes = [
        tuple(float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        for rect in svg.iter(f"{SVG}rect")
        if rect.attrib.get("rx") == "5"
    ]
    for x, y, w, h in boxes:
        assert left <= x
        assert x + w <= left + width
        assert top <= y
        assert y + h <= top + height
    for (ax, ay, aw, ah), (bx, by, bw, bh) in combinations(boxes, 2):
        assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay


def test_what_runs_while_a_cluster_is_up_is_marked() -> None:
    def machine(second: str) -> str:
        return draw(
            {
                "Comment": "c",
                "StartAt": "A",
                "States": {
                    "A": {"Type": "Task", "Resource": "x:createCluster", "Next": "B"},
                    "B": {"Type": "Task", "Resource": f"x:{second}", "Next": "C"},
                    "C": {"Type": "Pass", "End": True},
                },
            }
        )

    bars = re.compile(r'width="5" height="(?!14)')
    assert len(bars.findall(machine("terminateCluster"))) == 1
    assert len(bars.findall(machine("anything"))) == 2
