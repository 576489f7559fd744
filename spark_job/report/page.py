"""The page as one file: what was chosen to stand on it, put into words and HTML."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from spark_job.accounting import in_words, with_dots
from spark_job.corrections import LONGEST_LABEL, UNFIT
from spark_job.findings.card import labels_in_words
from spark_job.findings.looking import MOST_SUSPECTS
from spark_job.findings.outliers import MOST_OUTLIERS
from spark_job.report.verdict import judge_batch
from spark_job.report.view import VOTERS, View, map_data, spectrum
from spark_job.summary import origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.report.pictures import Gallery
    from spark_job.report.results import Results

NO_LABEL: Final = "no label"

TEMPLATE, STYLE = "report.html.jinja", "report.css"

SCRIPTS: Final = ("start.js", "marks.js", "pictures.js", "map.js")
"""One script on the page, in this order."""

SECTIONS: Final = (
    ("model", "The run"),
    ("rejects", "Rejects"),
    ("suspects", "Doubtful labels"),
    ("duplicates", "Copies"),
    ("outliers", "Outliers"),
    ("selection", "Where to begin"),
    ("labels", "Labels"),
    ("variance", "Variance"),
    ("map", "Map"),
)

MOST_APPLIED: Final = 200_000
"""Bytes of corrections, as a CSV, that the page begins with."""

FOUND: Final = ("suspects", "duplicates", "outliers", "selection", "labels")
"""Those that a run without findings has not."""


def render(results: Results, view: View, gallery: Gallery | None) -> str:
    """Make the page of a run.

    Parameters
    ----------
    results, view
        Of the run, and what of it is shown.
    gallery
        Pictures of what is shown; None where none were to be read.
    """
    room = files("spark_job.report") / "page"
    script = "\n".join((room / name).read_text("utf-8").strip() for name in SCRIPTS)
    environment = Environment(
        loader=DictLoader({TEMPLATE: (room / TEMPLATE).read_text("utf-8")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    receipt, card = results.receipt, results.receipt.findings
    uris = {} if gallery is None else gallery.uris
    keys = {path: f"p{number}" for number, path in enumerate(uris)}
    page = environment.get_template(TEMPLATE).render(
        receipt=receipt,
        card=card,
        labels=None if card is None else labels_in_words(card),
        listed=_listed(results),
        titles=dict(SECTIONS),
        sections=[name for name, _ in SECTIONS if card is not None or name not in FOUND],
        amounts=_amounts(results, view),
        verdict=judge_batch(receipt),
        facts=list(_facts(results)),
        standing_out=[] if receipt.drift is None else receipt.drift.standing_out[:20],
        view=view,
        voters=VOTERS,
        gallery=gallery,
        keys=keys,
        uris=uris,
        spectrum=spectrum(results.shares, receipt.model.k),
        mapped=len(results.points.path),
        places=results.points.places,
        map_data=map_data(results.points, results.shares, dict(_flagged(results)), keys),
        applied=_applied(results),
        kept=0 if results.corrections is None else len(results.corrections),
        longest_label=LONGEST_LABEL,
        unfit=UNFIT,
        named=lambda label: NO_LABEL if label is None else label,
        counted=counted,
        style=Markup((room / STYLE).read_text("utf-8").strip()),  # noqa: S704, of this package
        script=Markup(script),  # noqa: S704, of this package
        script_hash=_hash(f"\n{script}\n"),
    )
    return page.replace("\r", "&#13;")  # which else a browser takes for a line's end


def map_size(results: Results) -> int:
    """Tell how much of the page the map's points take."""
    return len(map_data(results.points, results.shares, dict(_flagged(results)), {}))


def counted(number: int, one: str, several: str | None = None) -> str:
    """Write a number with the word for it."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def _applied(results: Results) -> list[tuple[str, str | None]]:
    """Give the run's corrections, paths and labels, unless they are too many for a page."""
    if results.corrections is None:
        return []
    given = results.corrections
    if len(given.to_csv()) > MOST_APPLIED:
        return []
    return list(zip(given.paths.to_pylist(), given.labels.to_pylist(), strict=True))


def _listed(results: Results) -> dict[str, int]:
    """How many rows the tables have that do not name all there are."""
    card = results.receipt.findings
    if card is None:
        return {}
    return {
        "suspects": min(card.suspects, MOST_SUSPECTS),
        "outliers": min(card.outliers, MOST_OUTLIERS),
    }


def _amounts(results: Results, view: View) -> dict[str, int]:
    """How much there is in a section, by its name, where that says something."""
    counts, card = results.receipt.counts, results.receipt.findings
    amounts = {"rejects": counts.rejected + counts.unsupported}
    if card is not None:
        amounts |= {
            "suspects": card.suspects,
            "duplicates": view.groups,
            "outliers": card.outliers,
            "labels": card.labels,
        }
    return amounts


def _flagged(results: Results) -> Iterator[tuple[str, list[str]]]:
    """Yield a word for what is said of some images, and their paths."""
    found, card = results.findings, results.receipt.findings
    standing_out = 0 if card is None else card.outliers
    rows = {
        "doubtful labels": found.get("suspects", []),
        "copies": [row for row in found.get("duplicates", []) if not row["keep"]],
        "outliers": found.get("outliers", [])[:standing_out],
        "where to begin": found.get("selection", []),
    }
    for word, some in rows.items():
        yield word, [row["path"] for row in some]


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    """Yield what the receipt says: a name, and a text."""
    receipt = results.receipt
    counts, model = receipt.counts, receipt.model
    yield "files", f"{counts.listed:,} listed"
    known = f", {counts.carried_over:,} of them known from before" if counts.carried_over else ""
    yield "pictures", f"{counts.featurized:,} could be used{known}"
    not_used = {
        "rejected": counts.rejected,
        "in formats that are not taken": counts.unsupported,
    }
    if any(not_used.values()):
        yield "not used", in_words({name: n for name, n in not_used.items() if n})
    corrected = {"dropped": counts.dropped, "relabelled": counts.relabelled}
    if any(corrected.values()):
        yield "corrected", in_words({name: n for name, n in corrected.items() if n})
    if counts.ignored:
        yield "other files", f"{in_words(with_dots(counts.ignored))}: no pictures by their names"
    speed = f"{receipt.images_per_second:,} pictures a second"
    yield "time", f"{_duration(receipt.seconds['total'])}, {speed}"
    if receipt.dollars is not None:
        yield "cost", f"about {receipt.dollars.estimate:.2f} dollars, an estimate"
    yield "model", f"{model.model}, {origin(receipt)}, of {counted(model.n, 'picture')}"
    if results.model is not None and len(results.model.batches) > 1:
        names = [one["batch"] for one in results.model.batches]
        more = f" and {len(names) - 6:,} more" if len(names) > 6 else ""
        yield "made from", ", ".join(names[:6]) + more
    here = model.variance_kept_here
    if model.reused and here is not None:
        yield (
            "variance kept",
            f"{here:.1%} of this batch's, {model.variance_kept:.1%} of the model's own",
        )
    yield "network", receipt.network
    yield "pictures lie in", receipt.images


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _hash(script: str) -> str:
    """Hash of an inline script, by which a browser knows it for the page's own."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
