"""A picture: a ground in a light, and fruit of one kind on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from demo.drawing.grounds import cut
from demo.drawing.leaves import leaf
from demo.drawing.light import Light, Sprite, noise, turned_grid
from demo.drawing.spots import Spot

if TYPE_CHECKING:
    from demo.drawing.fruits import Fruit
    from demo.drawing.light import Field

SIDES = (120, 225)
"""Pixels of a picture's longer side; the shorter one has three quarters of it, or all."""

HALF = (0.40, 0.29, 0.25, 0.23)
"""Half the size of a fruit where one to four lie together, of the shorter side."""


PLATES, LEAVES = 0.12, 0.25
"""Shares of the pictures with a plate below the fruit, and of the others with leaves beside it."""


def photograph(fruit: Fruit, random: np.random.Generator) -> Image.Image:
    """Draw one picture, as a phone might take it from above."""
    width, height = _size(random)
    light = Light.of(random)
    canvas = cut(width, height, random)
    _light_up(canvas, light, random)
    number = int(random.integers(1, fruit.most + 1))
    half = HALF[number - 1] * fruit.size * random.uniform(0.88, 1.1)
    half = min(half, 0.46) * min(width, height)
    room = np.array((width, height)) / 2 - 0.92 * half
    if random.uniform() < PLATES:
        _put_plate(canvas, light)
        half, room = 0.8 * half, np.minimum(room, 0.22 * min(width, height))
    elif random.uniform() < LEAVES:
        _strew_leaves(canvas, light, random)
    middle = np.array((width, height)) / 2
    for place, (x, y) in enumerate(_places(middle, np.maximum(room, 0), number, half, random)):
        radius = half * random.uniform(0.93, 1.07)
        angle = random.uniform(0, 2 * np.pi)
        fruit.draw(Spot(canvas, x, y, radius, angle, light, first=place == 0), random)
    canvas *= (random.uniform(0.98, 1.2) * random.uniform(0.94, 1.06, 3)).astype(np.float32)
    canvas += 2.2 * noise(canvas.shape, 1, random)[..., None]
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _size(random: np.random.Generator) -> tuple[int, int]:
    long = int(random.integers(*SIDES))
    short = max(100, int(long * (1, 0.75, 0.75)[random.integers(0, 3)]))
    return (long, short) if random.uniform() < 0.6 else (short, long)


def _light_up(canvas: Field, light: Light, random: np.random.Generator) -> None:
    """Let the ground be brighter towards the lamp, and darker in the corners."""
    height, width = canvas.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    strength = random.uniform(0.08, 0.3)
    shade = 0.98 + strength * (x * light.x + y * light.y) - 0.07 * (x**2 + y**2)
    canvas *= shade[..., None]


def _places(
    middle: Field, room: Field, number: int, half: float, random: np.random.Generator
) -> list[tuple[float, float]]:
    """Find places for fruit, no farther from the middle than `room`, [x, y]."""
    places = [random.uniform(middle - room, middle + room)]
    while len(places) < number:
        tries = random.uniform(middle - room, middle + room, (24, 2))
        apart = np.min([np.hypot(*(tries - one).T) for one in places], axis=0)
        # Close together, but hardly one upon the other.
        places.append(tries[np.argmin(np.abs(apart - 2.0 * half))])
    return [(float(x), float(y)) for x, y in places]


def _put_plate(canvas: Field, light: Light) -> None:
    height, width = canvas.shape[:2]
    radius = 0.49 * min(width, height)
    u, v = turned_grid(radius, 0)
    length, slope = np.hypot(u, v), u * light.x + v * light.y
    rim = np.exp(-(((length - 0.72) / 0.05) ** 2))
    shade = 0.94 + (0.05 - 0.14 * rim) * slope
    pixels = np.array((236, 234, 228), np.float32) * shade[..., None]
    plate = Sprite(pixels, np.clip((1 - length) * radius + 0.5, 0, 1))
    plate.shadow(0.1 * radius).fall(canvas, width / 2, height / 2, light)
    plate.put(canvas, width / 2, height / 2)


def _strew_leaves(canvas: Field, light: Light, random: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    for _ in range(int(random.integers(1, 4))):
        x, y = random.uniform(0, 1, 2) * (width, height)
        green = np.array((86, 120, 50)) * random.uniform(0.75, 1.2, 3)
        one = leaf(random.uniform(0.1, 0.17) * width, random.uniform(0, 7), light, random, green)
        one.shadow(4).fall(canvas, x, y, light)
        one.put(canvas, x, y)
