"""Pictures that are there twice: the same content, or the same picture stored in another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from spark_job.findings.members import Members
    from spark_job.findings.neighbours import Neighbours

MOST_BITS = 20
"""Bits of the perceptual hash in which two pictures may differ at most; others differ in 32 on
average."""

FEW_BITS = 12
"""Below so many differing bits the features may lie further apart, the further the fewer they
are."""

MANY = 4
"""Nearly identical pictures beside an image from which on it is one of a series, such as the frames
of a turning fruit; copies are fewer."""

MOST_PAIRS = 10_000
"""Pairs of nearly identical pictures that a cell tells of."""

NEAR, FURTHER = 0.04, 0.10
"""Cosine distance at which two are one picture where `FEW_BITS` or more differ, and how much more
it may be where none does.

From 60 photographs, each stored in nine other ways (JPEG of quality 50 and 80, WebP, 30 and 60% of
the size, up to 2, 4, 7 and 10% cropped on each side): 53 of 60 at least were found of each way, and
of 28,680 pairs of different photographs one, which is of one scene.
"""


def nearly_identical(
    bits: NDArray[np.integer], distance: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Whether pairs are the same picture, by differing bits and cosine distance, any shape."""
    limit = NEAR + FURTHER * np.maximum(0, 1 - bits / FEW_BITS)
    near: NDArray[np.bool_] = (bits <= MOST_BITS) & (distance <= limit)
    return near


@dataclass(frozen=True)
class Copies:
    """Which neighbours are copies of an image.

    Attributes
    ----------
    identical, near
        [h, s] for the neighbours of `Neighbours`: of the same content; the same picture stored
        otherwise, or so alike that it might be.
    bits
        [h, s], bits in which the perceptual hashes differ.
    """

    identical: NDArray[np.bool_]
    near: NDArray[np.bool_]
    bits: NDArray[np.uint8]


def find_copies(members: Members, neighbours: Neighbours) -> Copies:
    """Tell which neighbours are copies."""
    of, place = neighbours.of[:, None], neighbours.place
    differing = members.phash[of].view(np.uint64) ^ members.phash[place].view(np.uint64)
    bits = np.bitwise_count(differing)
    identical = members.sha256[of] == members.sha256[place]
    near = nearly_identical(bits, neighbours.distance) & ~identical
    return Copies(identical.astype(bool), near, bits)


@dataclass(frozen=True)
class Pairs:
    """Pairs of members of which one is a copy of the other.

    Attributes
    ----------
    first, second
        [p], places.
    distance, bits
        [p], how far apart they are; 0 for the same content.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    distance: NDArray[np.float32]
    bits: NDArray[np.uint8]


def identical_pairs(members: Members) -> Pairs:
    """Pairs of images at home with the same content, each with the first of its group."""
    home = np.flatnonzero(members.home)
    contents = members.sha256[home].astype(str)
    _, leader, number = np.unique(contents, return_index=True, return_inverse=True)
    first = home[leader[number]]
    others = first != home
    none = np.zeros(int(others.sum()))
    return Pairs(first[others], home[others], none.astype(np.float32), none.astype(np.uint8))


def near_pairs(neighbours: Neighbours, copies: Copies) -> tuple[Pairs, int]:
    """Pairs of an image at home and a neighbour that is nearly the same, the closest first.

    Of the same two images one pair is enough, and of a cell at most `MOST_PAIRS`; how many more
    there are is returned beside them.
    """
    image, rank = np.nonzero(copies.near)
    first, second = neighbours.of[image], neighbours.place[image, rank]
    ordered = np.sort(np.column_stack([first, second]), axis=1)
    _, once = np.unique(ordered, axis=0, return_index=True)
    distance = neighbours.distance[image, rank]
    chosen = once[np.argsort(distance[once], kind="stable")][:MOST_PAIRS]
    bits = copies.bits[image, rank]
    pairs = Pairs(first[chosen], second[chosen], distance[chosen], bits[chosen])
    return pairs, len(once) - len(chosen)


@dataclass(frozen=True, slots=True)
class Copy:
    """An image of a group of copies.

    Attributes
    ----------
    path, label, sha256
        Of the image.
    pixels, bytes
        How large it is; the largest of a group is proposed to be kept.
    """

    path: str
    label: str | None
    sha256: str
    pixels: int
    bytes: int


@dataclass(frozen=True)
class Group:
    """Copies of one picture.

    Attributes
    ----------
    images
        The one that is proposed to be kept first: of the most pixels, then of the most bytes, then
        of the shortest name, which copies have seldom, then the first.
    distance, bits
        Of each image: the least by which it was told that it belongs here.
    """

    images: list[Copy]
    distance: list[float]
    bits: list[int]

    @property
    def is_identical(self) -> bool:
        """Whether all have the same content."""
        return len({one.sha256 for one in self.images}) == 1


def group(pairs: Iterable[tuple[Copy, Copy, float, int]]) -> list[Group]:
    """Join pairs to groups, in the order of the images that are kept; a copy's copy is one too.

    Parameters
    ----------
    pairs
        Two images, their distance and the bits in which they differ.
    """
    leader: dict[str, str] = {}
    images: dict[str, Copy] = {}
    closest: dict[str, tuple[float, int]] = {}

    def find(path: str) -> str:
        while leader[path] != path:
            leader[path] = path = leader[leader[path]]
        return path

    for one, other, distance, bits in pairs:
        for image in (one, other):
            images.setdefault(image.path, image)
            leader.setdefault(image.path, image.path)
            known = closest.get(image.path, (float("inf"), 64))
            closest[image.path] = min(known, (distance, bits))
        first, second = sorted((find(one.path), find(other.path)))
        leader[second] = first
    joined: dict[str, list[Copy]] = {}
    for path in sorted(images):
        joined.setdefault(find(path), []).append(images[path])
    groups = []
    for found in joined.values():
        found.sort(key=lambda one: (-one.pixels, -one.bytes, *_by_name(one.path)))
        apart = [closest[one.path] for one in found]
        groups.append(Group(found, [one for one, _ in apart], [bits for _, bits in apart]))
    return sorted(groups, key=lambda one: one.images[0].path)


def _by_name(path: str) -> tuple[int, str]:
    """Put ``IMG_1.jpg`` before ``IMG_1 (copy).jpg``, which comes first in the alphabet."""
    return len(path.rpartition("/")[2]), path
