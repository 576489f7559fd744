"""Every name on which two halves of Orchard must agree; standard library only.

Under one root (a bucket or a folder)::

    images/<batch>/<label>/…         the photographs, and READY, which starts the batch
    work/<batch>/<run>/              a run at work; workers write only here
    results/<batch>/runs/<run>/      what a run settled: complete, and never modified
    results/<batch>/current.json     which of them is published
    models/<extractor>/<model>/      a model, never modified
    models/<extractor>/current.json  which of them is reused
"""

from __future__ import annotations

from typing import Final

CONTRACT: Final = 1
"""Number of this layout, in every receipt and pointer; results of another one are refused."""

NONE: Final = "none"
"""As an option's value: as if it were left out, for callers that cannot leave one out."""

PCA: Final = ("auto", "fit", "reuse", "update")
"""Which model a run's vectors are of; see `spark_job.choice`."""

WHICH_FINDINGS: Final = ("all", NONE)
"""Of what a person should look at in a batch."""

LONGEST_BATCH: Final = 64
"""Characters of a batch's name."""

IMAGES: Final = "images"
WORK: Final = "work"
RESULTS: Final = "results"
RUNS: Final = "runs"
MODELS: Final = "models"

READY: Final = "_READY"
"""Written into a batch's folder, it starts the batch; it is no file of it."""

EXTENSIONS: Final = (
    *("jpg", "jpeg", "jpe", "jfif", "mpo"),
    *("png", "webp", "avif", "bmp", "gif", "tif", "tiff"),
)
"""Images that are taken, by the ends of their names in small letters."""

HEIF: Final = ("heic", "heif", "hif")
"""Phones' pictures, which are not taken; but phones give these names to JPEGs, too."""

RAW: Final = (
    *("3fr", "arw", "bay", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "k25"),
    *("kdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef", "raf", "rw2", "rwl", "sr2", "srf"),
    *("srw", "x3f"),
)
"""Raw files of cameras, which are not taken."""

CURRENT: Final = "current.json"
"""A pointer: which run is published, which model is reused. Written last, by compare-and-swap."""

RUN: Final = "run.json"
"""The run's receipt: the last file of a settled run."""

CLAIM: Final = "claim.json"
"""Whose a work folder is, and when it was last heard of."""

PROGRESS: Final = "progress.json"
"""How far a run is, every few seconds, for whoever follows from afar."""

FAILURE: Final = "failure.json"
"""Why a run published nothing; in its work folder."""

LISTING: Final = "listing"
REST: Final = "rest"
"""Below a work folder: the listing of what no earlier run of the batch knows."""

FEATURES: Final = "features"
REJECTS: Final = "rejects"
POSTPONED: Final = "postponed"
VECTORS: Final = "vectors"
PARTS: Final = "parts"
FINDINGS: Final = "findings"
"""Below a run's folder: a folder of Parquet files for each kind of finding."""

MOMENTS_FILE: Final = "moments.npz"
SAMPLE_FILE: Final = "sample.npz"
VARIANCE_FILE: Final = "variance.csv"
PARTS_FILE: Final = "parts.parquet"
REPORT: Final = "report.html"
CORRECTIONS_FILE: Final = "corrections.csv"
RECEIPT_TABLE: Final = "receipt/run.parquet"
VECTORS_FILE: Final = "vectors.csv"
MODEL_FILE: Final = "model.npz"
MODEL_CARD: Final = "model.json"
CALIBRATION: Final = "calibration.json"

SPARK_EVENTS: Final = "spark-events"
"""Where Spark's event logs lie in the log bucket."""

NODE_PREFIX: Final = "/opt/orchard"
"""Where a cluster node's own Python environment lies."""


def extension_of(name: str) -> str:
    """Give the end of a file's name in small letters; empty where it has none."""
    _, dot, end = name.rpartition("/")[2].rpartition(".")
    return end.lower() if dot else ""


def work_folder(batch: str, run: str) -> str:
    """Where a run works, below the root."""
    return f"{WORK}/{batch}/{run}"


def results_folder(batch: str) -> str:
    """Where a batch's pointer and its runs lie, below the root."""
    return f"{RESULTS}/{batch}"


def run_folder(batch: str, run: str) -> str:
    """Where a run is settled, below the root."""
    return f"{RESULTS}/{batch}/{RUNS}/{run}"


def models_folder(extractor: str) -> str:
    """Where the models of one extractor lie, below the root."""
    return f"{MODELS}/{extractor}"
