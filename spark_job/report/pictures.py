"""The pictures on a report: which of them, how large, and made within limits of time and size."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from threading import Semaphore
from time import monotonic
from typing import TYPE_CHECKING

from PIL import ImageFile

from spark_job.errors import RejectedImageError
from spark_job.objects import FileTooLargeError
from spark_job.reading import MAX_BYTES
from spark_job.report.thumbnails import thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spark_job.objects import Folder

LARGE, SMALL = 160, 96
"""Pixels of the longer side: of pictures that are compared, and of those in contact sheets."""

MOST_BYTES = 5_000_000
"""Of a page with all that is on it; pictures have what the rest of it leaves."""

MOST_SECONDS = 60.0
"""For reading and decoding them."""

READERS, DECODERS = 8, 2
"""Pictures that are read at a time, and of those the ones that are decoded: decoders let go of the
interpreter's lock, but take much memory."""

THUMBNAILED = ("truncated", "too-large")
"""Rejects of which some of the picture can be shown."""

MOST_PIXELS = 256_000_000
"""Of a reject; a JPEG of so many is decoded at an eighth of its size."""


_DECODING = Semaphore(DECODERS)


@dataclass(frozen=True)
class Wanted:
    """A picture that a page would show.

    Attributes
    ----------
    path
        In the batch.
    side
        Pixels of its longer side at most.
    max_pixels
        A larger image is not decoded.
    expected
        Whether it is missed where it cannot be had; of a reject there may be nothing to show.
    """

    path: str
    side: int = SMALL
    max_pixels: int = 64_000_000
    expected: bool = True


@dataclass
class Gallery:
    """Pictures as data URIs, by their paths in the batch.

    Attributes
    ----------
    uris
        Those that were made.
    missing
        How many were expected, tried and not to be had.
    left
        How many were not tried, for want of time or room.
    """

    uris: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    left: int = 0

    def shrink(self, size: int) -> None:
        """Leave the last pictures out, of at least that size together."""
        while self.uris and size > 0:
            _, uri = self.uris.popitem()
            size -= len(uri)
            self.left += 1


def make_gallery(
    images: Folder,
    wanted: Iterable[Wanted],
    *,
    seconds: float = MOST_SECONDS,
    most_bytes: int = MOST_BYTES,
) -> Gallery:
    """Make the pictures that are wanted, the first first, while there is time and room.

    Parameters
    ----------
    images
        The batch's folder.
    wanted
        Which; one that is wanted again is made once, as it was wanted first.
    seconds, most_bytes
        The limits; a picture counts as the text that it is on the page.
    """
    gallery = Gallery()
    end = monotonic() + seconds
    unique = {one.path: one for one in reversed(list(wanted))}
    waiting = iter(reversed(unique.values()))
    size, full = 0, False
    with _cut_short_files_too(), ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(waiting, 4 * READERS)):
            if full or monotonic() > end:
                gallery.left += len(some) + sum(1 for _ in waiting)
                break
            made = pool.map(lambda one: make_picture(images, one), some)
            for one, uri in zip(some, made, strict=True):
                if uri is None:
                    gallery.missing += one.expected
                elif size + len(uri) <= most_bytes:
                    gallery.uris[one.path] = uri
                    size += len(uri)
                else:
                    gallery.left += 1
                    full = True
    return gallery


@contextmanager
def _cut_short_files_too() -> Iterator[None]:
    """Have decoders that stop in the middle of a file give what they have by then.

    It holds for the whole process, in which the job would then take half a picture for a whole one.
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def make_picture(images: Folder, wanted: Wanted) -> str | None:
    """Make a data URI of a picture; None where it cannot be had.

    Threads may make many, of which `DECODERS` are decoded at a time.
    """
    try:
        content = images.read(wanted.path, limit=MAX_BYTES)
        with _DECODING:
            small = thumbnail(content, wanted.side, max_pixels=wanted.max_pixels)
    except (OSError, FileTooLargeError, RejectedImageError, MemoryError):
        return None
    return f"data:image/webp;base64,{base64.b64encode(small).decode()}"
