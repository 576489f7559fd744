"""The whole job: a batch of photographs in, published features and vectors out."""

from __future__ import annotations

import json
import logging
import platform
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import reduce
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from spark_job import __version__, catalog, pca
from spark_job.errors import JobError, NoImagesError, TooManyRejectsError, UsageError
from spark_job.extractor import extractor_id, load_card, load_network
from spark_job.featurize import Featurizer, plan_parts
from spark_job.images import list_images, read_manifest
from spark_job.moments import Moments
from spark_job.passes import MomentsPass, ProjectionPass, group_parts
from spark_job.progress import Progress
from spark_job.session import slots, start_spark
from spark_job.settings import DEFAULT_VARIANCE, FEATURES
from spark_job.stage import run_parts
from spark_job.storage import open_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from spark_job.images import Listing
    from spark_job.settings import JobSettings
    from spark_job.storage import Folder

LOGGER = logging.getLogger("orchard")

MOST_MOMENTS = 32
"""Partial moments that the driver merges, 6.6 MB each, however large the cluster."""


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
    clock = _Clock()
    card = load_card()
    load_network(card)
    ids = {"extractor": extractor_id(card)}
    images = open_folder(settings.images)
    output = open_folder(settings.output)
    folder = catalog.claim_run(output, settings.batch, settings.run, images.uri)
    current = _current_model(settings, output, ids["extractor"])

    with _spark_beside(settings) as (spark, listing):
        clock.lap("list and start")
        listed = listing.table.num_rows
        LOGGER.info("%s images; Spark UI: %s", f"{listed:,}", spark.sparkContext.uiWebUrl)
        parts = plan_parts(listed, slots(spark))
        catalog.write_listing(folder, listing.table, parts)
        featurizer = Featurizer(images, folder, settings.max_pixels, ids["extractor"])
        receipts = _featurize(spark, featurizer, parts)
        clock.lap("featurize")
        counts = _count(listing, receipts)
        _settle_tables(folder, receipts, ids)
        _check_rejects(settings, folder, counts)
        rows = [receipt["featurized"] for receipt in receipts]

        moments = _moments(spark, folder, rows)
        folder.write("moments.npz", moments.to_bytes())
        clock.lap("moments")
        model, model_card = current or _fit(settings, output, moments, ids, receipts)
        _warn_of_other_rule(settings, model_card)
        clock.lap("fit")
        ids["model"] = model_card["model"]
        groups = group_parts(rows, 4 * slots(spark))
        projection = ProjectionPass(folder, groups, model, ids)
        written = run_parts(spark, "vectors", projection, [1] * len(groups))
        _require_equal("vectors written", sum(map(int, written)), counts["featurized"])
        clock.lap("project")
        if settings.csv:
            catalog.write_csv(folder, [part for part, count in enumerate(rows) if count], model.k)
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
            "seconds_in_workers": _sum_of(receipts, "seconds"),
            "extractor": ids["extractor"],
            "application": spark.sparkContext.applicationId,
            "settings": asdict(settings),
            "versions": _versions(),
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
            + (f" ({others} other files: {_in_words(listing.ignored)})" if others else "")
            + "; Orchard takes JPEG, PNG, WebP, BMP, GIF and TIFF files, in folders named by label"
        )
    return listing


def _current_model(
    settings: JobSettings, output: Folder, extractor: str
) -> tuple[pca.PCAModel, dict[str, Any]] | None:
    """Read the model that `--pca auto` reuses; None where one is to be fitted."""
    if settings.pca == "fit":
        return None
    try:
        current = catalog.read_current_model(output)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UsageError(
            f"cannot read the current model in {output.uri}/models: {error}; restore it, or use "
            "--pca fit for a new one"
        ) from error
    if current is not None and current[1]["extractor"] != extractor:
        raise UsageError(
            f"the current model {current[1]['model']} of {output.uri} was fitted on features of "
            f"{current[1]['extractor']}, and this job's are of {extractor}; use --pca fit"
        )
    return current


def _featurize(
    spark: SparkSession, featurizer: Featurizer, parts: list[int]
) -> list[dict[str, Any]]:
    done = spark.sparkContext.accumulator(0)
    with Progress(sum(parts), lambda: done.value):
        receipts = run_parts(spark, "features", featurizer, parts, done)
    return [json.loads(receipt) for receipt in receipts]


