"""The passes over the features table after it is written: moments, then vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from spark_job import catalog
from spark_job.moments import Moments
from spark_job.settings import FEATURES

if TYPE_CHECKING:
    from spark_job.objects import Folder
    from spark_job.pca import PCAModel


def group_parts(rows: list[int], groups: int) -> list[list[int]]:
    """Spread the parts that have rows over at most `groups` runs of parts, of about equal rows."""
    total = sum(rows)
    grouped: dict[int, list[int]] = {}
    before = 0
    for part, count in enumerate(rows):
        if count:
            middle = 2 * before + count
            grouped.setdefault(middle * groups // (2 * total), []).append(part)
        before += count
    return list(grouped.values())


@dataclass(frozen=True)
class MomentsPass:
    """Moments of each group of parts of a run's features, in files for the driver to merge."""

    run: Folder
    groups: list[list[int]]

    def __call__(self, group: int) -> bytes:
        """Write the moments of group number `group`; the file's name in the run's folder."""
        moments = Moments.empty(FEATURES)
        for part in self.groups[group]:
            table = catalog.read_part(self.run, "features", part, ["features"])
            moments = moments.merge(Moments.of(catalog.as_matrix(table["features"])))
        name = f"moments-{group}.npz"
        self.run.write(name, moments.to_bytes())
        return name.encode()


@dataclass(frozen=True)
class ProjectionPass:
    """Vectors of each group of parts of a run's features."""

    run: Folder
    groups: list[list[int]]
    model: PCAModel
    ids: dict[str, str]

    def __call__(self, group: int) -> bytes:
        """Write the vectors of group number `group`; how many there are, in decimal."""
        written = 0
        for part in self.groups[group]:
            columns = ["path", "label", "features"]
            table = catalog.read_part(self.run, "features", part, columns)
            vectors = self.model.project(catalog.as_matrix(table["features"]))
            columns_out = [table["path"], table["label"], catalog.as_lists(vectors)]
            content = pa.table(columns_out, schema=catalog.vectors_schema(self.model.k))
            catalog.write_part(self.run, "vectors", part, content, self.ids)
            written += len(content)
        return str(written).encode()
