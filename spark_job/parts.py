"""What became of one part's images, and the files in which that is written down.

The tables first and the receipt last: a part without one never was.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from spark_job import contract, tables
from spark_job.formats import UNSUPPORTED
from spark_job.listing import listing_digest
from spark_job.receipts import (
    Counts,
    Digests,
    PartReceipt,
    add_digests,
    digest,
    versions,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spark_job.errors import RejectedImageError
    from spark_job.listing import Image
    from spark_job.networks import Card
    from spark_job.objects import BusyError, Content, Folder
    from spark_job.tables import FeatureRow, PostponedRow, RejectRow


SEVERAL = "; "
"""Between the kinds of processors that computed a part."""


class PartRows:
    """What became of a part's images so far.

    Parameters
    ----------
    features
        [n, d] for n images at most, of which as many rows are filled as have features.
    """

    def __init__(self, features: NDArray[np.float32]) -> None:
        self._features = features
        self.rows: list[FeatureRow] = []
        self.rejects: list[RejectRow] = []
        self.listed: list[tuple[str, str | None]] = []  # paths and versions of both, as listed
        self.postponed: list[PostponedRow] = []
        self.carried = 0
        self.processors: set[str] = set()  # kinds of those that computed all this
        self.seconds: dict[str, float] = defaultdict(float)

    @property
    def features(self) -> NDArray[np.float32]:
        """Features of `rows`."""
        return self._features[: len(self.rows)]

    def lap(self, stage: str, since: float) -> float:
        """Add the seconds since `since` to those of a stage; the time now."""
        now = perf_counter()
        self.seconds[stage] += now - since
        return now

    def add(self, image: Image, row: FeatureRow, features: NDArray[np.float32]) -> None:
        """Add an image that has features, [d]."""
        self._features[len(self.rows)] = features
        self.listed.append((image.path, image.version))
        self.rows.append(row)

    def reject(self, image: Image, why: RejectedImageError, read: Content | None = None) -> None:
        """Add an image of no use; of one that was `read`, the version that this is true of."""
        self.listed.append((image.path, image.version))
        known = _listed_as(image)
        if read is not None:
            known = (image.path, image.label, len(read.bytes), read.version)
        self.rejects.append(tables.RejectRow(*known, why.stage, why.reason, why.detail))

    def postpone(self, image: Image, why: BusyError) -> None:
        """Add an image that was not given for now."""
        self.postponed.append(tables.PostponedRow(*_listed_as(image), why.kind, str(why)))


@dataclass(frozen=True)
class PartWriter:
    """Writes what became of parts.

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
    """

    work: Folder
    card: Card
    max_pixels: int
    images: str

    def settle(self, part: int, rows: PartRows, clock: float) -> PartReceipt:
        """Write the tables of part number `part`, and then its receipt.

        Parameters
        ----------
        part
            Its number.
        rows
            What became of it.
        clock
            When its last stage ended; see `PartRows.lap`.
        """
        attempt = secrets.token_hex(8)
        name = tables.attempt_name(part, attempt)
        self._write(name, rows)
        rows.lap("write", clock)
        unsupported = [row.path for row in rows.rejects if row.reason == UNSUPPORTED]
        reasons = Counter(row.reason for row in rows.rejects if row.reason != UNSUPPORTED)
        listed = rows.listed
        receipt = PartReceipt(
            part=part,
            attempt=attempt,
            features=name if rows.rows else None,
            rejects=name if rows.rejects else None,
            postponed=name if rows.postponed else None,
            busy=dict(Counter(row.kind for row in rows.postponed)),
            counts=Counts(
                listed=len(listed),
                computed=len(rows.rows) - rows.carried,
                carried_over=rows.carried,
                rejected=len(rows.rejects) - len(unsupported),
                unsupported=len(unsupported),
                rejects=dict(reasons),
                formats=dict(Counter(contract.extension_of(path) for path in unsupported)),
            ),
            digests=Digests(
                listing=listing_digest(listed),
                images=add_digests(row.sha256 for row in rows.rows),
                features=features_digest([row.path for row in rows.rows], rows.features),
            ),
            seconds={stage: round(value, 4) for stage, value in rows.seconds.items()},
            processor=SEVERAL.join(sorted(rows.processors)),
            versions=versions(),
            extractor=self.card.extractor,
            max_pixels=self.max_pixels,
            images=self.images,
            first=min((path for path, _ in listed), default=None),
            last=max((path for path, _ in listed), default=None),
        )
        self.work.write(f"{contract.PARTS}/part-{part:05d}-{attempt}.json", receipt.to_json())
        return receipt

    def _write(self, name: str, rows: PartRows) -> None:
        ids = {"extractor": self.card.extractor}
        if rows.rows:
            columns = [*zip(*rows.rows, strict=True), tables.as_lists(rows.features)]
            schema = tables.features_schema(self.card.features)
            tables.write_table(self.work / contract.FEATURES, name, schema, columns, ids)
        for table, schema, found in (
            (contract.REJECTS, tables.REJECTS_SCHEMA, rows.rejects),
            (contract.POSTPONED, tables.POSTPONED_SCHEMA, rows.postponed),
        ):
            if found:
                columns = [*zip(*found, strict=True)]
                tables.write_table(self.work / table, name, schema, columns, ids)


def features_digest(paths: list[str], features: NDArray[np.float32]) -> str:
    """Digest of rows by path and the features' bytes, [n] and [n, d]."""
    rows = zip(paths, features, strict=True)
    return digest(path.encode() + b"\0" + row.tobytes() for path, row in rows)


def _listed_as(image: Image) -> tuple[str, str | None, int | None, str | None]:
    return image.path, image.label, image.bytes, image.version
