"""What a model is made from: the moments of published runs, merged; and which batch is of which."""

from __future__ import annotations

import io
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job import contract, pca
from spark_job.claims import parse_claim
from spark_job.errors import UsageError
from spark_job.models import DAMAGED, ModelCard, StoredModel, model_id, write_model
from spark_job.moments import Moments
from spark_job.pointers import BatchPointer, read_pointer
from spark_job.receipts import RunReceipt, add_digests
from spark_job.runs import read_settled
from spark_job.sketch import ContentSketch, Shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")

READS = 16
"""Small files that are read at a time."""


@dataclass(frozen=True)
class BatchMoments:
    """Moments of a batch's features, and what they are of.

    Attributes
    ----------
    batch, run
        Whose features.
    extractor
        That computed them.
    images
        Digest of the images' content.
    moments
        Of the features.
    contents
        Of the images; None where a run is of before there were sketches.
    """

    batch: str
    run: str
    extractor: str
    images: str
    moments: Moments
    contents: ContentSketch | None = None


@dataclass(frozen=True)
class Merged:
    """Moments of several batches.

    Attributes
    ----------
    moments
        Of all their features.
    batches
        Which: batch, run and n, sorted by name.
    images
        Digest of all their images.
    shared
        Images with the same content in several batches, each counted once; None where that is not
        known of a batch.
    """

    moments: Moments
    batches: list[dict[str, Any]]
    images: str
    shared: int | None


def merge_published(
    output: Folder,
    extractor: str,
    batches: Sequence[str],
    fallback_runs: Mapping[str, str] | None = None,
    own: BatchMoments | None = None,
) -> Merged:
    """Merge the moments of batches, as if all their images were of one.

    They are merged in the order of the batches' names, one after the other, so that the bits do
    not depend on the order in which they are given, and no more than two are in memory.

    Parameters
    ----------
    output
        The root of all batches.
    extractor
        Of the features.
    batches
        Names, each once.
    fallback_runs
        By batch, the run whose moments are taken where no run of this extractor is published, or
        none that started later.
    own
        Of a run that is not published yet; its batch is not among `batches`.

    Raises
    ------
    UsageError
        Where a batch is named twice, or has no such moments.
    """
    names = [*batches] if own is None else [*batches, own.batch]
    _require_distinct(names)
    if not names:
        raise UsageError("no batch was named; name one or more, with commas between them")
    merged: Moments | None = None
    told: list[dict[str, Any]] = []
    digests: list[str] = []
    shared: Shared | None = Shared()
    for batch in sorted(names):
        if own is not None and batch == own.batch:
            one = own
        else:
            run = find_run(output, extractor, batch, (fallback_runs or {}).get(batch))
            one = read_moments(output, batch, run, extractor)
        _require_width(one, merged)
        merged = one.moments if merged is None else merged.merge(one.moments)
        told.append({"batch": batch, "run": one.run, "n": one.moments.n})
        digests.append(one.images)
        if shared is not None and one.contents is not None:
            shared.add(one.contents)
        else:
            shared = None
    assert merged is not None  # noqa: S101
    count = None if shared is None else shared.count()
    if count:
        LOGGER.warning(
            "%s%s images have the same content in several of the batches %s: each counts as often "
            "as there are batches that have it",
            "" if shared is None or shared.is_exact else "about ",
            f"{count:,}",
            ", ".join(one["batch"] for one in told[:8]) + (", ..." if len(told) > 8 else ""),
        )
    return Merged(merged, told, add_digests(digests), count)


def require_mergeable(
    output: Folder, extractor: str, batches: Sequence[str], fallback_runs: Mapping[str, str]
) -> None:
    """Refuse what `merge_published` would refuse, without reading any moments."""
    for batch in batches:
        find_run(output, extractor, batch, fallback_runs.get(batch))


def fit_merged(
    output: Folder,
    extractor: str,
    merged: Merged,
    *,
    rule: dict[str, Any],
    standardize: bool,
    parent: ModelCard | None = None,
) -> StoredModel:
    """Fit a model to what `merge_published` gave, and store it under its id.

    Parameters
    ----------
    output, extractor
        See `merge_published`.
    merged
        What it returned.
    rule, standardize
        How to fit; see `pca.fit`.
    parent
        The model that it is an update of, if it is any.

    Raises
    ------
    UsageError
        Where more components are asked for than there are features.
    NoImagesError
        Where there are too few images, or none that differ.
    """
    moments = merged.moments
    features = len(moments.mean)
    asked = rule.get("components", 0)
    if asked > features:
        raise UsageError(
            f"--components {asked} is more than the {features} features of {extractor}; choose 1 "
            f"to {features}"
        )
    model = pca.fit(moments, standardize=standardize, **rule)
    if model.k < asked:
        LOGGER.warning(
            "%s components were asked for, but %s images vary in no more than %s directions: %s "
            "are kept",
            asked,
            f"{moments.n:,}",
            model.k,
            model.k,
        )
    determined_by = {
        "extractor": extractor,
        # Also where their images are: a later update replaces a batch's moments by its name, and
        # the same images under another name are another batch.
        "batches": [one["batch"] for one in merged.batches],
        "images": merged.images,
        "rule": rule,
        "standardize": standardize,
        "fit": pca.VERSION,
    }
    card = ModelCard(
        model=model_id(determined_by),
        extractor=extractor,
        images=merged.images,
        rule=rule,
        standardize=standardize,
        features=features,
        k=model.k,
        n=moments.n,
        variance_kept=model.variance_kept,
        batches=merged.batches,
        shared=merged.shared,
        parents=[] if parent is None else [parent.model],
        generation=1 if parent is None else (parent.generation or 1) + 1,
    )
    return write_model(output, StoredModel(model, card))


