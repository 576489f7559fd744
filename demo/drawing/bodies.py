"""Shapes of fruit: bodies of revolution about an upright or bent axis, and cut faces."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from demo.drawing.light import Light, Surface, noise, turned_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.drawing.light import Field

    Profile = Callable[[Field], Field]
    """Half the width at v, from -1, where the stem is, to 1."""

STEP = 0.02


def body(
    profile: Profile, radius: float, angle: float, light: Light, random: np.random.Generator
) -> Surface:
    """A body of revolution about its upright axis, of half a length of `radius` pixels."""
    u, v = turned_grid(radius, angle, 1.15)
    return _revolved(profile, u, v, radius, light.turned(angle), random)


def bent_body(
    profile: Profile,
    bend: float,
    radius: float,
    angle: float,
    light: Light,
    random: np.random.Generator,
) -> Surface:
    """The same about an arc, which is turned by `bend` radians from one end to the other."""
    x, y = turned_grid(radius, angle, 1.15)
    curve = np.float32(2 / bend)  # radius of the arc, whose length is 2
    u = np.hypot(x + curve - bend / 6, y) - curve
    v = np.arctan2(y, x + curve - bend / 6) * curve
    around = v / curve
    surface = _revolved(profile, u, v, radius, light.turned(angle), random)
    nx, ny, nz = surface.normal
    cos, sin = np.cos(around), np.sin(around)
    normal = np.stack([cos * nx - sin * ny, sin * nx + cos * ny, nz])
    return replace(surface, normal=normal)


def lobed(
    radius: float,
    angle: float,
    light: Light,
    random: np.random.Generator,
    lobes: tuple[float, ...] = (),
) -> Surface:
    """A ball whose outline swells: `lobes` are the strengths of its waves, two around first."""
    u, v = turned_grid(radius, angle, 1.1)
    length = np.hypot(u, v)
    around = np.arctan2(u, -v)  # 0 at the top
    outline = np.full_like(u, 0.97)
    for number, strength in enumerate(lobes, 2):
        outline += np.float32(strength) * np.cos(number * around)
    rho = length / outline
    up = np.sqrt(np.maximum(1 - np.minimum(rho, 1) ** 2, 0))
    unit = np.minimum(rho, 1) / np.maximum(length, 1e-3)
    normal = np.stack([u * unit, v * unit, up]).astype(np.float32)
    alpha = np.clip((1 - rho) * radius + 0.5, 0, 1).astype(np.float32)
    fine, coarse = _noises(u.shape, radius, random)
    return Surface(u, v, normal, alpha, fine, coarse, light.turned(angle))


def cut_face(surface: Surface) -> Surface:
    """A cut through a body, which is nearly flat: its light is much the same all over."""
    normal = surface.normal * np.array([0.1, 0.1, 1], np.float32)[:, None, None]
    normal[2] = np.maximum(normal[2], 0.6)
    return replace(surface, normal=normal / np.sqrt((normal**2).sum(axis=0)))


def _revolved(
    profile: Profile,
    u: Field,
    v: Field,
    radius: float,
    light: Light,
    random: np.random.Generator,
) -> Surface:
    width = np.maximum(profile(np.clip(v, -1, 1)), 1e-3)
    ahead = profile(np.clip(v + STEP, -1, 1)) - profile(np.clip(v - STEP, -1, 1))
    slope = np.clip(ahead / (2 * STEP), -6, 6)
    across = np.clip(u / width, -1, 1)
    normal = np.stack([across, -slope, np.sqrt(np.maximum(1 - across**2, 0))])
    normal /= np.sqrt((normal**2).sum(axis=0))
    edge = np.minimum((width - np.abs(u)) / np.sqrt(1 + slope**2), (1 - np.abs(v)))
    alpha = np.clip(edge * radius + 0.5, 0, 1).astype(np.float32)
    fine, coarse = _noises(u.shape, radius, random)
    return Surface(u, v, normal.astype(np.float32), alpha, fine, coarse, light)


def _noises(
    shape: tuple[int, ...], radius: float, random: np.random.Generator
) -> tuple[Field, Field]:
    return noise(shape, max(1, radius / 28), random), noise(shape, max(3, radius / 3), random)
