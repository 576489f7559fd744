"""What stands on the page, section by section, and which pictures it would show."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job.formats import UNSUPPORTED
from spark_job.report.pictures import LARGE, MOST_PIXELS, SMALL, THUMBNAILED, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from spark_job.report.results import MapPoints, Results

SUSPECTS, VOTERS, GROUPS, COPIES, OUTLIERS, SELECTED = 60, 4, 60, 8, 48, 36
"""Most of each on the page: suspects and voters of each, groups and copies of each, outliers, and
pictures to look at first."""

LABELS = 200
"""Most labels with a contact sheet."""

SHEET = ((12, 8, 8), (60, 6, 5), (LABELS, 4, 3))
"""Up to so many labels, so many typical and so many least typical pictures of each."""

NAMED = 60
"""Rejects of one reason that are named."""

HOVERED = 500
"""Pictures that only the map shows."""

ADVICE = {
    "empty": "The file has no content: copy it again.",
    "truncated": "The file ends before its picture does: copy it again from where it was taken.",
    "corrupt": "The file is damaged: copy it again from where it was taken.",
    "not-an-image": "The file is no picture: remove it.",
    "unsupported-format": "Pictures in this format are not taken: convert them to JPEG.",
    "unsupported-pixels": "Its pixels have no agreed range: save it as an 8-bit JPEG or PNG.",
    "too-large": "It is larger than the job takes: scale it down, or raise --max-pixels if that is "
    "the limit.",
    "crashed": "It crashes its decoder: open it in an image program and save it anew.",
    "timed-out": "Decoding it takes too long: save it anew as a JPEG.",
    "out-of-memory": "Decoding it takes too much memory: scale it down.",
    "bad-name": "Its name cannot be written as text: rename the file.",
    "missing": "It was listed, and is not there: upload it again, or mend the manifest.",
    "refused": "Who ran this may not read it: look at its permissions.",
    "unreadable": "It cannot be read: look at the file and its permissions.",
    "not-finite": "The network gives no numbers for it: save it anew as a JPEG.",
}
"""What to do about a reject, by its reason."""


@dataclass(frozen=True)
class RejectGroup:
    """Rejects of one reason: how many, what to do, and the first of them."""

    reason: str
    count: int
    advice: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Copies:
    """A group of duplicates.

    Attributes
    ----------
    kind
        ``identical`` or ``near``.
    images
        The first of them, the one to keep before all others.
    more
        How many more there are.
    is_contradictory
        Whether copies of one picture have different labels, of which one is wrong.
    """

    kind: str
    images: list[dict[str, Any]]
    more: int
    is_contradictory: bool


@dataclass(frozen=True)
class View:
    """The sections' rows, none longer than the page shows.

    Attributes
    ----------
    rejects, suspects, duplicates, outliers, selection, labels
        Of the tables of these names; of `labels` those come first whose images are doubted most.
    groups
        Groups of duplicates in their table.
    typical, least_typical
        Pictures of each label on its contact sheet.
    nearest_labels
        By path, labels of what is most like an outlier, as far as they were read.
    """

    rejects: list[RejectGroup]
    suspects: list[dict[str, Any]]
    duplicates: list[Copies]
    groups: int
    outliers: list[dict[str, Any]]
    selection: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    typical: int
    least_typical: int
    nearest_labels: dict[str, str | None]

    @classmethod
    def of(cls, results: Results, share: float = 1.0) -> View:
        """Choose what stands on the page: of each list as much as it shows, or that share of it."""

        def most(number: int) -> int:
            return max(1, int(share * number))

        found = results.findings
        labels = sorted(
            found.get("labels", []),
            key=lambda row: (1.0 if row["agreeing"] is None else row["agreeing"], row["label"]),
        )[: most(LABELS)]
        sheet = next(sizes for limit, *sizes in SHEET if len(labels) <= limit)
        typical, least = map(most, sheet)
        rows = sorted(found.get("duplicates", []), key=itemgetter("group"))
        groups = [list(group) for _, group in groupby(rows, itemgetter("group"))]
        groups.sort(key=lambda group: (group[0]["kind"] != "identical", -len(group)))
        outliers = found.get("outliers", [])[: most(OUTLIERS)]
        return cls(
            rejects=list(_rejects(results, most(NAMED))),
            suspects=found.get("suspects", [])[: most(SUSPECTS)],
            duplicates=[_copies(group) for group in groups[: most(GROUPS)]],
            groups=len(groups),
            outliers=outliers,
            selection=found.get("selection", [])[: most(SELECTED)],
            labels=labels,
            typical=typical,
            least_typical=least,
            nearest_labels=_labels_of({row["nearest"] for row in outliers}, results),
        )

    def wanted(self, results: Results) -> Iterator[Wanted]:
        """Yield the pictures that the page would show, the most important first."""
        compared = chain(
            *([row["path"], *row["voters"][:VOTERS]] for row in self.suspects),
            *([row["path"] for row in group.images] for group in self.duplicates),
            *(filter(None, (row["path"], row["nearest"])) for row in self.outliers),
        )
        yield from (Wanted(path, LARGE) for path in compared)
        for group in self.rejects:
            if group.reason in THUMBNAILED:
                for row in group.rows:
                    yield Wanted(row["path"], SMALL, MOST_PIXELS, expected=False)
        yield from (Wanted(row["path"]) for row in self.selection)
        for sheet in ("typical", "least_typical"):
            for row in self.labels:
                yield from (Wanted(path) for path in row[sheet][: getattr(self, sheet)])
        first = [row["path"] for row in results.findings.get("selection", [])]
        others = results.points.path
        spread = others[:: max(1, len(others) // HOVERED)]
        yield from (Wanted(path) for path in (*first, *spread)[:HOVERED])


def _labels_of(paths: set[str | None], results: Results) -> dict[str, str | None]:
    """Look labels up in all that was read: of a large batch that is not every image."""
    found = results.findings
    known: dict[str, str | None] = dict(zip(results.points.path, results.points.label, strict=True))
    for kind in ("suspects", "duplicates", "outliers", "selection"):
        known |= {row["path"]: row["label"] for row in found.get(kind, [])}
    for row in found.get("labels", []):
        known |= dict.fromkeys((*row["typical"], *row["least_typical"]), row["label"])
    return {path: known[path] for path in paths if path in known}


def _rejects(results: Results, most: int) -> Iterator[RejectGroup]:
    """Yield all reasons that were counted, with rows of those that were read."""
    counts = Counter(results.receipt.counts.rejects)
    counts[UNSUPPORTED] += results.receipt.counts.unsupported
    rows = sorted(results.rejects, key=lambda row: (row["reason"], row["path"]))
    by_reason = {reason: list(some) for reason, some in groupby(rows, itemgetter("reason"))}
    counted = {reason for reason, count in counts.items() if count}
    for reason in sorted(counted | set(by_reason), key=lambda reason: (-counts[reason], reason)):
        some = by_reason.get(reason, [])
        count = max(counts[reason], len(some))
        yield RejectGroup(reason, count, ADVICE.get(reason, "Look at the file."), some[:most])


def _copies(group: list[dict[str, Any]]) -> Copies:
    images = sorted(group, key=lambda row: (not row["keep"], row["path"]))
    more, labels = max(0, len(images) - COPIES), {row["label"] for row in images}
    return Copies(images[0]["kind"], images[:COPIES], more, len(labels) > 1)


def map_data(
    points: MapPoints,
    shares: NDArray[np.float64],
    flagged: Mapping[str, Iterable[str]],
    pictures: Mapping[str, str],
) -> str:
    """Pack the map's points for the page: JSON, gzipped, in base64.

    Parameters
    ----------
    points
        The images.
    shares
        Of the variance, per component.
    flagged
        Paths of images by a word for what is said of them, by which the map can be filtered.
    pictures
        By path, the element of the page that shows a picture.
    """
    names = sorted({label for label in points.label if label is not None})
    number = {name: place for place, name in enumerate(names)}
    low, high = points.vector.min(axis=0), points.vector.max(axis=0)
    steps = np.where(high > low, (high - low) / 65535, 1)
    scaled = np.rint((points.vector - low) / steps).astype("<u2")
    place = {path: at for at, path in enumerate(points.path)}
    content = {
        "labels": names,
        "label": [-1 if label is None else number[label] for label in points.label],
        "path": points.path,
        "shares": shares[: scaled.shape[1]].tolist(),
        "axes": [_base64(column.tobytes()) for column in scaled.T],
        "flags": {
            word: sorted({place[path] for path in paths if path in place})
            for word, paths in flagged.items()
        },
        "pictures": {str(place[path]): key for path, key in pictures.items() if path in place},
    }
    packed = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return _base64(gzip.compress(packed, mtime=0))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def spectrum(shares: NDArray[np.float64], k: int) -> list[tuple[float, float]]:
    """Share and cumulative share of the first components: those kept, and half as many more."""
    most = min(len(shares), max(10, k + k // 2), 300)
    return list(zip(shares[:most].tolist(), np.cumsum(shares)[:most].tolist(), strict=True))