def published_receipt(output: Folder, batch: str) -> RunReceipt | None:
    """Read the receipt of a batch's published run; None where none is published.

    Raises
    ------
    UsageError
        Where the pointer or the receipt cannot be used.
    """
    pointer = read_pointer(output / contract.results_folder(batch), BatchPointer)
    if pointer is None:
        return None
    run = output / contract.run_folder(batch, pointer.run)
    content = run.read_or_none(contract.RUN)
    if content is None:
        raise UsageError(
            f"batch {batch!r} points to {run.uri}, which has no {contract.RUN}; restore it, or run "
            "the batch again"
        )
    return RunReceipt.from_json(content, run.uri)


def published_receipts(output: Folder) -> dict[str, RunReceipt]:
    """Read the receipts of all published runs, by batch in order; see `published_receipt`."""
    batches = (output / contract.RESULTS).folders()
    with ThreadPoolExecutor(READS) as pool:
        found = pool.map(lambda batch: published_receipt(output, batch), batches)
        pairs = zip(batches, found, strict=True)
        return {batch: receipt for batch, receipt in pairs if receipt is not None}


def require_published(output: Folder, batches: Sequence[str]) -> dict[str, RunReceipt]:
    """Read the receipts of the published runs of `batches`, by batch in order.

    Raises
    ------
    UsageError
        Where one is named twice, or has no published run.
    """
    _require_distinct(batches)
    found = {}
    for batch in sorted(batches):
        receipt = published_receipt(output, batch)
        if receipt is None:
            raise UsageError(_unpublished(output, batch))
        found[batch] = receipt
    return found


def read_moments(output: Folder, batch: str, run: str, extractor: str) -> BatchMoments:
    """Read the moments of a settled run.

    Raises
    ------
    UsageError
        Where they are missing, damaged or of another extractor.
    """
    folder = output / contract.run_folder(batch, run)
    where = f"{folder.uri}/{contract.MOMENTS_FILE}"
    try:
        content = folder.read(contract.MOMENTS_FILE)
        with np.load(io.BytesIO(content)) as file:
            found, images = str(file["extractor"]), str(file["images"])
        moments = Moments.from_bytes(content)
        contents = ContentSketch.from_bytes(content)
    except (FileNotFoundError, *DAMAGED) as error:
        raise UsageError(
            f"{where} is missing or damaged ({error!r}); restore it, or run batch {batch!r} again"
        ) from error
    if found != extractor:
        raise UsageError(
            f"{where} is of features of {found}, and not of {extractor}; run batch {batch!r} again"
        )
    return BatchMoments(batch, run, extractor, images, moments, contents)


def find_run(output: Folder, extractor: str, batch: str, fallback: str | None) -> str:
    """Find the run of a batch whose moments are to be taken.

    Parameters
    ----------
    output, extractor, batch
        See `merge_published`.
    fallback
        The run that is taken where none of the extractor is published, or none that started later;
        where that is gone, another one that was settled.

    Raises
    ------
    UsageError
        Where there is none.
    """
    published = published_receipt(output, batch)
    if published is not None and published.extractor == extractor:
        # A run that has made its model the current one is published a moment later.
        if fallback is not None and _started(output, batch, fallback) > published.started:
            return fallback
        return published.run
    if fallback is not None:
        if contract.MOMENTS_FILE in (output / contract.run_folder(batch, fallback)).files():
            return fallback
        for settled in read_settled(output, batch):
            if settled.extractor == extractor:
                return settled.run
        raise UsageError(
            f"run {fallback!r} of batch {batch!r} was removed, and the batch has no other run with "
            f"{extractor}; run the batch again, or fit a model without it"
        )
    if published is None:
        raise UsageError(_unpublished(output, batch))
    raise UsageError(
        f"the published run of batch {batch!r} has features of {published.extractor}, and not of "
        f"{extractor}: they do not mix; leave the batch out, or run it with that network"
    )


def _started(output: Folder, batch: str, run: str) -> str:
    """When a run started that has written its moments; empty where it is gone."""
    folder = output / contract.run_folder(batch, run)
    if contract.MOMENTS_FILE not in folder.files():
        return ""
    content = folder.read_or_none(contract.RUN)
    if content is not None:
        return RunReceipt.from_json(content, folder.uri).started
    claim = parse_claim((output / contract.work_folder(batch, run)).read_or_none(contract.CLAIM))
    return "" if claim is None else claim.started


def _require_width(one: BatchMoments, merged: Moments | None) -> None:
    if merged is not None and len(one.moments.mean) != len(merged.mean):
        raise UsageError(
            f"the moments of run {one.run!r} of batch {one.batch!r} are of "
            f"{len(one.moments.mean)} features, and the other batches' of {len(merged.mean)}; run "
            "the batch again"
        )


def _require_distinct(batches: Sequence[str]) -> None:
    for batch, times in Counter(batches).items():
        if times > 1:
            raise UsageError(f"batch {batch!r} is named {times} times; name it once")


def _unpublished(output: Folder, batch: str) -> str:
    known = (output / contract.RESULTS).folders()
    if batch in known:
        return f"batch {batch!r} has no published run; run it first, or leave it out"
    there = f"there are {', '.join(known[:8])}{' and others' if len(known) > 8 else ''}"
    return f"{output.uri} has no batch {batch!r}; {there if known else 'it has none at all'}"
