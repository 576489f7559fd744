"""The programs that are measured, each run once: over a folder of images, or synthetic rows."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks import rows
from benchmarks.measure import Measurement, measure
from spark_job.contract import RUN, run_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    Images = Path | str
    """A folder, or its URI."""

LOGGER = logging.getLogger("benchmarks")


@dataclass(frozen=True)
class Run:
    """One program, run once.

    Attributes
    ----------
    program
        Its name in the report.
    images
        How many it was given; or references, rows, parts.
    seconds, peak_bytes, cpu_seconds
        Of the whole program, see `Measurement`.
    details
        What it says of itself: the job's receipt, a rival's k and passes.
    """

    program: str
    images: int
    seconds: float
    peak_bytes: int
    details: dict[str, Any] = field(default_factory=dict)
    cpu_seconds: float = 0.0


def run_ceiling(images: Images, size: int) -> Run:
    """Read, decode and infer in plain processes."""
    return _run("ceiling", size, measure("benchmarks.ceiling", "--images", str(images)))


def run_job(
    images: Images,
    size: int,
    engine: str,
    *options: str,
    how: str = "",
    environment: Mapping[str, str] | None = None,
    limit_seconds: float | None = None,
) -> Run:
    """Run the whole job, PCA fitted and published on a disk; its receipt is in the details.

    Parameters
    ----------
    images, size
        A folder or an ``s3://`` URI, and how many images lie there.
    engine, options
        The job's.
    how
        What sets this run apart, for the report.
    environment, limit_seconds
        See `measure`.
    """
    with TemporaryDirectory(prefix="orchard-benchmark-") as output:
        measured = measure(
            "spark_job",
            *("--images", str(images), "--output", output, "--batch", "benchmark"),
            *("--run", "measured", "--pca", "fit", "--engine", engine, *options),
            environment=environment,
            limit_seconds=limit_seconds,
        )
        receipt = Path(output) / run_folder("benchmark", "measured") / RUN
        name = ", ".join(filter(None, ("job", engine, how)))
        return _run(name, size, measured, json.loads(receipt.read_text()))


def run_reading(
    images: Images, size: int, how: str, environment: Mapping[str, str] | None = None
) -> Run:
    """Read a batch as the job does, and do nothing else; see `benchmarks.reading`."""
    measured = measure("benchmarks.reading", "--images", str(images), environment=environment)
    return _run(f"reading alone, {how}", size, measured, _said(measured))


def run_empty_job() -> Run:
    """Run an empty Spark Python job."""
    with TemporaryDirectory(prefix="orchard-benchmark-") as output:
        measured = measure("benchmarks.empty_job", "--output", f"{output}/rows")
    return _run("empty Spark job", 0, measured)


def run_notebook(images: Images, size: int, weights: str) -> Run:
    """Run the notebook shape."""
    return _run_rival("notebook", "benchmarks.notebook", images, size, weights)


def run_single_machine(images: Images, size: int, weights: str) -> Run:
    """Run the script without Spark."""
    return _run_rival("single-machine script", "benchmarks.single_machine", images, size, weights)


def run_refs(refs: int, source: str) -> Run:
    """List so many references from a ``manifest`` or a ``folder``, plan them and read them back."""
    with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
        arguments = ("--refs", str(refs), "--manifest", f"{folder}/manifest.parquet")
        if source == "manifest":
            measure("benchmarks.refs", "write", *arguments)
        measured = measure("benchmarks.refs", source, *arguments)
    return _run(f"references of a {source}", refs, measured, _said(measured))


def run_rows(count: int) -> Run:
    """Reduce so many synthetic rows.

    Raises
    ------
    BenchmarkError
        Where they do not fit on the disk.
    """
    with TemporaryDirectory(prefix="orchard-benchmark-") as work:
        rows.require_space(Path(work), count)
        arguments = ("--work", work, "--rows", str(count))
        measure("benchmarks.rows", "write", *arguments)
        measured = measure("benchmarks.rows", "reduce", *arguments)
    return _run("rows reduced", count, measured, _said(measured))


def run_settling(parts: int) -> Run:
    """Settle and publish a run of so many parts."""
    measured = measure("benchmarks.settling", "--parts", str(parts))
    return _run("parts settled", parts, measured, _said(measured))


def run_scaling(photographs: Path, count: int) -> Run:
    """Compare the features of photographs decoded at several scales."""
    measured = measure("benchmarks.scaling", "--photographs", str(photographs))
    return _run("features by scale", count, measured, _said(measured))


def run_phone(photographs: str, count: int) -> Run:
    """Publish photographs, export their model for a phone, and try the file."""
    with TemporaryDirectory(prefix="orchard-benchmark-") as output:
        arguments = ("--output", output)
        measure("spark_job", "--images", photographs, *arguments, "--batch", "benchmark")
        measured = measure("benchmarks.phone", "--photographs", photographs, *arguments)
    return _run("exported file", count, measured, _said(measured))


def _run_rival(program: str, module: str, images: Images, size: int, weights: str) -> Run:
    with TemporaryDirectory(prefix="orchard-benchmark-") as output:
        arguments = ("--images", str(images), "--weights", weights, "--output", f"{output}/vectors")
        measured = measure(module, *arguments)
    return _run(program, size, measured, _said(measured))


def _said(measured: Measurement) -> dict[str, Any]:
    """What a program says of itself in its last line."""
    said: dict[str, Any] = json.loads(measured.output.splitlines()[-1])
    return said


def _run(
    program: str, size: int, measured: Measurement, details: dict[str, Any] | None = None
) -> Run:
    LOGGER.info("%-45s %10d %7.1f s", program, size, measured.seconds)
    return Run(
        program,
        size,
        measured.seconds,
        measured.peak_bytes,
        details or {},
        measured.cpu_seconds,
    )
