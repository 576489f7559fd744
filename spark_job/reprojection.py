"""A batch's stored features in the space of another model, as a new published run.

No image is listed or read. The new run has the features, rejects, moments and parts of the one that
was published, copied, and vectors of its own.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

from spark_job import contract, runs, tables
from spark_job.accounting import require_equal
from spark_job.calibration import calibrate_model, find_samples, is_calibrated
from spark_job.claims import now, parse_claim
from spark_job.drift import judge, warn
from spark_job.engines import start_engine
from spark_job.errors import JobError, OutputRefusedError, UsageError
from spark_job.lineage import read_moments, require_published
from spark_job.models import find_model, require_model
from spark_job.objects import LocalFolder
from spark_job.passes import ProjectionPass, project_files, read_observed
from spark_job.pointers import ModelPointer, read_pointer
from spark_job.receipt_tables import write_receipt, write_variance
from spark_job.receipts import Clock, ModelReceipt, RunReceipt, versions
from spark_job.settings import new_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_job.claims import Claim
    from spark_job.engines import Engine
    from spark_job.models import StoredModel
    from spark_job.objects import Folder
    from spark_job.passes import VectorsReceipt

LOGGER = logging.getLogger("orchard")


@dataclass(frozen=True)
class Reprojection:
    """What is to be done for a batch: the run that is published, and the model to use instead."""

    source: RunReceipt
    model: StoredModel

    @property
    def is_done(self) -> bool:
        """Whether the published vectors are of that model."""
        return self.source.model.model == self.model.card.model


def plan(output: Folder, batches: Sequence[str], model: str | None = None) -> list[Reprojection]:
    """Look up what is to be done, before anything is written.

    Parameters
    ----------
    output
        The root of all batches.
    batches
        Names, each once.
    model
        An id or its first digits; None for the current model of each batch's extractor.

    Raises
    ------
    UsageError
        Where a batch has no published run, or there is no model for its features.
    """
    receipts = require_published(output, batches)
    found = None if model is None else find_model(output, model)
    stored: dict[tuple[str, str], StoredModel] = {}
    planned = []
    for batch, receipt in receipts.items():
        extractor, name = found or _current(output, batch, receipt.extractor)
        if extractor != receipt.extractor:
            raise UsageError(
                f"the model {name} takes features of {extractor}, and those of batch {batch!r} are "
                f"of {receipt.extractor}; leave the batch out, or choose another --model"
            )
        if (extractor, name) not in stored:
            stored[extractor, name] = require_model(output, extractor, name)
        planned.append(Reprojection(receipt, stored[extractor, name]))
    return planned


def start_workers() -> Engine:
    """Start processes of this machine, for `reproject` and for calibrations."""
    warm_up = partial(import_module, "spark_job.reprojection")
    return start_engine("processes", master="", name="orchard", warm_up=warm_up)


def reproject(output: Folder, planned: Reprojection, engine: Engine) -> RunReceipt:
    """Write a batch's vectors with another model, and publish them.

    Returns
    -------
    RunReceipt
        Of the new run. A run that started after it may be the published one by now.

    Raises
    ------
    OutputRefusedError
        Where a run that started before is at work: its images may be other ones, and the later
        started run would win over it.
    JobError
        Where another run was published meanwhile.
    """
    source = planned.source
    claim = runs.claim_run(output, source.batch, new_run(), source.images, source.extractor)
    try:
        _require_alone(claim, source)
        receipt = _settle(claim, planned, engine)
        publication = runs.publish(output, receipt)
        claim.stop_beating()
        _clear(claim)
    except BaseException:
        _discard(claim)
        raise
    finally:
        claim.release()
    if publication.run != receipt.run:
        LOGGER.warning(
            "run %s is complete in %s, and run %s of this batch, which started later (%s), is the "
            "published one",
            receipt.run,
            receipt.results,
            publication.run,
            publication.started,
        )
    return receipt


def _settle(claim: Claim, planned: Reprojection, engine: Engine) -> RunReceipt:
    clock = Clock()
    source, model = planned.source, planned.model
    same = model.card.images == source.digests.images
    if not same and not is_calibrated(model):
        samples = find_samples(claim.output, model.card, model.card.batches)
        model = calibrate_model(engine, claim.output, model, samples)
        clock.lap("calibrate")
    folder = claim.output / contract.run_folder(source.batch, source.run)
    moments = read_moments(claim.output, source.batch, source.run, source.extractor).moments
    names, rows = _features(folder, source)
    ids = {"extractor": source.extractor, "model": model.card.model}
    projection = ProjectionPass(claim.work, [], model.pca, ids, folder, drift=not same)
    vectors = project_files(engine, projection, names, rows)
    require_equal("vectors written", sum(one.rows for one in vectors), sum(rows))
    clock.lap("project")
    files = _copy(claim, folder, names, vectors)
    if contract.VECTORS_FILE in folder.files():
        targets = [name for name in files if name.startswith(f"{contract.VECTORS}/")]
        tables.write_vectors_csv(claim.results, targets, model.card.k)
    write_variance(claim.results, model.pca)
    clock.lap("settle")
    told = ModelReceipt(
        model=model.card.model,
        k=model.card.k,
        n=model.card.n,
        rule=model.card.rule,
        standardize=model.card.standardize,
        variance_kept=model.card.variance_kept,
        variance_kept_here=model.pca.variance_kept_of(moments),
        largest_z=max(one.largest_z for one in vectors),
        reused=True,
    )
    drift = None
    if not same:
        observed = read_observed(claim.work, vectors)
        drift = judge(observed, moments, model.pca, model.calibration)
        warn(drift)
    receipt = replace(_receipt(claim, source, told, engine, clock), drift=drift)
    write_receipt(claim.results, receipt)
    _require_alone(claim, source)
    runs.require_complete(claim, [(name, name) for name in files])
    runs.settle(claim, receipt)
    return receipt


def _receipt(
    claim: Claim, source: RunReceipt, model: ModelReceipt, engine: Engine, clock: Clock
) -> RunReceipt:
    """Make the receipt of a run that computed nothing but vectors."""
    counts = replace(source.counts, computed=0, carried_over=source.counts.featurized)
    asked = {"run": claim.run, "output": claim.output.uri, "model": model.model}
    return replace(
        source,
        run=claim.run,
        output=claim.output.uri,
        results=claim.results.uri,
        started=claim.started,
        finished=now(),
        counts=counts,
        model=model,
        engine=engine.receipt(),
        images_per_second=round(counts.listed / clock.total, 1),
        seconds=clock.seconds | {"total": round(clock.total, 3)},
        seconds_in_workers={},
        settings=source.settings | asked | {"reprojected_from": source.run},
        versions=versions(),
        dollars=None,
    )


def _features(folder: Folder, source: RunReceipt) -> tuple[list[str], list[int]]:
    """Names of a run's features files, and the rows of each."""
    content = folder.read(contract.PARTS_FILE)
    columns = ["features", "computed", "carried_over"]
    table = parquet.read_table(pa.BufferReader(content), columns=columns)
    rows = {
        row["features"]: row["computed"] + row["carried_over"]
        for row in table.to_pylist()
        if row["features"] is not None
    }
    found = (folder / contract.FEATURES).files()
    if found != sorted(rows) or sum(rows.values()) != source.counts.featurized:
        raise JobError(
            f"the features of {folder.uri} are not those that its {contract.PARTS_FILE} names; "
            f"nothing was published: run batch {source.batch!r} again"
        )
    return found, [rows[name] for name in found]


