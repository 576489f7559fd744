"""What fruit lies on: wood, crates, cloth, leaves, straw, stone, marble and slate.

Each is drawn once, larger than a picture, and pictures are cut from it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.drawing.leaves import GREEN, leaf
from demo.drawing.light import Light, Sprite, blend, noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.drawing.light import Field

    Colour = tuple[int, int, int]

SIDE = 400
"""Pixels of a ground's side."""


class Ground(NamedTuple):
    """How a ground is drawn, and the two colours of each of its variants."""

    draw: Callable[[np.random.Generator, Colour, Colour], Field]
    colours: tuple[tuple[Colour, Colour], ...]


def cut(width: int, height: int, random: np.random.Generator) -> Field:
    """Cut a piece out of any ground, [height, width, 3] of 0 to 255: turned, nearer or farther."""
    kind = int(random.integers(0, len(GROUNDS)))
    whole = _drawn(kind, int(random.integers(0, len(GROUNDS[kind].colours))))
    scale = random.uniform(0.7, 1.5)
    across, down = (min(SIDE, int(length * scale)) for length in (width, height))
    left, top = (int(random.integers(0, SIDE - length + 1)) for length in (across, down))
    box = (left, top, left + across, top + down)
    piece = whole.resize((width, height), Image.Resampling.BILINEAR, box=box)
    if random.uniform() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.uniform() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return np.array(piece, np.float32)


