"""Published runs of made-up features, written by the job's own code but without a network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spark_job import contract, lineage, runs, tables
from spark_job.claims import now
from spark_job.findings.outliers import Far
from spark_job.findings.survey import survey
from spark_job.lineage import BatchMoments
from spark_job.models import StoredModel, require_model
from spark_job.moments import Moments
from spark_job.parts import features_digest
from spark_job.passes import ProjectionPass, project_files
from spark_job.pointers import ModelPointer, point, read_pointer
from spark_job.receipt_tables import write_parts, write_receipt, write_variance
from spark_job.receipts import (
    Counts,
    Digests,
    EngineReceipt,
    ModelReceipt,
    PartReceipt,
    RunReceipt,
    digest,
)
from spark_job.samples import Sample
from spark_job.settings import new_run
from tests.spark_job.inline import InlineEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.claims import Claim
    from spark_job.objects import Folder

WIDTH = 6
EXTRACTOR = "toy-0123456789abcdef"
PARTS = 2
REJECTED = 1


def features_of(batch: str, n: int) -> NDArray[np.float32]:
    """The features of a batch's images, other ones for each name; their scales differ."""
    random = np.random.default_rng(list(batch.encode()))
    rows = random.standard_normal((n, WIDTH)) * np.arange(1, WIDTH + 1) + random.standard_normal()
    return rows.astype(np.float32)


def publish_batch(
    output: Folder,
    batch: str,
    n: int = 12,
    *,
    run: str | None = None,
    extractor: str = EXTRACTOR,
    fit: bool = False,
    publish: bool = True,
    findings: bool = False,
) -> RunReceipt:
    """Publish a run of a batch of n images and one reject, with the current model or a new one."""
    claim = runs.claim_run(output, batch, run or new_run(), f"images/{batch}", extractor)
    try:
        receipt = _settle(claim, features_of(batch, n), fit=fit, findings=findings)
        if publish:
            runs.publish(output, receipt)
            runs.clean_up(claim)
    finally:
        claim.release()
    return receipt


def _settle(claim: Claim, matrix: NDArray[np.float32], *, fit: bool, findings: bool) -> RunReceipt:
    ids = {"extractor": claim.extractor}
    parts = [
        _write_part(claim, part, matrix[rows])
        for part, rows in enumerate(np.array_split(np.arange(len(matrix)), PARTS))
    ]
    digests = parts[0].digests + parts[1].digests
    moments = Moments.of(matrix)
    ours = BatchMoments(claim.batch, claim.run, claim.extractor, digests.images, moments)
    model, reused = _model(claim, ours, fit=fit)
    names = [str(part.features) for part in parts]
    projection = ProjectionPass(claim.work, [], model.pca, ids | {"model": model.card.model})
    rows = [part.counts.computed for part in parts]
    [vectors] = project_files(InlineEngine(), projection, names, rows)
    files = [
        (f"features/{name}", f"features/{tables.part_name(n)}") for n, name in enumerate(names)
    ]
    files.append((vectors.file, f"vectors/{tables.part_name(0)}"))
    files.append((f"rejects/{parts[0].rejects}", f"rejects/{tables.part_name(0)}"))
    runs.copy_files(claim, files)
    named = {"batch": claim.batch, "run": claim.run, "images": digests.images}
    claim.results.write(contract.MOMENTS_FILE, moments.to_bytes(named | ids))
    sample = Sample.of(
        [f"{row:05d}" for row in range(len(matrix))], ["Fruit"] * len(matrix), matrix
    )
    claim.results.write(contract.SAMPLE_FILE, sample.to_bytes())
    write_variance(claim.results, model.pca)
    write_parts(claim.results, parts)
    receipt = _receipt(claim, parts, digests, moments, model, reused=reused)
    if findings:
        found = survey(InlineEngine(), claim.work, names, rows, moments)
        card, more = found.settle(claim.work, ids, Far())
        runs.copy_files(claim, more)
        receipt = replace(receipt, findings=card)
    write_receipt(claim.results, receipt)
    runs.require_complete(claim, files)
    runs.settle(claim, receipt)
    return receipt


