"""What earlier runs of a batch already know of its images, so that it is not computed again.

An image is known where its path, size and version are still those under which a run of the same
extractor featurized or rejected it: then it is not even read. Where it was read, and its content
turns out to be that of an image which the batch had before, as of one that was renamed, it is not
inferred. The rows are copied, but for their labels, which are those of the listing: a run stays
whole whatever becomes of the earlier ones.

Runs are asked in this order, as long as images are unknown: the published one; two other settled
ones, the latest started first, which know images that were gone for a while; then whatever lies in
the work folders of the batch, the latest first. What a run at work has written down there is as
good as any other.
"""

from __future__ import annotations

import io
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from spark_job import contract, tables
from spark_job.errors import RejectedImageError
from spark_job.isolation import UNSURE
from spark_job.listing import read_part
from spark_job.objects import BusyError
from spark_job.parts import SEVERAL, PartRows, PartWriter
from spark_job.receipts import PartReceipt
from spark_job.runs import read_published, read_settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from spark_job.claims import Claim
    from spark_job.engines import Attempt
    from spark_job.listing import Image
    from spark_job.networks import Card
    from spark_job.objects import Content, Folder

LOGGER = logging.getLogger("orchard")

READERS = 32
"""Part receipts that are read at a time."""

SETTLED = 3
"""Settled runs that are asked: more would be read for each new image, and know hardly more."""

CONTENTS = "contents"
"""Folder below the work folder with the indexes of contents, of two files each."""

KEYS, PLACES = ".keys.npy", ".places.npy"
"""Ends of their names: sorted keys, [n], and where their images' features lie, [n, 2]."""

KEY = np.dtype("S16")
"""Of a content in an index: half of its sha256, which no two contents share."""


class SourceGoneError(BusyError):
    """What was known of an image is there no more: it has to be computed after all."""

    kind = "results gone"


@dataclass(frozen=True)
class KnownPart:
    """A part of an earlier run.

    Attributes
    ----------
    folder
        Of the run: settled, or at work.
    features, rejects
        Names of its files in the tables there; None where it has no such rows.
    first, last
        The least and the greatest of its paths; None where it has none, or is of a run of before
        there were such.
    max_pixels
        Of images that were not rejected for their size.
    processor
        The kinds that computed it.
    """

    folder: Folder
    features: str | None
    rejects: str | None
    first: str | None
    last: str | None
    max_pixels: int | None
    processor: str

    def may_hold(self, first: str, last: str) -> bool:
        """Whether it may have paths between these two."""
        if self.first is None or self.last is None:
            return False
        return self.first <= last and first <= self.last


def find_known(claim: Claim, card: Card, images: str) -> list[KnownPart]:
    """Find the parts of earlier runs that a run may take features and rejects from.

    Parameters
    ----------
    claim
        Of the run, whose own folder may hold what an attempt of the same name left.
    card
        Of its network.
    images
        The URI of its images: what a run of other ones knew is not of use.
    """
    known = list(_settled(claim.output, claim.batch, card.extractor, images))
    batch = claim.output / f"{contract.WORK}/{claim.batch}"
    for run in sorted(batch.folders(), reverse=True):
        known.extend(_at_work(batch / run, card.extractor, images))
    return known


@dataclass(frozen=True)
class Carried:
    """What became of a part of the listing.

    Attributes
    ----------
    receipt
        Of what was known; None where nothing was.
    left
        Which of its images are not known, as bits.
    """

    receipt: PartReceipt | None
    left: bytes

    def unknown(self, size: int) -> NDArray[np.bool_]:
        """Whether each of its `size` images is not known, [size]."""
        return np.unpackbits(np.frombuffer(self.left, np.uint8), count=size).astype(bool)


