"""A part of a file, where no more of it is wanted."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spark_job.objects import Entry, Folder


class RangedFile(io.RawIOBase):
    """A file in a folder, of which ranges are read as Arrow asks for them.

    Parameters
    ----------
    folder
        Where it lies.
    entry
        The file.
    failures
        Where what goes wrong is kept, for callers that are not told.
    """

    def __init__(
        self, folder: Folder, entry: Entry, failures: list[Exception] | None = None
    ) -> None:
        self._folder = folder
        self._entry = entry
        self._failures = [] if failures is None else failures
        self._at = 0

    def close(self) -> None:
        """Stay open: Arrow closes a file after each pass, and may begin another."""

    def readable(self) -> bool:
        """Say that it is."""
        return True

    def seekable(self) -> bool:
        """Say that it is."""
        return True

    def tell(self) -> int:
        """Tell where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose where the next byte is read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.bytes or 0}
        self._at = start[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or all that are left."""
        left = max(0, (self._entry.bytes or 0) - self._at)
        length = left if size < 0 else min(size, left)
        if not length:
            return b""
        try:
            content = self._folder.read_range(self._entry.name, self._at, length)
        except Exception as error:
            self._failures.append(error)
            raise
        self._at += len(content)
        return content
