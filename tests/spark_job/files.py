"""Image files for the tests: those that Pillow cannot write, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]
) -> bytes:
    """A PNG file by hand, of any claimed size, with `more` chunks before its pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return file.getvalue() + b"".join(chunk(name, body) for name, body in chunks)


def tiff(
    values: np.ndarray[Any, Any],
    colours: int,
    order: str = "<",
    *,
    bits: int | None = None,
    rows: bytes | None = None,
    more: dict[int, list[int]] | None = None,
) -> bytes:
    """An uncompressed TIFF by hand, of [height, width, channels] unsigned integers or floats.

    `more` are other tags.
    """
    height, width, channels = values.shape
    size = values.dtype.itemsize
    body = values.astype(values.dtype.newbyteorder(order)).tobytes() if rows is None else rows
    expected = {0: 1, 1: 1, 2: 3}[colours]
    kind = 3 if values.dtype.kind == "f" else 1
    tags = {
        256: [width],
        257: [height],
        258: [bits or 8 * size] * channels,
        259: [1],
        262: [colours],
        273: [8],
        277: [channels],
        278: [height],
        279: [len(body)],
        339: [kind] * channels,
    }
    if channels > expected:
        tags[338] = [2]  # alpha that is not associated
    tags |= more or {}
    index, beside = struct.pack(f"{order}H", len(tags)), b""
    start = 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        content = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            beside += content
            content = struct.pack(f"{order}I", start + len(beside) - len(content))
        index += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + content
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return header + body + index + bytes(4) + beside
