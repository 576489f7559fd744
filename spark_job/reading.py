"""Reading a part's images ahead of the network.

Reasons for a reject at stage ``read``: ``missing`` (vanished, or a manifest named what is not
there), ``bad-name`` (of a local file, that is not UTF-8), ``too-large``, ``unreadable``. Raw files
of cameras are not read: :mod:`spark_job.formats` tells them by their names.
"""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import TYPE_CHECKING

from spark_job.errors import RejectedImageError
from spark_job.formats import unsupported_by_name
from spark_job.objects import FileTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from spark_job.listing import Image
    from spark_job.objects import Folder

    Content = bytes | RejectedImageError

MAX_BYTES = 256_000_000
"""A larger file is not read: 64 megapixels take less in any format, uncompressed RGBA included."""

READERS = 32
"""Threads that read, per task."""

BUNDLE = 8
"""Small images that one thread reads in a row: waking a thread costs more than reading one."""

BUNDLE_BYTES = 250_000
"""Bytes in a bundle beyond which it takes no further image."""

READ_AHEAD_BYTES = 128_000_000
"""Bytes in flight per task, so that large photographs do not fill the memory."""

ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]")
"""A byte of a name that is not UTF-8, as a listing shows it."""

READ_AGAIN_AFTER = (0.5, 2.0, 8.0)
"""Seconds to wait before an object that S3 did not give is asked for again."""


def read_ahead(folder: Folder, images: Sequence[Image]) -> Iterator[tuple[Image, Content]]:
    """Yield each image with its bytes, or with why they cannot be had, in order.

    Threads read up to `READERS` bundles or `READ_AHEAD_BYTES` ahead of the caller. An image whose
    size a manifest did not tell counts as the largest seen so far.
    """
    waiting: deque[tuple[list[Image], int, Future[list[Content]]]] = deque()
    ahead = 0
    unknown = READ_AHEAD_BYTES // 4
    largest = 0
    start = 0
    with ThreadPoolExecutor(READERS) as pool:
        try:
            while True:
                while start < len(images) and len(waiting) < READERS and ahead < READ_AHEAD_BYTES:
                    bundle, size = _bundle(images, start, unknown)
                    waiting.append((bundle, size, pool.submit(_read_all, folder, bundle)))
                    ahead += size
                    start += len(bundle)
                if not waiting:
                    return
                bundle, size, future = waiting.popleft()
                for image, content in zip(bundle, future.result(), strict=True):
                    if isinstance(content, bytes):
                        unknown = largest = max(largest, len(content))
                    yield image, content
                ahead -= size
        finally:
            pool.shutdown(cancel_futures=True)


def _bundle(images: Sequence[Image], start: int, unknown: int) -> tuple[list[Image], int]:
    """Take a few small images, or a large one, from `start` on; and how many bytes they are."""
    bundle: list[Image] = []
    total = 0
    # The first ones singly, or a part would begin with the wait for a whole bundle.
    for image in images[start : start + (1 if start < READERS else BUNDLE)]:
        size = unknown if image.bytes is None else image.bytes
        if bundle and total + size > BUNDLE_BYTES:
            break
        bundle.append(image)
        total += size
    return bundle, total


def _read_all(folder: Folder, images: list[Image]) -> list[Content]:
    return [_read(folder, image) for image in images]


def _read(folder: Folder, image: Image) -> Content:
    if (unsupported := unsupported_by_name(image.path)) is not None:
        return unsupported
    for pause in (*READ_AGAIN_AFTER, None):
        try:
            return folder.read(image.path, limit=MAX_BYTES)
        except FileNotFoundError as error:
            unknown = image.bytes is None and image.version is None
            if unknown and ESCAPED.search(image.path):
                detail = "the file's name is not UTF-8 (each \\x.. stands for a byte); rename it"
                return RejectedImageError("read", "bad-name", detail)
            return RejectedImageError("read", "missing", str(error))
        except FileTooLargeError as error:
            detail = f"{error.args[0]:,} bytes, more than the limit of {MAX_BYTES:,}"
            return RejectedImageError("read", "too-large", detail)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            lasting = folder.is_local or isinstance(error, ValueError) or "Denied" in str(error)
            if lasting or pause is None:
                return RejectedImageError("read", "unreadable", str(error))
            sleep(pause)
    raise AssertionError("the last attempt returns")
