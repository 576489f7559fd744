"""CONTRIBUTING's map has every module, or its folder has one of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.pages import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

MAP: Final = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
ROOTS: Final = ("spark_job", "stacks", "rehearsal", "orchard")
FOLDERS: Final = {"spark_job/networks", "orchard/commands", "stacks/notebooks"}
"""Folders whose modules are of one kind, which the map says once for all."""


def modules(root: str) -> list[str]:
    """Return the modules below a folder, by their paths."""
    found = (REPOSITORY / root).rglob("*.py")
    return sorted(
        str(path.relative_to(REPOSITORY)) for path in found if not path.stem.startswith("__")
    )


def is_mapped(path: Path) -> bool:
    """Return whether the map, or one at the top of a package that holds it, names a module."""
    folder = path.parent.relative_to(REPOSITORY)
    if any(str(each) in FOLDERS for each in (folder, *folder.parents)):
        return True
    if re.search(rf"`(\w+/)*{path.name}`", MAP):
        return True
    maps = [
        (parent / "__init__.py").read_text("utf-8")
        for parent in path.parents
        if (parent / "__init__.py").exists() and parent.is_relative_to(REPOSITORY)
    ]
    name = rf"(`{path.stem}[`.]|`{path.name}`|(?<= ){path.name} )"
    return any(re.search(name, text) for text in maps)


@pytest.mark.parametrize("root", ROOTS)
def test_the_map_has_every_module(root: str) -> None:
    found = modules(root)
    assert found
    assert [path for path in found if not is_mapped(REPOSITORY / path)] == []


def test_the_map_names_nothing_that_is_gone() -> None:
    rooms = MAP[MAP.index("## Where things are") : MAP.index("## Words")]
    known = {path.name for root in ROOTS for path in (REPOSITORY / root).rglob("*")}
    known |= {path.name for path in REPOSITORY.iterdir()}
    named = {name.rsplit("/", 1)[-1] for name in re.findall(r"`([\w/]+\.(?:py|json))`", rooms)}
    assert named <= known


def test_folders_of_one_kind_are_in_the_map() -> None:
    for folder in FOLDERS:
        assert f"`{folder.rsplit('/', 1)[-1]}/`" in MAP
