"""The passes over the features table after it is written: moments and a sample, then vectors."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from spark_job import contract, tables
from spark_job.drift import Observed, losses
from spark_job.findings.outliers import Far, FarImage
from spark_job.moments import Moments
from spark_job.parts import features_digest
from spark_job.receipts import add_digests
from spark_job.samples import IMAGES, Sample, evenly_by_group, join
from spark_job.sketch import ContentSketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.engines import Attempt, Engine
    from spark_job.objects import Folder
    from spark_job.pca import PCAModel

VECTORS_BYTES = 128_000_000
"""Most bytes of a file of vectors; none of several has less than half of it."""

MOMENTS = "moments"
"""Folder below the work folder with the groups' moments."""

PIECES = "pieces"
"""Folder below the work folder with the vectors of groups smaller than a file."""

DRIFT = "drift"
"""Folder below the work folder with what the groups' images add up to for the drift card."""

SAMPLES = "samples"
"""Folder below the work folder with the groups' parts of the run's sample."""

NONE_FAR = Far()


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


def choose_sample(rows: list[int], groups: list[list[int]]) -> list[NDArray[np.intp]]:
    """For each group of parts, which of its rows are of the run's sample."""
    return evenly_by_group([sum(rows[part] for part in group) for group in groups], IMAGES)


