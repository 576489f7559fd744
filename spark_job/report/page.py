"""The page as one file: what was chosen to stand on it, put into words and HTML."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from spark_job.accounting import in_words, with_dots
from spark_job.report.verdict import judge_batch
from spark_job.report.view import VOTERS, View, map_data, spectrum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.report.pictures import Gallery
    from spark_job.report.results import Results

NO_LABEL: Final = "no label"

TEMPLATE, STYLE, SCRIPT = "report.html.jinja", "report.css", "report.js"

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

FOUND: Final = ("suspects", "duplicates", "outliers", "selection", "labels")
"""Those that a run without findings has not."""


class Shots:
    """The pictures of a page: each is in it once, and may stand on it several times.

    Parameters
    ----------
    gallery
        The pictures.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self.placed: dict[str, str] = {}

    def has(self, path: str) -> bool:
        """Whether there is a picture."""
        return path in self._gallery.uris

    def attributes(self, path: str) -> Markup | None:
        """Attributes of an ``img`` that shows a picture; None where there is none."""
        uri = self._gallery.uris.get(path)
        if uri is None:
            return None
        if path in self.placed:
            return Markup('data-same="{}"').format(self.placed[path])
        self.placed[path] = f"p{len(self.placed)}"
        return Markup('id="{}" src="{}"').format(self.placed[path], uri)


def render(results: Results, view: View, gallery: Gallery) -> str:
    """Make the page of a run.

    Parameters
    ----------
    results, view
        Of the run, and what of it is shown.
    gallery
        Pictures of what is shown.
    """
    room = files("spark_job.report") / "page"
    script = (room / SCRIPT).read_text("utf-8").strip()
    environment = Environment(
        loader=DictLoader({TEMPLATE: (room / TEMPLATE).read_text("utf-8")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    receipt, card = results.receipt, results.receipt.findings
    shots = Shots(gallery)
    context = {
        "receipt": receipt,
        "card": card,
        "labels": 0 if card is None else card.labels,
        "sections": [one for one in SECTIONS if card is not None or one[0] not in FOUND],
        "verdict": judge_batch(receipt),
        "facts": list(_facts(results)),
        "drift": receipt.drift,
        "standing_out": [] if receipt.drift is None else receipt.drift.standing_out[:20],
        "view": view,
        "voters": VOTERS,
        "shots": shots,
        "spectrum": spectrum(results.shares, receipt.model.k),
        "mapped": len(results.points.path),
        "named": lambda label: NO_LABEL if label is None else label,
        "counted": counted,
        "style": (room / STYLE).read_text("utf-8").strip(),
        "script": script,
        "script_hash": _hash(f"\n{script}\n"),
    }

    def rest() -> Markup:
        """Pictures that only the map shows, and its data: all others are placed by now."""
        hidden = [path for path in gallery.uris if path not in shots.placed]
        images = Markup("").join(
            Markup('<img {} alt="" hidden>').format(shots.attributes(path)) for path in hidden
        )
        flagged = {word: [row["path"] for row in rows] for word, rows in _flagged(results)}
        data = map_data(results.points, results.shares, flagged, shots.placed)
        return images + Markup('<script type="text/plain" id="map-data">{}</script>').format(data)

    return environment.get_template(TEMPLATE).render(context, rest=rest)


def counted(number: int, one: str, several: str | None = None) -> str:
    """Write a number with the word for it."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def _flagged(results: Results) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield a word for what is said of some images, and their rows."""
    found = results.findings
    yield "doubtful labels", found.get("suspects", [])
    yield "copies", [row for row in found.get("duplicates", []) if not row["keep"]]
    yield (
        "outliers",
        found.get("outliers", [])[
            : results.receipt.findings.outliers if results.receipt.findings else 0
        ],
    )
    yield "where to begin", found.get("selection", [])


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    """Yield what the receipt says: a name, and a text."""
    receipt = results.receipt
    counts, model = receipt.counts, receipt.model
    yield "files", f"{counts.listed:,} listed"
    known = f", {counts.carried_over:,} of them known from before" if counts.carried_over else ""
    yield "pictures", f"{counts.featurized:,} could be used{known}"
    if counts.rejected or counts.unsupported:
        yield (
            "not used",
            f"{counts.rejected:,} rejected, {counts.unsupported:,} in formats that are not taken",
        )
    if counts.dropped or counts.relabelled:
        yield "corrected", f"{counts.dropped:,} dropped, {counts.relabelled:,} relabelled"
    if counts.ignored:
        yield "other files", in_words(with_dots(counts.ignored))
    speed = f"{receipt.images_per_second:,} pictures a second"
    yield "time", f"{_duration(receipt.seconds['total'])}, {speed}"
    if receipt.dollars is not None:
        yield "cost", f"about {receipt.dollars.estimate:.2f} dollars, an estimate"
    origin = "reused" if model.reused else "fitted on this batch"
    yield "model", f"{model.model}, {origin}, of {model.n:,} pictures"
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
