"""Where a fruit lies on a picture, and what is drawn there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from demo.drawing.bodies import bent_body, body, lobed
from demo.drawing.leaves import leaf, stem

if TYPE_CHECKING:
    from demo.drawing.bodies import Profile
    from demo.drawing.light import Field, Light, Sprite, Surface

BROWN, STALK = (98, 70, 42), (112, 128, 52)
"""Of stems: woody, and green."""


@dataclass(frozen=True)
class Spot:
    """A place on a canvas, where a thing has coordinates of its own: u, v, upright, 1 its size.

    Attributes
    ----------
    canvas
        [h, w, 3].
    x, y
        The middle, in pixels.
    radius, angle
        The thing's size in pixels, and by how much it is turned.
    light
        Of the whole picture.
    first
        Whether it is for the picture's first fruit, which is there to be known by: others may be
        cut, or whole.
    """

    canvas: Field
    x: float
    y: float
    radius: float
    angle: float
    light: Light
    first: bool = False

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Where on the canvas a point lies."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        across, down = cos * u - sin * v, sin * u + cos * v
        return float(self.x + self.radius * across), float(self.y + self.radius * down)

    def moved(self, u: float, v: float, size: float = 1.0, turned: float = 0.0) -> Spot:
        """A spot beside this one, or within it."""
        x, y = self.at(u, v)
        angle = self.angle + turned
        return replace(self, x=x, y=y, radius=size * self.radius, angle=angle, first=False)

    def body(self, profile: Profile, random: np.random.Generator) -> Surface:
        """See `bodies.body`."""
        return body(profile, self.radius, self.angle, self.light, random)

    def bent_body(self, profile: Profile, bend: float, random: np.random.Generator) -> Surface:
        """See `bodies.bent_body`."""
        return bent_body(profile, bend, self.radius, self.angle, self.light, random)

    def ball(self, random: np.random.Generator, lobes: tuple[float, ...] = ()) -> Surface:
        """See `bodies.lobed`."""
        return lobed(self.radius, self.angle, self.light, random, lobes)

    def put(self, sprite: Sprite, height: float = 1.0) -> None:
        """Draw a thing and its shadow; `height` is in units of its size."""
        sprite.shadow(height * self.radius).fall(self.canvas, self.x, self.y, self.light)
        sprite.put(self.canvas, self.x, self.y)

    def put_stem(
        self, points: list[tuple[float, float]], width: float, colour: tuple[int, int, int]
    ) -> None:
        """Draw a stem through three points u, v."""
        places = [self.at(u, v) for u, v in points]
        stem(self.canvas, places, width * self.radius, colour, self.light)

    def put_leaf(
        self, u: float, v: float, turned: float, size: float, random: np.random.Generator
    ) -> None:
        """Draw a leaf beside a fruit, or upon it."""
        green = np.array((78, 128, 50)) * random.uniform(0.8, 1.15, 3)
        spot = self.moved(u, v, size, turned)
        one = leaf(spot.radius, spot.angle, self.light, random, green)
        spot.put(one, 0.12 / size)
