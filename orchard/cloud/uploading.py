"""Taking a folder of pictures into the data bucket: what the job lists, and only what is new.

A picture that is there already is told by its content: by S3's ETag, which is the MD5 of what was
written in one piece, and where a key of KMS makes it something else by the checksum that was
written with it. So an upload that broke off goes on where it was, whoever began it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchard.cloud.moving import File, Moved, move
from spark_job import contract
from spark_job.errors import (
    JobError,
    NoImagesError,
    RejectedImageError,
    UnavailableError,
    UsageError,
)
from spark_job.formats import UNSUPPORTED, open_image, unsupported_by_name
from spark_job.listing import list_images, require_folder
from spark_job.objects import BusyError, ExpiredError, open_folder
from spark_job.s3 import S3Folder

if TYPE_CHECKING:
    from spark_job.objects import Entry, Folder

HEAD = 64
"""Bytes of a file that tell a phone's HEIF picture from a JPEG of that name."""

LARGEST = 5_000_000_000
"""Bytes that S3 takes in one piece."""


@dataclass
class Survey:
    """What is in a folder.

    Attributes
    ----------
    pictures
        What is to be uploaded.
    ignored
        Files that are no images by their names, by extension.
    unsupported
        Pictures in formats that are not taken, by extension.
    unnamed
        Images whose names no key of S3 can be.
    """

    pictures: list[File] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unsupported: Counter[str] = field(default_factory=Counter)
    unnamed: int = 0

    @property
    def bytes(self) -> int:
        """Of all pictures."""
        return sum(picture.bytes for picture in self.pictures)


def survey(directory: str) -> Survey:
    """Look for pictures as the job does.

    Raises
    ------
    UsageError
        Where there is no such folder here.
    NoImagesError
        Where there is none in it.
    """
    folder = open_folder(directory)
    if not folder.is_local:
        raise UsageError(f"{directory} is in S3 already; DIR is a folder of this machine")
    require_folder(folder)
    listing = list_images(folder)
    found = Survey(ignored=listing.ignored)
    for row in listing.rows(0, len(listing)).to_pylist():
        path = row["path"]
        if row["bytes"] is None:
            found.unnamed += 1
        elif _is_unsupported(folder, path):
            found.unsupported[contract.extension_of(path)] += 1
        else:
            found.pictures.append(File(path, row["bytes"]))
    if not found.pictures:
        raise NoImagesError(
            f"{folder.uri} has no pictures that are taken ({', '.join(contract.EXTENSIONS)}); "
            "check DIR, or convert them to JPEG"
        )
    return found


def upload(directory: str, found: Survey, batch: Folder) -> Moved:
    """Upload pictures.

    Parameters
    ----------
    directory
        Where they lie.
    found
        Which.
    batch
        The batch's folder.

    Raises
    ------
    UnavailableError
        Where S3 is busy or out of reach, or the credentials expired: the rest can be done later.
    JobError
        Where a picture cannot be read, or S3 does not take it.
    """
    if not isinstance(batch, S3Folder):
        raise TypeError(f"{batch.uri} is not in S3")
    there: dict[str, Entry] = {}
    moved = Moved()

    def send(picture: File) -> bool:
        try:
            content = Path(directory, picture.name).read_bytes()
        except OSError as error:
            raise JobError(
                f"{picture.name} cannot be read ({error.strerror}); mend or remove it, and upload "
                "again"
            ) from error
        if len(content) > LARGEST:
            raise JobError(f"{picture.name} is too large; remove it, and upload again")
        known = there.get(picture.name)
        if known is not None and _is_same(batch, known, content):
            return False
        batch.write_checked(picture.name, content)
        return True

    try:
        there.update((entry.name, entry) for entry in batch.entries())
        move(found.pictures, send, doing="upload", moved=moved)
    except BusyError as error:
        done = f"{moved.done:,} of {len(found.pictures):,} pictures are there"
        if isinstance(error, ExpiredError):
            told, remedy = "the AWS credentials expired", "sign in (aws sso login)"
        else:
            told, remedy = "S3 is busy or out of reach", "check the network"
        raise UnavailableError(
            f"{told} ({error}); {done}: {remedy}, and the same command goes on where it was"
        ) from error
    except PermissionError as error:
        raise UsageError(
            f"you may not upload to {batch.uri} ({error}); ask an administrator for the policy "
            "that the stack's output OperatorPolicy names"
        ) from error
    return moved


def _is_same(batch: S3Folder, known: Entry, content: bytes) -> bool:
    """Whether what is in S3 is the same."""
    if known.bytes != len(content):
        return False
    if (known.version or "").strip('"') == hashlib.md5(content, usedforsecurity=False).hexdigest():
        return True
    with suppress(FileNotFoundError):
        return batch.sha256_of(known.name) == hashlib.sha256(content).hexdigest()
    return False


def _is_unsupported(folder: Folder, path: str) -> bool:
    """Whether a picture is of a format that is not taken, as far as its beginning tells."""
    if unsupported_by_name(path) is not None:
        return True
    if contract.extension_of(path) not in contract.HEIF:
        return False
    with suppress(OSError), Path(folder.uri, path).open("rb") as file:
        try:
            open_image(file.read(HEAD))
        except RejectedImageError as error:
            return error.reason == UNSUPPORTED
    return False
