"""Read, decode and infer the images of one part, and write what came of each.

Nothing but a small receipt leaves the worker: pixels and features never travel through an engine.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from spark_job import contract, tables
from spark_job.chroma import mean_chroma
from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.isolation import IsolatedDecoder, image_seconds, time_limit
from spark_job.known import Same
from spark_job.listing import Image, read_part
from spark_job.networks.extractor import shared_extractor
from spark_job.objects import BusyError
from spark_job.parts import PartRows, PartWriter
from spark_job.phash import perceptual_hash
from spark_job.reading import first_pace, read_ahead, second_pace
from spark_job.receipts import processor
from spark_job.tables import FeatureRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from spark_job.decode import Decoded
    from spark_job.engines import Attempt
    from spark_job.known import KnownContents
    from spark_job.networks import Card
    from spark_job.objects import Content, Folder
    from spark_job.reading import Pace
    from spark_job.receipts import PartReceipt


@dataclass(frozen=True)
class Featurizer:
    """What a worker needs to featurize a part: a recipe, shipped instead of the network.

    Attributes
    ----------
    images
        The batch's folder.
    work
        The run's work folder, which holds the listing and receives the tables.
    card
        The network's.
    max_pixels
        A larger image is rejected before it is decoded.
    listing
        The folder that holds the listing, where that is not the work folder.
    first
        Number of the listing's first part among all of the run's.
    contents
        Of images of which the features are known.
    """

    images: Folder
    work: Folder
    card: Card
    max_pixels: int
    listing: Folder | None = None
    first: int = 0
    contents: KnownContents | None = None

    def __call__(self, part: int, attempt: Attempt) -> PartReceipt:
        """Featurize part number `part` of the listing; its receipt is written last."""
        listed = read_part(self.listing or self.work, part)
        return self._featurize(self.first + part, attempt, listed, first_pace(self.images))

    def _featurize(
        self, part: int, attempt: Attempt, listed: list[Image], pace: Pace
    ) -> PartReceipt:
        rows = PartRows(np.empty((len(listed), self.card.features), np.float32))
        rows.processors.add(processor())
        same: list[Same] = []
        clock = perf_counter()
        with self._decoder(attempt) as decode_one:
            extract = shared_extractor(self.card.name)
            reads = read_ahead(self.images, listed, pace)
            for done, (image, read) in enumerate(reads):
                attempt.report(done)
                clock = rows.lap("read", clock)
                if isinstance(read, BusyError):
                    rows.postpone(image, read)
                    continue
                try:
                    if isinstance(read, RejectedImageError):
                        raise read
                    content = sha256(read.bytes)
                    if (place := self._find(content.digest())) is not None:
                        same.append(Same.of(image, read, content.hexdigest(), place))
                        continue
                    decoded = decode_one(read.bytes)
                    clock = rows.lap("decode", clock)
                    features = _checked(extract(decoded.pixels))
                    clock = rows.lap("infer", clock)
                    rows.add(image, _row(image, read, content.hexdigest(), decoded), features)
                except RejectedImageError as reject:
                    rows.reject(image, reject, None if isinstance(read, Exception) else read)
        if self.contents is not None:
            self.contents.add(rows, same)
            clock = rows.lap("carry over", clock)
        return PartWriter(self.work, self.card, self.max_pixels, self.images.uri).settle(
            part, rows, clock
        )

    def _find(self, content: bytes) -> tuple[int, int] | None:
        return None if self.contents is None else self.contents.find(content)

    @contextmanager
    def _decoder(self, attempt: Attempt) -> Iterator[Callable[[bytes], Decoded]]:
        if attempt.number:
            with IsolatedDecoder(self.card, self.max_pixels) as isolated:
                yield isolated
        else:
            yield self._decode

    def _decode(self, content: bytes) -> Decoded:
        with time_limit(image_seconds(self.max_pixels)):
            return decode(content, self.card, max_pixels=self.max_pixels)


@dataclass(frozen=True, kw_only=True)
class SecondPass(Featurizer):
    """Featurizes what was postponed, group by group, asking gently and with patience.

    Attributes
    ----------
    groups
        Names of the files in which the images of each group were written down.
    since
        When the pass began, in seconds since 1970.
    """

    groups: list[list[str]]
    since: float

    def __call__(self, group: int, attempt: Attempt) -> PartReceipt:
        """Featurize group number `group`."""
        folder = self.work / contract.POSTPONED
        columns = tables.POSTPONED_SCHEMA.names[:4]
        listed = [
            Image(**row)
            for name in self.groups[group]
            for row in tables.read_table(folder, name, columns).to_pylist()
        ]
        pace = second_pace(self.images, self.since)
        return self._featurize(self.first + group, attempt, listed, pace)


def _row(image: Image, read: Content, digest: str, decoded: Decoded) -> FeatureRow:
    return FeatureRow(
        path=image.path,
        label=image.label,
        bytes=len(read.bytes),
        version=read.version,
        sha256=digest,
        phash=perceptual_hash(decoded.small),
        chroma=mean_chroma(decoded.small),
        width=decoded.width,
        height=decoded.height,
        format=decoded.format,
    )


def warm_up(network: str) -> Callable[[], object]:
    """Give a picklable function that loads a network, as a worker's first task would."""
    return partial(_load, network)


def _load(network: str) -> None:
    shared_extractor(network).warm_up()


def _checked(features: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(features).all():
        raise RejectedImageError("infer", "not-finite", "the network gave a NaN or an infinity")
    return features
