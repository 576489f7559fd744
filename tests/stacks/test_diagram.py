"""docs/state-machines.md: current, and of every state of every machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from stacks.diagram import DOCUMENT, current, draw

if TYPE_CHECKING:
    from tests.stacks.conftest import Synthesis

pytestmark = pytest.mark.cdk


@pytest.fixture(scope="module")
def page() -> str:
    return current()


def test_the_page_is_current(page: str) -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page, "out of date: make diagram"


def test_every_state_of_every_machine_is_in_one_box(page: str, fruits: Synthesis) -> None:
    for machine in fruits.stack.machines:
        (chart,) = re.findall(
            rf"## {type(machine).__name__}\n.*?```mermaid\n(.*?)```", page, flags=re.DOTALL
        )
        boxes = [names.split("<br>") for names in re.findall(r'"([^"]+)"', chart)]
        shown = [name for names in boxes for name in names]
        assert sorted(shown) == sorted(machine.definition["States"])


def test_ways_lead_where_the_states_lead_and_failures_are_dashed() -> None:
    chart = draw(
        {
            "StartAt": "Ask",
            "States": {
                "Ask": {
                    "Type": "Task",
                    "Next": "Choose",
                    "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Sorry"}],
                },
                "Choose": {
                    "Type": "Choice",
                    "Choices": [{"Next": "SayA"}, {"Next": "SayB"}],
                    "Default": "Ask",
                },
                "SayA": {"Type": "Pass", "Next": "Done"},
                "SayB": {"Type": "Pass", "Next": "Done"},
                "Done": {"Type": "Succeed"},
                "Sorry": {"Type": "Fail"},
            },
        }
    )
    ways = {line.strip() for line in chart.splitlines() if "->" in line}
    assert ways == {
        "start(( )) --> Ask",
        "Ask --> Choose",
        "Ask -.-> Sorry",
        "Choose --> SayA",
        "Choose --> Ask",
        "SayA --> Done",
    }
    assert '("SayA<br>SayB")' in chart
