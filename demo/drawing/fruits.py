"""Ten kinds of fruit, and how each is drawn: on its own, from any side, now and then cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demo.drawing.halves import apple_half, citrus_half, kiwi_half, melon_slice
from demo.drawing.leaves import crown
from demo.drawing.light import blend, streaks
from demo.drawing.spots import BROWN, STALK

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.drawing.light import Field, Surface
    from demo.drawing.spots import Spot


@dataclass(frozen=True)
class Fruit:
    """A label, how its fruit is drawn, how many lie together at most, and how large they are."""

    label: str
    draw: Callable[[Spot, np.random.Generator], None]
    most: int = 4
    size: float = 1.0


def _apple(spot: Spot, random: np.random.Generator) -> None:
    surface = spot.ball(random, (-0.015, 0.01, 0.012, 0.02 * random.uniform()))
    if not spot.first and random.uniform() < 0.25:
        spot.put(apple_half(surface), 0.5)
        return
    top = -random.uniform(0.1, 0.55)
    around = np.arctan2(surface.u, surface.v - top)
    away = np.hypot(surface.u, surface.v - top)
    share = 0.1 + 0.2 * streaks(around, random) + 0.22 * surface.coarse + 0.5 * np.exp(-away * 3)
    red = np.array((176, 22, 34)) * random.uniform(0.85, 1.1)
    colour = blend(red, (232, 170, 74), share)
    colour = blend(colour, (245, 214, 160), 0.6 * (surface.fine > 2.2))
    colour *= (1 - 0.65 * _dot(surface, top, 0.17))[..., None]
    spot.put(surface.lit(colour, gloss=0.55, sharpness=36))
    tip = (random.uniform(-0.2, 0.2), top - 0.5)
    spot.put_stem([(0, top), (0, top - 0.3), tip], 0.09, BROWN)
    if random.uniform() < 0.4:
        spot.put_leaf(0.3, top - 0.25, 1.0, 0.42, random)


def _dot(surface: Surface, v: float, size: float) -> Field:
    """A soft dot on a fruit's axis."""
    dot: Field = np.exp(-(surface.u**2 + (surface.v - v) ** 2) / size**2)
    return dot


def _banana(spot: Spot, random: np.random.Generator) -> None:
    number = int(random.integers(1, 4))
    bend = random.uniform(0.9, 1.5)
    yellow = np.array((246, 212, 66)) * random.uniform(0.92, 1.03)
    for place in range(number):
        aside = place - (number - 1) / 2
        one = spot.moved(0.3 * aside, 0.04 * place, turned=0.12 * aside)
        surface = one.bent_body(_banana_profile, bend, random)
        along = np.abs(surface.v)
        green = np.clip((along - 0.6) * 1.4, 0, 1) * random.uniform(0, 0.7)
        ridge = np.exp(-(((surface.u - 0.05) * 22) ** 2))
        spots = 0.7 * np.clip(surface.fine - 1.6, 0, 1) + np.clip((along - 0.86) * 9, 0, 1)
        colour = blend(yellow, (168, 186, 60), green)
        colour = blend(colour, (190, 140, 44), 0.35 * ridge + 0.12 * surface.coarse)
        colour = blend(colour, (96, 66, 36), spots)
        one.put(surface.lit(colour, gloss=0.16, sharpness=14), 0.35)


def _banana_profile(v: Field) -> Field:
    profile: Field = 0.04 + 0.15 * np.maximum(1 - np.abs(v) ** 3.2, 0) ** 0.75
    return profile


def _cherry(spot: Spot, random: np.random.Generator) -> None:
    """One to three of them, whose stems meet."""
    number = int(random.integers(2 if spot.first else 1, 4))
    red = np.array((130, 10, 26)) * random.uniform(0.7, 1.35)
    for u, v in [(-0.52, 0.42), (0.5, 0.5), (0.02, 0.05)][:number]:
        right, down, turned = random.normal(0, (0.05, 0.05, 0.3)).tolist()
        one = spot.moved(u + right, v + down, 0.46, turned)
        surface = one.ball(random, (0.02, -0.015))
        colour = blend(red, (200, 40, 50), 0.25 + 0.2 * surface.coarse)
        colour *= (1 - 0.6 * _dot(surface, -0.62, 0.22))[..., None]
        one.put(surface.lit(colour, gloss=0.95, sharpness=60))
        foot = (u + right, v + down - 0.28)
        bend = (0.8 * u, (foot[1] - 1.15) / 2)
        spot.put_stem([foot, bend, (0, -1.15)], max(1.6 / spot.radius, 0.055), STALK)
    if random.uniform() < 0.5:
        spot.put_leaf(0.35, -0.95, 1.0, 0.5, random)


