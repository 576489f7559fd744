"""Cut fruit, seen from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from demo.drawing.bodies import cut_face
from demo.drawing.light import Sprite, blend, streaks

if TYPE_CHECKING:
    from demo.drawing.light import Surface

    Colour = tuple[int, int, int]


def apple_half(whole: Surface) -> Sprite:
    """Flesh, a core with two seeds, and the skin around it."""
    surface = cut_face(whole)
    u, v = surface.u, surface.v
    length = np.hypot(u, v)
    colour = blend((246, 232, 188), (236, 218, 160), 0.4 + 0.3 * surface.coarse)
    core = np.exp(-(((np.hypot(u * 1.25, v) - 0.42) * 22) ** 2))
    colour = blend(colour, (190, 186, 110), 0.5 * core)
    for side in (-0.13, 0.13):
        seed = np.exp(-(((u - side) / 0.07) ** 4 + ((v + 0.02) / 0.15) ** 4))
        colour = blend(colour, (74, 42, 22), seed)
    return surface.lit(blend(colour, (176, 26, 36), (length - 0.9) * 30), gloss=0.08)


def kiwi_half(whole: Surface, random: np.random.Generator) -> Sprite:
    """Rays of green around a white heart, and a ring of seeds."""
    surface = cut_face(whole)
    length, around = np.hypot(surface.u, surface.v), np.arctan2(surface.u, surface.v)
    rays = streaks(around * 2, random)
    colour = blend((116, 172, 44), (160, 204, 84), 0.5 + 0.4 * rays)
    colour = blend(colour, (196, 216, 120), 0.4 * np.exp(-(((length - 0.5) / 0.22) ** 2)))
    colour = blend(colour, (240, 240, 206), (0.27 - length + 0.04 * rays) * 14)
    seeds = np.cos(around * 17 + 1.5 * np.sign(length - 0.43)) ** 8
    ring = np.exp(-(((np.abs(length - 0.43) - 0.06) / 0.045) ** 2))
    colour = blend(colour, (30, 26, 18), 1.6 * seeds * ring)
    return surface.lit(blend(colour, (104, 78, 44), (length - 0.93) * 25), gloss=0.14)


def citrus_half(whole: Surface, rind: Colour, flesh: Colour, random: np.random.Generator) -> Sprite:
    """Segments with white walls between them, and the rind."""
    surface = cut_face(whole)
    length, around = np.hypot(surface.u, surface.v), np.arctan2(surface.u, surface.v)
    number = int(random.integers(9, 12))
    within = np.abs(np.sin(number * around / 2 + random.uniform(0, 3)))
    wall = np.clip(1.3 - within * length * 8, 0, 1)
    bright = 1 + 0.1 * surface.fine + 0.12 * streaks(around * 3, random)
    pulp = np.array(flesh, np.float32) * bright[..., None]
    white = 0.25 * np.array(flesh, np.float32) + 0.75 * np.array((250, 244, 224), np.float32)
    colour = blend(pulp, white, np.maximum(wall, (length - 0.8) * 25))
    return surface.lit(blend(colour, rind, (length - 0.88) * 25), gloss=0.2, sharpness=30)


def melon_slice(whole: Surface, random: np.random.Generator) -> Sprite:
    """A slice of a watermelon: half a disc, or less, whose tip is in the middle."""
    surface = cut_face(whole)
    u, v = surface.u, surface.v
    length, around = np.hypot(u, v), np.arctan2(u, v)
    opening = random.uniform(0.75, np.pi / 2)  # from its middle to either side
    edge = np.sin(opening - np.abs(around)) * np.minimum(length, 1)
    pixel = np.hypot(u[0, 1] - u[0, 0], v[0, 1] - v[0, 0])
    alpha = surface.alpha * np.clip(edge / pixel + 0.5, 0, 1)
    alpha *= np.abs(around) < opening + 0.5
    share = 0.3 + 0.25 * surface.coarse + 0.15 * surface.fine
    colour = blend((222, 46, 58), (240, 98, 92), share)
    for rind, start in (((242, 236, 206), 0.83), ((112, 162, 82), 0.89), ((38, 84, 40), 0.94)):
        colour = blend(colour, rind, (length - start) * 30)
    row = length * 6 + 0.5 * (np.floor(around * 7) % 2)
    across = (around * 7 % 1 - 0.5) * np.maximum(length, 0.3) / 0.17
    seed = np.exp(-1.4 * (across**2 + ((row % 1 - 0.5) / 0.22) ** 2))
    seed *= (length < 0.74) & (length > 0.25)
    colour = blend(colour, (34, 24, 22), 1.5 * seed - 0.2)
    return Sprite(surface.lit(colour, gloss=0.12).pixels, alpha.astype(np.float32))
