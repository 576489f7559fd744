"""A run's sample: up to a thousand of its images, with labels and features.

It is settled beside the run's moments, so that a model of several batches is held against images of
all of them (see `calibration`) though no features are read again: about 2.6 MB for 1,280 features.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IMAGES = 1024
"""Most images of a sample."""

GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Sample:
    """Some images, in the order of paths.

    Attributes
    ----------
    paths, labels
        [m] each; a label is empty where an image has none.
    features
        [m, d], in float16, whose three decimal digits are more than limits are worth; in float32
        where they are too large for that.
    """

    paths: NDArray[np.str_]
    labels: NDArray[np.str_]
    features: NDArray[np.floating]

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        labels: Sequence[str | None],
        features: NDArray[np.floating],
    ) -> Sample:
        """Make one of images in any order."""
        order = np.argsort(np.array(paths, np.str_), kind="stable")
        with np.errstate(over="ignore"):
            half = features.astype(np.float16)
        return cls(
            np.array(paths, np.str_)[order],
            np.array([label or "" for label in labels], np.str_)[order],
            (half if np.isfinite(half).all() else features)[order],
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    def take(self, rows: NDArray[np.intp]) -> Sample:
        """Some of the images, by their numbers."""
        return Sample(self.paths[rows], self.labels[rows], self.features[rows])

    def to_bytes(self) -> bytes:
        """Serialize as an ``.npz`` file, its texts in UTF-8."""
        file = io.BytesIO()
        paths, labels = (np.char.encode(one, "utf-8") for one in (self.paths, self.labels))
        np.savez(file, paths=paths, labels=labels, features=self.features)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Sample:
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as file:
            paths, labels = (np.char.decode(file[name], "utf-8") for name in ("paths", "labels"))
            return cls(paths, labels, file["features"])


def join(samples: Sequence[Sample]) -> Sample:
    """Join samples, at least one, into one in the order of paths."""
    return Sample.of(
        np.concatenate([one.paths for one in samples]).tolist(),
        np.concatenate([one.labels for one in samples]).tolist(),
        np.concatenate([one.features for one in samples]),
    )


def evenly(n: int, most: int, phase: float = 0.0) -> NDArray[np.intp]:
    """Numbers of `most` things of n, or of all where they are fewer, evenly spaced.

    Parameters
    ----------
    phase
        In [0, 1): where between two of them the first one lies.
    """
    size = min(n, most)
    return np.floor((np.arange(size) + phase) * n / max(size, 1)).astype(np.intp)


def evenly_by_group(sizes: Sequence[int], most: int) -> list[NDArray[np.intp]]:
    """For each of several groups of things the numbers, there, of `most` of all, evenly spaced."""
    chosen = evenly(sum(sizes), most)
    ends = np.cumsum([0, *sizes])
    cuts = np.searchsorted(chosen, ends)
    return [
        chosen[first:last] - start
        for first, last, start in zip(cuts[:-1], cuts[1:], ends[:-1], strict=True)
    ]


def shares(images: Sequence[int], most: int) -> list[int]:
    """How many images of each sample stand for batches of so many images, in proportion to them.

    They are as many as the samples have, `most` at most. The batch of which the sample has the
    least share sets the number.
    """
    total = sum(images)
    size = int(min(most, *(min(IMAGES, n) * total / n for n in images))) if images else 0
    ends = np.round(np.cumsum([0, *images]) * (size / max(total, 1))).astype(int)
    return [int(one) for one in np.diff(ends)]


def phase_of(number: int) -> float:
    """Where the choice among the images of batch number `number` begins.

    A fruit's pictures may be dealt out to several batches: chosen alike in each, neighbours would
    lie side by side, and stand for fewer pictures than they are. Multiples of the golden ratio are
    spread evenly, however many there are (D. E. Knuth, "The Art of Computer Programming", volume
    3, section 6.4, theorem S).
    """
    return float(number * GOLDEN % 1)
