"""Read, decode and infer the images of one part, and write what came of each.

Nothing but a small receipt leaves the worker: pixels and features never travel through an engine.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from spark_job import contract, tables
from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.formats import UNSUPPORTED
from spark_job.isolation import IsolatedDecoder, image_seconds, time_limit
from spark_job.listing import Image, listing_digest, read_part
from spark_job.networks.extractor import shared_extractor
from spark_job.objects import BusyError
from spark_job.phash import perceptual_hash
from spark_job.reading import first_pace, read_ahead, second_pace
from spark_job.receipts import (
    Counts,
    Digests,
    PartReceipt,
    add_digests,
    digest,
    processor,
    versions,
)
from spark_job.tables import FeatureRow, PostponedRow, RejectRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from spark_job.decode import Decoded
    from spark_job.engines import Attempt
    from spark_job.networks import Card
    from spark_job.objects import Content, Folder
    from spark_job.reading import Pace


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
    """

    images: Folder
    work: Folder
    card: Card
    max_pixels: int

    def __call__(self, part: int, attempt: Attempt) -> PartReceipt:
        """Featurize part number `part`; its receipt is written last."""
        listed = read_part(self.work, part)
        return self._featurize(part, attempt, listed, first_pace(self.images))

    def _featurize(
        self, part: int, attempt: Attempt, listed: list[Image], pace: Pace
    ) -> PartReceipt:
        rows = _Rows(np.empty((len(listed), self.card.features), np.float32))
        clock = perf_counter()
        with self._decoder(attempt) as decode_one:
            extract = shared_extractor(self.card.name)
            reads = read_ahead(self.images, listed, pace)
            for done, (image, read) in enumerate(reads):
                attempt.report(done)
                clock = rows.lap("read", clock)
                if isinstance(read, BusyError):
                    rows.postponed.append(PostponedRow(*_listed_as(image), read.kind, str(read)))
                    continue
                try:
                    if isinstance(read, RejectedImageError):
                        raise read
                    decoded = decode_one(read.bytes)
                    clock = rows.lap("decode", clock)
                    features = _checked(extract(decoded.pixels))
                    clock = rows.lap("infer", clock)
                    rows.add(image, read, decoded, features)
                except RejectedImageError as reject:
                    why = (reject.stage, reject.reason, reject.detail)
                    rows.rejects.append(RejectRow(*_listed_as(image), *why))
        return self._settle(part, rows, clock)

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

    def _settle(self, part: int, rows: _Rows, clock: float) -> PartReceipt:
        """Write what came of a part, and its receipt."""
        attempt = secrets.token_hex(8)
        name = tables.attempt_name(part, attempt)
        features = rows.features[: len(rows.rows)]
        self._write(name, rows, features)
        rows.lap("write", clock)
        unsupported = [row.path for row in rows.rejects if row.reason == UNSUPPORTED]
        reasons = Counter(row.reason for row in rows.rejects if row.reason != UNSUPPORTED)
        receipt = PartReceipt(
            part=part,
            attempt=attempt,
            features=name if rows.rows else None,
            rejects=name if rows.rejects else None,
            postponed=name if rows.postponed else None,
            busy=dict(Counter(row.kind for row in rows.postponed)),
            counts=Counts(
                listed=len(rows.rows) + len(rows.rejects),
                computed=len(rows.rows),
                rejected=len(rows.rejects) - len(unsupported),
                unsupported=len(unsupported),
                rejects=dict(reasons),
                formats=dict(Counter(contract.extension_of(path) for path in unsupported)),
            ),
            digests=Digests(
                listing=listing_digest(
                    rows.listed + [(row.path, row.version) for row in rows.rejects]
                ),
                images=add_digests(row.sha256 for row in rows.rows),
                features=features_digest([row.path for row in rows.rows], features),
            ),
            seconds={stage: round(value, 4) for stage, value in rows.seconds.items()},
            processor=processor(),
            versions=versions(),
        )
        self.work.write(f"{contract.PARTS}/part-{part:05d}-{attempt}.json", receipt.to_json())
        return receipt

    def _write(self, name: str, rows: _Rows, features: NDArray[np.float32]) -> None:
        ids = {"extractor": self.card.extractor}
        if rows.rows:
            columns = [*zip(*rows.rows, strict=True), tables.as_lists(features)]
            schema = tables.features_schema(self.card.features)
            tables.write_table(self.work / contract.FEATURES, name, schema, columns, ids)
        for table, schema, found in (
            (contract.REJECTS, tables.REJECTS_SCHEMA, rows.rejects),
            (contract.POSTPONED, tables.POSTPONED_SCHEMA, rows.postponed),
        ):
            if found:
                columns = [*zip(*found, strict=True)]
                tables.write_table(self.work / table, name, schema, columns, ids)


@dataclass(frozen=True)
class SecondPass(Featurizer):
    """Featurizes what was postponed, group by group, asking gently and with patience.

    Attributes
    ----------
    groups
        Names of the files in which the images of each group were written down.
    first
        Number of the first group as a part: those of the listing come before.
    since
        When the pass began, in seconds since 1970.
    """

    groups: list[list[str]]
    first: int
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


class _Rows:
    """What became of a part's images so far; `features` has a row for each, of which some stay."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.features = features
        self.rows: list[FeatureRow] = []
        self.listed: list[tuple[str, str | None]] = []  # those rows' paths and versions as listed
        self.rejects: list[RejectRow] = []
        self.postponed: list[PostponedRow] = []
        self.seconds: dict[str, float] = defaultdict(float)

    def lap(self, stage: str, since: float) -> float:
        """Add the seconds since `since` to those of a stage; the time now."""
        now = perf_counter()
        self.seconds[stage] += now - since
        return now

    def add(
        self, image: Image, read: Content, decoded: Decoded, features: NDArray[np.float32]
    ) -> None:
        """Add an image that was featurized."""
        self.features[len(self.rows)] = features
        self.listed.append((image.path, image.version))
        self.rows.append(
            FeatureRow(
                path=image.path,
                label=image.label,
                bytes=len(read.bytes),
                version=read.version,
                sha256=sha256(read.bytes).hexdigest(),
                phash=perceptual_hash(decoded.small),
                width=decoded.width,
                height=decoded.height,
                format=decoded.format,
            )
        )


def warm_up(network: str) -> Callable[[], object]:
    """Give a picklable function that loads a network, as a worker's first task would."""
    return partial(_load, network)


def _load(network: str) -> None:
    shared_extractor(network).warm_up()


def features_digest(paths: list[str], features: NDArray[np.float32]) -> str:
    """Digest of rows by path and the features' bytes, [n] and [n, d]."""
    rows = zip(paths, features, strict=True)
    return digest(path.encode() + b"\0" + row.tobytes() for path, row in rows)


def _checked(features: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(features).all():
        raise RejectedImageError("infer", "not-finite", "the network gave a NaN or an infinity")
    return features


def _listed_as(image: Image) -> tuple[str, str | None, int | None, str | None]:
    return image.path, image.label, image.bytes, image.version
