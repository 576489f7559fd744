"""Taking a folder of pictures into the data bucket: what the job lists, and only what is new.

A picture that is there already is told by its content: by S3's ETag, or by the SHA-256 that was
written with it; where neither tells, as where a key of KMS encrypts what another program wrote, it
is read and held against the one here. So an upload that broke off goes on where it was, whoever
began it, and no picture takes the place of another one unless that is asked for.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchard.cloud import etags
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
from spark_job.objects import (
    BusyError,
    ConflictError,
    Entry,
    ExpiredError,
    WrongClockError,
    open_folder,
)
from spark_job.s3 import S3Folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spark_job.objects import Folder

HEAD = 64
"""Bytes of a file that tell a phone's HEIF picture from a JPEG of that name."""

LARGEST = 5_000_000_000
"""Bytes that S3 takes in one piece."""

IN_FLIGHT = 4_000_000
"""Bytes that are sent at a time: on a slow line the last of more would not arrive in the time that
a request has."""

MOST_NAMED = 5
"""Pictures that a sentence names."""


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


@dataclass(frozen=True)
class Uploaded:
    """What became of the pictures: how many are new, there already, or replace others."""

    new: int
    there: int
    replaced: int
    bytes: int


def upload(directory: str, found: Survey, batch: Folder, *, replace: bool = False) -> Uploaded:
    """Upload pictures.

    Parameters
    ----------
    directory
        Where they lie.
    found
        Which.
    batch
        The batch's folder.
    replace
        Whether they may take the place of others of the same names.

    Raises
    ------
    UsageError
        Where they may not, and would: before anything is sent.
    UnavailableError
        Where S3 is busy or out of reach, or the credentials expired: the rest can be done later.
    JobError
        Where a picture cannot be read, or S3 does not take it.
    """
    if not isinstance(batch, S3Folder):
        raise TypeError(f"{batch.uri} is not in S3")
    there: dict[str, Entry] = {}
    others: set[str] = set()
    compared, sent = Moved(), Moved()

    def compare(picture: File) -> bool:
        if _is_same(batch, there[picture.name], _read(directory, picture)):
            return False
        others.add(picture.name)
        return True

    def send(picture: File) -> bool:
        content = _read(directory, picture)
        try:
            batch.write_checked(picture.name, content, new=picture.name not in there)
        except ConflictError as error:
            # This very request may have written it, where an answer was lost; or somebody did.
            if _is_same(batch, Entry(picture.name, len(content), None), content):
                return False
            raise UsageError(_refusal(batch, [picture.name])) from error
        return True

    with _in_sentences(batch, len(found.pictures), compared, sent):
        names = {picture.name for picture in found.pictures}
        there.update((entry.name, entry) for entry in batch.entries() if entry.name in names)
        known = [picture for picture in found.pictures if picture.name in there]
        move(known, compare, doing="compare", moved=compared)
        if others and not replace:
            raise UsageError(_refusal(batch, sorted(others)))
        left = [one for one in found.pictures if one.name not in there or one.name in others]
        move(left, send, doing="upload", moved=sent, in_flight=IN_FLIGHT)
    return Uploaded(
        new=sent.files - len(others),
        there=compared.there + sent.there,
        replaced=len(others),
        bytes=sent.bytes,
    )


@contextmanager
def _in_sentences(batch: Folder, total: int, compared: Moved, sent: Moved) -> Iterator[None]:
    """Raise what ends an upload as an error whose sentence ends in what to do."""
    try:
        yield
    except BusyError as error:
        done = f"{compared.there + sent.done:,} of {total:,} pictures are there"
        if isinstance(error, ExpiredError):
            told, remedy = "the AWS credentials expired", "sign in (aws sso login)"
        else:
            told, remedy = "S3 is busy or out of reach", "check the network"
        raise UnavailableError(
            f"{told} ({error}); {done}: {remedy}, and the same command goes on where it was"
        ) from error
    except WrongClockError:
        raise
    except PermissionError as error:
        raise UsageError(
            f"you may not upload to {batch.uri} ({error}); ask an administrator for the policy "
            "that the stack's output OperatorPolicy names"
        ) from error


def _read(directory: str, picture: File) -> bytes:
    try:
        content = Path(directory, picture.name).read_bytes()
    except OSError as error:
        raise JobError(
            f"{picture.name} cannot be read ({error.strerror}); mend or remove it, and upload again"
        ) from error
    if len(content) > LARGEST:
        raise JobError(f"{picture.name} is too large; remove it, and upload again")
    return content


def _is_same(batch: S3Folder, known: Entry, content: bytes) -> bool:
    """Whether what is in S3 is the same."""
    if known.bytes != len(content):
        return False
    if etags.is_of(content, known.version):
        return True
    with suppress(FileNotFoundError):
        checksum = batch.sha256_of(known.name)
        if checksum is not None:
            return checksum == hashlib.sha256(content).hexdigest()
        return batch.read(known.name) == content
    return False


def _refusal(batch: Folder, others: Sequence[str]) -> str:
    """Say that pictures would take the place of others."""
    more = f" and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED else ""
    are = "picture of this name is" if len(others) == 1 else "pictures of these names are"
    return (
        f"{len(others):,} {are} in {batch.uri} with other content "
        f"({', '.join(others[:MOST_NAMED])}{more}); rename them here, upload them as another "
        "batch, or say --replace to put them in the place of those"
    )


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
