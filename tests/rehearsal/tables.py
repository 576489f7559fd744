"""What a run published, as tables to compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from rehearsal.local_cloud import LocalCloud


@dataclass(frozen=True)
class Published:
    """The tables and the receipt of a batch's current run, rows in the order of their paths."""

    features: pa.Table
    vectors: pa.Table
    rejects: pa.Table
    receipt: dict[str, Any]

    @classmethod
    def of(cls, cloud: LocalCloud, batch: str, folder: Path) -> Published:
        """Fetch what a batch published."""
        cloud.fetch(f"results/{batch}/", folder)
        return cls.read(folder, batch)

    @classmethod
    def read(cls, root: Path, batch: str) -> Published:
        """Read what a batch published under `root`."""
        results = root / "results" / batch
        run = results / "runs" / json.loads((results / "current.json").read_text())["run"]

        def table(name: str) -> pa.Table:
            parts = [pq.read_table(path) for path in sorted((run / name).glob("*.parquet"))]
            return pa.concat_tables(parts).sort_by("path")

        return cls(
            table("features"),
            table("vectors"),
            table("rejects"),
            json.loads((run / "run.json").read_text(encoding="utf-8")),
        )

    def assert_same(self, other: Published) -> None:
        """Fail unless both have the same features, vectors and rejects, bit for bit."""
        assert self.rejects.to_pylist() == other.rejects.to_pylist()
        for column in ("path", "label", "features"):
            assert self.features[column].equals(other.features[column]), f"{column} differs"
        for column in ("path", "label", "vector"):
            assert self.vectors[column].equals(other.vectors[column]), f"{column} differs"
