"""How far a batch lies from what a reused model was fitted on, and what that means for reusing it.

With z [d] an image's scaled features and t [k] its vector, the model leaves the residual
Q = |z|^2 - |t|^2, the squared prediction error (J. E. Jackson, G. S. Mudholkar, "Control Procedures
for Residuals Associated With Principal Component Analysis", Technometrics 21, 1979, eq. 2.1; I. T.
Jolliffe, "Principal Component Analysis", 2nd ed., 2002, section 10.1). Two numbers follow from it:

- the *error* is Q over the sum of the model's eigenvalues: 1 - `variance_kept` on average over the
  model's own images;
- the *loss* is Q / |z|^2, the share of the image's squared distance from the model's mean that its
  vector does not have. It depends less than Q on how far from the mean a fruit lies, so it tells
  unknown fruits from unusual pictures of known ones better. Where a model knows little, it loses
  nearly all of anything unknown, and only the error still tells how far away that is.

Statistics are of the loss's log odds, ln(Q / |t|^2), and of the error's logarithm, whose
distributions are about normal.

Thresholds come from `FOLDS` fits, each without a run of neighbouring labels and without a run of
neighbouring pictures of every other label: frames of one turning fruit lie side by side in the
order of paths, and must not lie on both sides. The pictures left out of known labels show what
other pictures of the same fruits look like, the labels left out what other fruits look like. Their
differences from block to block, and not from image to image, say how far a mean may stray.

What the card cannot tell: whether vectors are of use for a task; a fruit that looks like a known
one to the network; a colour cast or another change that the network itself hardly sees.
"""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job import pca
from spark_job.errors import NoImagesError
from spark_job.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from spark_job.pca import PCAModel

LOGGER = logging.getLogger("orchard")

FINE = "reuse is fine"
UPDATE = "consider update"
UNLIKE = "this does not look like what the model knows"

FOLDS = 4
"""Fits that a calibration takes: each leaves out a quarter of the labels, and of the others'
pictures a quarter."""

FEWEST = 40
"""Least images of a sample that is worth a calibration: its folds then hold out about ten each."""

FAR = 0.99
"""An image is far outside where its loss is above this quantile of the pictures left out of known
labels."""

SMALL = 100
"""Where one image is more than the one in a hundred that is expected far outside, a batch is
small."""

KNOWN_Z, UNSEEN_Z = 2.326, 1.645
"""Normal quantiles of the chances that a batch of known labels is called unknown (one in a hundred,
for each of two statistics), and that an unknown label is called unlike all (one in twenty)."""

MOST_LABELS = 200
"""Labels that a card tells apart, the first by name; the others are told together."""

OTHERS = "(other labels)"

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

OF_LABEL = (0.5, 0.95)
"""Those of the errors that are told of each label: more would make the card long."""

_LARGEST, _STEP = 12.0, 1 / 16
_BINS = round(2 * _LARGEST / _STEP)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of so many numbers."""

    n: int
    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Spread of at least one number, n - 1 in the deviation; 0 of one number."""
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(len(values), float(np.mean(values)), deviation)

    def limit(self, z: float, m: float, noise: float = 0.0) -> float:
        """Upper prediction limit of the mean of m further numbers.

        For a normal distribution (G. J. Hahn, "Factors for Calculating Two-Sided Prediction
        Intervals for Samples from a Normal Distribution", JASA 64, 1969), one-sided, with the
        variance `noise` of that mean's own counting on top.
        """
        if self.n < 2:
            return math.inf
        variance = self.deviation**2 * (1 / m + 1 / self.n) + noise
        return self.mean + _student(z, self.n - 1) * math.sqrt(variance)


