"""Running the whole job as a user does, and reading what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """A job that has ended."""

    output: Path
    batch: str
    exit_code: int
    out: str
    err: str
    seconds: float

    @property
    def run(self) -> Path:
        """The published run's folder; an assertion fails where there is none."""
        assert self.exit_code == 0, self.err
        return self.output / "results" / self.batch / "runs" / str(self.current["run"])

    @property
    def current(self) -> dict[str, Any]:
        """The batch's pointer."""
        return read_json(self.output / "results" / self.batch / "current.json")

    @property
    def receipt(self) -> dict[str, Any]:
        """The published run's receipt."""
        return read_json(self.run / "run.json")

    @property
    def model(self) -> Path:
        """The folder of the model that the published run's vectors are of."""
        told = self.receipt
        return self.output / "models" / str(told["extractor"]) / str(told["model"]["model"])

    def table(self, name: str) -> pa.Table:
        """One of the published tables, sorted by path."""
        return parquet.read_table(self.run / name).sort_by("path")

    def parts(self) -> list[dict[str, Any]]:
        """The published run's part receipts."""
        rows: list[dict[str, Any]] = parquet.read_table(self.run / "parts.parquet").to_pylist()
        return rows

    def outcomes(self) -> dict[str, tuple[str, str] | str]:
        """What came of each image, by path: "featurized" or the reject's stage and reason."""
        found: dict[str, tuple[str, str] | str] = {}
        for path in self.table("features")["path"].to_pylist():
            found[path] = "featurized"
        for row in self.table("rejects").to_pylist():
            assert row["path"] not in found, f"{row['path']} is in features and in rejects"
            found[row["path"]] = (row["stage"], row["reason"])
        return found


def arguments(images: object, output: object, *options: str, batch: str = "batch") -> list[str]:
    """A job's command line."""
    required = ["--images", str(images), "--output", str(output), "--batch", batch]
    return [sys.executable, "-m", "spark_job", *required, *options]


def run_job(
    images: object,
    output: object,
    *options: str,
    batch: str = "batch",
    environment: Mapping[str, str | None] | None = None,
    folder: Path = REPOSITORY,
    before: Callable[[], None] | None = None,
) -> Job:
    """Run the job in a process of its own, with `environment` on top of this one's.

    `before` is called in that process before the job begins.
    """
    started = monotonic()
    ended = subprocess.run(
        arguments(images, output, *options, batch=batch),
        cwd=folder,
        env=environment_with(environment or {}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        preexec_fn=before,
    )
    seconds = monotonic() - started
    return Job(Path(str(output)), batch, ended.returncode, ended.stdout, ended.stderr, seconds)


def environment_with(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with changes; None takes a variable away."""
    merged = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def files_below(folder: Path) -> set[str]:
    """Every file below `folder`, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
