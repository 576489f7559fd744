"""What a run's receipt says of its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spark_job.findings.labels import MOST_LABELS


@dataclass(frozen=True)
class FindingsCard:
    """How many findings there are of each kind, and how they came about.

    Attributes
    ----------
    images
        Images that were looked at: all that have features.
    identical, identical_groups
        Images of which there is another one with the same content, and groups of such.
    near, near_share
        Images that have a copy: the same content, or the same picture stored otherwise, or one so
        alike that it might be; and their share of all.
    near_groups
        Groups of nearly identical pictures in the table; None where these are no copies, but what
        the batch is made of, as of frames of turning fruit, and are not listed.
    duplicates_listed, duplicates_left_out
        Images in the table of duplicates; and pairs that were too many for it.
    suspects
        Images whose label is contradicted by their neighbours; the table has the first of them.
    outliers
        Images that stand out from the batch, those without colour and those far outside the model
        where these are rare; the table has these and the next most unlike ones.
    selected, radius
        Images in the order to be looked at, and the cosine distance within which the last of them
        lies from those before it.
    labels
        Labels that are told of: of more than `labels.MOST_LABELS` only the first so many.
    cells
        Parts that the batch was searched in.
    recall
        Share of the true nearest neighbours that was found, of a sample; 1 where all were compared.
    seconds
        That finding took, of the run.
    parameters
        By which they came about.
    """

    images: int
    identical: int
    identical_groups: int
    near: int
    near_share: float
    near_groups: int | None
    duplicates_listed: int
    duplicates_left_out: int
    suspects: int
    outliers: int
    selected: int
    radius: float
    labels: int
    cells: int
    recall: float
    seconds: float
    parameters: dict[str, Any] = field(default_factory=dict)


def labels_in_words(card: FindingsCard) -> str:
    """Say how many labels there are, as far as they were told apart."""
    return _counted(card.labels, "label") + (" or more" if card.labels >= MOST_LABELS else "")


def in_words(card: FindingsCard) -> str:
    """Say what was found in one line."""
    copies = f"{_counted(card.identical, 'image')} with the same content as another"
    if card.near_groups is None:
        near = (
            f"{card.near_share:.0%} look nearly the same as another, as frames of one turning "
            "fruit do"
        )
    else:
        near = f"{_counted(card.near_groups, 'group')} of nearly identical ones"
    suspects = f"{_counted(card.suspects, 'doubtful label')}"
    return f"{copies}, {near}, {suspects}, {_counted(card.outliers, 'outlier')}"


def _counted(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"