@cache
def _drawn(kind: int, variant: int) -> Image.Image:
    draw, colours = GROUNDS[kind]
    pixels = draw(np.random.default_rng([kind, variant]), *colours[variant])
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _wood(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    return _planks(random, light, dark, height=100, gap=1)


def _crate(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    slats = _planks(random, light, dark, height=66, gap=8)
    for row in range(33, SIDE, 66):
        for column in (60, 260):
            slats[row - 2 : row + 2, column - 2 : column + 2] *= 0.35
    return slats


def _planks(
    random: np.random.Generator, light: Colour, dark: Colour, height: int, gap: int
) -> Field:
    """Planks from left to right, each with a grain and a shade of its own."""
    rows = np.arange(SIDE)
    grain = _stretched(5, 60, random) + 0.7 * _stretched(14, 210, random)
    rings = np.sin(_stretched(3, 9, random) * 5 + rows[:, None] / 7)
    number, within = rows // height, rows % height
    shade = random.uniform(-0.22, 0.22, SIDE // height + 1)[number]
    pixels = blend(light, dark, 0.4 + 0.16 * grain + 0.12 * rings + shade[:, None])
    depth = np.minimum(within, height - 1 - within) - gap / 2
    edge = np.clip(depth / 3 + 0.4, 0.2, 1) + 0.12 * np.exp(-((depth - 4) ** 2) / 6)
    planks: Field = pixels * edge[:, None, None]
    return planks


def _stretched(along: int, across: int, random: np.random.Generator) -> Field:
    """Noise that is drawn out to the right: so many patches from left to right, and downwards."""
    small = Image.fromarray(random.normal(0, 1, (across, along)).astype(np.float32))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _linen(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    return _woven(random, light, dark, 0.5 + 0.12 * noise((SIDE, SIDE), 1, random))


def _checks(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return _woven(random, light, dark, ((rows // 26) % 2 + (columns // 26) % 2) / 2)


def _woven(random: np.random.Generator, light: Colour, dark: Colour, share: Field) -> Field:
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    weave = np.sin(rows * 2.1) * np.sin(columns * 2.1)
    bent = noise((SIDE, SIDE), 120, random)
    folds = np.sin((rows + 0.7 * columns) / 38 + 1.6 * bent) + 0.5 * bent
    woven: Field = blend(light, dark, share) * (1 + 0.05 * weave + 0.06 * folds)[..., None]
    return woven


def _leaves(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    lamp = Light(-0.4, -0.5, 0.77)
    canvas = np.full((SIDE, SIDE, 3), dark, np.float32)
    turns = np.arange(0, 6.3, 0.3).tolist()
    drawn = [leaf(random.uniform(30, 50), turn, lamp, random) for turn in turns]
    kinds = [(one, one.shadow(6)) for one in drawn]
    many = 150
    for number in range(many):
        one, shadow = kinds[random.integers(0, len(kinds))]
        tone = np.array(light) / GREEN * random.uniform(0.75, 1.15, 3)
        pixels = one.pixels * (tone * (0.55 + 0.5 * number / many)).astype(np.float32)
        x, y = random.uniform(-10, SIDE + 10, 2)
        shadow.fall(canvas, x, y, lamp)
        Sprite(pixels, one.alpha).put(canvas, x, y)
    return canvas


def _straw(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    image = Image.new("RGB", (SIDE, SIDE), dark)
    pen = ImageDraw.Draw(image)
    many = 1000
    for number in range(many):
        x, y, angle = *random.uniform(-20, SIDE + 20, 2), random.normal(0.4, 0.9)
        across, down = random.uniform(25, 85) * np.array((np.cos(angle), np.sin(angle)))
        ends = np.array((x - across, y - down, x + across, y + down))
        shade = random.uniform(0.6, 0.8) + 0.3 * number / many
        pen.line((ends + 1).tolist(), fill=(70, 54, 30), width=4)
        tone = tuple(int(value * shade) for value in light)
        pen.line(ends.tolist(), fill=tone, width=int(random.integers(2, 5)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)), np.float32)


def _stone(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    grains = [noise((SIDE, SIDE), grain, random) for grain in (70, 24, 8, 2)]
    rough = sum((one / 2**place for place, one in enumerate(grains)), np.zeros_like(grains[0]))
    pixels = blend(light, dark, 0.5 + 0.2 * rough)
    specks = grains[-1]
    pixels[specks > 2.3] *= 0.55
    pixels[specks < -2.4] *= 1.25
    return pixels


def _marble(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    clouds, ripples, gaps = (noise((SIDE, SIDE), grain, random) for grain in (110, 26, 60))
    veins = np.zeros((SIDE, SIDE))
    for wide, strength in ((61, 0.75), (23, 0.3)):
        phase = (rows * 0.8 + columns) / wide + 0.9 * clouds + 0.35 * ripples
        veins += strength * np.exp(-np.abs(np.sin(phase)) * 7) * np.clip(0.5 + 0.5 * gaps, 0, 1)
    return blend(light, dark, veins + 0.06 * clouds + 0.1)


def _slate(random: np.random.Generator, light: Colour, dark: Colour) -> Field:
    layers = _stretched(5, 26, random) + 0.5 * _stretched(24, 90, random)
    return blend(light, dark, 0.5 + 0.2 * layers + 0.08 * noise((SIDE, SIDE), 3, random))


GROUNDS = (
    Ground(_wood, (((205, 160, 108), (128, 84, 48)), ((120, 84, 62), (58, 38, 28)))),
    Ground(_crate, (((222, 190, 140), (170, 128, 80)), ((186, 176, 160), (122, 112, 100)))),
    Ground(_linen, (((236, 228, 212), (216, 204, 182)), ((150, 168, 186), (118, 138, 160)))),
    Ground(_checks, (((244, 240, 234), (204, 92, 92)), ((242, 240, 234), (104, 138, 188)))),
    Ground(_leaves, (((66, 112, 46), (26, 36, 20)), ((124, 108, 52), (38, 32, 20)))),
    Ground(_straw, (((226, 190, 112), (96, 74, 38)), ((214, 204, 182), (88, 80, 66)))),
    Ground(_stone, (((176, 172, 164), (108, 106, 104)), ((196, 168, 140), (132, 104, 84)))),
    Ground(_marble, (((238, 236, 232), (140, 140, 148)), ((196, 208, 198), (70, 96, 86)))),
    Ground(_slate, (((78, 84, 90), (38, 42, 48)), ((112, 104, 98), (64, 58, 54)))),
)
