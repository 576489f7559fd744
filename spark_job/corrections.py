"""What a person corrected in a batch: images that are none of it, and labels that are wrong.

A CSV with the columns ``path``, ``action`` and ``label``, as one saves it from a report. The action
``drop`` takes an image out of the listing; ``relabel`` lists it under another label than that of
its folder. No file is moved or changed, and paths stay as they are. A run keeps those that it was
given, and its report begins with them, as the next run takes one file.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from spark_job import contract
from spark_job.errors import UsageError
from spark_job.objects import BusyError, read_file

if TYPE_CHECKING:
    from spark_job.listing import Listing
    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")

COLUMNS: Final = ("path", "action", "label")

DROP, RELABEL = "drop", "relabel"

LONGEST_LABEL: Final = 200

UNFIT: Final = r"[/\p{Cc}]"
"""What no label has: a folder cannot be named so either."""

MOST_SHOWN: Final = 60
"""Characters of a text from a file that a sentence repeats."""


@dataclass(frozen=True)
class Corrections:
    """What is to become of some images.

    Attributes
    ----------
    uri
        Where this was read.
    paths
        Of the images, [m], each once.
    labels
        What they are to be called, [m], dictionary-encoded; null for an image to be dropped.
    """

    uri: str
    paths: pa.Array
    labels: pa.DictionaryArray

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    def to_csv(self) -> bytes:
        """Write them down as `read_corrections` reads them."""
        labels = self.labels.cast(pa.string())
        actions = pc.if_else(labels.is_valid(), RELABEL, DROP)
        file = pa.BufferOutputStream()
        csv.write_csv(pa.table([self.paths, actions, labels], names=COLUMNS), file)
        content: bytes = file.getvalue().to_pybytes()
        return content


def read_corrections(uri: str) -> Corrections:
    """Read corrections: a CSV in UTF-8, local or in S3, with a BOM and CRLF or without.

    Raises
    ------
    UsageError
        Where it cannot be read, or says something that cannot be done.
    """
    rows = _read(uri)
    drops = pc.equal(rows["action"], DROP)
    relabels = pc.equal(rows["action"], RELABEL)
    labels = rows["label"]
    empty = pc.equal(pc.utf8_trim_whitespace(labels), "")
    unfit = pc.or_(
        pc.match_substring_regex(labels, UNFIT),
        pc.greater(pc.utf8_length(labels), LONGEST_LABEL),
    )
    _refuse(
        uri,
        rows.filter(pc.invert(pc.or_(drops, relabels))),
        f"the action {{action}} for {{path}}; an action is {DROP} or {RELABEL}",
    )
    _refuse(
        uri,
        rows.filter(pc.and_(relabels, empty)),
        f"no label to {RELABEL} {{path}} with; write one, or {DROP} the image",
    )
    _refuse(
        uri,
        rows.filter(pc.and_(relabels, unfit)),
        f"the label {{label}} for {{path}}; a label has up to {LONGEST_LABEL} characters, and "
        "neither slashes nor control characters",
    )
    counts = pc.value_counts(rows["path"])
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise UsageError(
            f"the corrections {uri} name {_shown(repeated[0].as_py())} more than once; say one "
            "thing of it"
        )
    said = pc.if_else(drops, pa.scalar(None, pa.string()), labels)
    paths = rows["path"].combine_chunks()
    return Corrections(uri, paths, said.combine_chunks().dictionary_encode())


def read_kept(run: Folder) -> Corrections | None:
    """Read the corrections that a run was given, in its folder; None where there are none."""
    if contract.CORRECTIONS_FILE not in run.files():
        return None
    return read_corrections(f"{run.uri}/{contract.CORRECTIONS_FILE}")


def correct(listing: Listing, corrections: Corrections) -> Listing:
    """Apply corrections to a batch's images; those of other images are warned of.

    Raises
    ------
    UsageError
        Where none of them is of an image of the batch.
    """
    found = pc.index_in(listing.found["path"], value_set=corrections.paths)
    places = pc.fill_null(found, -1).to_numpy()  # of the images as they were found, not as ordered
    labels = corrections.labels.take(pa.array(places, mask=places < 0))
    places = places[listing.order]
    relabelled = labels.is_valid().to_numpy(zero_copy_only=False)[listing.order]
    dropped = (places >= 0) & ~relabelled
    missing = np.ones(len(corrections), bool)
    missing[places[places >= 0]] = False
    if missing.all():
        raise UsageError(
            f"the corrections {corrections.uri} name no image of this batch; their paths are those "
            "of its tables, relative to --images"
        )
    if missing.any():
        LOGGER.warning(
            "%s of %s corrections in %s name images that are not in the batch, such as %s, and are "
            "passed over",
            f"{np.count_nonzero(missing):,}",
            f"{len(corrections):,}",
            corrections.uri,
            _shown(corrections.paths[int(missing.argmax())].as_py()),
        )
    return replace(
        listing,
        order=listing.order[~dropped],
        labels=labels if relabelled.any() else None,
        dropped=int(np.count_nonzero(dropped)),
        relabelled=int(np.count_nonzero(relabelled)),
    )


def _read(uri: str) -> pa.Table:
    """Read the three columns as texts, in which nothing is null."""
    expected = f"a CSV that begins with {','.join(COLUMNS)} is expected"
    try:
        content = read_file(uri)
        content.decode()
        options = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
        parsing = csv.ParseOptions(newlines_in_values=True)
        rows = csv.read_csv(
            pa.BufferReader(content), parse_options=parsing, convert_options=options
        )
    except FileNotFoundError:
        raise UsageError(f"there are no corrections at {uri}; check --corrections") from None
    except BusyError:
        raise
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the corrections {uri} are not UTF-8 (at byte {error.start:,}); save them as CSV UTF-8"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"cannot read the corrections {uri}: {error}; {expected}") from error
    for column in COLUMNS:
        times = rows.schema.names.count(column)
        if times != 1:
            found = _shown(",".join(rows.schema.names))
            raise UsageError(
                f"the corrections {uri} have {'several columns' if times else 'no column'} "
                f"{column!r} and begin with {found}; {expected}"
            )
    return rows.select(COLUMNS)


def _refuse(uri: str, wrong: pa.Table, told: str) -> None:
    """Tell the first of some rows, if there are any."""
    for row in wrong[:1].to_pylist():
        shown = {column: _shown(text) for column, text in row.items()}
        raise UsageError(f"the corrections {uri} have {told.format(**shown)}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}...")
