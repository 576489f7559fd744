"""The whole job: a batch of photographs in, published features and vectors out."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from spark_job import catalog
from spark_job.accounting import (
    check_rejects,
    count,
    in_words,
    require_equal,
    settle_tables,
    sum_of,
)
from spark_job.engines.spark import run_parts, slots, start_spark
from spark_job.errors import NoImagesError
from spark_job.featurize import Featurizer, plan_parts
from spark_job.listing import list_images, read_manifest, require_folder
from spark_job.models import current_model, fit_model
from spark_job.moments import Moments
from spark_job.networks import load_card, load_network
from spark_job.objects import open_folder
from spark_job.passes import MomentsPass, ProjectionPass, group_parts
from spark_job.progress import Progress
from spark_job.receipts import Clock, versions
from spark_job.settings import FEATURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from spark_job.listing import Listing
    from spark_job.objects import Folder
    from spark_job.pca import PCAModel
    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")

MOST_MOMENTS = 32
"""Partial moments that the driver reads and merges, 6.6 MB each, however large the cluster."""


def run(settings: JobSettings) -> dict[str, Any]:
    """Run one batch and publish it.

    Returns
    -------
    dict
        The receipt, as written to ``run.json``.

    Raises
    ------
    JobError
        Where nothing could be published; its kind tells a caller what to do.
    """
    started = datetime.now(UTC)
    clock = Clock()
    card = load_card()
    load_network(card)
    ids = {"extractor": card.extractor}
    images = open_folder(settings.images)
    require_folder(images)
    output = open_folder(settings.output)
    folder = catalog.claim_run(output, settings.batch, settings.run, images.uri)
    current = current_model(settings, output, ids["extractor"])

    with _spark_beside(settings) as (spark, listing):
        clock.lap("list and start")
        listed = listing.table.num_rows
        ui = spark.sparkContext.uiWebUrl or "switched off"
        LOGGER.info("%s images; Spark UI: %s", f"{listed:,}", ui)
        parts = plan_parts(listed, slots(spark), listing.mean_bytes)
        catalog.write_listing(folder, listing.table, parts)
        featurizer = Featurizer(images, folder, settings.max_pixels, ids["extractor"])
        receipts = _featurize(spark, featurizer, parts)
        clock.lap("featurize")
        counts = count(listing, receipts)
        settle_tables(folder, receipts, ids)
        check_rejects(folder, counts, settings.max_reject_rate)
        rows = [receipt["featurized"] for receipt in receipts]

        moments = _moments(spark, folder, rows)
        folder.write("moments.npz", moments.to_bytes())
        clock.lap("moments")
        model, model_card = current or fit_model(settings, output, moments, ids, receipts)
        clock.lap("fit")
        ids["model"] = model_card["model"]
        _project(spark, folder, rows, model, ids)
        clock.lap("project")
        if settings.csv:
            catalog.write_csv(folder, [part for part, size in enumerate(rows) if size], model.k)
            clock.lap("csv")
        receipt = {
            "run": settings.run,
            "batch": settings.batch,
            "images": images.uri,
            "output": output.uri,
            "results": folder.uri,
            "started": started.isoformat(),
            "finished": datetime.now(UTC).isoformat(),
            "counts": counts,
            "model": model_card | {"reused": current is not None},
            "images_per_second": round(counts["listed"] / clock.total, 1),
            "seconds": clock.seconds | {"total": round(clock.total, 3)},
            "seconds_in_workers": sum_of(receipts, "seconds"),
            "extractor": ids["extractor"],
            "application": spark.sparkContext.applicationId,
            "settings": asdict(settings),
            "versions": versions(),
        }
        catalog.publish(output, folder, receipt)
    return receipt


@contextmanager
def _spark_beside(settings: JobSettings) -> Iterator[tuple[SparkSession, Listing]]:
    """Give Spark and the batch's listing, had at the same time; Spark is stopped in any case."""
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start_spark, settings.master, f"orchard {settings.batch}")
        try:
            listing = _list(settings)
            # pyspark's Arrow functions import pandas; here that costs nothing, the JVM is starting.
            import_module("pandas")
            yield starting.result(), listing
        finally:
            if starting.exception() is None:
                starting.result().stop()


def _list(settings: JobSettings) -> Listing:
    folder = open_folder(settings.images)
    if settings.manifest is None:
        listing = list_images(folder)
    else:
        listing = read_manifest(settings.manifest, folder)
    if not listing.table.num_rows:
        others = sum(listing.ignored.values())
        raise NoImagesError(
            f"no images in {settings.manifest or folder.uri}"
            + (f" ({others} other files: {in_words(listing.ignored)})" if others else "")
            + "; Orchard takes JPEG, PNG, WebP, BMP, GIF and TIFF files, in folders named by label"
        )
    return listing


def _featurize(
    spark: SparkSession, featurizer: Featurizer, parts: list[int]
) -> list[dict[str, Any]]:
    done = spark.sparkContext.accumulator(0)
    with Progress(sum(parts), lambda: done.value):
        receipts = run_parts(spark, "features", featurizer, parts, done)
    return [json.loads(receipt) for receipt in receipts]


def _moments(spark: SparkSession, folder: Folder, rows: list[int]) -> Moments:
    groups = group_parts(rows, min(MOST_MOMENTS, slots(spark)))
    # Through files: Spark takes half a second to hand 13 MB to the driver.
    written = run_parts(spark, "moments", MomentsPass(folder, groups), [1] * len(groups))
    names = [name.decode() for name in written]
    # In the groups' order, so that the last bits do not depend on which task ended first.
    partial = (Moments.from_bytes(folder.read(name)) for name in names)
    moments = reduce(Moments.merge, partial, Moments.empty(FEATURES))
    require_equal("features read back", moments.n, sum(rows))
    for name in names:
        folder.delete(name)
    return moments


def _project(
    spark: SparkSession, folder: Folder, rows: list[int], model: PCAModel, ids: dict[str, str]
) -> None:
    groups = group_parts(rows, slots(spark))
    projection = ProjectionPass(folder, groups, model, ids)
    written = run_parts(spark, "vectors", projection, [1] * len(groups))
    require_equal("vectors written", sum(map(int, written)), sum(rows))
