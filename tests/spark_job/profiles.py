"""Small ICC profiles for the tests, by hand (ICC.1:2001-04): what they do is known."""

from __future__ import annotations

import struct
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)
GAMMA = 2.19921875
"""Of Adobe RGB (1998), which is the wide gamut here."""

WIDE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""X, Y and Z (D50) of its red, green and blue."""

TO_LINEAR_SRGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
"""From XYZ (D50); B. Lindbloom, "RGB/XYZ Matrices"."""


def wide_gamut() -> bytes:
    """An RGB profile in which the corners of the cube are more saturated than sRGB's."""
    tags = [(b"rXYZ", _xyz(WIDE[0])), (b"gXYZ", _xyz(WIDE[1])), (b"bXYZ", _xyz(WIDE[2]))]
    return _profile(b"mntr", b"RGB ", b"XYZ ", [*tags, *_curves(b"rTRC", b"gTRC", b"bTRC")])


def wide_gamut_to_srgb(colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """What a colour of `wide_gamut` is in sRGB (IEC 61966-2-1), each channel clipped: [3]."""
    xyz = (np.array(colour) / 255) ** GAMMA @ np.array(WIDE)
    linear = np.clip(TO_LINEAR_SRGB @ xyz, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(curved * 255)


def black() -> bytes:
    """An RGB profile, sound but for its meaning: all colours are black."""
    tags = [(name, _xyz((0, 0, 0))) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    return _profile(b"mntr", b"RGB ", b"XYZ ", [*tags, *_curves(b"rTRC", b"gTRC", b"bTRC")])


def dark_grey(gamma: float) -> bytes:
    """A grey profile: brightness is the value to the power of `gamma`."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", _curves(b"kTRC", gamma=gamma))


def inks() -> bytes:
    """A CMYK profile in which cyan ink prints red and nothing else prints but black.

    Cyan is (54, 81, 70) of Lab, which is sRGB's red.
    """
    grid = bytearray()
    for cyan, _, _, key in product((0, 1), repeat=4):
        lab = (0, 0, 0) if key else (54, 81, 70) if cyan else (100, 0, 0)
        grid += bytes([round(lab[0] * 2.55), lab[1] + 128, lab[2] + 128])
    identity = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    straight = bytes(range(256))
    table = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2) + identity + straight * 4 + grid
    return _profile(b"prtr", b"CMYK", b"Lab ", [(b"A2B0", table + straight * 3)])


def _profile(
    device: bytes, colours: bytes, connection: bytes, tags: list[tuple[bytes, bytes]]
) -> bytes:
    tags = [(b"wtpt", _xyz(D50)), *tags]
    start = 128 + 4 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        index += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    header = struct.pack(">I4xI4s4s4s12x4s", size, 0x02400000, device, colours, connection, b"acsp")
    header = header.ljust(68, b"\0") + b"".join(map(_fixed, D50))
    return header.ljust(128, b"\0") + index + body


def _curves(*names: bytes, gamma: float = GAMMA) -> list[tuple[bytes, bytes]]:
    return [(name, struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256))) for name in names]


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