@dataclass(frozen=True)
class Calibration:
    """What images look like that a model was fitted without.

    Attributes
    ----------
    images
        How many were left out of known labels.
    far
        Log odds of the loss above which an image is far outside.
    typical, far_share
        Over blocks, each a run of pictures left out of a known label: mean log odds of the loss;
        share of the images far outside.
    within
        Standard deviation of the log odds within a block.
    unseen, unseen_error
        Over labels left out: mean log odds of the loss, mean logarithm of the error. None where
        there is one at most.
    unseen_far
        Share of the left out labels' images far outside; None as before.
    shift
        Root mean square over left out labels of the shift of their mean, in standard deviations.
    loss, error
        By quantile, of the pictures left out of known labels.
    covered, sampled
        Of how many of the model's images it speaks, and how many it rests on, chosen among those.
    """

    images: int
    far: float
    typical: Spread
    far_share: Spread
    within: float
    unseen: Spread | None
    unseen_error: Spread | None
    unseen_far: float | None
    shift: float
    loss: dict[str, float]
    error: dict[str, float]
    covered: int = 0
    sampled: int = 0

    def says_more_than(self, other: Calibration) -> bool:
        """Whether, of two of one model, it is the better one."""
        return (self.covered, self.sampled) > (other.covered, other.sampled)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Calibration:
        """Read what ``dataclasses.asdict`` made."""
        spreads = {
            name: None if fields[name] is None else Spread(**fields[name])
            for name in ("typical", "far_share", "unseen", "unseen_error")
        }
        return cls(**{**fields, **spreads})


@dataclass(frozen=True)
class HeldOut:
    """What a fold's fit says of the images that it was made without.

    Attributes
    ----------
    known, known_error, blocks
        [m]: log odds of the loss, the error and the block's number of each image left out of a
        known label.
    unseen, unseen_error, labels
        [m']: the same of each image of a label left out, with the label's number.
    shifts
        Per label left out, of its mean, in standard deviations.
    """

    known: NDArray[np.float64]
    known_error: NDArray[np.float64]
    blocks: NDArray[np.intp]
    unseen: NDArray[np.float64]
    unseen_error: NDArray[np.float64]
    labels: NDArray[np.intp]
    shifts: list[float]


def hold_out(
    features: NDArray[np.floating],
    labels: Sequence[str | None],
    fold: int,
    *,
    standardize: bool,
    rule: dict[str, Any],
) -> HeldOut | None:
    """Fit without a fold, and look at what was left out; None where too little is left for that.

    Parameters
    ----------
    features, labels
        [n, d] and [n], in the order of paths.
    fold
        From 0 to `FOLDS` - 1.
    standardize, rule
        As of the model.
    """
    numbers = _label_numbers(labels)
    of_label = numbers * FOLDS // (numbers.max() + 1)
    of_picture = _pieces(numbers)
    unseen = of_label == fold
    known = ~unseen & (of_picture == fold)
    train = features[~unseen & ~known]
    if len(train) < 2:
        return None
    try:
        model = pca.fit(Moments.of(train), standardize=standardize, **rule)
    except NoImagesError:
        return None
    logs, errors, shifts = [], [], []
    for chosen in (known, unseen):
        scaled = model.standardize(features[chosen])
        odds, error = losses(model, scaled, model.rotate(scaled))
        logs.append(odds)
        errors.append(error)
    for number in np.unique(numbers[unseen]):
        mean = scaled[numbers[unseen] == number].mean(axis=0)
        shifts.append(float(np.sqrt(np.mean(mean**2))))
    blocks = numbers[known] * FOLDS + fold
    return HeldOut(logs[0], errors[0], blocks, logs[1], errors[1], numbers[unseen], shifts)


def calibrate(folds: Iterable[HeldOut | None]) -> Calibration | None:
    """Calibration of what all folds left out; None where that is too little."""
    held = [fold for fold in folds if fold is not None]
    if sum(len(fold.known) for fold in held) < FEWEST // FOLDS:
        return None
    known = np.concatenate([fold.known for fold in held])
    errors = np.concatenate([fold.known_error for fold in held])
    blocks = np.concatenate([fold.blocks for fold in held])
    unseen = np.concatenate([fold.unseen for fold in held])
    unseen_error = np.log(np.concatenate([fold.unseen_error for fold in held]))
    labels = np.concatenate([fold.labels for fold in held])
    shifts = np.array([shift for fold in held for shift in fold.shifts])
    far = float(np.quantile(known, FAR))
    by_block = [known[blocks == block] for block in np.unique(blocks)]
    by_label = [labels == label for label in np.unique(labels)]
    several = len(by_label) > 1
    within = sum(float(((one - one.mean()) ** 2).sum()) for one in by_block)
    return Calibration(
        images=len(known),
        far=far,
        typical=Spread.of([float(one.mean()) for one in by_block]),
        far_share=Spread.of([float((one > far).mean()) for one in by_block]),
        within=math.sqrt(within / max(1, len(known) - len(by_block))),
        unseen=Spread.of([unseen[one].mean() for one in by_label]) if several else None,
        unseen_error=Spread.of([unseen_error[one].mean() for one in by_label]) if several else None,
        unseen_far=float((unseen > far).mean()) if several else None,
        shift=float(np.sqrt(np.mean(shifts**2))) if len(shifts) else 0.0,
        loss={f"{q:g}": _share(float(np.quantile(known, q))) for q in QUANTILES},
        error={f"{q:g}": float(np.quantile(errors, q)) for q in QUANTILES},
    )


