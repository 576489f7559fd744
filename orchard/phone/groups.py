"""Which pictures may be of one fruit, and which of them are held out of a fit.

A classifier is right about a picture that it was fitted on, and about the next frame of the same
film. So pictures of one fruit go together, to the one side or the other. What shows that two
pictures of a label are of one fruit are the pictures themselves; names are any:

- nearly the same picture: a cosine of their features of `TWIN` or more;
- frames of one film: pictures that each have such a twin, and are linked by steps of `STEP` or
  more. Films jump (the fruit slips, frames are missing), so a step may be much longer than a twin
  is near; photographs taken one by one have no twins, and so nothing to step from.

Groups are what is linked, through any number of others. Two fruits that look alike are filmed as
one group then, which costs held-out pictures and not honesty; the converse, a fruit on both sides,
would. What no rule can see is a fruit photographed from sides that do not look alike, with nothing
in between: whoever knows from the names says it by a pattern.

The numbers are of MobileNetV2's features: of films of 20 fruits (44 turns about one axis or
another) none is split, and 240 photographs from the web stay apart but for a few that look alike.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import numpy as np

from spark_job.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from orchard.phone.sources import Pictures

TWIN: Final = 0.85
STEP: Final = 0.65

FILMED: Final = 0.5
"""Share of a label's pictures with twins beyond which all of them are frames."""

SHARE: Final = 0.2
"""Of a label's pictures that is held out, or a little more: groups are whole."""

MOST: Final = 0.5
"""Of a label's pictures that may be held out."""

BLOCK: Final = 1_000
"""Pictures that are held against all others of their label at a time."""


def group(pictures: Pictures, pattern: str | None = None) -> NDArray[np.intp]:
    """Number the groups of pictures, [n]; no group has pictures of two labels.

    Parameters
    ----------
    pictures
        With their features.
    pattern
        A regular expression that is searched for in each ``<batch>/<path>``: pictures of a label
        with the same text in its parentheses (in all of it, where it has none) are a group. By
        default the pictures themselves are looked at.

    Raises
    ------
    UsageError
        Where the pattern is none, or is not found in a name.
    """
    keys = None if pattern is None else np.array(_keys(pictures, pattern))
    groups = np.empty(len(pictures), np.intp)
    count = 0
    for label in np.unique(pictures.labels):
        rows = np.flatnonzero(pictures.labels == label)
        if keys is None:
            found = _films(pictures.features[rows])
        else:
            found = np.unique(keys[rows], return_inverse=True)[1]
        groups[rows] = found + count
        count += int(found.max()) + 1
    return groups


def hold_out(pictures: Pictures, groups: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Choose which pictures [n] are held out: whole groups, about `SHARE` of each label.

    In an order that is as good as random and always the same. A label of one group, or whose
    other groups are all beyond `MOST`, has none.
    """
    held = np.zeros(len(pictures), np.bool_)
    for label in np.unique(pictures.labels):
        rows = np.flatnonzero(pictures.labels == label)
        members = [rows[groups[rows] == number] for number in np.unique(groups[rows])]
        members.sort(key=lambda some: _shuffled(str(pictures.names[some[0]])))
        taken = 0
        for some in members:
            if taken < SHARE * len(rows) and taken + len(some) <= MOST * len(rows):
                held[some] = True
                taken += len(some)
    return held


def _keys(pictures: Pictures, pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r} is no regular expression: {error}") from error
    keys = []
    for name in pictures.names.tolist():
        found = compiled.search(name)
        if found is None:
            raise UsageError(f"--group-by {pattern!r} is not found in {name!r}")
        keys.append("\0".join(text or "" for text in found.groups() or (found.group(),)))
    return keys


def _films(features: NDArray[np.float32]) -> NDArray[np.intp]:
    """Number the groups of one label's pictures, by features [n, d]: see the module."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    count = len(unit)
    twins = np.empty(count, np.bool_)
    for start in range(0, count, BLOCK):
        cosines = unit[start : start + BLOCK] @ unit.T
        own = np.arange(start, start + len(cosines))
        cosines[np.arange(len(cosines)), own] = -1
        twins[own] = cosines.max(axis=1) >= TWIN
    if twins.mean() > FILMED:
        twins[:] = True
    # What has no twin is linked to nothing, and frames are linked to frames.
    groups = np.full(count, -1, np.intp)
    alone = np.flatnonzero(~twins)
    groups[alone] = np.arange(len(alone))
    number = len(alone)
    left = np.flatnonzero(twins)
    while len(left):
        reached, left = left[:1], left[1:]
        while len(reached):
            groups[reached] = number
            near = _any_near(unit[left], unit[reached])
            reached, left = left[near], left[~near]
        number += 1
    return groups


def _any_near(pictures: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each of `pictures` [n, d] is within a step of any of `others` [m, d]: [n]."""
    near = np.zeros(len(pictures), np.bool_)
    for start in range(0, len(others), BLOCK):
        cosines = pictures @ others[start : start + BLOCK].T
        near |= (cosines >= STEP).any(axis=1)
    return near


def _shuffled(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
