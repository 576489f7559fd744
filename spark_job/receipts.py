"""What a part and a run report of themselves: counts, digests, seconds, processors, versions.

A digest of a set is the sum of its members' sha256 modulo 2**256, in hexadecimal: it does not
depend on their order, and a set's digest is the sum of those of its parts.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from spark_job import __version__
from spark_job.contract import CONTRACT
from spark_job.dollars import Dollars
from spark_job.drift import DriftCard
from spark_job.errors import UsageError
from spark_job.findings.card import FindingsCard

if TYPE_CHECKING:
    from collections.abc import Iterable

EMPTY_DIGEST = "0" * 64


@dataclass(frozen=True)
class Digests:
    """Digests of the same rows by three things.

    Attributes
    ----------
    listing
        Path and version, as listed, of every row: featurized, rejected or anything else.
    images
        The content of every featurized image.
    features
        Path and feature bytes of every featurized image.
    """

    listing: str = EMPTY_DIGEST
    images: str = EMPTY_DIGEST
    features: str = EMPTY_DIGEST

    def __add__(self, other: Digests) -> Digests:
        """Digests of both sets together."""
        ours, theirs = asdict(self).values(), asdict(other).values()
        return Digests(*map(add_digests, zip(ours, theirs, strict=True)))


@dataclass(frozen=True)
class Counts:
    """What became of the images that were listed.

    Attributes
    ----------
    listed
        All of them: the sum of the other four.
    computed
        Read and inferred by this run.
    carried_over
        Known from an earlier run.
    rejected
        Of no use; `rejects` has how many for which reason.
    unsupported
        In formats that are not taken; `formats` has how many by the extensions of their names.
    ignored
        Files that are no images by their names, by extension; not among those listed.
    dropped
        Images that corrections took out of the batch; not among those listed.
    relabelled
        Images, of those listed, whose label is from corrections.
    """

    listed: int = 0
    computed: int = 0
    carried_over: int = 0
    rejected: int = 0
    unsupported: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    relabelled: int = 0

    @property
    def featurized(self) -> int:
        """Rows of the features table."""
        return self.computed + self.carried_over


@dataclass(frozen=True)
class PartReceipt:
    """The commit marker of one part: written last, and accepted at most once.

    Attributes
    ----------
    part, attempt
        Which part, and which of possibly several attempts at it.
    features, rejects
        Names of its files in the work folder's tables; None where it has no such rows.
    counts, digests
        Of its rows.
    seconds
        Where its time went.
    processor
        The kind of processor that computed it, or the kinds where it was carried over.
    versions
        Of the packages that it was computed, or carried over, with.
    postponed, busy
        Name of the file of images that the store did not give for now, if there are any, and how
        many for which reason. They are not counted, nor in the digests: another part has them.
    extractor, max_pixels, images
        By which its features and rejects came about, and the URI of the images.
    first, last
        The least and the greatest of its paths; None where it has no rows, or is of before.
    """

    part: int
    attempt: str
    features: str | None
    rejects: str | None
    counts: Counts
    digests: Digests
    seconds: dict[str, float]
    processor: str
    versions: dict[str, str]
    postponed: str | None = None
    busy: dict[str, int] = field(default_factory=dict)
    extractor: str = ""
    max_pixels: int | None = None
    images: str = ""
    first: str | None = None
    last: str | None = None

    def to_json(self) -> bytes:
        """Serialize, readable by a person."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> PartReceipt:
        """Read what `to_json` wrote."""
        fields = json.loads(content)
        fields["counts"] = Counts(**fields["counts"])
        fields["digests"] = Digests(**fields["digests"])
        return cls(**fields)


@dataclass(frozen=True)
class EngineReceipt:
    """What ran the parts: the engine's name, how many at a time, and Spark's application if any."""

    name: str
    slots: int
    application: str | None = None


@dataclass(frozen=True)
class ModelReceipt:
    """The model that a run's vectors are of.

    Attributes
    ----------
    model
        Its id.
    k
        Components kept.
    n
        Images that it was fitted on.
    rule, standardize
        How it was fitted.
    variance_kept
        Share of the variance of its own images that it keeps.
    variance_kept_here
        Share of the variance of this batch that it keeps; None where its images do not differ.
    largest_z
        Largest magnitude of a scaled feature of this batch: far above what the model's own images
        have, the vectors say more of scaling than of fruit.
    reused
        Whether it was there before.
    """

    model: str
    k: int
    n: int
    rule: dict[str, float]
    standardize: bool
    variance_kept: float
    variance_kept_here: float | None
    largest_z: float
    reused: bool


