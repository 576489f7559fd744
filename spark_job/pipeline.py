"""The whole job: a batch of photographs in, published features and vectors out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from spark_job import contract, runs, tables
from spark_job.accounting import account, check_rejects, in_words, require_equal
from spark_job.claims import now
from spark_job.engines import start_engine
from spark_job.errors import NoImagesError, OutputRefusedError, UsageError
from spark_job.featurize import Featurizer, warm_up
from spark_job.listing import (
    list_images,
    plan_parts,
    read_manifest,
    require_folder,
    write_listing,
)
from spark_job.models import current_model, fit_model
from spark_job.moments import Moments
from spark_job.networks import load_card, load_network
from spark_job.objects import open_folder
from spark_job.passes import JoiningPass, MomentsPass, ProjectionPass, group_parts, plan_vectors
from spark_job.progress import Progress
from spark_job.receipt_tables import write_parts, write_receipt, write_variance
from spark_job.receipts import Clock, ModelReceipt, RunReceipt, add_digests, add_up, versions

if TYPE_CHECKING:
    from spark_job.claims import Claim
    from spark_job.engines import Engine
    from spark_job.listing import Listing
    from spark_job.models import StoredModel
    from spark_job.networks import Card
    from spark_job.objects import Folder
    from spark_job.passes import VectorsReceipt
    from spark_job.receipts import Digests, PartReceipt
    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")

MOST_MOMENTS = 32
"""Partial moments that the driver reads and merges, 6.6 MB each, however large the cluster."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    receipt
        As written to ``run.json``.
    superseded_by
        The run that is published instead, since it started later; None where this one is.
    """

    receipt: RunReceipt
    superseded_by: str | None


def run(settings: JobSettings) -> Outcome:
    """Run one batch and publish it.

    Raises
    ------
    JobError
        Where nothing could be published; its kind tells a caller what to do.
    """
    clock = Clock()
    card, images, output = prepare(settings)
    require_folder(images)
    claim = runs.claim_run(output, settings.batch, settings.run, images.uri, card.extractor)
    try:
        if claim.settled is not None:
            LOGGER.info("run %s was settled before, and is published now", settings.run)
            return _publish(claim, claim.settled)
        current = current_model(settings, output, card)
        name = f"orchard {settings.batch}"
        with start_engine(
            settings.engine, master=settings.master, name=name, warm_up=warm_up(card.name)
        ) as engine:
            receipt = _work(settings, claim, images, card, current, engine, clock)
        return _publish(claim, receipt)
    finally:
        claim.release()


def prepare(settings: JobSettings) -> tuple[Card, Folder, Folder]:
    """Look up a run's network, images and output, before any of them is read or written.

    Raises
    ------
    JobError
        Where the arguments do not fit each other, or name something that there is not.
    """
    card = load_card(settings.network)
    load_network(card)
    _require_components(settings, card)
    images, output = open_folder(settings.images), open_folder(settings.output)
    _require_apart(images, output)
    return card, images, output


def _work(
    settings: JobSettings,
    claim: Claim,
    images: Folder,
    card: Card,
    current: StoredModel | None,
    engine: Engine,
    clock: Clock,
) -> RunReceipt:
    """Do everything up to the settled run."""
    listing = _list(settings, images)
    LOGGER.info("%s images", f"{len(listing):,}")
    parts = plan_parts(len(listing), engine.slots, listing.mean_bytes)
    digest = write_listing(claim.work, listing, parts)
    clock.lap("list and start")
    featurizer = Featurizer(images, claim.work, card, settings.max_pixels)
    with Progress(parts, claim.work) as progress:
        receipts = engine.run("features", featurizer, len(parts), progress)
    clock.lap("featurize")
    claim.require()
    counts, digests = account(listing, digest, receipts)
    check_rejects(claim.work, counts, settings.max_reject_rate)
    processors = Counter(receipt.processor for receipt in receipts)
    if len(processors) > 1:
        LOGGER.warning(
            "several kinds of processor computed this run (%s): features of the same image may "
            "differ in their last bits between them",
            "; ".join(processors),
        )

    featurized = [receipt for receipt in receipts if receipt.features is not None]
    moments = _moments(engine, claim.work, card, featurized, digests)
    clock.lap("moments")
    model = current or fit_model(settings, claim.output, moments, card, digests.images)
    clock.lap("fit")
    ids = {"extractor": card.extractor, "model": model.card.model}
    vectors = _project(engine, claim.work, model, ids, featurized)
    clock.lap("project")

    files = _accepted(claim.work, card, receipts, vectors)
    runs.copy_files(claim, files)
    if settings.csv:
        targets = [target for _, target in files if target.startswith(contract.VECTORS)]
        tables.write_vectors_csv(claim.results, targets, model.card.k)
    claim.results.write(
        contract.MOMENTS_FILE,
        moments.to_bytes(
            extractor=card.extractor, images=digests.images, batch=claim.batch, run=claim.run
        ),
    )
    write_variance(claim.results, model.pca)
    write_parts(claim.results, receipts)
    clock.lap("settle")
    receipt = RunReceipt(
        batch=claim.batch,
        run=claim.run,
        images=images.uri,
        output=claim.output.uri,
        results=claim.results.uri,
        started=claim.started,
        finished=now(),
        counts=counts,
        digests=digests,
        model=ModelReceipt(
            model=model.card.model,
            k=model.card.k,
            n=model.card.n,
            rule=model.card.rule,
            standardize=model.card.standardize,
            variance_kept=model.card.variance_kept,
            variance_kept_here=model.pca.variance_kept_of(moments),
            largest_z=max(file.largest_z for file in vectors),
            reused=current is not None,
        ),
        engine=engine.receipt(),
        network=card.name,
        extractor=card.extractor,
        processors=dict(processors),
        images_per_second=round(counts.listed / clock.total, 1),
        seconds=clock.seconds | {"total": round(clock.total, 3)},
        seconds_in_workers=add_up(receipt.seconds for receipt in receipts),
        settings=asdict(settings),
        versions=versions(*(["pyspark"] if engine.receipt().name == "spark" else [])),
    )
    write_receipt(claim.results, receipt)
    runs.settle(claim, receipt, files)
    return receipt


def _publish(claim: Claim, receipt: RunReceipt) -> Outcome:
    publication = runs.publish(claim.output, receipt)
    if publication.model != receipt.model.model and not receipt.model.reused:
        LOGGER.warning(
            "the vectors are of the model %s, and later batches will reuse %s, which a run that "
            "started later published: run this batch again to compare with them",
            receipt.model.model,
            publication.model,
        )
    try:
        runs.clean_up(claim)
    except OSError as error:  # a late worker may write on while its folder is removed
        LOGGER.warning("what the run worked with could not be removed: %s", error)
    if publication.run == receipt.run:
        return Outcome(receipt, None)
    LOGGER.warning(
        "run %s is complete in %s, and run %s of this batch, which started later (%s), is the "
        "published one",
        receipt.run,
        receipt.results,
        publication.run,
        publication.started,
    )
    return Outcome(receipt, publication.run)


def _require_components(settings: JobSettings, card: Card) -> None:
    if settings.components is not None and settings.components > card.features:
        raise UsageError(
            f"--components {settings.components} is more than the {card.features} features that "
            f"the network {card.name} gives; choose 1 to {card.features}"
        )


def _require_apart(images: Folder, output: Folder) -> None:
    """Refuse to write results among the images, where the next run would list them."""
    inner, outer = (
        str(Path(folder.uri).resolve()) if folder.is_local else folder.uri
        for folder in (output, images)
    )
    if f"{inner}/".startswith(f"{outer.rstrip('/')}/"):
        raise OutputRefusedError(
            f"--output {output.uri} lies inside --images {images.uri}; choose a folder outside of "
            "it"
        )


def _list(settings: JobSettings, folder: Folder) -> Listing:
    if settings.manifest is None:
        listing = list_images(folder)
    else:
        listing = read_manifest(settings.manifest, folder)
    if not len(listing):
        others = sum(listing.ignored.values())
        raise NoImagesError(
            f"no images in {settings.manifest or folder.uri}"
            + (f" ({others} other files: {in_words(listing.ignored)})" if others else "")
            + "; Orchard takes JPEG, PNG, WebP, BMP, GIF and TIFF files, in folders named by label"
        )
    return listing


def _moments(
    engine: Engine, work: Folder, card: Card, featurized: list[PartReceipt], digests: Digests
) -> Moments:
    rows = [receipt.counts.featurized for receipt in featurized]
    groups = _files(featurized, group_parts(rows, min(MOST_MOMENTS, engine.slots)))
    partial = engine.run("moments", MomentsPass(work, groups, card.features), len(groups))
    # In the groups' order, so that the last bits do not depend on which task ended first.
    merged = (Moments.from_bytes(work.read(one.file)) for one in partial)
    moments = reduce(Moments.merge, merged, Moments.empty(card.features))
    require_equal("features read back", moments.n, sum(rows))
    read_back = add_digests(one.features for one in partial)
    require_equal("features read back, by their bytes", read_back, digests.features)
    return moments


def _project(
    engine: Engine,
    work: Folder,
    model: StoredModel,
    ids: dict[str, str],
    featurized: list[PartReceipt],
) -> list[VectorsReceipt]:
    rows = [receipt.counts.featurized for receipt in featurized]
    files, pieces = plan_vectors(sum(rows), model.card.k, engine.slots)
    groups = _files(featurized, group_parts(rows, files * pieces))
    projection = ProjectionPass(work, groups, model.pca, ids)
    vectors = engine.run("vectors", projection, len(groups))
    if pieces > 1:
        joined = [vectors[start : start + pieces] for start in range(0, len(vectors), pieces)]
        joining = JoiningPass(work, joined, model.card.k, ids)
        vectors = engine.run("join vectors", joining, len(joined))
    require_equal("vectors written", sum(one.rows for one in vectors), sum(rows))
    return vectors


def _files(featurized: list[PartReceipt], groups: list[list[int]]) -> list[list[str]]:
    return [[str(featurized[number].features) for number in group] for group in groups]


def _accepted(
    work: Folder, card: Card, receipts: list[PartReceipt], vectors: list[VectorsReceipt]
) -> list[tuple[str, str]]:
    """Name the files that become the run's tables: in the work folder, and in the run's."""
    files = [
        (f"{table}/{name}", f"{table}/{tables.part_name(receipt.part)}")
        for receipt in receipts
        for table, name in (
            (contract.FEATURES, receipt.features),
            (contract.REJECTS, receipt.rejects),
        )
        if name is not None
    ]
    for number, file in enumerate(vectors):
        files.append((file.file, f"{contract.VECTORS}/{tables.part_name(number)}"))
    if not any(receipt.rejects for receipt in receipts):
        name = f"{contract.REJECTS}/{tables.part_name(0)}"
        ids = {"extractor": card.extractor}
        tables.write_empty(work, name, tables.REJECTS_SCHEMA, ids)
        files.append((name, name))
    return files
