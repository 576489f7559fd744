"""What kind of file some bytes are: an image that is taken, one that is not, or none at all.

What a file is, its bytes decide and not its name. Raw files of cameras alone are told by their
names, without being read: many are TIFFs of which no more than a thumbnail could be decoded.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final

from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from spark_job import contract
from spark_job.errors import RejectedImageError

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
"""Those that are taken, by Pillow's names."""

UNSUPPORTED: Final = "unsupported-format"
"""The reason of all rejects that count as unsupported."""

HEIF: Final = frozenset(
    [
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"heif"),
        *(b"mif1", b"mif2", b"msf1"),
    ]
)
"""Brands of HEIF's files (ISO/IEC 23008-12), of which AVIF's may have the last three too."""

AVIF: Final = frozenset([b"avif", b"avis"])

CR3: Final = b"crx "

SIGNATURES: Final = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"FUJIFILMCCD-RAW": "a raw file of Fujifilm",
    b"IIRO": "a raw file of Olympus",
    b"IIRS": "a raw file of Olympus",
    b"MMOR": "a raw file of Olympus",
    b"IIU\0": "a raw file of Panasonic",
    b"FOVb": "a raw file of Sigma",
}
"""Beginnings of pictures of which Pillow knows nothing."""

WEAK: Final = ("PCX", "PPM")
"""Formats of Pillow's that begin with no more than two bytes, as many a text does."""

DNG_VERSION: Final = 50706
"""The tag that makes a TIFF a raw file (Adobe, "Digital Negative Specification")."""

MOST_TAGS: Final = 65_535
"""Of a directory of a TIFF; a BigTIFF that claims more is broken."""

NOT_TAKEN: Final = "which is not taken; convert it to JPEG"
PHONES: Final = (
    "a HEIF picture, which is not taken; convert it to JPEG, and have the phone take JPEGs (an "
    "iPhone: Settings, Camera, Formats, Most Compatible)"
)

SAVE_IT_ANEW: Final = "save it with 8 or 16 bits per channel, as PNG or JPEG"

ENDED: Final = (EOFError, IndexError, struct.error)
"""What Pillow's parsers raise where bytes end."""

# Our own limit applies before any pixel is decoded, so Pillow's guess at a bomb is switched off.
Image.MAX_IMAGE_PIXELS = None
# A worker has one thread.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def unsupported_by_name(path: str) -> RejectedImageError | None:
    """Tell a raw file by its name; None where the bytes are to be looked at."""
    extension = contract.extension_of(path)
    if extension not in contract.RAW:
        return None
    return rejected(UNSUPPORTED, f"a camera's raw file (.{extension}), {NOT_TAKEN}")


def open_image(content: bytes) -> Image.Image:
    """Open one image file's bytes; no pixel is decoded yet.

    Raises
    ------
    RejectedImageError
        Where they are no image that is taken.
    MemoryError
        Where there was too little of it, which says nothing about the image.
    """
    brands = _brands(content)
    if brands & HEIF and not brands & AVIF:
        raise rejected(UNSUPPORTED, PHONES)
    is_dng = _is_tiff(content) and DNG_VERSION in (_tags(content) or ())
    if is_dng or CR3 in brands:
        name = "DNG" if is_dng else "CR3"
        raise rejected(UNSUPPORTED, f"a camera's raw file ({name}), {NOT_TAKEN}")
    if content.startswith(b"BM") and content[15:18] != bytes(3):  # no BMP has so large a header
        raise _no_image(content)
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(content) from None
    except MemoryError:
        raise
    except Exception as error:  # a decoder's parser may raise anything on hostile bytes
        if _is_cut_short(content):
            raise rejected("truncated", f"it ends too soon: {_describe(error)}") from error
        raise broken(error) from error


def broken(error: Exception) -> RejectedImageError:
    """Make the reject of an image on which its decoder gave up.

    Raises
    ------
    MemoryError
        Where it gave up for want of memory.
    """
    said = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in said:
        raise MemoryError(str(error)) from error
    if "truncated" in said or isinstance(error, EOFError):
        return rejected("truncated", _describe(error))
    if "unsupported" in said:
        return rejected("unsupported-pixels", f"{_describe(error)}; {SAVE_IT_ANEW}")
    return rejected("corrupt", _describe(error))


