"""Which model a run's vectors are made with: the output's current one, or a new one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from spark_job import catalog, pca
from spark_job.errors import UsageError
from spark_job.settings import DEFAULT_VARIANCE, FEATURES

if TYPE_CHECKING:
    from spark_job.moments import Moments
    from spark_job.objects import Folder
    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")


def current_model(
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
    if current is None:
        return None
    _, card = current
    if card["extractor"] != extractor:
        raise UsageError(
            f"the current model {card['model']} of {output.uri} was fitted on features of "
            f"{card['extractor']}, and this job's are of {extractor}; use --pca fit"
        )
    _warn_of_other_rule(settings, card)
    return current


def fit_model(
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
    return catalog.write_model(output, model, card)


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
