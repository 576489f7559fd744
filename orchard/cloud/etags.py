"""What an ETag of S3 tells of a content.

Of a file that was written in one piece it is the MD5, and of one in parts the MD5 of their MD5s
with their number. Where a key of KMS encrypts it, it is neither.
"""

from __future__ import annotations

import hashlib
import re

WHOLE = re.compile(r"[0-9a-f]{32}")
IN_PARTS = re.compile(r"[0-9a-f]{32}-([0-9]+)")

MIB = 1024 * 1024
PARTS = (5 * MIB, 8 * MIB, 16 * MIB)
"""Sizes of parts: of the job's tables, of AWS' command line, of S3's console."""


def may_be_md5(etag: str | None) -> bool:
    """Whether an ETag may be the MD5 of a file's content."""
    return etag is not None and WHOLE.fullmatch(etag.strip('"')) is not None


def is_of(content: bytes, etag: str | None) -> bool:
    """Whether an ETag is that of a content; where it is not, the content may be the same yet."""
    told = (etag or "").strip('"')
    if WHOLE.fullmatch(told):
        return _md5(content).hexdigest() == told
    in_parts = IN_PARTS.fullmatch(told)
    if in_parts is None:
        return False
    number = int(in_parts[1])
    return any(
        f"{_md5_of_parts(content, size)}-{number}" == told
        for size in PARTS
        if -(-len(content) // size) == number
    )


def _md5_of_parts(content: bytes, size: int) -> str:
    view = memoryview(content)
    digests = [_md5(view[start : start + size]).digest() for start in range(0, len(view), size)]
    return _md5(b"".join(digests)).hexdigest()


def _md5(content: bytes | memoryview) -> hashlib._Hash:
    return hashlib.md5(content, usedforsecurity=False)