def _write_part(claim: Claim, part: int, matrix: NDArray[np.float32]) -> PartReceipt:
    ids = {"extractor": claim.extractor}
    paths = [f"Fruit/{claim.batch}-{part}-{row}.jpg" for row in range(len(matrix))]
    contents = [f"{path} {matrix[row].tobytes().hex()}" for row, path in enumerate(paths)]
    n = len(paths)
    name = tables.attempt_name(part, "0")
    columns = [
        paths,
        ["Fruit"] * n,
        [100] * n,
        ["1"] * n,
        contents,
        [0] * n,
        [50.0] * n,
        [9] * n,
        [9] * n,
        ["JPEG"] * n,
        tables.as_lists(matrix),
    ]
    tables.write_table(claim.work, f"features/{name}", tables.features_schema(WIDTH), columns, ids)
    rejects = None
    if part == 0:
        rejects = name
        row = [["Fruit/bad.jpg"], ["Fruit"], [0], ["1"], ["decode"], ["empty"], ["no bytes"]]
        tables.write_table(claim.work, f"rejects/{name}", tables.REJECTS_SCHEMA, row, ids)
    rejected = REJECTED if rejects else 0
    return PartReceipt(
        part=part,
        attempt="0",
        features=name,
        rejects=rejects,
        counts=Counts(
            listed=n + rejected,
            computed=n,
            rejected=rejected,
            rejects={"empty": 1} if rejects else {},
        ),
        digests=Digests(
            listing=digest(path.encode() for path in paths),
            images=digest(content.encode() for content in contents),
            features=features_digest(paths, matrix),
        ),
        seconds={"infer": 1.0},
        processor="abacus",
        versions={},
    )


def _model(claim: Claim, ours: BatchMoments, *, fit: bool) -> tuple[StoredModel, bool]:
    models = claim.output / contract.models_folder(claim.extractor)
    pointer = read_pointer(models, ModelPointer)
    if pointer is not None and not fit:
        return require_model(claim.output, claim.extractor, pointer.model), True
    merged = lineage.merge_published(claim.output, claim.extractor, [], own=ours)
    rule = {"variance": 0.8}
    model = lineage.fit_merged(claim.output, claim.extractor, merged, rule=rule, standardize=True)
    point(models, ModelPointer(model.card.model, claim.batch, claim.run, claim.started))
    return model, False


def _receipt(
    claim: Claim,
    parts: list[PartReceipt],
    digests: Digests,
    moments: Moments,
    model: StoredModel,
    *,
    reused: bool,
) -> RunReceipt:
    card = model.card
    return RunReceipt(
        batch=claim.batch,
        run=claim.run,
        images=f"images/{claim.batch}",
        output=claim.output.uri,
        results=claim.results.uri,
        started=claim.started,
        finished=now(),
        counts=Counts(
            listed=moments.n + REJECTED,
            computed=moments.n,
            rejected=REJECTED,
            rejects={"empty": REJECTED},
        ),
        digests=digests,
        model=ModelReceipt(
            model=card.model,
            k=card.k,
            n=card.n,
            rule=card.rule,
            standardize=card.standardize,
            variance_kept=card.variance_kept,
            variance_kept_here=model.pca.variance_kept_of(moments),
            largest_z=3.0,
            reused=reused,
        ),
        engine=EngineReceipt("processes", 2),
        network=claim.extractor.rpartition("-")[0],
        extractor=claim.extractor,
        processors={"abacus": len(parts)},
        images_per_second=1.0,
        seconds={"total": 1.0},
        seconds_in_workers={"infer": 2.0},
        settings={"batch": claim.batch, "run": claim.run},
        versions={},
    )
