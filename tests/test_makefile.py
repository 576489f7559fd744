"""What recipes make of `ARGS`: the words that a program is given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rehearsal.__main__ import parse
from tests.making import make

REPOSITORY = Path(__file__).parents[1]
SAYS_ITS_WORDS = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment to make, in which nothing is left to install."""
    folder = tmp_path_factory.mktemp("venv")
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(SAYS_ITS_WORDS)
    python.chmod(0o755)
    for name in ("uv", "job", "spark", "all"):
        (folder / f"{name}.installed").touch()
    (folder / "bin" / "orchard").touch()
    return folder


def words(environment: Path, target: str, arguments: str) -> list[str]:
    """Run a recipe, and return what it gives Python after the module's name."""
    said = make(target, f"VENV={environment}", f"PYTHON={sys.executable}", f"ARGS={arguments}")
    given: list[str] = json.loads(said.splitlines()[-1])
    return given[2:]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('--input {"components":20,"csv":true}', {"components": 20, "csv": True}),
        ('--input {"components": 20, "csv": true} --keep', {"components": 20, "csv": True}),
        ('--keep --input {"variance":0.9}', {"variance": 0.9}),
        ("""--input '{"components": 20}'""", {"components": 20}),
        ("--keep", {}),
        ("", {}),
    ],
)
def test_json_comes_through_make_as_it_is_written(
    environment: Path, arguments: str, expected: dict[str, object]
) -> None:
    given = parse(words(environment, "rehearsal", arguments))
    assert given.input == expected
    assert given.keep is ("--keep" in arguments)


def test_json_that_is_none_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("{components:20}", "[1]"):
        with pytest.raises(SystemExit):
            parse(["--input", given])
        assert "--input is a JSON object such as" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["rehearsal", "permissions", "history", "test"])
def test_plain_arguments_are_parted_into_words(environment: Path, target: str) -> None:
    given = words(environment, target, "--a b -c 'd e' --f=\"g h\"")
    assert given[-5:] == ["--a", "b", "-c", "d e", "--f=g h"]
