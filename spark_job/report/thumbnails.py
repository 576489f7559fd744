"""Thumbnails of images, small enough that a page carries many of them."""

from __future__ import annotations

import io
from typing import Final

from spark_job.decode import decode_within
from spark_job.settings import JobSettings

QUALITY: Final = 75
"""Of WebP: 2 to 5 kB for a photograph of 160 pixels."""


def thumbnail(content: bytes, side: int, *, max_pixels: int = JobSettings.max_pixels) -> bytes:
    """Make a WebP of one image file's bytes, as a person would see it, without its metadata.

    Parameters
    ----------
    content
        In any format that the job takes.
    side
        Pixels of the longer side; a smaller image is not enlarged.
    max_pixels
        A larger image is not decoded.

    Raises
    ------
    RejectedImageError, MemoryError
        See `spark_job.decode.decode`.
    """
    file = io.BytesIO()
    decode_within(content, side, max_pixels=max_pixels).save(file, "WEBP", quality=QUALITY)
    return file.getvalue()
