"""The command that exports, as a user runs it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from orchard.commands import export
from tests.orchard.command import refusal, succeed

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.objects import Folder

pytestmark = pytest.mark.job


def test_the_example_in_its_help_runs(
    output: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = export.EXAMPLE.removeprefix("Example: ")
    assert example in " ".join(succeed("export", "--help").stdout.split())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/fruits").symlink_to(output.uri)
    monkeypatch.chdir(tmp_path)
    result = succeed(*shlex.split(example)[1:])
    assert result.stdout == "fruit.tflite\n"
    card = json.loads((tmp_path / "fruit.json").read_text("utf-8"))
    assert card["size"] == (tmp_path / "fruit.tflite").stat().st_size
    assert f"model {card['model']} of mobilenet_v2, {card['k']} components" in result.stderr


def test_a_card_for_programs(output: Folder, tmp_path: Path) -> None:
    target = tmp_path / "fruit.tflite"
    arguments = ["--to", str(target), "--classify", "--batches", "batch", "--json"]
    told = json.loads(succeed("export", *arguments, output=output).stdout)
    assert told == json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert told["head"]["labels"] == ["Kiwi", "Plum"]


def test_what_cannot_be_exported_is_refused(output: Folder, tmp_path: Path) -> None:
    target = str(tmp_path / "fruit.tflite")
    assert "'none'" in refusal("export", "--to", target, "--model", "none", output=output)
    told = refusal("export", "--to", str(tmp_path / "fruit.onnx"), output=output)
    assert "the file is to be called ....tflite, not 'fruit.onnx'" in told
    assert "'other'" in refusal("export", "--to", target, "--batches", "other", output=output)
    assert not list(tmp_path.glob("fruit*"))