@dataclass(frozen=True)
class CarryingPass:
    """Copies what is known of each part of a listing into the run.

    Attributes
    ----------
    work
        The run's work folder.
    card
        The network's.
    max_pixels
        More of them than this make a reject of an image.
    images
        The URI of the images.
    known
        Where to look.
    """

    work: Folder
    card: Card
    max_pixels: int
    images: str
    known: list[KnownPart]

    def __call__(self, part: int, attempt: Attempt) -> Carried:
        """Carry over what is known of part number `part`."""
        clock = perf_counter()
        listed = read_part(self.work, part)
        wanted = {image.path: place for place, image in enumerate(listed)}
        rows = PartRows(np.empty((len(listed), self.card.features), np.float32))
        found: dict[int, tuple[tables.FeatureRow, NDArray[np.float32]]] = {}
        for source in self.known:
            if not wanted:
                break
            if not source.may_hold(listed[0].path, listed[-1].path):
                continue
            for row, features in self._features(source, listed, wanted):
                found[wanted.pop(row.path)] = row, features
                rows.processors.update(source.processor.split(SEVERAL))
            for reject in self._rejects(source):
                place = wanted.get(reject.path)
                if place is not None and _is_same(listed[place], reject.version, reject.bytes):
                    why = RejectedImageError(reject.stage, reject.reason, reject.detail)
                    rows.reject(listed[wanted.pop(reject.path)], why)
                    rows.processors.update(source.processor.split(SEVERAL))
        for place in sorted(found):
            row, features = found[place]
            rows.add(listed[place], row._replace(label=listed[place].label), features)
        rows.carried = len(found)
        rows.rejects.sort()
        attempt.report(len(listed))
        unknown = np.zeros(len(listed), bool)
        unknown[list(wanted.values())] = True
        left = np.packbits(unknown).tobytes()
        if unknown.all():
            return Carried(None, left)
        clock = rows.lap("carry over", clock)
        writer = PartWriter(self.work, self.card, self.max_pixels, self.images)
        return Carried(writer.settle(part, rows, clock), left)

    def _features(
        self, source: KnownPart, listed: list[Image], wanted: dict[str, int]
    ) -> list[tuple[tables.FeatureRow, NDArray[np.float32]]]:
        """Look up images: those that a part knows, which are read only where its keys name any."""
        if source.features is None:
            return []
        matching = [
            number
            for number, (path, version, size, pixels) in enumerate(
                _read_keys(source.folder, source.features)
            )
            if (place := wanted.get(path)) is not None
            and _is_same(listed[place], version, size)
            and pixels <= self.max_pixels
        ]
        known = _read_features(source.folder, source.features) if matching else None
        return [] if known is None else [(known.rows[n], known.features[n]) for n in matching]

    def _rejects(self, source: KnownPart) -> Iterator[tables.RejectRow]:
        """Yield what time cannot heal: not what was not read, nor what ended its decoder."""
        if source.rejects is None or source.max_pixels != self.max_pixels:
            return
        table = _table(source.folder / contract.REJECTS, source.rejects)
        for fields in [] if table is None else table.to_pylist():
            row = tables.RejectRow(**fields)
            if row.stage == "decode" and row.reason not in UNSURE:
                yield row


@dataclass(frozen=True)
class ContentsPass:
    """Indexes the contents of the images that are known, each group of parts in a file.

    Attributes
    ----------
    work
        The run's work folder.
    known
        The parts.
    groups
        Their numbers, group by group.
    max_pixels
        More of them than this make a reject of an image.
    """

    work: Folder
    known: list[KnownPart]
    groups: list[list[int]]
    max_pixels: int

    def __call__(self, group: int, attempt: Attempt) -> str:
        """Write the index of group number `group`, and return its name."""
        keys, places = [np.empty(0, KEY)], [np.empty((0, 2), np.uint32)]
        for done, number in enumerate(self.groups[group]):
            attempt.report(done)
            source = self.known[number]
            if source.features is None:
                continue
            names = ["sha256", "width", "height"]
            table = _table(source.folder / contract.FEATURES, source.features, names)
            if table is None:
                continue
            pixels = pc.multiply(table["width"].cast(pa.int64()), table["height"])
            rows = np.flatnonzero(pixels.to_numpy() <= self.max_pixels)
            contents = table["sha256"].take(pa.array(rows)).to_pylist()
            keys.append(np.array([_key(bytes.fromhex(one)) for one in contents], KEY))
            places.append(np.column_stack([np.full_like(rows, number), rows]).astype(np.uint32))
        joined = np.concatenate(keys)
        order = np.argsort(joined)
        name = f"{group:05d}-{secrets.token_hex(8)}"
        self._write(name, KEYS, joined[order])
        self._write(name, PLACES, np.concatenate(places)[order])
        return name

    def _write(self, name: str, kind: str, values: NDArray[Any]) -> None:
        file = io.BytesIO()
        np.save(file, values)
        (self.work / CONTENTS).write(f"{name}{kind}", file.getvalue())


@dataclass(frozen=True)
class KnownContents:
    """Finds images by their content among those that are known.

    Of each index a process holds 24 bytes per image, on a disk as the kernel sees fit.

    Attributes
    ----------
    work
        The run's work folder.
    names
        Of the indexes in it.
    known
        The parts that they lead to.
    """

    work: Folder
    names: list[str]
    known: list[KnownPart]

    def find(self, content: bytes) -> tuple[int, int] | None:
        """Find an image by its sha256: in which part, and in which row of its features."""
        key = np.array([_key(content)], KEY)
        for name in self.names:
            keys = _read_array(self.work / CONTENTS, f"{name}{KEYS}")
            at = int(np.searchsorted(keys, key)[0])
            if at < len(keys) and keys[at] == key[0]:
                part, row = _read_array(self.work / CONTENTS, f"{name}{PLACES}")[at].tolist()
                return part, row
        return None

    def add(self, rows: PartRows, same: list[Same]) -> None:
        """Add images that have the content of known ones; each part is read once."""
        for one in sorted(same, key=lambda one: one.place):
            source = self.known[one.place[0]]
            found = _read_features(source.folder, str(source.features))
            if found is None:
                gone = f"{source.folder.uri} is there no more; it will be computed"
                rows.postpone(one.image, SourceGoneError(gone))
                continue
            known = found.rows[one.place[1]]
            if known.sha256 != one.sha256:
                rows.postpone(one.image, SourceGoneError(f"{source.folder.uri} has changed"))
                continue
            row = known._replace(
                path=one.image.path,
                label=one.image.label,
                bytes=one.bytes,
                version=one.version,
            )
            rows.add(one.image, row, found.features[one.place[1]])
            rows.carried += 1
            rows.processors.update(source.processor.split(SEVERAL))


