"""The drift card on real pictures: of the same fruits, others, altered ones, photographs, noise."""

from __future__ import annotations

import io
import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from spark_job import pca
from spark_job.decode import decode
from spark_job.drift import FINE, FOLDS, UNLIKE, UPDATE, Observed, calibrate, hold_out, judge
from spark_job.moments import Moments
from spark_job.networks import load_card
from spark_job.networks.extractor import shared_extractor
from spark_job.samples import Sample, evenly, join, phase_of
from tests.spark_job.photographs import encoded

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from spark_job.drift import Calibration, DriftCard
    from spark_job.pca import PCAModel

pytestmark = [pytest.mark.shared, pytest.mark.job]

RULE = {"variance": 0.8}
BATCHES = 8
KNOWN, UNKNOWN = slice(1, None, 4), slice(3, None, 12)
"""Labels by name that the model knows, and some that it does not."""


@dataclass
class Files:
    """Images with their labels, and features of them."""

    files: list[bytes] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)

    def add(self, file: bytes, label: str) -> None:
        self.files.append(file)
        self.labels.append(label)

    def features(self) -> NDArray[np.float32]:
        card = load_card()
        extract = shared_extractor(card.name)
        pixels = (decode(file, card, max_pixels=10**8).pixels for file in self.files)
        return np.stack([extract(one).copy() for one in pixels])


@dataclass(frozen=True)
class Fitted:
    """A model of some labels, and pictures to hold against it.

    Attributes
    ----------
    calibrations
        As of one fit, and as of updates with eight batches that the pictures were dealt out to.
    """

    model: PCAModel
    calibrations: list[Calibration]
    cases: dict[str, Files]

    def cards(self, case: str) -> list[DriftCard]:
        files = self.cases[case]
        features = files.features()
        scaled = self.model.standardize(features)
        observed = Observed.of(self.model, files.labels, scaled, self.model.rotate(scaled))
        moments = Moments.of(features)
        return [judge(observed, moments, self.model, one) for one in self.calibrations]


@pytest.fixture(scope="module")
def fitted(shared: Path) -> Fitted:
    """A model of 31 labels; of each, about 25 pictures of the first three quarters."""
    labels: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(shared / "fruits360" / "fruits360-test.tar") as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".jpg"):
                _, label, name = member.name.split("/")
                content = tar.extractfile(member)
                assert content is not None
                labels[label][name] = content.read()
    names = sorted(labels)
    train = Files()
    cases: defaultdict[str, Files] = defaultdict(Files)
    for label in names[KNOWN]:
        files = [labels[label][name] for name in sorted(labels[label])]
        last = 3 * len(files) // 4
        for file in files[: last : max(1, last // 24)]:
            train.add(file, label)
        for file in files[last + 4 :: 6]:
            cases["other pictures"].add(file, label)
        for file in files[:last:40]:
            pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
            grey = Image.fromarray(pixels).convert("L").convert("RGB")
            cast = np.clip(pixels * np.array([0.85, 1, 1.25]), 0, 255).astype(np.uint8)
            cases["grey"].add(encoded(grey), label)
            cases["cast"].add(encoded(Image.fromarray(cast)), label)
    for label in names[UNKNOWN]:
        for name in sorted(labels[label])[::20]:
            cases["unknown fruits"].add(labels[label][name], label)
    with tarfile.open(shared / "photographs" / "photographs.tar") as tar:
        members = [one for one in tar if one.isfile() and one.name.count("/") == 2]
        for member in sorted(members, key=lambda one: one.name)[::5]:
            content = tar.extractfile(member)
            assert content is not None
            cases["photographs"].add(content.read(), member.name.split("/")[1])
    random = np.random.default_rng(2027)
    for _ in range(30):
        noise = random.integers(0, 256, (100, 100, 3), np.uint8)
        cases["noise"].add(encoded(Image.fromarray(noise)), "noise")
    features = train.features()
    model = pca.fit(Moments.of(features), variance=0.8)
    samples = [
        Sample.of(
            [f"{row:05d}" for row in range(start, len(features), BATCHES)],
            train.labels[start::BATCHES],
            features[start::BATCHES],
        )
        for start in range(BATCHES)
    ]
    some = join([one.take(evenly(len(one), 60, phase_of(n))) for n, one in enumerate(samples)])
    calibrations = []
    for known, images in ((train.labels, features), (some.labels.tolist(), some.features)):
        folds = [hold_out(images, known, n, standardize=True, rule=RULE) for n in range(FOLDS)]
        made = calibrate(folds)
        assert made is not None
        calibrations.append(made)
    return Fitted(model, calibrations, cases)


@pytest.mark.parametrize(
    ("case", "advice"),
    [
        ("other pictures", FINE),
        ("unknown fruits", UPDATE),
        ("photographs", UNLIKE),
        ("noise", UNLIKE),
        ("grey", UPDATE),
        ("cast", FINE),  # of which the features hardly change
    ],
)
def test_the_advice(fitted: Fitted, case: str, advice: str) -> None:
    for card in fitted.cards(case):
        assert card.advice == advice, card.because
