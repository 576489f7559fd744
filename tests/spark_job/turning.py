"""Made-up features of turning fruits, as a network might give them, without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 120


@dataclass(frozen=True)
class Pictures:
    """Features [n, d] and labels, in the order of paths."""

    features: NDArray[np.float32]
    labels: list[str | None]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> Pictures:
        return Pictures(self.features[rows], [self.labels[row] for row in rows])


def orchard(labels: int, pictures: int, *, first: int = 0) -> Pictures:
    """Turning fruits: what all have in common, what each has of its own, and how it turns."""
    world = np.random.default_rng(77)
    common, turning = world.standard_normal((12, WIDTH)), world.standard_normal((4, WIDTH))
    features, names = [], []
    for number in range(first, first + labels):
        random = np.random.default_rng(1000 + number)
        centre = random.standard_normal(12) @ common + 2.5 * random.standard_normal(WIDTH)
        angle = np.linspace(0, 2 * np.pi, pictures, endpoint=False)
        round_trip = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)])
        turned = (round_trip.T * random.uniform(0.5, 2, 4)) @ turning
        features.append(centre + turned + 0.3 * random.standard_normal((pictures, WIDTH)))
        names += [f"fruit {number:03d}"] * pictures
    return Pictures(np.concatenate(features).astype(np.float32), [*names])
