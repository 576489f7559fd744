"""The plan's section says how far it was off, in either direction."""

from __future__ import annotations

from benchmarks.page import ORDER
from benchmarks.planning import Planned, planning_section


def test_a_plan_is_held_against_what_the_batch_took() -> None:
    section = planning_section(
        [
            Planned("photographs", 240, 192, planned=8.0, took=10.0, planning=5.0),
            Planned("images", 2_000, 192, planned=20.0, took=15.0, planning=5.0),
        ]
    )
    assert section.title in ORDER
    assert [(one.name, one.reached, one.met) for one in section.targets] == [
        ("the plan for 240 photographs, off by", "-20%", True),
        ("the plan for 2,000 images, off by", "+33%", False),
    ]
    assert "| 2,000 images    | 192   | 20.0       | 15.0    | +33.3% |" in section.blocks[0]