def rejected(reason: str, detail: str) -> RejectedImageError:
    """Make the reject of an image whose bytes could be read."""
    return RejectedImageError("decode", reason, detail)


def _unidentified(content: bytes) -> RejectedImageError:
    """Tell damaged images from those of other formats, and from bytes that are no image."""
    known = {
        kind: opener for kind, (opener, accepts) in Image.OPEN.items() if _has(content, accepts)
    }
    for kind in FORMATS:
        if kind in known:
            return _damaged(kind, known[kind], content)
    for signature, name in SIGNATURES.items():
        if content.startswith(signature):
            return rejected(UNSUPPORTED, f"{name}, {NOT_TAKEN}")
    try:
        other = Image.open(io.BytesIO(content)).format
    except MemoryError:
        raise
    except Exception:  # no format at all, or one whose parser gave up
        other = next((kind for kind in known if kind not in WEAK), None)
        if other is None:
            return _no_image(content)
    return rejected(UNSUPPORTED, f"an image of the format {other}, {NOT_TAKEN}")


def _has(content: bytes, accepts: Callable[[bytes], bool | str] | None) -> bool:
    """Whether a file has the first bytes of a format, as Pillow's `accepts` tells."""
    return accepts is not None and accepts(content[:16].ljust(16, b"\0")) is True


def _no_image(content: bytes) -> RejectedImageError:
    return rejected("not-an-image", f"no image that is taken begins with {content[:8]!r}")


def _damaged(
    kind: str, opener: Callable[[io.BytesIO, str], Image.Image], content: bytes
) -> RejectedImageError:
    """Tell why an image does not open of whose `kind` the first bytes leave no doubt."""
    begins = f"it begins as {kind} files do, but"
    try:
        opener(io.BytesIO(content), "")
    except MemoryError:
        raise
    except Exception as error:  # of which `Image.open` has told no more than that there was one
        said, cause = str(error), error.__cause__ or error
        if "truncated" in said.lower() or _is_cut_short(content) or isinstance(cause, ENDED):
            return rejected("truncated", f"{begins} ends within its header")
        if isinstance(cause, KeyError):
            return rejected(
                "unsupported-pixels",
                f"{begins} is of a kind that is not read ({said}); {SAVE_IT_ANEW}",
            )
        told = "tells no size" if "not identified" in said else f"is damaged ({said})"
        return rejected("corrupt", f"{begins} its header {told}")
    return rejected("corrupt", f"{begins} its header is damaged")


def _is_cut_short(content: bytes) -> bool:
    """Whether a file says itself that more of it should follow."""
    if content.startswith(b"RIFF"):  # WebP
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return _is_tiff(content) and _tags(content) is None


def _is_tiff(content: bytes) -> bool:
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _tags(content: bytes) -> set[int] | None:
    """Give the tags of a TIFF's first directory; None where that lies beyond the file's end."""
    order = "<" if content.startswith(b"II") else ">"
    at, offset, count, entry = (8, "Q", "Q", 20) if b"+" in content[:4] else (4, "I", "H", 12)
    try:
        (start,) = struct.unpack_from(order + offset, content, at)
        (entries,) = struct.unpack_from(order + count, content, start)
    except (struct.error, OverflowError):
        return None
    first = start + struct.calcsize(order + count)
    if entries > MOST_TAGS or first + entries * entry > len(content):
        return None
    tags = range(first, first + entries * entry, entry)
    return {struct.unpack_from(f"{order}H", content, tag)[0] for tag in tags}


def _brands(content: bytes) -> set[bytes]:
    """Give the brands of an ISO media file (ISO/IEC 14496-12, 4.3); none where it is no such."""
    if content[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(content[:4], "big"), 256)
    return {content[8:12], *(content[at : at + 4] for at in range(16, end, 4))}


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