def _copy(
    claim: Claim, folder: Folder, names: list[str], vectors: list[VectorsReceipt]
) -> list[str]:
    """Copy what the new run has of the old one, and its vectors; the names of all of it."""
    kept = [f"{contract.FEATURES}/{name}" for name in names]
    kept += [f"{contract.REJECTS}/{name}" for name in (folder / contract.REJECTS).files()]
    kept += [contract.MOMENTS_FILE, contract.PARTS_FILE]
    sometimes = (contract.SAMPLE_FILE, contract.CORRECTIONS_FILE)
    kept += [name for name in folder.files() if name in sometimes]
    # What is like what does not depend on the model, but for which images lie far outside of it.
    findings = (folder / contract.FINDINGS).entries()
    kept += sorted(f"{contract.FINDINGS}/{entry.name}" for entry in findings)
    runs.copy_files(claim, [(name, name) for name in kept], folder)
    written = [
        (one.file, f"{contract.VECTORS}/{tables.part_name(number)}")
        for number, one in enumerate(vectors)
    ]
    runs.copy_files(claim, written)
    return [*kept, *(target for _, target in written)]


def _require_alone(claim: Claim, source: RunReceipt) -> None:
    """Refuse to win over a run with newer images: of two runs, the later started is published."""
    pointer = runs.read_published(claim.output, claim.batch)
    if pointer is None or pointer.run != source.run:
        raise JobError(
            f"another run of batch {claim.batch!r} was published meanwhile, and nothing was "
            "changed; say the same again"
        )
    batch = claim.output / f"{contract.WORK}/{claim.batch}"
    for run in batch.folders():
        if run == claim.run:
            continue
        with runs.locked_unless_alive(batch / run) as free:
            record = None if free else parse_claim((batch / run).read_or_none(contract.CLAIM))
        if record is not None and (record.started, run) < (claim.started, claim.run):
            raise OutputRefusedError(
                f"run {run!r} of batch {claim.batch!r} is at work ({record.holder}); wait for its "
                "end, and say the same again"
            )


def _discard(claim: Claim) -> None:
    """Remove what a run that failed wrote, unless another process has taken it over."""
    with suppress(OSError, JobError):
        claim.require()
        if claim.results.read_or_none(contract.RUN) is None:
            claim.results.clear()
        claim.stop_beating()
        _clear(claim)


def _clear(claim: Claim) -> None:
    """Remove this run's work folder; what dead runs left is for the batch's next run."""
    claim.work.clear()
    batch = claim.output / f"{contract.WORK}/{claim.batch}"
    if isinstance(batch, LocalFolder):
        batch.remove_if_empty()


def _current(output: Folder, batch: str, extractor: str) -> tuple[str, str]:
    pointer = read_pointer(output / contract.models_folder(extractor), ModelPointer)
    if pointer is None:
        raise UsageError(
            f"there is no current model for the features of batch {batch!r} ({extractor}); say "
            "--model, or choose one with `orchard models use`"
        )
    return extractor, pointer.model
