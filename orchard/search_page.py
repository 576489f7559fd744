"""The page of a search: the picture and those nearest to it, in one file that needs no other."""

from __future__ import annotations

import base64
import tempfile
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchard.searching import most_common_label
from spark_job.errors import RejectedImageError, UsageError
from spark_job.lineage import READS
from spark_job.objects import open_folder
from spark_job.report.pictures import Wanted, make_picture
from spark_job.report.thumbnails import thumbnail
from spark_job.settings import JobSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchard.searching import Neighbour
    from spark_job.receipts import RunReceipt

TEMPLATE: Final = "search_page.html.jinja"

SIDE: Final = 192
"""Pixels of a thumbnail: sharp at the 160 that the page gives it on most screens."""

NO_LABEL: Final = "no label"


@dataclass(frozen=True)
class Figure:
    """A picture on the page; `uri` is None where it could not be reached."""

    uri: str | None
    neighbour: Neighbour


def write_page(
    target: Path | None,
    photo: str,
    content: bytes,
    neighbours: Sequence[Neighbour],
    runs: Sequence[RunReceipt],
) -> Path:
    """Write the page of a search.

    Parameters
    ----------
    target
        The file; None for one in a temporary folder.
    photo, content
        Name and bytes of the picture that was searched for.
    neighbours
        What was found, the nearest first.
    runs
        Of the batches searched; they tell where the pictures lie.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    UsageError
        Where it cannot be written.
    """
    page = render(photo, content, neighbours, runs)
    target = target or Path(tempfile.mkdtemp(prefix="orchard-")) / "search.html"
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error}; choose another --page") from error
    return target


def open_page(page: Path) -> None:
    """Show a page in the browser; where there is none, its name has been said."""
    webbrowser.open(page.resolve().as_uri())


def render(
    photo: str, content: bytes, neighbours: Sequence[Neighbour], runs: Sequence[RunReceipt]
) -> str:
    """Make the page of a search; see `write_page`."""
    folders = {run.batch: open_folder(run.images) for run in runs}
    limits = {run.batch: run.settings.get("max_pixels", JobSettings.max_pixels) for run in runs}
    with ThreadPoolExecutor(READS) as pool:
        wanted = [Wanted(one.path, SIDE, limits[one.batch]) for one in neighbours]
        # Within the pool, so that no more files are held than are read at a time.
        uris = pool.map(make_picture, [folders[one.batch] for one in neighbours], wanted)
        figures = [Figure(uri, one) for uri, one in zip(uris, neighbours, strict=True)]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        photo=photo.rpartition("/")[2],
        query=_shown(content),
        figures=figures,
        common=most_common_label(neighbours),
        no_label=NO_LABEL,
    )


def _shown(content: bytes) -> str | None:
    """Make a data URI of the picture that was searched for."""
    try:
        small = thumbnail(content, SIDE)
    except RejectedImageError:
        return None
    return f"data:image/webp;base64,{base64.b64encode(small).decode()}"