def losses(
    model: PCAModel, scaled: NDArray[np.float64], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log odds of the loss, and the error, of each image; see the module.

    Parameters
    ----------
    scaled, vectors
        [n, d] and [n, k], of which nothing is modified.
    """
    square = np.einsum("nd,nd->n", scaled, scaled)
    kept = np.einsum("nk,nk->n", vectors, vectors, dtype=np.float64)
    tiny = np.finfo(np.float32).eps * np.maximum(square, np.finfo(np.float64).tiny)
    left = np.maximum(square - kept, tiny)  # rounding leaves less where all is kept
    odds = np.log(left / np.maximum(kept, tiny))
    return np.clip(odds, -_LARGEST, _LARGEST), left / model.eigenvalues.sum()


@dataclass
class Observed:
    """What the images of a batch add up to, label by label; mergeable and of a bounded size.

    Attributes
    ----------
    labels
        At most `MOST_LABELS`, sorted, then `OTHERS` if there are more. A label is in the merger of
        several exactly where it is in each that has seen it, so its numbers are whole.
    odds
        [labels, bins], histograms of the log odds of the loss.
    total, error_total
        [labels], sums of the log odds and of the errors' logarithms.
    square, kept
        [labels], sums of |z|^2 and of |t|^2.
    sums
        [labels, d], sums of z.
    errors
        [labels, bins], histograms of the errors' logarithms.
    """

    labels: list[str]
    odds: NDArray[np.int64]
    total: NDArray[np.float64]
    error_total: NDArray[np.float64]
    square: NDArray[np.float64]
    kept: NDArray[np.float64]
    sums: NDArray[np.float64]
    errors: NDArray[np.int64]

    @classmethod
    def empty(cls, features: int) -> Observed:
        """What no image adds up to."""
        nothing = np.zeros(0)
        none = np.zeros((0, _BINS), np.int64)
        return cls([], none, nothing, nothing, nothing, nothing, np.zeros((0, features)), none)

    @classmethod
    def of(
        cls,
        model: PCAModel,
        labels: Sequence[str | None],
        scaled: NDArray[np.float64],
        vectors: NDArray[np.float32],
    ) -> Observed:
        """Add up the images of a table: labels [n], scaled features [n, d], vectors [n, k]."""
        odds, error = losses(model, scaled, vectors)
        named = np.array([label or "" for label in labels])
        names, numbers = np.unique(named, return_inverse=True)

        def histograms(logarithms: NDArray[np.float64]) -> NDArray[np.int64]:
            cells = numbers * _BINS + _bins(logarithms)
            return np.bincount(cells, minlength=len(names) * _BINS).reshape(-1, _BINS)

        sums = np.stack([scaled[numbers == one].sum(axis=0) for one in range(len(names))])
        square = np.einsum("nd,nd->n", scaled, scaled)
        kept = np.einsum("nk,nk->n", vectors, vectors, dtype=np.float64)
        return cls(
            names.tolist(),
            histograms(odds),
            np.bincount(numbers, odds).astype(np.float64),
            np.bincount(numbers, np.log(error)).astype(np.float64),
            np.bincount(numbers, square).astype(np.float64),
            np.bincount(numbers, kept).astype(np.float64),
            sums,
            histograms(np.log(error)),
        )._bounded()

    def merge(self, other: Observed) -> Observed:
        """What both batches' images add up to."""
        names = sorted({*self.labels, *other.labels} - {OTHERS})
        names += [OTHERS] if OTHERS in (*self.labels, *other.labels) else []
        ours, theirs = self._rows_of(names), other._rows_of(names)
        merged = {name: ours[name] + theirs[name] for name in ours}
        return Observed(names, **merged)._bounded()

    def to_bytes(self) -> bytes:
        """Serialize as an ``.npz`` file."""
        file = io.BytesIO()
        np.savez(file, **{**vars(self), "labels": np.array(self.labels, np.str_)})
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Observed:
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as file:
            return cls(**{**{name: file[name] for name in file}, "labels": file["labels"].tolist()})

    def _by_label(self) -> dict[str, NDArray[Any]]:
        names = ("odds", "total", "error_total", "square", "kept", "sums", "errors")
        return {name: getattr(self, name) for name in names}

    def _rows_of(self, names: list[str]) -> dict[str, NDArray[Any]]:
        """What is told per label, for `names` that include ours."""
        places = {name: place for place, name in enumerate(names)}
        chosen = [places[name] for name in self.labels]
        spread = {}
        for name, ours in self._by_label().items():
            spread[name] = np.zeros((len(names), *ours.shape[1:]), ours.dtype)
            spread[name][chosen] = ours
        return spread

    def _bounded(self) -> Observed:
        """Put what is beyond `MOST_LABELS` together."""
        if len(self.labels) - (OTHERS in self.labels) <= MOST_LABELS:
            return self
        cut = {
            name: np.concatenate([one[:MOST_LABELS], one[MOST_LABELS:].sum(axis=0, keepdims=True)])
            for name, one in self._by_label().items()
        }
        return Observed([*self.labels[:MOST_LABELS], OTHERS], **cut)


@dataclass(frozen=True)
class LabelDrift:
    """What a card says of one label; see `DriftCard`. Of the errors, the quantiles `OF_LABEL`."""

    label: str
    n: int
    shift: float
    variance_kept: float | None
    loss: float
    error: float
    far: float | None
    advice: str | None
    errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DriftCard:
    """How far a batch lies from what the model that it reuses was fitted on.

    Attributes
    ----------
    n
        Images.
    small
        Whether they are fewer than `SMALL`.
    advice, because
        What to do, None where the model has no calibration; and why, in a sentence.
    shift, shift_expected
        Of the mean, in standard deviations of the model's images, root mean square over the
        features; and of a batch of as many labels, drawn from those that the model knows.
    variance_kept, variance_kept_here
        Share of the variance of the model's own images that it keeps, and of this batch's about
        its own mean; None where its images do not differ.
    loss, loss_known, loss_unknown
        The typical image's (mean log odds), and the most that is expected: of other pictures of
        known labels, above which an update is advised, and of as many labels that the model does
        not know, above which it says that this is something else.
    error, error_unknown
        The same for the error (mean logarithm).
    far, far_known
        Share of the images that are far outside, and the most that is expected.
    errors, errors_known, losses
        By quantile: the errors, those of pictures that the model was fitted without, the losses.
    concentration
        Share of the squared error that the ten features with the most of it make; near 1, it says
        more of these features' scales than of the images. 0.03 is usual for 1280 features.
    labels
        The same per label, the largest loss first.
    """

    n: int
    small: bool
    advice: str | None
    because: str
    shift: float
    shift_expected: float | None
    variance_kept: float
    variance_kept_here: float | None
    loss: float
    loss_known: float | None
    loss_unknown: float | None
    error: float
    error_unknown: float | None
    far: float | None
    far_known: float | None
    errors: dict[str, float]
    errors_known: dict[str, float]
    losses: dict[str, float]
    concentration: float
    labels: list[LabelDrift] = field(default_factory=list)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> DriftCard:
        """Read what ``dataclasses.asdict`` made."""
        labels = [LabelDrift(**one) for one in fields["labels"]]
        return cls(**{**fields, "labels": labels})

    @property
    def standing_out(self) -> list[LabelDrift]:
        """The labels for which reuse is not fine, the largest loss first."""
        return [one for one in self.labels if one.advice not in (None, FINE)]


def judge(
    observed: Observed, moments: Moments, model: PCAModel, calibration: Calibration | None
) -> DriftCard:
    """Write the card of a batch.

    Parameters
    ----------
    observed
        Of its images.
    moments
        Of its features.
    model, calibration
        Which it reuses, and how that does on images that it was fitted without.
    """
    counts = observed.odds.sum(axis=1)
    labels = [
        _judge_label(observed, number, model, calibration) for number in range(len(observed.labels))
    ]
    n = int(counts.sum())
    typical = float(observed.total.sum()) / n
    histogram = observed.odds.sum(axis=0)
    shift = (moments.mean - model.mean) / model.scale
    effective = n**2 / float((counts.astype(float) ** 2).sum())
    error = float(observed.error_total.sum()) / n
    verdict = _Verdict.of(typical, error, histogram, effective, calibration)
    standing_out = [one for one in labels if one.advice not in (None, FINE)]
    return DriftCard(
        n=n,
        small=n < SMALL,
        advice=verdict.advice,
        because=verdict.because(n, len(standing_out), len(labels)),
        shift=_rounded(float(np.sqrt(np.mean(shift**2)))),
        shift_expected=(
            None if calibration is None else _rounded(calibration.shift / math.sqrt(effective))
        ),
        variance_kept=_rounded(model.variance_kept),
        variance_kept_here=_rounded_or_none(model.variance_kept_of(moments)),
        loss=_rounded(_share(typical)),
        loss_known=_rounded_or_none(verdict.loss_known),
        loss_unknown=_rounded_or_none(verdict.loss_unknown),
        error=_rounded(verdict.error),
        error_unknown=_rounded_or_none(verdict.error_unknown),
        far=_rounded_or_none(verdict.far),
        far_known=_rounded_or_none(verdict.far_known),
        errors=_errors(observed.errors.sum(axis=0), QUANTILES),
        errors_known=(
            {} if calibration is None else {q: _rounded(v) for q, v in calibration.error.items()}
        ),
        losses={f"{q:g}": _rounded(_share(_quantile(histogram, q))) for q in QUANTILES},
        concentration=_rounded(_concentration(moments, model)),
        labels=sorted(labels, key=lambda one: (-one.loss, one.label)),
    )


def warn(card: DriftCard) -> None:
    """Log a warning where a card does not say that reuse is fine."""
    if card.advice != FINE:
        LOGGER.warning("drift: %s", in_words(card))


def in_words(card: DriftCard) -> str:
    """Advice and reason in one line."""
    return f"{card.advice or 'no advice'}: {card.because}"


@dataclass(frozen=True)
class _Verdict:
    """Advice, and the numbers that it follows from; shares."""

    advice: str | None
    loss: float
    error: float
    error_unknown: float | None = None
    loss_known: float | None = None
    loss_unknown: float | None = None
    far: float | None = None
    far_known: float | None = None

    @classmethod
    def of(
        cls,
        typical: float,
        error: float,
        histogram: NDArray[np.int64],
        effective: float,
        calibration: Calibration | None,
    ) -> _Verdict:
        """Hold means of log odds and log errors, and a histogram of log odds, against others.

        Parameters
        ----------
        effective
            Number of labels, weighted by their images (L. Kish, "Survey Sampling", 1965, section
            8.2: square of the sum over the sum of squares).
        """
        if calibration is None:
            return cls(None, _share(typical), math.exp(error))
        n = int(histogram.sum())
        known = calibration.typical.limit(KNOWN_Z, effective, calibration.within**2 / n)
        share = calibration.far_share.mean
        far_known = calibration.far_share.limit(KNOWN_Z, effective, share * (1 - share) / n)
        # Where no label could be left out, what is no other picture of the known ones is unlike.
        unknown, error_unknown = known, math.inf
        if calibration.unseen is not None and calibration.unseen_error is not None:
            unknown = max(known, calibration.unseen.limit(UNSEEN_Z, effective))
            error_unknown = calibration.unseen_error.limit(UNSEEN_Z, effective)
        far = _above(histogram, calibration.far)
        advice = FINE
        if typical > known or far > far_known:
            advice = UNLIKE if typical > unknown or error > error_unknown else UPDATE
        return cls(
            advice,
            loss=_share(typical),
            error=math.exp(error),
            error_unknown=None if math.isinf(error_unknown) else math.exp(error_unknown),
            loss_known=_share(known),
            loss_unknown=_share(unknown),
            far=far,
            far_known=min(1.0, far_known),
        )

    def because(self, n: int, standing_out: int, labels: int) -> str:
        """Say it to a person."""
        small = f" (a small batch: {n:,} images)" if n < SMALL else ""
        if self.advice is None:
            return (
                f"the model has nothing to compare with{small}: its batches have fewer than "
                f"{FEWEST} images that runs settled samples of; run them again, which computes "
                "nothing anew, or update the model with more"
            )
        told = (
            f"the model loses {self.loss:.0%} of a typical image (up to {self.loss_known:.0%} of "
            f"other pictures of what it knows, {self.loss_unknown:.0%} of unknown labels)"
        )
        if self.error_unknown is not None:
            told += f", its error is {self.error:.2g} (up to {self.error_unknown:.2g} of those)"
        told += f", and {self.far:.1%} of the images are far outside (up to {self.far_known:.1%})"
        if standing_out and labels > 1:
            told += f"; {standing_out} of {labels} labels stand out"
        return told + small


def _judge_label(
    observed: Observed, number: int, model: PCAModel, calibration: Calibration | None
) -> LabelDrift:
    n = int(observed.odds[number].sum())
    typical = float(observed.total[number]) / n
    mean = observed.sums[number] / n
    kept = observed.kept[number] - n * float(((model.components @ mean) ** 2).sum())
    square = observed.square[number] - n * float((mean**2).sum())
    varies = square > np.finfo(np.float32).eps * observed.square[number]
    error = float(observed.error_total[number]) / n
    verdict = _Verdict.of(typical, error, observed.odds[number], 1.0, calibration)
    return LabelDrift(
        label=observed.labels[number],
        n=n,
        shift=_rounded(float(np.sqrt(np.mean(mean**2)))),
        variance_kept=_rounded(float(np.clip(kept / square, 0, 1))) if varies else None,
        loss=_rounded(verdict.loss),
        error=_rounded(verdict.error),
        far=_rounded_or_none(verdict.far),
        advice=verdict.advice,
        errors=_errors(observed.errors[number], OF_LABEL),
    )


def _errors(histogram: NDArray[np.int64], quantiles: Iterable[float]) -> dict[str, float]:
    """Errors by quantile, of a histogram of their logarithms."""
    return {f"{q:g}": _rounded(math.exp(_quantile(histogram, q))) for q in quantiles}


def _label_numbers(labels: Sequence[str | None]) -> NDArray[np.intp]:
    """Number of each image's label, by name; of its block, where there are fewer than two."""
    names, numbers = np.unique([label or "" for label in labels], return_inverse=True)
    if len(names) < 2:
        return np.arange(len(labels)) * 2 * FOLDS // max(1, len(labels))
    return numbers


def _pieces(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each image the fold that its picture is left out of: a run of each label's."""
    pieces = np.empty(len(numbers), np.intp)
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        pieces[rows] = np.arange(len(rows)) * FOLDS // len(rows)
    return pieces


def _student(z: float, degrees: int) -> float:
    """Quantile of Student's t where the normal distribution's is z.

    M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions", 1964, formula 26.7.5; within
    0.1 percent from ten degrees of freedom on, and 12 percent too small for one.
    """
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _bins(logarithms: NDArray[np.float64]) -> NDArray[np.intp]:
    places = np.floor((logarithms + _LARGEST) / _STEP).astype(np.intp)
    return np.clip(places, 0, _BINS - 1)


def _quantile(histogram: NDArray[np.int64], q: float) -> float:
    """Logarithm below which the share q of a histogram lies, linear within a bin."""
    edges = np.arange(_BINS + 1) * _STEP - _LARGEST
    cumulative = np.concatenate([[0], np.cumsum(histogram)])
    return float(np.interp(q * cumulative[-1], cumulative, edges))


def _above(histogram: NDArray[np.int64], logarithm: float) -> float:
    """Share of a histogram above a logarithm, linear within a bin."""
    edges = np.arange(_BINS + 1) * _STEP - _LARGEST
    cumulative = np.concatenate([[0], np.cumsum(histogram)])
    return 1.0 - float(np.interp(logarithm, edges, cumulative) / cumulative[-1])


def _concentration(moments: Moments, model: PCAModel) -> float:
    """Share of the squared error of the ten features that have the most of it.

    The second moments about the model's mean are S / n + m m', and the residual is z - C'C z.
    """
    scatter = moments.scatter / np.outer(model.scale, model.scale)
    mean = (moments.mean - model.mean) / model.scale
    second = scatter / moments.n + np.outer(mean, mean)
    projected = model.components @ second
    kept = np.einsum("kd,kd->d", model.components, projected)
    inner = projected @ model.components.T
    back = np.einsum("kd,kd->d", inner @ model.components, model.components)
    error = np.maximum(np.diag(second) - 2 * kept + back, 0.0)
    total = float(error.sum())
    return float(np.sort(error)[-10:].sum()) / total if total > 0 else 0.0


def _share(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def _rounded(number: float) -> float:
    """Six significant digits, which are more than the numbers are worth."""
    return float(f"{number:.6g}")


def _rounded_or_none(number: float | None) -> float | None:
    return None if number is None else _rounded(number)
