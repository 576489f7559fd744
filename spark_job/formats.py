"""What kind of file some bytes are: an image that is taken, one that is not, or none at all."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from spark_job.errors import RejectedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

# Our own limit applies before any pixel is decoded, so Pillow's guess at a bomb is switched off.
Image.MAX_IMAGE_PIXELS = None


def open_image(content: bytes) -> Image.Image:
    """Open one image file's bytes; no pixel is decoded yet.

    Raises
    ------
    RejectedImageError
        Where they are no image that is taken.
    """
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(content) from None
    except Exception as error:  # a decoder's parser may raise anything on hostile bytes
        raise rejected("corrupt", describe(error)) from error


def describe(error: Exception) -> str:
    """Render an error of Pillow's as a reject's detail."""
    return f"{type(error).__name__}: {error}"


def rejected(reason: str, detail: str) -> RejectedImageError:
    """Make the reject of an image whose bytes could be read."""
    return RejectedImageError("decode", reason, detail)


def _unidentified(content: bytes) -> RejectedImageError:
    """Tell a format that is not read here from bytes that are no image at all."""
    try:
        other = Image.open(io.BytesIO(content)).format
    except UnidentifiedImageError:
        return rejected("not-an-image", f"no image format begins with {content[:8]!r}")
    except Exception as error:  # another format's parser knew it, and then gave up
        other = describe(error)
    return rejected("unsupported-format", f"none of {', '.join(FORMATS)}: {other}")