@dataclass(frozen=True)
class Same:
    """An image that was read and has the content of a known one, and where that one lies."""

    image: Image
    bytes: int
    version: str | None
    sha256: str
    place: tuple[int, int]

    @classmethod
    def of(cls, image: Image, read: Content, sha256: str, place: tuple[int, int]) -> Same:
        """Keep what a row needs of `read`, without its bytes."""
        return cls(image, len(read.bytes), read.version, sha256, place)


@dataclass(frozen=True)
class _Features:
    """A file of the features table: its rows, and their features [n, d]."""

    rows: list[tables.FeatureRow]
    features: NDArray[np.float32]


def _settled(output: Folder, batch: str, extractor: str, images: str) -> Iterator[KnownPart]:
    """Yield the parts of the published run, and of other settled ones of the extractor.

    What was before a run that computed everything again is set aside: somebody did not trust it.
    """
    pointer = read_published(output, batch)
    wanted = (extractor, images)
    fitting = [one for one in read_settled(output, batch) if (one.extractor, one.images) == wanted]
    again = (place for place, one in enumerate(fitting) if one.settings.get("again"))
    fitting = fitting[: next(again, len(fitting)) + 1]
    fitting.sort(key=lambda one: pointer is None or one.run != pointer.run)  # and as they started
    for receipt in fitting[:SETTLED]:
        folder = output / contract.run_folder(batch, receipt.run)
        parts = _table(folder, contract.PARTS_FILE)
        limit = receipt.settings.get("max_pixels")
        for part in [] if parts is None else parts.to_pylist():
            paths = part.get("first"), part.get("last")
            files = part["features"], part["rejects"]
            yield KnownPart(folder, *files, *paths, limit, part["processor"])


def _at_work(work: Folder, extractor: str, images: str) -> Iterator[KnownPart]:
    """Yield the parts that a run at work, or one that died, has written down."""
    folder = work / contract.PARTS
    with ThreadPoolExecutor(READERS) as pool:
        for part in pool.map(partial(_part, folder), folder.files()):
            if part is not None and (part.extractor, part.images) == (extractor, images):
                limits = part.first, part.last, part.max_pixels, part.processor
                yield KnownPart(work, part.features, part.rejects, *limits)


def _part(folder: Folder, name: str) -> PartReceipt | None:
    try:
        return PartReceipt.from_json(folder.read(name))
    except BusyError:
        raise
    except (OSError, ValueError, KeyError, TypeError):  # gone, or of another version
        return None


def _is_same(image: Image, version: str | None, size: int | None) -> bool:
    """Whether an image is still what it was; one without a version never is."""
    return image.version is not None and (image.version, image.bytes) == (version, size)


@lru_cache(maxsize=2)
def _read_keys(folder: Folder, name: str) -> list[tuple[str, str | None, int, int]]:
    """Read path, version, bytes and pixels of the rows of a file of features."""
    names = ["path", "version", "bytes", "width", "height"]
    table = _table(folder / contract.FEATURES, name, names)
    rows = [] if table is None else zip(*table.to_pydict().values(), strict=True)
    return [(*key, width * height) for *key, width, height in rows]


@lru_cache(maxsize=2)
def _read_features(folder: Folder, name: str) -> _Features | None:
    """Read a file of features; the next part's most often begin in the last one's file."""
    table = _table(folder / contract.FEATURES, name, [*tables.FeatureRow._fields, "features"])
    if table is None:
        return None
    features = tables.as_matrix(table["features"])
    columns = table.select(tables.FeatureRow._fields).to_pydict().values()
    return _Features([tables.FeatureRow(*row) for row in zip(*columns, strict=True)], features)


def _table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table | None:
    """Read a table of another run; None where that has removed it meanwhile, or it is damaged."""
    try:
        if folder.is_local:  # of which it reads no more than the columns
            path = Path(folder.uri) / name
            table = parquet.read_table(path, columns=columns, partitioning=None)
        else:
            source = pa.BufferReader(_read_content(folder, name))
            table = parquet.read_table(source, columns=columns)
    except BusyError:
        raise
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, KeyError) as error:
        LOGGER.warning("%s/%s cannot be read, and is computed anew: %s", folder.uri, name, error)
        return None
    return None if columns is not None and table.schema.names != columns else table


@lru_cache(maxsize=1)
def _read_content(folder: Folder, name: str) -> bytes:
    """Read a file in S3, of which a few columns are wanted, and then often the others."""
    return folder.read(name)


@lru_cache(maxsize=64)
def _read_array(folder: Folder, name: str) -> NDArray[Any]:
    if folder.is_local:
        local: NDArray[Any] = np.load(Path(folder.uri) / name, mmap_mode="r")
        return local
    array: NDArray[Any] = np.load(io.BytesIO(folder.read(name)))
    return array


def _key(content: bytes) -> bytes:
    return content[: KEY.itemsize]