def plan_vectors(rows: int, k: int, slots: int) -> tuple[int, int]:
    """Number of vectors' files for `rows` vectors of k components, and of pieces per file.

    The files are as large as readers like them; where they are fewer than the slots, each is made
    of pieces, so that no slot waits.
    """
    files = max(1, -(-rows * 4 * k // VECTORS_BYTES))
    return files, max(1, -(-slots // files)) if files < slots else 1


@dataclass(frozen=True)
class MomentsReceipt:
    """Moments of a group: the file's name in the work folder, rows, and their features' digest.

    `sample` names the file with its part of the run's sample.
    """

    file: str
    n: int
    features: str
    sample: str


@dataclass(frozen=True)
class MomentsPass:
    """Moments of each group of features files, in files for the driver to merge.

    Attributes
    ----------
    work
        The run's work folder.
    groups
        Names of files of the features table.
    features
        Of the network.
    chosen
        For each group, which of its rows are of the run's sample.
    """

    work: Folder
    groups: list[list[str]]
    features: int
    chosen: list[NDArray[np.intp]]

    def __call__(self, group: int, _attempt: Attempt) -> MomentsReceipt:
        """Write the moments of group number `group`."""
        moments = Moments.empty(self.features)
        contents = ContentSketch.empty()
        digests, sampled, before = [], [], 0
        for name in self.groups[group]:
            file = f"{contract.FEATURES}/{name}"
            table = tables.read_table(self.work, file, ["path", "label", "sha256", "features"])
            matrix = tables.as_matrix(table["features"])
            contents = contents.merge(ContentSketch.of(table["sha256"].to_pylist()))
            digests.append(features_digest(table["path"].to_pylist(), matrix))
            moments = moments.merge(Moments.of(matrix))
            rows = self.chosen[group] - before
            some = table.take(pa.array(rows[(rows >= 0) & (rows < len(table))]))
            columns = some["path"].to_pylist(), some["label"].to_pylist()
            sampled.append(Sample.of(*columns, tables.as_matrix(some["features"])))
            before += len(table)
        name = f"{group:05d}-{secrets.token_hex(8)}.npz"
        self.work.write(f"{MOMENTS}/{name}", moments.to_bytes(contents=contents))
        self.work.write(f"{SAMPLES}/{name}", join(sampled).to_bytes())
        digest = add_digests(digests)
        return MomentsReceipt(f"{MOMENTS}/{name}", moments.n, digest, f"{SAMPLES}/{name}")


@dataclass(frozen=True)
class VectorsReceipt:
    """Vectors of a group: the file's name in the work folder, rows, largest magnitude of z.

    `drift` names the files in the work folder of what its images add up to, if that was asked for,
    and `far` are those far outside the model.
    """

    file: str
    rows: int
    largest_z: float
    drift: tuple[str, ...] = ()
    far: Far = NONE_FAR


@dataclass(frozen=True)
class ProjectionPass:
    """Vectors of each group of features files.

    Attributes
    ----------
    work
        The run's work folder.
    groups
        Names of files of the features table.
    model, ids
        Projects the features, and is named in the footers.
    source
        The folder that the features table is in; None for the work folder.
    drift
        Whether to add up what a drift card needs.
    far
        Log odds of the loss above which an image is far outside the model; None to look for none.
    """

    work: Folder
    groups: list[list[str]]
    model: PCAModel
    ids: dict[str, str]
    source: Folder | None = None
    drift: bool = False
    far: float | None = None

    def __call__(self, group: int, _attempt: Attempt) -> VectorsReceipt:
        """Write the vectors of group number `group`."""
        schema = tables.vectors_schema(self.model.k)
        file = f"{PIECES}/{tables.attempt_name(group, secrets.token_hex(8))}"
        source = self.source or self.work
        written, largest = 0, 0.0
        observed = Observed.empty(len(self.model.mean))
        far = Far()
        with (
            self.work.create(file) as stream,
            tables.open_table(stream, schema, self.ids) as writer,
        ):
            for name in self.groups[group]:
                columns = ["path", "label", "features"]
                table = tables.read_table(source, f"{contract.FEATURES}/{name}", columns)
                scaled = self.model.standardize(tables.as_matrix(table["features"]))
                largest = max(largest, float(scaled.max()), -float(scaled.min()))
                rotated = self.model.rotate(scaled)
                if self.drift:
                    labels = table["label"].to_pylist()
                    observed = observed.merge(Observed.of(self.model, labels, scaled, rotated))
                    far = far.merge(self._far(table, scaled, rotated))
                vectors = tables.as_lists(rotated)
                model = pa.repeat(self.ids["model"], len(table))
                out = [table["path"], table["label"], model, vectors]
                writer.write_table(pa.table(out, schema=writer.schema))
                written += len(table)
        return VectorsReceipt(file, written, largest, self._write(group, observed), far)

    def _far(
        self, table: pa.Table, scaled: NDArray[np.float64], vectors: NDArray[np.float32]
    ) -> Far:
        if self.far is None:
            return Far()
        odds, _ = losses(self.model, scaled, vectors)
        places = np.flatnonzero(odds > self.far)
        paths, labels = (
            table[name].take(pa.array(places)).to_pylist() for name in ("path", "label")
        )
        lost = (1 / (1 + np.exp(-odds[places]))).tolist()
        return Far(tuple(map(FarImage, paths, labels, lost)), len(places)).merge(Far())

    def _write(self, group: int, observed: Observed) -> tuple[str, ...]:
        if not self.drift:
            return ()
        file = f"{DRIFT}/{group:05d}-{secrets.token_hex(8)}.npz"
        self.work.write(file, observed.to_bytes())
        return (file,)


def read_observed(work: Folder, vectors: list[VectorsReceipt]) -> Observed:
    """What a run's images add up to, from the files of all groups."""
    files = [file for one in vectors for file in one.drift]
    return reduce(Observed.merge, (Observed.from_bytes(work.read(file)) for file in files))


@dataclass(frozen=True)
class JoiningPass:
    """Files of vectors, each of the pieces that slots made side by side."""

    work: Folder
    files: list[list[VectorsReceipt]]
    k: int
    ids: dict[str, str]

    def __call__(self, number: int, _attempt: Attempt) -> VectorsReceipt:
        """Write file number `number`."""
        name = tables.attempt_name(number, secrets.token_hex(8))
        file = f"{contract.VECTORS}/{name}"
        pieces = self.files[number]
        with (
            self.work.create(file) as stream,
            tables.open_table(stream, tables.vectors_schema(self.k), self.ids) as writer,
        ):
            written = 0
            for piece in pieces:
                table = tables.read_table(self.work, piece.file)
                writer.write_table(table.cast(writer.schema))
                written += len(table)
        largest = max(piece.largest_z for piece in pieces)
        drift = tuple(file for piece in pieces for file in piece.drift)
        far = reduce(Far.merge, (piece.far for piece in pieces))
        return VectorsReceipt(file, written, largest, drift, far)


def project_files(
    engine: Engine, projection: ProjectionPass, names: list[str], rows: list[int]
) -> list[VectorsReceipt]:
    """Write the vectors of files of features, in files as large as readers like them.

    Parameters
    ----------
    engine
        Does the work.
    projection
        Without groups, which are made here.
    names, rows
        Files of the features table, and how many rows each has.
    """
    k = projection.model.k
    files, pieces = plan_vectors(sum(rows), k, engine.slots)
    groups = [[names[part] for part in group] for group in group_parts(rows, files * pieces)]
    grouped = replace(projection, groups=groups)
    vectors = engine.run("vectors", grouped, range(len(groups)))
    if pieces == 1:
        return vectors
    joined = [vectors[start : start + pieces] for start in range(0, len(vectors), pieces)]
    joining = JoiningPass(projection.work, joined, k, projection.ids)
    return engine.run("join vectors", joining, range(len(joined)))
