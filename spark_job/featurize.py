"""Read, decode and infer the images of one part, and write what came of each.

Nothing but a small receipt leaves the worker: pixels and features never travel through Spark.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from spark_job import catalog
from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.networks import DEFAULT
from spark_job.networks.extractor import shared_extractor
from spark_job.reading import read_ahead, to_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_job.objects import Folder
    from spark_job.reading import Image


PART_IMAGES = 1024
"""Most images of a part, which bounds what a lost executor costs."""

PART_BYTES = 256_000_000
"""The same for photographs of megabytes: about ten seconds, so that the progress moves."""


def plan_parts(images: int, slots: int, mean_bytes: float = 0.0) -> list[int]:
    """Number of images per part, for `images` of `mean_bytes` over `slots` tasks at a time.

    Guided self-scheduling (C. D. Polychronopoulos, D. J. Kuck, IEEE Trans. Computers C-36(12),
    1987): each part takes its share of half of what remains, so that tasks are few and still end
    together.
    """
    largest = max(1, int(min(PART_IMAGES, PART_BYTES / max(mean_bytes, 1.0))))
    smallest = min(64, largest, -(-images // slots))
    parts = []
    while images:
        size = min(images, max(smallest, min(largest, images // (2 * slots))))
        parts.append(size)
        images -= size
    return parts


@dataclass(frozen=True)
class Featurizer:
    """What a worker needs to featurize a part: a recipe, shipped instead of the network.

    Attributes
    ----------
    images
        The batch's folder.
    run
        The run's folder, which holds the listing and receives the tables.
    max_pixels
        A larger image is rejected before it is decoded.
    extractor
        The extractor's id, for the Parquet footers.
    """

    images: Folder
    run: Folder
    max_pixels: int
    extractor: str

    def __call__(self, part: int) -> bytes:
        """Featurize part number `part`; a JSON receipt of counts and seconds."""
        extract = shared_extractor(DEFAULT)
        listed = to_images(catalog.read_part_of_listing(self.run, part))
        features = np.empty((len(listed), extract.card.features), np.float32)
        rows: list[tuple[Any, ...]] = []
        rejects: list[tuple[Any, ...]] = []
        seconds: dict[str, float] = defaultdict(float)
        reads = read_ahead(self.images, listed)
        clock = perf_counter()
        for image, content in reads:
            clock = _lap(seconds, "read", clock)
            try:
                if isinstance(content, RejectedImageError):
                    raise content
                decoded = decode(content, extract.card, max_pixels=self.max_pixels)
                clock = _lap(seconds, "decode", clock)
                features[len(rows)] = _checked(extract(decoded.pixels))
                clock = _lap(seconds, "infer", clock)
                sha256 = hashlib.sha256(content).hexdigest()
                size = (sha256, decoded.width, decoded.height)
                rows.append((image.path, image.label, len(content), image.version, *size))
            except RejectedImageError as reject:
                rejects.append((*_columns(image), reject.stage, reject.reason, reject.detail))
        if rows:
            columns = [*zip(*rows, strict=True), catalog.as_lists(features[: len(rows)])]
            self._write("features", part, columns, catalog.FEATURES_SCHEMA)
        if rejects:
            self._write("rejects", part, [*zip(*rejects, strict=True)], catalog.REJECTS_SCHEMA)
        _lap(seconds, "write", clock)
        receipt = {
            "part": part,
            "featurized": len(rows),
            "rejects": Counter(reason for *_, reason, _ in rejects),
            "images_digest": catalog.combine_digests(row[4] for row in rows),
            "seconds": seconds,
        }
        return json.dumps(receipt).encode()

    def _write(self, table: str, part: int, columns: list[Any], schema: pa.Schema) -> None:
        arrays = [
            pa.array(column, field.type) if isinstance(column, tuple) else column
            for column, field in zip(columns, schema, strict=True)
        ]
        content = pa.table(arrays, schema=schema)
        catalog.write_part(self.run, table, part, content, {"extractor": self.extractor})


def _checked(features: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(features).all():
        raise RejectedImageError("infer", "not-finite", "the network gave a NaN or an infinity")
    return features


def _columns(image: Image) -> tuple[Any, ...]:
    return image.path, image.label, image.bytes, image.version


def _lap(seconds: dict[str, float], stage: str, since: float) -> float:
    now = perf_counter()
    seconds[stage] += now - since
    return now