def _grape(spot: Spot, random: np.random.Generator) -> None:
    dark = random.uniform() < 0.5
    colour = np.array((72, 34, 86) if dark else (158, 182, 76)) * random.uniform(0.9, 1.1)
    spot.put_stem([(0, -0.7), (0, -1), (random.uniform(-0.3, 0.3), -1.2)], 0.09, BROWN)
    places = []
    for row, width in enumerate((3, 4, 4, 3, 2, 1)):
        for place in range(width):
            u = (place - (width - 1) / 2) * 0.33 + random.normal(0, 0.05)
            places.append((u, -0.62 + row * 0.29 + random.normal(0, 0.04)))
    kinds = []
    for _ in range(4):
        surface = spot.moved(0, 0, 0.21, -spot.angle).ball(random)
        bloom = 0.22 + 0.2 * surface.coarse
        # Light comes through, and leaves opposite to the lamp.
        through = np.clip(-(surface.u * spot.light.x + surface.v * spot.light.y), 0, 1)
        tone = colour * random.uniform(0.85, 1.12) * (1 + 0.5 * through[..., None])
        berry = surface.lit(blend(tone, (196, 200, 214), bloom), gloss=0.6, sharpness=40)
        kinds.append((berry, berry.shadow(0.21 * spot.radius)))
    for number in random.permutation(len(places)):
        x, y = spot.at(*places[number])
        berry, shadow = kinds[number % len(kinds)]
        shadow.fall(spot.canvas, x, y, spot.light)
        berry.put(spot.canvas, x, y)
    if random.uniform() < 0.5:
        spot.put_leaf(0.3, -0.95, 0.9, 0.5, random)


def _kiwi(spot: Spot, random: np.random.Generator) -> None:
    if spot.first or random.uniform() < 0.45:
        whole = spot.moved(0, 0, 0.9).ball(random, (0.03,))
        spot.put(kiwi_half(whole, random), 0.5)
        return
    surface = spot.body(_kiwi_profile, random)
    colour = blend((134, 102, 60), (92, 68, 38), 0.5 + 0.28 * surface.fine + 0.2 * surface.coarse)
    colour *= (1 - 0.5 * _dot(surface, -0.93, 0.12))[..., None]
    spot.put(surface.lit(colour, gloss=0.05, sharpness=8))


def _kiwi_profile(v: Field) -> Field:
    profile: Field = 0.78 * np.maximum(1 - np.abs(v) ** 2.3, 0) ** 0.5
    return profile


def _lemon(spot: Spot, random: np.random.Generator) -> None:
    if not spot.first and random.uniform() < 0.4:
        whole = spot.moved(0, 0, 0.85).ball(random)
        spot.put(citrus_half(whole, (240, 206, 40), (242, 224, 104), random), 0.5)
        return
    surface = spot.body(_lemon_profile, random)
    share = 0.2 + 0.16 * surface.fine + 0.2 * surface.coarse
    colour = blend((250, 220, 50), (222, 182, 30), share)
    tips = np.clip((np.abs(surface.v) - 0.85) * 5, 0, 1)
    colour = blend(colour, (170, 170, 50), 0.6 * tips)
    spot.put(surface.lit(colour, gloss=0.28, sharpness=20))
    if random.uniform() < 0.3:
        spot.put_leaf(0.2, -0.95, 1.0, 0.5, random)


def _lemon_profile(v: Field) -> Field:
    side = np.abs(v)
    belly = 0.66 * np.maximum(1 - (side / 0.9) ** 2, 0) ** 0.5
    tip = 0.15 * np.maximum(1 - np.maximum((side - 0.7) / 0.3, 0) ** 2, 0) ** 0.5
    profile: Field = (belly**3 + tip**3) ** (1 / 3)
    return profile


def _orange(spot: Spot, random: np.random.Generator) -> None:
    surface = spot.ball(random, (0.01,))
    if not spot.first and random.uniform() < 0.4:
        spot.put(citrus_half(surface, (238, 132, 22), (250, 166, 50), random), 0.5)
        return
    colour = blend((244, 140, 24), (212, 100, 10), 0.3 + 0.2 * surface.fine + 0.18 * surface.coarse)
    top = -random.uniform(0, 0.6)
    colour = blend(colour, (120, 130, 50), _dot(surface, top, 0.08))
    colour *= (1 - 0.4 * _dot(surface, top, 0.16))[..., None]
    spot.put(surface.lit(colour, gloss=0.32, sharpness=16))
    if random.uniform() < 0.35:
        spot.put_leaf(0.35, top, 1.0, 0.5, random)


