"""No room repeats a name of the contract: it is imported, or a change of it would miss a place.

Distinctive names, which nobody writes by chance, are refused wherever they stand in a text: those
with a dot, a slash or an underscore. The folders' names are everyday words, and refused only as
parts of paths: before a slash in a text, or as an operand of the operator ``/``. The images'
extensions are refused as a list. Docstrings may say what they like.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spark_job import contract

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("stacks", "rehearsal", "demo", "benchmarks", "bootstrap", "notebooks", "orchard", "app.py")

NAMES = {
    name: value
    for name, value in vars(contract).items()
    if name.isupper() and isinstance(value, str)
}
WORDS = {name: value for name, value in NAMES.items() if value.isalpha() and value.islower()}
DISTINCTIVE = {name: value for name, value in NAMES.items() if name not in WORDS}

WRITTEN = {
    name: re.compile(rf"(?<![\w.-]){re.escape(value)}(?![\w-])")
    for name, value in DISTINCTIVE.items()
} | {
    # "images/s" is a speed.
    name: re.compile(rf"(?<![\w.-]){value}/(?!s\b)")
    for name, value in WORDS.items()
}


def repeated(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the sentence of each literal of `source` that repeats a name."""
    tree = ast.parse(source)
    # Parameter docs and the like are texts on their own too.
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            for name, pattern in WRITTEN.items():
                if pattern.search(node.value):
                    yield node.lineno, f"{node.value!r} repeats contract.{name}; import it"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            for operand in (node.left, node.right):
                for name, value in WORDS.items():
                    if isinstance(operand, ast.Constant) and operand.value == value:
                        yield operand.lineno, f"{value!r} repeats contract.{name}; import it"
        elif isinstance(node, (ast.List, ast.Set, ast.Tuple)):
            texts = {
                item.value.lstrip("*.").lower()
                for item in node.elts
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            }
            if len(texts & set(contract.EXTENSIONS)) >= 5:
                yield node.lineno, "the list of extensions repeats contract.EXTENSIONS; import it"


def sources() -> list[Path]:
    found = [REPOSITORY / room for room in ROOMS]
    return sorted(
        path
        for room in found
        for path in (room.rglob("*.py") if room.is_dir() else [room])
        if "node_modules" not in path.parts
    )


def test_no_room_repeats_a_name_of_the_contract() -> None:
    assert len(sources()) > 50
    assert [
        f"{path.relative_to(REPOSITORY)}:{line}: {sentence}"
        for path in sources()
        for line, sentence in repeated(path.read_text(encoding="utf-8"))
    ] == []


def test_the_contract_has_names_of_both_kinds() -> None:
    assert {"READY", "CURRENT", "RUN", "FAILURE", "NODE_PREFIX"} <= DISTINCTIVE.keys()
    assert {"IMAGES", "WORK", "RESULTS", "RUNS", "MODELS"} <= WORDS.keys()


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        ('marker = "_READY"', "READY"),
        ('pattern = f"{folder}/*/_READY"', "READY"),
        ('key = "s3://{}/results/{}/runs/{}/"', "RESULTS"),
        ('key = f"{results}/{batch}/runs/{run}"', "RUNS"),
        ('allowed = ["work/*"]', "WORK"),
        ('path = output / "models" / name', "MODELS"),
        ('path = "vectors" / part', "VECTORS"),
        ('python = "/opt/orchard/bin/python"', "NODE_PREFIX"),
        ('read(f"{folder}/current.json")', "CURRENT"),
        ('suffixes = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".GIF")', "EXTENSIONS"),
    ],
)
def test_a_planted_literal_is_found_with_its_line_and_its_name(planted: str, name: str) -> None:
    found = list(repeated(f'"""A docstring may name _READY and results/."""\n\n{planted}\n'))
    assert (3, f"contract.{name};") in [(line, said.split()[-3]) for line, said in found]


@pytest.mark.parametrize(
    "innocent",
    [
        'unit = "images/s"',
        'title = "the results of a batch"',
        'name = "prerun.json"',
        'path = folder / "images-of-mine"',
        'kinds = ("jpg", "png")',
        'size: int = 3\n"""What work/ may hold."""',
    ],
)
def test_an_everyday_word_is_no_repetition(innocent: str) -> None:
    assert list(repeated(innocent)) == []


def test_the_bootstrap_script_installs_where_the_contract_says() -> None:
    # A shell script cannot import: what it repeats is held equal here.
    script = (REPOSITORY / "bootstrap" / "install.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"/opt/\w+", script)) == {contract.NODE_PREFIX}
    assert f"prefix=${{2:-{contract.NODE_PREFIX}}} " in script


def test_the_notebook_repeats_no_name_either() -> None:
    notebook = json.loads((REPOSITORY / "notebooks" / "results.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(one["source"]) for one in notebook["cells"] if one["cell_type"] == "code"]
    assert len(cells) > 3
    assert [sentence for cell in cells for _, sentence in repeated(cell)] == []
