"""A label head: multinomial logistic regression on vectors, and how often it is right.

C. M. Bishop, "Pattern Recognition and Machine Learning", Springer 2006, section 4.3.4. Vectors
enter as they are, so that the first components, which carry most of what varies, are penalised
least; labels count alike, however many pictures they have. The head that is exported is the one
whose held-out pictures were counted: it is not fitted again with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orchard.phone.fuse import Weights
from orchard.phone.groups import group, hold_out
from spark_job.errors import JobError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from orchard.phone.sources import Pictures

INVERSE_PENALTY: Final = 0.1
"""scikit-learn's C. Ten times as much fits no better, and is more often sure and wrong."""

MOST_ITERATIONS: Final = 5_000

TOLD: Final = 10
"""Labels that a warning names."""


@dataclass(frozen=True)
class LabelCard:
    """What is known of one label.

    Attributes
    ----------
    label
        Its name.
    pictures, groups
        How many it has, and in how many groups: as many fruits, as far as can be told.
    fitted
        Pictures that the head was fitted on.
    held_out, correct
        Pictures that it was not, and those of them that it gives this label.
    accuracy
        Their ratio; None where no group could be held out.
    """

    label: str
    pictures: int
    groups: int
    fitted: int
    held_out: int
    correct: int
    accuracy: float | None


@dataclass(frozen=True)
class HeadCard:
    """What is known of a head.

    Attributes
    ----------
    labels
        In the order of the probabilities.
    batches
        Whose published vectors it was fitted on: batch, run, and labelled pictures.
    group_by
        The pattern that named the groups; None where the pictures did.
    held_out, correct, accuracy
        Over all labels; see `LabelCard`.
    mean_accuracy
        Mean over the labels of which some were held out.
    of
        The labels one by one.
    """

    labels: list[str]
    batches: list[dict[str, Any]]
    group_by: str | None
    held_out: int
    correct: int
    accuracy: float | None
    mean_accuracy: float | None
    of: list[LabelCard]


@dataclass(frozen=True)
class Head:
    """A head, what is known of it, and what a person should know before trusting it."""

    weights: Weights
    card: HeadCard
    warnings: list[str]


def fit_head(
    pictures: Pictures, batches: list[dict[str, Any]], *, group_by: str | None = None
) -> Head:
    """Fit a head on all groups but those that are held out, and count how it does on these.

    Parameters
    ----------
    pictures
        With labels and vectors.
    batches
        Whose they are, for the card.
    group_by
        See `groups.group`.

    Raises
    ------
    UsageError
        Where there are fewer than two labels, or `group_by` does not fit the names.
    JobError
        Where scikit-learn is not installed.
    """
    labels = np.unique(pictures.labels)
    if len(labels) < 2:
        has = f"only the label {str(labels[0])!r}" if len(labels) else "no labels"
        raise UsageError(
            f"--classify tells labels apart, and the {len(pictures):,} labelled pictures of "
            f"{', '.join(batch['batch'] for batch in batches)} have {has}; name more batches with "
            "--batches, or sort the photographs into a folder for each label"
        )
    groups = group(pictures, group_by)
    held = hold_out(pictures, groups)
    weights = _fit(pictures.vectors[~held], np.searchsorted(labels, pictures.labels[~held]))
    found = labels[logits(weights, pictures.vectors[held]).argmax(axis=1)]
    right = found == pictures.labels[held]
    of = []
    for label in labels.tolist():
        own = pictures.labels == label
        mine = pictures.labels[held] == label
        tried, correct = int(mine.sum()), int(right[mine].sum())
        of.append(
            LabelCard(
                label=label,
                pictures=int(own.sum()),
                groups=len(np.unique(groups[own])),
                fitted=int((own & ~held).sum()),
                held_out=tried,
                correct=correct,
                accuracy=correct / tried if tried else None,
            )
        )
    known = [one.accuracy for one in of if one.accuracy is not None]
    card = HeadCard(
        labels=labels.tolist(),
        batches=batches,
        group_by=group_by,
        held_out=int(held.sum()),
        correct=int(right.sum()),
        accuracy=float(right.mean()) if len(right) else None,
        mean_accuracy=float(np.mean(known)) if known else None,
        of=of,
    )
    return Head(weights, card, _warnings(of, group_by))


def logits(weights: Weights, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """What softmax makes probabilities of: [n, L] of `vectors` [n, k]."""
    found: NDArray[np.float64] = vectors @ weights.weights.T + weights.bias
    return found


def probabilities(weights: Weights, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of the labels, [n, L] of `vectors` [n, k]."""
    scores = logits(weights, vectors)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return found


def _fit(vectors: NDArray[np.float32], numbers: NDArray[np.intp]) -> Weights:
    """Fit vectors [n, k] to the numbers of their labels, [n]."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise JobError(
            "--classify fits its head with scikit-learn, which is not installed here; install it "
            "with `pip install scikit-learn`, or export without --classify"
        ) from error
    fitted = LogisticRegression(
        C=INVERSE_PENALTY, class_weight="balanced", max_iter=MOST_ITERATIONS
    ).fit(vectors.astype(np.float64), numbers)
    if len(fitted.coef_) == 1:  # of two labels it gives the second one's scores over the first
        halves = np.array([[-0.5], [0.5]])
        return Weights(halves * fitted.coef_, halves[:, 0] * fitted.intercept_)
    return Weights(fitted.coef_, fitted.intercept_)


def _warnings(of: Sequence[LabelCard], group_by: str | None) -> list[str]:
    """Say of which labels nothing is known."""
    unknown = [one.label for one in of if one.accuracy is None]
    if not unknown:
        return []
    some = ", ".join(unknown[:TOLD]) + (", ..." if len(unknown) > TOLD else "")
    remedy = (
        "photograph more fruits of them"
        if group_by is not None
        else "photograph more fruits of them, or, where names tell one fruit from another, say how "
        "with --group-by"
    )
    return [
        f"{len(unknown)} of {len(of)} labels have too few groups of pictures to hold any out, so "
        f"that nothing is known of how well they are recognised ({some}); {remedy}"
    ]