@dataclass(frozen=True)
class RunReceipt:
    """What a settled run says of itself; ``run.json``.

    `drift` is None where the model was fitted on this very batch, and `findings` where none were
    asked for.
    """

    batch: str
    run: str
    images: str
    output: str
    results: str
    started: str
    finished: str
    counts: Counts
    digests: Digests
    model: ModelReceipt
    engine: EngineReceipt
    network: str
    extractor: str
    processors: dict[str, int]
    images_per_second: float
    seconds: dict[str, float]
    seconds_in_workers: dict[str, float]
    settings: dict[str, Any]
    versions: dict[str, str]
    dollars: Dollars | None = None
    drift: DriftCard | None = None
    findings: FindingsCard | None = None
    contract: int = CONTRACT

    def to_json(self) -> bytes:
        """Serialize, readable by a person."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes, where: str) -> RunReceipt:
        """Read what `to_json` wrote.

        Raises
        ------
        UsageError
            Where the receipt, of a run in the folder `where`, is damaged or of another contract.
        """
        try:
            fields = json.loads(content)
            if fields.get("contract") == CONTRACT:
                return cls._from_fields(fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"the receipt in {where} is damaged ({error!r}); choose another --run"
            ) from error
        raise UsageError(
            f"{where} is of another layout than contract {CONTRACT}; choose another --output"
        )

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> RunReceipt:
        kinds: dict[str, Any] = {
            "counts": Counts,
            "digests": Digests,
            "model": ModelReceipt,
            "engine": EngineReceipt,
        }
        if fields.get("dollars") is not None:
            kinds["dollars"] = Dollars
        if fields.get("findings") is not None:
            kinds["findings"] = FindingsCard
        for name, kind in kinds.items():
            fields[name] = kind(**fields[name])
        if fields.get("drift") is not None:
            fields["drift"] = DriftCard.from_fields(fields["drift"])
        return cls(**fields)


@dataclass(frozen=True)
class Failure:
    """Why a run published nothing: the exit code, the kind of error, and a sentence."""

    exit_code: int
    error: str
    message: str


def to_json(content: dict[str, Any]) -> bytes:
    """Serialize as JSON that a person can read."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest(rows: Iterable[bytes]) -> str:
    """Digest a set of byte strings; see the module."""
    total = sum(int.from_bytes(sha256(row).digest(), "big") for row in rows)
    return f"{total % 2**256:064x}"


def add_digests(digests: Iterable[str]) -> str:
    """Digest the union of disjoint sets."""
    return f"{sum(int(one, 16) for one in digests) % 2**256:064x}"


def add_up(numbers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up numbers name by name, the largest first."""
    total: Counter[str] = Counter()
    for one in numbers:
        total.update(one)
    return {name: round(value, 3) for name, value in total.most_common()}


@lru_cache
def versions(*more: str) -> dict[str, str]:
    """Versions of what a feature or a vector depends on, and of `more` packages."""
    found = {"orchard": __version__, "python": platform.python_version()}
    for package in ("ai-edge-litert", "numpy", "pillow", "pyarrow", *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # Spark's own Python package on a cluster has no metadata
            found[package] = import_module(package).__version__
    return found


@lru_cache
def processor() -> str:
    """Kind of this machine's processor, by which the last bits of features may differ."""
    return f"{platform.machine()} {_processor_model()}".strip()


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        try:
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return platform.processor()
    fields = dict(reversed([[part.strip() for part in line.partition(":")[::2]] for line in lines]))
    arm = (fields.get("CPU implementer", ""), fields.get("CPU part", ""))
    return fields.get("model name") or " ".join(filter(None, arm))


class Clock:
    """Seconds per stage and in all."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._lap = perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the clock was started."""
        return perf_counter() - self._started

    def lap(self, stage: str) -> None:
        """Book the seconds since the last call on `stage`."""
        now = perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._lap, 3)
        self._lap = now
