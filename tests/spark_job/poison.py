"""Images that end their decoder, for want of a real one: the libraries' known ones are mended.

They are sound images with a word behind their end, which a ``sitecustomize`` module, imported by
every Python process of a job, lets `PIL.Image.open` stumble over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"abort": "crashed", "hang": "timed-out", "allocate": "out-of-memory"}
"""What a decoder does, and the reason of the reject."""

SITECUSTOMIZE = """
import ctypes, os, signal
from PIL import Image

def poisoned(file, *arguments, _open=Image.open, **options):
    word = getattr(file, "getvalue", bytes)().rpartition(b"orchard-")[2]
    if word == b"abort":
        os.abort()
    if word == b"hang":
        ctypes.PyDLL(None).sleep(10_000)  # and holds the interpreter's lock
    if word == b"allocate":
        held = [bytearray(100_000_000) for _ in range(30)]
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory ends
    return _open(file, *arguments, **options)

Image.open = poisoned
"""


def poison(image: Path, kind: str) -> None:
    """Make an image one that ends its decoder."""
    image.write_bytes(image.read_bytes() + b"orchard-" + kind.encode())


def poisonous(folder: Path) -> dict[str, str]:
    """Write the module into `folder`; the environment in which it is imported."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {"PYTHONPATH": str(folder)}
