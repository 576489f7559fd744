"""What a drawn thing is made of, and how light falls on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Field = NDArray[np.floating]

NOISE_SIDE = 512
"""Pixels of a side of the noise that all pictures are cut from."""

AMBIENT = 0.42
"""Light from everywhere, of 1 for what faces the lamp."""


@dataclass(frozen=True)
class Light:
    """Where light comes from: a unit vector, x to the right, y downwards, z to the viewer."""

    x: float
    y: float
    z: float

    @classmethod
    def of(cls, random: np.random.Generator) -> Light:
        """From any side, mostly from above the table."""
        angle, height = random.uniform(0, 2 * np.pi), random.uniform(0.75, 1.15)
        flat = np.cos(height)
        return cls(float(flat * np.cos(angle)), float(flat * np.sin(angle)), float(np.sin(height)))

    def turned(self, angle: float) -> Light:
        """As a thing that is turned by `angle` sees it."""
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = cos * self.x + sin * self.y, cos * self.y - sin * self.x
        return Light(float(x), float(y), self.z)


@dataclass(frozen=True)
class Surface:
    """A piece of a thing's surface, pixel by pixel.

    Attributes
    ----------
    u, v
        [h, w], where a pixel lies in the thing's own, upright coordinates; -1 to 1, about.
    normal
        [3, h, w], unit vectors in the same coordinates.
    alpha
        [h, w], how much of a pixel the thing covers.
    fine, coarse
        [h, w], noise of mean 0 and deviation 1.
    light
        As the thing sees it.
    """

    u: Field
    v: Field
    normal: Field
    alpha: Field
    fine: Field
    coarse: Field
    light: Light

    def lit(self, colour: Field, gloss: float = 0.3, sharpness: float = 24) -> Sprite:
        """Shade a `colour`, [h, w, 3] of 0 to 255, by Phong's model (CACM 18, 1975)."""
        light = self.light
        x, y, z = self.normal
        facing = np.maximum(x * light.x + y * light.y + z * light.z, 0)
        # Half way between the lamp and the viewer, who is straight above.
        length = float(np.sqrt(2 + 2 * light.z))
        half = (x * light.x + y * light.y + z * (light.z + 1)) / length
        shine = 255 * gloss * np.maximum(half, 0) ** sharpness
        rim = 0.75 + 0.25 * z
        lit = colour * ((AMBIENT + (1.12 - AMBIENT) * facing) * rim)[..., None] + shine[..., None]
        return Sprite(lit, self.alpha)


@dataclass(frozen=True)
class Sprite:
    """Pixels of a thing, [h, w, 3] of 0 to 255, and how much it covers of each, [h, w]."""

    pixels: Field
    alpha: Field

    def put(self, canvas: Field, x: float, y: float) -> None:
        """Draw it upon a canvas with its middle at x, y."""
        place = _overlap(canvas, self.alpha, x, y)
        if place is not None:
            below, own = place
            alpha = self.alpha[own][..., None]
            canvas[below] += alpha * (self.pixels[own] - canvas[below])

    def shadow(self, height: float) -> Shadow:
        """Make the shadow of a thing that is so many pixels high."""
        blur = max(1.0, 0.22 * height)
        margin = int(2.5 * blur) + 1
        rows, columns = self.alpha.shape
        mask = np.zeros((rows + 2 * margin, columns + 2 * margin), np.uint8)
        mask[margin:-margin, margin:-margin] = 255 * self.alpha
        soft = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(blur))
        return Shadow(np.asarray(soft, np.float32) / 255, height)


@dataclass(frozen=True)
class Shadow:
    """How much light a thing keeps from what is right below it, [h, w]; and its height."""

    soft: Field
    height: float

    def fall(self, canvas: Field, x: float, y: float, light: Light) -> None:
        """Darken a canvas below a thing with its middle at x, y, and away from the lamp."""
        for strength, far in ((0.35, 0.1), (0.4, 0.55)):
            reach = far * self.height / max(light.z, 0.3)
            place = _overlap(canvas, self.soft, x - reach * light.x, y - reach * light.y)
            if place is not None:
                below, own = place
                canvas[below] *= (1 - strength * self.soft[own])[..., None]


def blend(one: ArrayLike, other: ArrayLike, share: Field) -> Field:
    """Mix two colours, [3] or [h, w, 3]: all of `other` where `share`, [h, w], is 1."""
    share = np.clip(share, 0, 1)[..., None]
    first = np.asarray(one, np.float32)
    mixed: Field = first + share * (np.asarray(other, np.float32) - first)
    return mixed


def streaks(around: Field, random: np.random.Generator) -> Field:
    """Stripes by an angle, from -1 to 1, about."""
    total = np.zeros_like(around)
    for waves in (3, 7, 12, 19):
        total += np.sin(waves * around + random.uniform(0, 7)) / waves**0.4
    return total / 2


def turned_grid(radius: float, angle: float, reach: float = 1.0) -> tuple[Field, Field]:
    """Coordinates u, v of the pixels of a thing whose size is 1, drawn with so many pixels."""
    half = int(np.ceil(radius * reach)) + 1
    axis = np.arange(-half, half + 1, dtype=np.float32) / np.float32(radius)
    x, y = axis[None, :], axis[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def noise(shape: tuple[int, ...], grain: float, random: np.random.Generator) -> Field:
    """Noise of mean 0 and deviation 1, `shape` [h, w], smooth over about `grain` pixels."""
    field = _noise(max(1, round(grain)))
    top, left = (int(random.integers(0, NOISE_SIDE - length + 1)) for length in shape[:2])
    return field[top : top + shape[0], left : left + shape[1]]


@cache
def _noise(grain: int) -> Field:
    random = np.random.default_rng([7, grain])
    side = -(-NOISE_SIDE // grain) + 3
    small = Image.fromarray(random.normal(0, 1, (side, side)).astype(np.float32))
    large = small.resize((side * grain, side * grain), Image.Resampling.BICUBIC)
    field = np.asarray(large)[grain : grain + NOISE_SIDE, grain : grain + NOISE_SIDE]
    spread: Field = (field - field.mean()) / field.std()
    return spread


def _overlap(
    canvas: Field, thing: Field, x: float, y: float
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where a thing lies on a canvas, and which part of it does; None where none does."""
    below, own = [], []
    for middle, most, length in zip((y, x), canvas.shape, thing.shape, strict=False):
        start = round(middle - length / 2)
        first, last = max(start, 0), min(start + length, most)
        if first >= last:
            return None
        below.append(slice(first, last))
        own.append(slice(first - start, last - start))
    return (below[0], below[1]), (own[0], own[1])
