"""Reading a part's images ahead of the network.

Reasons for a reject at stage ``read``: ``missing`` (vanished, or a manifest named what is not
there), ``bad-name`` (of a local file, that is not UTF-8), ``refused`` (these credentials may not
read it), ``too-large``, ``unreadable``. Raw files of cameras are not read:
:mod:`spark_job.formats` tells them by their names.

An image that a busy store does not give is no reject: it is *postponed*, and asked for in a second
pass after all the others.
"""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from threading import Condition
from time import monotonic, sleep, time
from typing import TYPE_CHECKING

from spark_job.errors import RejectedImageError, UsageError
from spark_job.formats import unsupported_by_name
from spark_job.listing import Image
from spark_job.objects import BusyError, FileTooLargeError, RefusedError
from spark_job.retries import patiently, pause
from spark_job.samples import evenly

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from spark_job.listing import Listing
    from spark_job.objects import Content, Folder

    Read = Content | RejectedImageError | BusyError

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

IMAGE_AGAIN = 2.0
"""Seconds for which one image is asked for before it is postponed."""

FIRST_PATIENCE = 5.0
"""Seconds without a success after which the rest of a part is postponed unasked."""

SECOND_READERS = 4
"""Requests under way, per process, for what was postponed."""

SECOND_PATIENCE = 90.0
"""Seconds without a success after which what was postponed is given up."""

SHRINK_EVERY = 0.2
"""Seconds between two reductions of the requests under way: those refused together count once."""

TRIED = 32
"""Images that are tried before a batch is begun."""

FAILURES = 8
"""Failures in a row without which patience does not end."""

ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]")
"""A byte of a name that is not UTF-8, as a listing shows it."""


class Pace:
    """How many requests this process has under way, and whether more are worth making.

    Additive increase, multiplicative decrease (D.-M. Chiu, R. Jain, Computer Networks and ISDN
    Systems 17(1), 1989): one more for each round of requests that succeed, half where one fails.

    Parameters
    ----------
    most
        Requests under way at the same time.
    patience
        Seconds without a success after which it gives up.
    image_again
        Seconds for which one image is asked for; None until it gives up.
    """

    def __init__(self, most: int, patience: float, image_again: float | None) -> None:
        self._most = most
        self._patience = patience
        self._image_again = image_again
        self._changed = Condition()
        self._limit = float(most)
        self._under_way = 0
        self._shrunk = 0.0
        self._failures = 0
        self._last_success = 0.0
        self.begin(monotonic())

    def begin(self, since: float) -> None:
        """Begin with a part: nothing has succeeded since `since`, and nothing failed.

        Where it has given up on the part before, the next request decides whether it does again.
        """
        with self._changed:
            if self._has_given_up():
                self._failures = FAILURES - 1
            else:
                self._failures = 0
                self._last_success = since
            self._last: BusyError | None = None

    def read(self, folder: Folder, image: Image) -> Content:
        """Read an image when its turn comes.

        Raises
        ------
        BusyError
            Where the store did not give it.
        OSError, FileTooLargeError
            See `Folder.read_once`.
        """
        start = monotonic()
        for attempt in count():
            self._wait_for_turn()
            failure: BusyError | None = None
            try:
                return folder.read_once(image.path, limit=MAX_BYTES, version=image.version)
            except BusyError as error:
                failure = error
            finally:
                self._end_turn(failure)
            wait = pause(attempt)
            late = self._image_again and monotonic() + wait - start > self._image_again
            if late or self._has_given_up() or (attempt and not failure.passes):
                raise failure
            sleep(wait)
        raise AssertionError("it returns or raises")

    def _wait_for_turn(self) -> None:
        with self._changed:
            while not self._has_given_up() and self._under_way >= max(1, int(self._limit)):
                self._changed.wait()
            if self._last is not None and self._has_given_up():
                raise type(self._last)(str(self._last))
            self._under_way += 1

    def _end_turn(self, failure: BusyError | None) -> None:
        now = monotonic()
        with self._changed:
            self._under_way -= 1
            self._last = failure
            if failure is None:
                self._last_success = now
                self._failures = 0
                self._limit = min(self._most, self._limit + 1 / self._limit)
                self._changed.notify(2)
                return
            self._failures += 1
            if now - self._shrunk > SHRINK_EVERY:
                self._shrunk = now
                self._limit = max(1.0, self._limit / 2)
            self._changed.notify_all()

    def _has_given_up(self) -> bool:
        return self._failures >= FAILURES and monotonic() - self._last_success > self._patience


def first_pace(folder: Folder) -> Pace:
    """Pace of a part that is read for the first time; one for all parts that a process reads."""
    pace = _PACES.setdefault((folder.uri, None), Pace(READERS, FIRST_PATIENCE, IMAGE_AGAIN))
    pace.begin(monotonic())
    return pace