def _count(listing: Listing, receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the parts' counts up; images listed = featurized + rejected, or the run fails."""
    reasons = _sum_of(receipts, "rejects")
    counts = {
        "listed": listing.table.num_rows,
        "featurized": sum(receipt["featurized"] for receipt in receipts),
        "rejected": sum(reasons.values()),
        "rejects": reasons,
        "ignored": dict(listing.ignored),
    }
    accounted = counts["featurized"] + counts["rejected"]
    _require_equal("images accounted for", accounted, counts["listed"])
    return counts


def _require_equal(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise JobError(
            f"{what}: {found:,}, where {expected:,} were expected; nothing was published. Images "
            "or results changed while the job ran, or this is a bug: run it again"
        )


def _settle_tables(folder: Folder, receipts: list[dict[str, Any]], ids: dict[str, str]) -> None:
    """Make the tables what the receipts say, whatever repeated tasks left; an empty one exists.

    The rows of features are counted when the moments are computed.
    """
    featurized = [receipt["part"] for receipt in receipts if receipt["featurized"]]
    catalog.keep_only(folder, "features", featurized)
    if not featurized:
        catalog.write_part(folder, "features", 0, catalog.FEATURES_SCHEMA.empty_table(), ids)
    rejecting = [receipt["part"] for receipt in receipts if receipt["rejects"]]
    catalog.keep_only(folder, "rejects", rejecting)
    if not rejecting:
        catalog.write_part(folder, "rejects", 0, catalog.REJECTS_SCHEMA.empty_table(), ids)
    rejected = sum(_sum_of(receipts, "rejects").values())
    _require_equal("rejects written", catalog.count_rows(folder, "rejects", rejecting), rejected)


def _check_rejects(settings: JobSettings, folder: Folder, counts: dict[str, Any]) -> None:
    rate = counts["rejected"] / counts["listed"]
    if rate > settings.max_reject_rate:
        raise TooManyRejectsError(
            f"{counts['rejected']:,} of {counts['listed']:,} images were rejected ({rate:.1%}: "
            f"{_in_words(counts['rejects'])}), more than --max-reject-rate "
            f"{settings.max_reject_rate:g} allows, so nothing was published; see "
            f"{folder.uri}/rejects, mend or remove the images, or raise the limit"
        )
    if not counts["featurized"]:
        raise NoImagesError(
            f"none of the {counts['listed']:,} images could be used "
            f"({_in_words(counts['rejects'])}); see {folder.uri}/rejects"
        )


def _moments(spark: SparkSession, folder: Folder, rows: list[int]) -> Moments:
    groups = group_parts(rows, min(MOST_MOMENTS, 2 * slots(spark)))
    partial = run_parts(spark, "moments", MomentsPass(folder, groups), [1] * len(groups))
    # In the groups' order, so that the last bits do not depend on which task ended first.
    moments = reduce(Moments.merge, map(Moments.from_bytes, partial), Moments.empty(FEATURES))
    _require_equal("features read back", moments.n, sum(rows))
    return moments


def _fit(
    settings: JobSettings,
    output: Folder,
    moments: Moments,
    ids: dict[str, str],
    receipts: list[dict[str, Any]],
) -> tuple[pca.PCAModel, dict[str, Any]]:
    """Fit a model and store it under the id of what determines it."""
    rule = settings.rule or {"variance": DEFAULT_VARIANCE}
    model = pca.fit(moments, standardize=settings.standardize, **rule)
    if model.k < rule.get("components", 0):
        LOGGER.warning(
            "%s components were asked for, but %s images vary in no more than %s directions: %s "
            "are kept",
            settings.components,
            f"{moments.n:,}",
            model.k,
            model.k,
        )
    determined_by = {
        "extractor": ids["extractor"],
        "images": catalog.combine_digests(receipt["images_digest"] for receipt in receipts),
        "rule": rule,
        "standardize": settings.standardize,
    }
    card = determined_by | {
        "model": catalog.model_id(determined_by),
        "k": model.k,
        "n": moments.n,
        "features": FEATURES,
        "variance_kept": model.variance_kept,
        "batches": [{"batch": settings.batch, "run": settings.run, "n": moments.n}],
        "parents": [],
    }
    return catalog.write_model(output, model, card), card


def _warn_of_other_rule(settings: JobSettings, card: dict[str, Any]) -> None:
    """Say so where a reused model was not fitted as the arguments ask."""
    asked = settings.rule or card["rule"]
    if asked != card["rule"] or (card["standardize"] and not settings.standardize):
        LOGGER.warning(
            "the model %s is reused, so that batches compare; it was fitted with %s, standardize "
            "%s, and not as asked: use --pca fit for a new one",
            card["model"],
            card["rule"],
            card["standardize"],
        )


def _sum_of(receipts: list[dict[str, Any]], key: str) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt[key])
    return {name: round(value, 3) for name, value in total.most_common()}


def _in_words(counts: dict[str, int] | Counter[str]) -> str:
    most_first = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {name or 'without extension'}" for name, count in most_first)


def _versions() -> dict[str, str]:
    packages = ("pyspark", "ai-edge-litert", "numpy", "pillow", "pyarrow")
    found = {"orchard": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # Spark's own Python package on a cluster has no metadata
            found[package] = import_module(package).__version__
    return found


class _Clock:
    """Seconds per stage and in all."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._lap = perf_counter()

    @property
    def total(self) -> float:
        return perf_counter() - self._started

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.seconds[stage] = round(now - self._lap, 3)
        self._lap = now
