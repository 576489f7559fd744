"""The images of a cell, as columns; and how a group of images is dealt out to cells.

A cell holds pictures that lie near each other, so that each finds its neighbours without a look at
the whole batch. A batch of at most `ALONE` images is one cell; in a larger one a picture that lies
near the border of its home cell is copied into the neighbouring one too. The work does not grow
faster than the batch, and each worker holds one cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ALONE = 10_000
"""Most images of a batch that is searched as a whole."""

CELL = 8_000
"""Images that a cell of a larger batch is at home to, on average."""

LARGEST = 4 * CELL
"""Members beyond which a cell is searched in pieces: pictures so alike that no centre tells them
apart find neighbours enough in any of them."""

BORDER = 1.2
"""A picture is copied into the cell of the second nearest centre where the squared distance to it
is less than so many times that to the nearest."""

ROUNDS = 8
"""Of Lloyd's algorithm."""

SAMPLE = 64
"""Images per centre that the centres are found from."""


def members_schema(axes: int) -> pa.Schema:
    """Schema of a cell's members with so many axes; see `Members`."""
    return pa.schema(
        [
            ("row", pa.int64()),
            ("home", pa.bool_()),
            ("path", pa.string()),
            ("label", pa.string()),
            ("sha256", pa.string()),
            ("phash", pa.int64()),
            ("chroma", pa.float32()),
            ("pixels", pa.int64()),
            ("bytes", pa.int64()),
            ("rest", pa.float32()),
            ("point", pa.list_(pa.float32(), axes)),
        ]
    )


@dataclass(frozen=True)
class Members:
    """Images of a cell.

    Attributes
    ----------
    row
        [n], numbers of the images in the batch.
    home
        [n], False for those that were copied in from over the border.
    path, label, sha256
        [n], strings; a label may be None.
    phash, chroma, pixels, bytes
        [n], as in the features table; pixels are width times height.
    point, rest
        [n, m] and [n]; see `SearchSpace.place`.
    """

    row: NDArray[np.int64]
    home: NDArray[np.bool_]
    path: NDArray[np.object_]
    label: NDArray[np.object_]
    sha256: NDArray[np.object_]
    phash: NDArray[np.int64]
    chroma: NDArray[np.float32]
    pixels: NDArray[np.int64]
    bytes: NDArray[np.int64]
    rest: NDArray[np.float32]
    point: NDArray[np.float32]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.row)

    @classmethod
    def of(cls, table: pa.Table) -> Members:
        """Take the columns of a table of `members_schema`."""
        columns = {
            name: table[name].combine_chunks().to_numpy(zero_copy_only=False)
            for name in table.schema.names
            if name != "point"
        }
        point = table["point"].combine_chunks()
        axes = table.schema.field("point").type.list_size
        return cls(**columns, point=point.flatten().to_numpy().reshape(-1, axes))


def count_cells(images: int) -> int:
    """Number of cells of a batch."""
    return 1 if images <= ALONE else -(-images // CELL)


def find_centres(sample: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Centres [cells, m] of a sample of points [n, m].

    By S. P. Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 28,
    1982, from points spread evenly over the sample.
    """
    spread = np.linspace(0, len(sample) - 1, cells).astype(int)
    centres: NDArray[np.float32] = sample[spread].astype(np.float32)
    for _ in range(ROUNDS):
        nearest = np.concatenate([near[:, 0] for near, _ in _to_centres(sample, centres)])
        counts: NDArray[np.intp] = np.bincount(nearest, minlength=cells)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        taken = counts > 0
        centres[taken] = sums[taken] / counts[taken, None]
        # A centre that nothing is near takes over half of the fullest one's.
        empty = np.flatnonzero(~taken)
        fullest = np.argsort(-counts, kind="stable")[: len(empty)]
        for one, other in zip(empty, fullest[counts[fullest] > 1], strict=False):
            theirs = np.flatnonzero(nearest == other)
            centres[one] = sample[theirs[len(theirs) // 2]]
    return centres


def deal(
    points: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find each point's home cell [n], and the one it is copied into [n]; -1 for none."""
    home, border = [], []
    for near, squared in _to_centres(points, centres):
        home.append(near[:, 0])
        if near.shape[1] == 1:
            border.append(np.full(len(near), -1))
        else:
            close = squared[:, 1] < BORDER * squared[:, 0]
            border.append(np.where(close, near[:, 1], -1))
    if not home:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    return np.concatenate(home), np.concatenate(border)


def _to_centres(
    points: NDArray[np.float32], centres: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield, block by block, the nearest two centres of each point and the squared distances."""
    step = max(1, 4_000_000 // len(centres))
    square = np.einsum("cm,cm->c", centres, centres)
    for start in range(0, len(points), step):
        block = points[start : start + step]
        distances = square - 2 * (block @ centres.T)
        distances += np.einsum("nm,nm->n", block, block)[:, None]
        if len(centres) > 2:
            near = np.argpartition(distances, 1, axis=1)[:, :2]
        else:
            near = np.broadcast_to(np.arange(len(centres)), distances.shape)
        found = np.take_along_axis(distances, near, axis=1)
        order = np.argsort(found, axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        squared = np.take_along_axis(found, order, axis=1)
        yield near, np.maximum(squared, 0).astype(np.float32)
