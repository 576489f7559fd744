"""How a model does on images that it was fitted without, found out on an engine's workers.

A model of one batch is held against that batch's features while its run is at work, and any other
against the samples that the runs of its batches settled. Either way images are chosen evenly, and
`drift.hold_out` says what fits without some of them make of those. A calibration tells of how many
of the model's images it speaks, and on how many it rests: of two, the one that says more is kept.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from spark_job import contract, tables
from spark_job.drift import FEWEST, FOLDS, calibrate, hold_out
from spark_job.errors import UsageError
from spark_job.lineage import READS, published_receipt
from spark_job.models import DAMAGED, read_calibration, write_model
from spark_job.samples import Sample, evenly, evenly_by_group, join, phase_of, shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from spark_job.drift import HeldOut
    from spark_job.engines import Attempt, Engine
    from spark_job.models import ModelCard, StoredModel
    from spark_job.objects import Folder

    Labelled = tuple[Sequence[str | None], NDArray[np.floating]]
    """Labels [n] and features [n, d], in the order of paths."""

LOGGER = logging.getLogger("orchard")

SAMPLE, SAMPLE_FILES = 4096, 32
"""Most images that a calibration looks at, and most files of features that it reads them from."""


@dataclass(frozen=True)
class FeaturesFile:
    """A file of the features table of a run at work, and its rows."""

    folder: Folder
    name: str
    rows: int


@dataclass(frozen=True)
class OwnImages:
    """The images of a run that is at work, by files of features.

    Attributes
    ----------
    files
        Some, evenly chosen.
    covered
        How many images all of them have.
    """

    files: tuple[FeaturesFile, ...]
    covered: int
    missing: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, files: Sequence[FeaturesFile]) -> OwnImages:
        """Choose among all files."""
        chosen = evenly(len(files), SAMPLE_FILES).tolist()
        return cls(tuple(files[number] for number in chosen), sum(file.rows for file in files))

    @property
    def sampled(self) -> int:
        """How many are looked at."""
        return min(SAMPLE, sum(file.rows for file in self.files))

    def read(self) -> Labelled:
        """Read them."""
        rows = evenly_by_group([file.rows for file in self.files], SAMPLE)
        found = []
        for file, some in zip(self.files, rows, strict=True):
            table = tables.read_table(file.folder, file.name, ["path", "label", "features"])
            found.append(table.take(pa.array(some)))
        table = pa.concat_tables(found).sort_by("path")  # a second pass has some at its end
        return table["label"].to_pylist(), tables.as_matrix(table["features"])


@dataclass(frozen=True)
class SampledRun:
    """The folder of a run with a sample, and the images that it is of."""

    folder: Folder
    n: int


@dataclass(frozen=True)
class SampledImages:
    """The images of several batches, by the samples of their runs.

    Attributes
    ----------
    runs
        One of each batch that has a sample, in the order of the batches' names.
    missing
        Names of the batches that have none: their runs are of before there were samples.
    """

    runs: tuple[SampledRun, ...]
    missing: tuple[str, ...] = ()

    @property
    def covered(self) -> int:
        """How many images the batches have that have a sample."""
        return sum(run.n for run in self.runs)

    @property
    def sampled(self) -> int:
        """How many are looked at: as many as can be taken in proportion to the batches."""
        return sum(self._shares)

    def read(self) -> Labelled:
        """Read them; a label that several batches have is one."""
        found = []
        for number, (run, share) in enumerate(zip(self.runs, self._shares, strict=True)):
            try:
                sample = Sample.from_bytes(run.folder.read(contract.SAMPLE_FILE))
            except (FileNotFoundError, *DAMAGED) as error:
                LOGGER.warning("%s/%s is left out: %r", run.folder.uri, contract.SAMPLE_FILE, error)
                continue
            found.append(sample.take(evenly(len(sample), share, phase_of(number))))
        if not found:
            return [], np.empty((0, 0))
        joined = join(found)
        return joined.labels.tolist(), joined.features

    @property
    def _shares(self) -> list[int]:
        return shares([run.n for run in self.runs], SAMPLE)


Images = OwnImages | SampledImages
"""Images of a model, to fit without some of them."""


def find_samples(
    output: Folder,
    card: ModelCard,
    batches: Sequence[Mapping[str, Any]],
    own: Mapping[str, SampledRun] | None = None,
) -> SampledImages:
    """Find the samples of a model's batches.

    Parameters
    ----------
    output
        The root of all batches.
    card
        The model's.
    batches
        Which: batch, run and n, sorted by name; as `card` has them, or as they are by now.
    own
        By batch, a run that is at work. It counts where it has as many images, and so does the
        published run of a batch where the one that is named has no sample.
    """
    ours = own or {}

    def find(one: Mapping[str, Any]) -> SampledRun | None:
        batch, n = one["batch"], one["n"]
        if batch in ours and ours[batch].n == n:
            return ours[batch]
        folder = output / contract.run_folder(batch, one["run"])
        if contract.SAMPLE_FILE in folder.files():
            return SampledRun(folder, n)
        with suppress(UsageError):  # it is not there
            published = published_receipt(output, batch)
            if published is None or published.extractor != card.extractor:
                return None
            folder = output / contract.run_folder(batch, published.run)
            if published.counts.featurized == n and contract.SAMPLE_FILE in folder.files():
                return SampledRun(folder, n)
        return None

    with ThreadPoolExecutor(READS) as pool:
        found = list(pool.map(find, batches))
    return SampledImages(
        tuple(run for run in found if run is not None),
        tuple(one["batch"] for one, run in zip(batches, found, strict=True) if run is None),
    )


def is_calibrated(model: StoredModel) -> bool:
    """Whether a model has a calibration that speaks of all its images."""
    return model.calibration is not None and model.calibration.covered == model.card.n


def calibrate_model(
    engine: Engine, output: Folder, model: StoredModel, images: Images
) -> StoredModel:
    """Give a stored model a calibration, where these images say more than the one that it has.

    Costs `FOLDS` fits of a sample, on the engine: about as long as so many fits, whatever the
    number of images.

    Returns
    -------
    StoredModel
        With the better of the two; with none where there are too few images for one.
    """
    covered, sampled = images.covered, images.sampled
    known = read_calibration(output, model.card)
    model = replace(model, calibration=known)
    if known is not None and (known.covered, known.sampled) >= (covered, sampled):
        return model
    if images.missing:
        LOGGER.warning(
            "drift cards of the model %s compare with no images of %s, run before runs settled "
            "samples; run each again, which computes nothing anew",
            model.card.model,
            ", ".join(images.missing[:8]) + (", ..." if len(images.missing) > 8 else ""),
        )
    if sampled < FEWEST:
        return model
    held_out = CalibrationPass(images, model.card.standardize, model.card.rule)
    made = calibrate(engine.run("calibration", held_out, range(FOLDS)))
    if made is None:
        return model
    made = replace(made, covered=covered, sampled=sampled)
    return write_model(output, replace(model, calibration=made))


@dataclass(frozen=True)
class CalibrationPass:
    """Fits without a part of some images, held against that part; see `drift`.

    Attributes
    ----------
    images
        Some of the model's.
    standardize, rule
        As of the model.
    """

    images: Images
    standardize: bool
    rule: dict[str, Any]

    def __call__(self, fold: int, _attempt: Attempt) -> HeldOut | None:
        """Fit without fold number `fold`."""
        labels, features = _read(self.images)
        if len(labels) < FEWEST:
            return None
        return hold_out(features, labels, fold, standardize=self.standardize, rule=self.rule)


@lru_cache(maxsize=1)
def _read(images: Images) -> Labelled:
    """Read images, which a worker keeps for its next fold: 21 MB."""
    return images.read()