def second_pace(folder: Folder, since: float) -> Pace:
    """Pace for what was postponed, in a pass that began at the time `since`: few, but patiently."""
    known = _PACES.get((folder.uri, since))
    if known is not None:
        return known
    pace = _PACES[folder.uri, since] = Pace(SECOND_READERS, SECOND_PATIENCE, None)
    # A process that comes late has some patience of its own.
    pace.begin(monotonic() - min(max(0.0, time() - since), SECOND_PATIENCE / 2))
    return pace


_PACES: dict[tuple[str, float | None], Pace] = {}
"""Of this process, by folder and pass: what is learnt in one part is known in the next."""


def read_ahead(
    folder: Folder, images: Sequence[Image], pace: Pace | None = None
) -> Iterator[tuple[Image, Read]]:
    """Yield each image with its content, or with why it cannot be had, in order.

    Threads read up to `READERS` bundles or `READ_AHEAD_BYTES` ahead of the caller. An image whose
    size a manifest did not tell counts as the largest seen so far.
    """
    pace = pace or first_pace(folder)
    waiting: deque[tuple[list[Image], int, Future[list[Read]]]] = deque()
    ahead = 0
    unknown = READ_AHEAD_BYTES // 4
    largest = 0
    start = 0
    with ThreadPoolExecutor(READERS) as pool:
        try:
            while True:
                while start < len(images) and len(waiting) < READERS and ahead < READ_AHEAD_BYTES:
                    bundle, size = _bundle(images, start, unknown)
                    waiting.append((bundle, size, pool.submit(_read_all, folder, bundle, pace)))
                    ahead += size
                    start += len(bundle)
                if not waiting:
                    return
                bundle, size, future = waiting.popleft()
                for image, read in zip(bundle, future.result(), strict=True):
                    if not isinstance(read, Exception):
                        unknown = largest = max(largest, len(read.bytes))
                    yield image, read
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


def _read_all(folder: Folder, images: list[Image], pace: Pace) -> list[Read]:
    return [_read(folder, image, pace) for image in images]


def _read(folder: Folder, image: Image, pace: Pace) -> Read:
    if (unsupported := unsupported_by_name(image.path)) is not None:
        return unsupported
    try:
        if folder.is_local:
            return folder.read_once(image.path, limit=MAX_BYTES, version=None)
        return pace.read(folder, image)
    except BusyError as error:
        return error
    except FileNotFoundError as error:
        if image.bytes is None and image.version is None and ESCAPED.search(image.path):
            detail = "the file's name is not UTF-8 (each \\x.. stands for a byte); rename it"
            return RejectedImageError("read", "bad-name", detail)
        return RejectedImageError("read", "missing", str(error))
    except RefusedError as error:
        return RejectedImageError("read", "refused", str(error))
    except FileTooLargeError as error:
        detail = f"{error.args[0]:,} bytes, more than the limit of {MAX_BYTES:,}"
        return RejectedImageError("read", "too-large", detail)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return RejectedImageError("read", "unreadable", str(error))


def require_readable(folder: Folder, listing: Listing) -> float:
    """Try some images of a batch before anything is begun for it.

    Returns
    -------
    float
        Their mean size in bytes; 0 where none of them tells.

    Raises
    ------
    UsageError
        Where none of them may be read.
    BusyError
        Where the store gives none, for a minute.
    """
    tried = [
        Image(**listing.rows(place, 1).to_pylist()[0])
        for place in evenly(len(listing), TRIED).tolist()
    ]
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(partial(_size, folder), tried))
    if all(isinstance(one, BusyError) for one in found):
        found = [patiently(lambda: _size_unless_busy(folder, tried[0]))]
    if all(isinstance(one, RefusedError) for one in found):
        remedy = "the files' owner" if folder.is_local else "the bucket's policy and its key"
        raise UsageError(
            f"none of {len(tried)} images tried in {folder.uri} may be read ({found[0]}); check "
            f"who runs the job, and {remedy}"
        )
    sizes = [one for one in found if isinstance(one, int)]
    return sum(sizes) / max(1, len(sizes))


def _size(folder: Folder, image: Image) -> int | Exception:
    """Ask for an image and not for its bytes: how many they are, or why it cannot be had."""
    try:
        return len(folder.read_once(image.path, limit=0, version=image.version).bytes)
    except FileTooLargeError as error:
        size: int = error.args[0]
        return size
    except (OSError, ValueError) as error:
        return error


def _size_unless_busy(folder: Folder, image: Image) -> int | Exception:
    found = _size(folder, image)
    if isinstance(found, BusyError):
        raise found
    return found