def _pear(spot: Spot, random: np.random.Generator) -> None:
    surface = spot.body(_pear_profile, random)
    side = random.choice((-1, 1))
    share = 0.3 * np.clip(side * surface.u + 0.25 + 0.4 * surface.coarse, 0, 1)
    colour = blend((186, 190, 76), (196, 116, 60), share)
    colour = blend(colour, (120, 104, 48), 0.55 * np.clip(surface.fine - 1.1, 0, 1))
    colour = blend(colour, (110, 84, 48), np.clip((surface.v - 0.9) * 6, 0, 1))
    spot.put(surface.lit(colour, gloss=0.22, sharpness=18))
    tip = (random.uniform(-0.15, 0.15), -1.3)
    spot.put_stem([(0, -0.93), (0.03, -1.1), tip], 0.07, BROWN)
    if random.uniform() < 0.35:
        spot.put_leaf(0.28, -1.15, 1.0, 0.42, random)


def _pear_profile(v: Field) -> Field:
    neck = 0.57 + 0.26 * np.sin(1.45 * v)
    profile: Field = neck * np.maximum(1 - np.abs(v) ** 2.4, 0) ** 0.5
    return profile


def _strawberry(spot: Spot, random: np.random.Generator) -> None:
    surface = spot.body(_strawberry_profile, random)
    v = surface.v
    width = np.maximum(_strawberry_profile(np.clip(v, -1, 1)), 0.05)
    around = np.arcsin(np.clip(surface.u / width, -1, 1))
    # Seeds stand in rows, every other one shifted by half their distance.
    row = v * 5.5
    column = around * 3.2 * width / 0.7 + 0.5 * (np.floor(row) % 2)
    across, down = column % 1 - 0.5, row % 1 - 0.5
    seed = np.exp(-((across / 0.13) ** 2 + (down / 0.2) ** 2))
    pit = np.exp(-((across / 0.28) ** 2 + (down / 0.34) ** 2))
    red = np.array((206, 26, 36)) * random.uniform(0.9, 1.1)
    colour = blend(red, (236, 120, 90), np.clip(-v * 1.2 - 0.55, 0, 0.7) + 0.06 * surface.coarse)
    colour *= (1 - 0.3 * pit)[..., None]
    colour = blend(colour, (240, 206, 110), seed)
    spot.put(surface.lit(colour, gloss=0.5, sharpness=24))
    top = spot.moved(0, -0.82, 0.62)
    top.put(crown(top.radius, top.angle, spot.light, random), 0.2)
    tip = (random.uniform(-0.2, 0.2), -1.3)
    spot.put_stem([(0, -0.82), (0, -1.05), tip], 0.07, STALK)


def _strawberry_profile(v: Field) -> Field:
    profile: Field = (0.68 - 0.24 * v) * np.maximum(1 - np.abs(v) ** 2.2, 0) ** 0.6
    return profile


def _watermelon(spot: Spot, random: np.random.Generator) -> None:
    if spot.first or random.uniform() < 0.3:
        tip = spot.moved(0, -0.5, 1.25)
        tip.put(melon_slice(tip.ball(random), random), 0.3)
        return
    surface = spot.body(_melon_profile, random)
    width = np.maximum(_melon_profile(np.clip(surface.v, -1, 1)), 0.05)
    around = np.arcsin(np.clip(surface.u / width, -1, 1))
    stripes = np.sin(10 * around + 0.8 * surface.coarse + random.uniform(0, 7))
    colour = blend((148, 176, 96), (36, 78, 38), 0.5 + 1.4 * stripes + 0.2 * surface.fine)
    spot.put(surface.lit(colour, gloss=0.4, sharpness=22))


def _melon_profile(v: Field) -> Field:
    profile: Field = 0.84 * np.maximum(1 - v**2, 0) ** 0.5
    return profile


FRUITS = (
    Fruit("Apple", _apple),
    Fruit("Banana", _banana, most=2, size=1.35),
    Fruit("Cherry", _cherry),
    Fruit("Grape", _grape, most=2, size=1.2),
    Fruit("Kiwi", _kiwi, size=0.95),
    Fruit("Lemon", _lemon),
    Fruit("Orange", _orange),
    Fruit("Pear", _pear, most=3, size=1.1),
    Fruit("Strawberry", _strawberry, size=0.95),
    Fruit("Watermelon", _watermelon, most=3, size=1.2),
)
