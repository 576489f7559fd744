"""Leaves, stems and crowns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from demo.drawing.bodies import bent_body
from demo.drawing.light import Sprite, turned_grid

if TYPE_CHECKING:
    from demo.drawing.light import Field, Light

GREEN = np.array((74, 122, 48), np.float32)


def leaf(
    radius: float,
    angle: float,
    light: Light,
    random: np.random.Generator,
    colour: Field = GREEN,
) -> Sprite:
    """A leaf, bent and veined."""
    bend = random.uniform(0.3, 0.9)
    surface = bent_body(_blade, bend, radius, angle, light, random)
    rib = np.exp(-((surface.u * 26) ** 2))
    veins = 0.5 + 0.5 * np.cos((np.abs(surface.u) * 0.9 + surface.v) * 22)
    share = 0.85 + 0.1 * veins + 0.28 * rib + 0.06 * surface.coarse
    x, y, _ = surface.normal
    # It is folded along its rib rather than round.
    normal = np.stack([0.4 * np.sign(x) * np.abs(x) ** 0.3, 0.1 * y, np.full_like(x, 0.9)])
    return replace(surface, normal=normal).lit(
        np.float32(colour) * share[..., None], gloss=0.12, sharpness=12
    )


def _blade(v: Field) -> Field:
    blade: Field = 0.42 * np.maximum(1 - v**2, 0) ** 0.8 * (1 - 0.35 * v)
    return blade


def stem(
    canvas: Field,
    points: list[tuple[float, float]],
    width: float,
    colour: tuple[int, int, int],
    light: Light,
) -> None:
    """Draw a stem through three points: from, by way of, to; [x, y] in pixels."""
    (x0, y0), (x1, y1), (x2, y2) = points
    t = np.linspace(0, 1, 7)[:, None]
    bent = (1 - t) ** 2 * (x0, y0) + 2 * t * (1 - t) * (x1, y1) + t**2 * (x2, y2)
    low = np.maximum(np.floor(bent.min(axis=0) - width - 1).astype(int), 0)
    high = np.ceil(bent.max(axis=0) + width + 1).astype(int)
    piece = canvas[low[1] : high[1], low[0] : high[0]]
    if not piece.size:
        return
    bent = (bent - low).astype(np.float32)
    rows = np.arange(piece.shape[0], dtype=np.float32)[:, None]
    columns = np.arange(piece.shape[1], dtype=np.float32)
    nearest = np.full(piece.shape[:2], np.inf, np.float32)
    side = np.zeros(piece.shape[:2], np.float32)
    for (x, y), (right, down) in zip(bent[:-1], np.diff(bent, axis=0), strict=True):
        across, below = columns - x, rows - y
        share = (across * right + below * down) / max(right**2 + down**2, np.float32(1e-6))
        share = np.clip(share, 0, 1)
        across, below = across - share * right, below - share * down
        squared = across**2 + below**2
        closer = squared < nearest
        nearest[closer] = squared[closer]
        side[closer] = (across * light.x + below * light.y)[closer] / width
    alpha = np.clip(width / 2 - np.sqrt(nearest) + 0.5, 0, 1)[..., None]
    lit = np.array(colour) * np.clip(0.95 + 0.7 * side, 0.5, 1.4)[..., None]
    piece += (alpha * (lit - piece)).astype(np.float32)


def crown(radius: float, angle: float, light: Light, random: np.random.Generator) -> Sprite:
    """The small leaves at a strawberry's top, seen from above."""
    u, v = turned_grid(radius, angle, 1.1)
    around, length = np.arctan2(u, -v), np.hypot(u, v)
    number = int(random.integers(6, 9))
    wave = np.abs(np.cos(around * number / 2 + random.uniform(0, 3)))
    rho = length / (0.25 + 0.72 * wave**1.5)
    alpha = np.clip((1 - rho) * radius * 0.5 + 0.5, 0, 1).astype(np.float32)
    shade = 0.7 + 0.35 * wave + 0.15 * (u * light.x + v * light.y)
    pixels = GREEN * 1.1 * shade[..., None]
    return Sprite(pixels.astype(np.float32), alpha)
