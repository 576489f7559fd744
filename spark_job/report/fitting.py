"""A page within its size: what stands on it is known first, and pictures have what that leaves."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from spark_job.report.page import map_size, render
from spark_job.report.pictures import MOST_BYTES, Gallery, make_gallery
from spark_job.report.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.objects import Folder
    from spark_job.report.results import Results

MOST_MAP: Final = 0.3
"""Share of the page that the map's data may take; of more points fewer are shown."""

MOST_WORDS: Final = 0.6
"""Share that all but the pictures may take, the map's data included; else lists are shorter."""

SPARE: Final = 0.01
"""Share that is left free, for what pictures change in the words."""


def fit(
    results: Results, images: Folder | None, *, most_bytes: int = MOST_BYTES
) -> tuple[str, Gallery | None]:
    """Make the page of a run, with the pictures that there is room for.

    Parameters
    ----------
    results
        Of the run.
    images
        The batch's folder; None for a page without pictures.
    most_bytes
        How large the page may become.

    Returns
    -------
    str, Gallery or None
        The page, and the pictures on it.
    """
    shown = _with_points(results, MOST_MAP * most_bytes)
    for view in _views(results):
        # As much as the words of a picture take is said with it or without it.
        every = Gallery({one.path: "" for one in view.wanted(shown)})
        size = max(_size(render(shown, view, one)) for one in (every, Gallery()))
        if size <= MOST_WORDS * most_bytes:
            break
    if images is None:
        return render(shown, view, None), None
    room = int((1 - SPARE) * most_bytes) - size
    gallery = make_gallery(images, view.wanted(shown), most_bytes=room)
    while (over := _size(page := render(shown, view, gallery)) - most_bytes) > 0 and gallery.uris:
        gallery.shrink(over)
    return page, gallery


def _with_points(results: Results, most_bytes: float) -> Results:
    """Leave points of the map out, evenly, until its data have room."""
    while (size := map_size(results)) > most_bytes and len(results.points.path) > 1:
        number = int(0.95 * len(results.points.path) * most_bytes / size)
        results = replace(results, points=results.points.spread(max(1, number)))
    return results


def _views(results: Results) -> Iterator[View]:
    """Yield what may stand on a page, less and less, until it is next to nothing."""
    shares = takewhile(lambda share: share > 1e-3, (0.5**number for number in range(100)))
    return (View.of(results, share) for share in shares)


def _size(page: str) -> int:
    return len(page.encode())
