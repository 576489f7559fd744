"""Reading a part's images ahead of the network.

Reasons for a reject at stage ``read``: ``missing`` (vanished, or a manifest named what is not
there), ``too-large``, ``unreadable``.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING

from spark_job.errors import RejectedImageError
from spark_job.objects import FileTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    import pyarrow as pa

    from spark_job.objects import Folder

MAX_BYTES = 256_000_000
"""A larger file is not read: 64 megapixels take less in any format, uncompressed RGBA included."""

READ_AHEAD = 64
"""Images ahead per task: at 300 images/s, enough for 100 ms between request and last byte."""

READ_AHEAD_BYTES = 128_000_000
"""Bytes in flight per task, so that large photographs do not fill the memory."""

READ_AGAIN_AFTER = (0.5, 2.0, 8.0)
"""Seconds to wait before an object that S3 did not give is asked for again."""


@dataclass(frozen=True)
class Image:
    """One image as listed."""

    path: str
    label: str | None
    bytes: int | None
    version: str | None


def read_ahead(
    folder: Folder, images: Sequence[Image]
) -> Iterator[tuple[Image, bytes | RejectedImageError]]:
    """Yield each image with its bytes, or with why they cannot be had, in order.

    Threads read up to `READ_AHEAD` images or `READ_AHEAD_BYTES` ahead of the caller. An image
    whose size a manifest did not tell counts as the largest seen so far.
    """
    waiting: deque[tuple[Image, int, Future[bytes | RejectedImageError]]] = deque()
    ahead = 0
    unknown = READ_AHEAD_BYTES // 4
    largest = 0
    upcoming = iter(images)
    with ThreadPoolExecutor(READ_AHEAD // 2) as pool:
        try:
            while True:
                # Refilling by halves wakes the threads once for many images, not for each.
                if len(waiting) <= READ_AHEAD // 2 and ahead <= READ_AHEAD_BYTES // 2:
                    for image in upcoming:
                        size = unknown if image.bytes is None else image.bytes
                        waiting.append((image, size, pool.submit(_read, folder, image)))
                        ahead += size
                        if len(waiting) == READ_AHEAD or ahead >= READ_AHEAD_BYTES:
                            break
                if not waiting:
                    return
                image, size, future = waiting.popleft()
                content = future.result()
                if isinstance(content, bytes):
                    unknown = largest = max(largest, len(content))
                yield image, content
                ahead -= size
        finally:
            pool.shutdown(cancel_futures=True)


def to_images(table: pa.Table) -> list[Image]:
    """Give the rows of a listing as values."""
    return [Image(**row) for row in table.to_pylist()]


def _read(folder: Folder, image: Image) -> bytes | RejectedImageError:
    for pause in (*READ_AGAIN_AFTER, None):
        try:
            return folder.read(image.path, limit=MAX_BYTES)
        except FileNotFoundError as error:
            return RejectedImageError("read", "missing", str(error))
        except FileTooLargeError as error:
            detail = f"{error.args[0]:,} bytes, more than the limit of {MAX_BYTES:,}"
            return RejectedImageError("read", "too-large", detail)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            # pyarrow retries by a budget, which many failures at once use up.
            lasting = folder.is_local or isinstance(error, ValueError) or "DENIED" in str(error)
            if lasting or pause is None:
                return RejectedImageError("read", "unreadable", str(error))
            sleep(pause)
    raise AssertionError("the last attempt returns")
