"""Read, decode and infer the images of one part, and write what came of each.

Nothing but a small receipt leaves the worker: pixels and features never travel through an engine.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
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
from spark_job.listing import listing_digest, read_part
from spark_job.networks.extractor import shared_extractor
from spark_job.phash import perceptual_hash
from spark_job.reading import read_ahead
from spark_job.receipts import (
    Counts,
    Digests,
    PartReceipt,
    add_digests,
    digest,
    processor,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from spark_job.networks import Card
    from spark_job.objects import Folder


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

    def __call__(self, part: int, report: Callable[[int], None]) -> PartReceipt:
        """Featurize part number `part`; its receipt is written last."""
        attempt = secrets.token_hex(8)
        extract = shared_extractor(self.card.name)
        listed = read_part(self.work, part)
        features = np.empty((len(listed), self.card.features), np.float32)
        rows: list[tables.FeatureRow] = []
        rejects: list[tables.RejectRow] = []
        seconds: dict[str, float] = defaultdict(float)
        reads = read_ahead(self.images, listed)
        clock = perf_counter()
        for done, (image, content) in enumerate(reads):
            report(done)
            clock = _lap(seconds, "read", clock)
            try:
                if isinstance(content, RejectedImageError):
                    raise content
                decoded = decode(content, self.card, max_pixels=self.max_pixels)
                clock = _lap(seconds, "decode", clock)
                features[len(rows)] = _checked(extract(decoded.pixels))
                clock = _lap(seconds, "infer", clock)
                rows.append(
                    tables.FeatureRow(
                        path=image.path,
                        label=image.label,
                        bytes=len(content),
                        version=image.version,
                        sha256=sha256(content).hexdigest(),
                        phash=perceptual_hash(decoded.small),
                        width=decoded.width,
                        height=decoded.height,
                        format=decoded.format,
                    )
                )
            except RejectedImageError as reject:
                listed_as = (image.path, image.label, image.bytes, image.version)
                why = (reject.stage, reject.reason, reject.detail)
                rejects.append(tables.RejectRow(*listed_as, *why))
        features = features[: len(rows)]
        name = tables.attempt_name(part, attempt)
        self._write(name, rows, features, rejects)
        _lap(seconds, "write", clock)
        unsupported = [row.path for row in rejects if row.reason == UNSUPPORTED]
        receipt = PartReceipt(
            part=part,
            attempt=attempt,
            features=name if rows else None,
            rejects=name if rejects else None,
            counts=Counts(
                listed=len(listed),
                computed=len(rows),
                rejected=len(rejects) - len(unsupported),
                unsupported=len(unsupported),
                rejects=dict(Counter(row.reason for row in rejects if row.reason != UNSUPPORTED)),
                formats=dict(Counter(contract.extension_of(path) for path in unsupported)),
            ),
            digests=Digests(
                listing=listing_digest(
                    [(row.path, row.version) for row in rows]
                    + [(row.path, row.version) for row in rejects]
                ),
                images=add_digests(row.sha256 for row in rows),
                features=features_digest([row.path for row in rows], features),
            ),
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
            processor=processor(),
            versions=versions(),
        )
        self.work.write(f"{contract.PARTS}/part-{part:05d}-{attempt}.json", receipt.to_json())
        return receipt

    def _write(
        self,
        name: str,
        rows: list[tables.FeatureRow],
        features: NDArray[np.float32],
        rejects: list[tables.RejectRow],
    ) -> None:
        ids = {"extractor": self.card.extractor}
        if rows:
            columns = [*zip(*rows, strict=True), tables.as_lists(features)]
            schema = tables.features_schema(self.card.features)
            tables.write_table(self.work / contract.FEATURES, name, schema, columns, ids)
        if rejects:
            folder = self.work / contract.REJECTS
            columns = [*zip(*rejects, strict=True)]
            tables.write_table(folder, name, tables.REJECTS_SCHEMA, columns, ids)


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


def _lap(seconds: dict[str, float], stage: str, since: float) -> float:
    now = perf_counter()
    seconds[stage] += now - since
    return now
