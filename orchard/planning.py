"""How long a batch takes and what it costs, here and on a cluster, from some of its own pictures.

The job itself runs over a sample, spread over the listing, on every core of this machine at once,
into a folder that is thrown away. Of a larger batch the time of each picture is what grows; all
else of the sample's run is what any run costs. Reading and decoding go with the bytes of a picture,
of which the listing knows all; the network takes the same time for each.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from spark_job import pipeline, prices
from spark_job.dollars import SHUT_DOWN_SECONDS
from spark_job.engines.processes import cores
from spark_job.errors import NoImagesError, UsageError
from spark_job.listing import SMALL_PART, list_images, require_folder
from spark_job.objects import open_folder
from spark_job.receipts import processor
from spark_job.report.making import report_after
from spark_job.settings import JobSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spark_job.listing import Listing
    from spark_job.receipts import RunReceipt

SAMPLE = 192
"""Pictures that are measured, of small ones; more where there are many cores."""

PER_CORE = 8
"""Least pictures of each core."""

SAMPLE_BYTES = 300_000_000
"""About how much of them, of large ones."""

FEWEST = 32
"""Pictures that are measured however large they are."""

PER_IMAGE = 0.0002
"""Seconds of a core for writing the rows of an image, its moments and its vector, in parts of the
usual size; see CONTRIBUTING.md and benchmarks/RESULTS.md."""

REQUEST = 0.0002
"""Seconds of a core for reading a small image from S3; see benchmarks/RESULTS.md."""

SPARK_SHARE = 0.95
"""Of the rate of plain processes that Spark reaches on the same cores; see there too."""

SPARK_START = 30.0
"""Seconds that Spark takes on a cluster, and the job beside its images."""

READY = 660.0
"""Seconds from a cluster's creation until it is ready: with Spark's start and the cluster's end the
quarter of an hour that docs/operating.md assumes of a small batch."""

VOLUME_GIB = 64
"""Of a node's disk; a deployment's default."""

LONG = 3600.0
"""Seconds from which on it is worth thinking about a cluster."""

BY_BYTES = ("read", "decode")
"""Stages that go with the bytes of a picture."""

BY_PART = ("write",)
"""Stages of which most does not depend on how many pictures a part has."""

_TYPE = re.compile(r"([a-z]\w*)\.(\d*)xlarge")
_GRAVITON = re.compile(r"\d+g")


@dataclass(frozen=True)
class Cluster:
    """Nodes that a batch might run on.

    Attributes
    ----------
    instance_type
        Of each.
    nodes
        Beside the primary one.
    region
        Whose prices are taken.
    per_hour
        US dollars for all of them, at list prices on demand; None where one is not on the list.
    """

    instance_type: str
    nodes: int
    region: str
    per_hour: float | None

    @classmethod
    def of(cls, instance_type: str, nodes: int, price: float | None) -> Cluster:
        """Look a cluster up.

        Parameters
        ----------
        instance_type, nodes
            Its nodes, beside the primary one.
        price
            US dollars for an hour of one; None for the list's.

        Raises
        ------
        UsageError
            Where that is no type of a cluster.
        """
        if _TYPE.fullmatch(instance_type) is None:
            raise UsageError(
                f"--on takes an instance type from xlarge on, such as m6i.xlarge; not "
                f"{instance_type!r}"
            )
        asked = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        region = asked if prices.priced_types(asked) else "eu-west-1"
        primary = prices.node_price(region, primary_type(instance_type), VOLUME_GIB)
        node = prices.node_price(region, instance_type, VOLUME_GIB) if price is None else price
        if node is None or primary is None:
            return cls(instance_type, nodes, region, None)
        return cls(instance_type, nodes, region, primary + nodes * node)

    @property
    def cores(self) -> int:
        """Virtual processors of all nodes but the primary one: four for each xlarge."""
        found = _TYPE.fullmatch(self.instance_type)
        return self.nodes * 4 * int((found and found[2]) or 1)


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    images, bytes
        Of the whole listing; bytes where they are known.
    listing
        Seconds that it took.
    sample, featurized
        Pictures that were tried, and that could be used.
    cores
        That worked at the same time.
    processor
        Their kind.
    start
        Seconds of any run, however small: its report's, which grows little, among them.
    per_image
        Seconds of a core by stage, for an average picture of the batch.
    """

    images: int
    bytes: int
    listing: float
    sample: int
    featurized: int
    cores: int
    processor: str
    start: float
    per_image: dict[str, float]

    @property
    def core_seconds(self) -> float:
        """Of an average picture, on this machine."""
        return sum(self.per_image.values()) + PER_IMAGE

    @property
    def here(self) -> float:
        """Seconds of a run on this machine."""
        return self.start + self.listing + self.images * self.core_seconds / self.cores

    def seconds_on(self, cluster: Cluster) -> float:
        """Seconds from a cluster's creation until the batch is published."""
        work = sum(self.per_image.values()) - self.per_image.get("read", 0.0)
        each = (work + PER_IMAGE + REQUEST) / SPARK_SHARE
        return READY + SPARK_START + self.images * each / cluster.cores

    def break_even(self, cluster: Cluster) -> int | None:
        """From how many such images on a cluster is faster; None where it never is."""
        empty = replace(self, images=0)
        each = self.core_seconds / self.cores
        there = (self.seconds_on(cluster) - empty.seconds_on(cluster)) / max(self.images, 1)
        if there >= each:
            return None
        return max(0, round((empty.seconds_on(cluster) - empty.here) / (each - there)))


@dataclass(frozen=True)
class Plan:
    """What to expect.

    Attributes
    ----------
    measured, cluster
        What it is made from.
    here, there
        Seconds until the batch is published.
    dollars
        There, until no node is paid for any more; None where a price is not known.
    break_even
        See `Measured.break_even`.
    worth_it
        Whether the batch takes long here, and a cluster less than half of that.
    """

    measured: Measured
    cluster: Cluster
    here: float
    there: float
    dollars: float | None
    break_even: int | None
    worth_it: bool


def primary_type(instance_type: str) -> str:
    """Return the primary node's type: a deployment's default for the same kind of processor."""
    return "m6g.xlarge" if _GRAVITON.search(instance_type) else "m5.xlarge"


def plan(measured: Measured, cluster: Cluster) -> Plan:
    """Say how long a batch takes, here and on a cluster, and what it costs there."""
    here, there = measured.here, measured.seconds_on(cluster)
    paid = None
    if cluster.per_hour is not None:
        paid = round((there + SHUT_DOWN_SECONDS) / 3600 * cluster.per_hour, 2)
    return Plan(
        measured=measured,
        cluster=cluster,
        here=here,
        there=there,
        dollars=paid,
        break_even=measured.break_even(cluster),
        worth_it=here > LONG and there < here / 2,
    )


def measure(
    images: str, *, sample: int | None = None, settings: dict[str, Any] | None = None
) -> Measured:
    """Run the job over a sample of a batch.

    Parameters
    ----------
    images
        The batch's folder, local or ``s3://``.
    sample
        How many pictures; None for as many as are worth it.
    settings
        Of the job, where they are to be others than its defaults.

    Raises
    ------
    JobError
        Where the folder or too few of its pictures can be used.
    """
    imported = process_time()  # what this process has done so far, a run of the job does too
    folder = open_folder(images)
    require_folder(folder)
    started = perf_counter()
    listing = list_images(folder)
    listed = perf_counter() - started
    if not len(listing):
        raise NoImagesError(f"no images in {folder.uri}; name a folder with pictures below it")
    chosen = _choose(listing, sample)
    with TemporaryDirectory(prefix="orchard-plan-") as place, _quietly():
        parquet.write_table(pa.table({"path": chosen["path"]}), f"{place}/sample.parquet")
        receipt = pipeline.run(
            JobSettings(
                **(settings or {}),
                images=images,
                output=f"{place}/out",
                batch="sample",
                run="sample",
                manifest=f"{place}/sample.parquet",
                max_reject_rate=1.0,
                allow_unsupported=True,
                engine="processes",
            )
        )
        started = perf_counter()
        report_after(open_folder(receipt.output), receipt.batch, receipt.run)
        reported = perf_counter() - started
    return _measured(listing, chosen, receipt, imported + reported, listed)


def _choose(listing: Listing, sample: int | None) -> pa.Table:
    """Choose pictures at even distances in the order of paths, so that each label has its share."""
    if sample is None:
        affordable = int(SAMPLE_BYTES / max(listing.mean_bytes, 1.0))
        sample = _evenly(max(FEWEST, min(max(SAMPLE, PER_CORE * cores()), affordable)), cores())
    size = min(sample, len(listing))
    middles = (np.arange(size) + 0.5) * len(listing) / size
    wanted = np.zeros(len(listing), dtype=bool)
    wanted[middles.astype(int)] = True
    return listing.only(wanted).rows(0, size)


def _evenly(sample: int, workers: int) -> int:
    """Round down to one part for each of several workers, so that they end together."""
    each = max(1, sample // workers)
    return workers * min(each, SMALL_PART) if workers > 1 else sample


def _measured(
    listing: Listing, chosen: pa.Table, receipt: RunReceipt, beside: float, listed: float
) -> Measured:
    """Divide what the sample's run took, and `beside` it, into what grows with a batch or not."""
    size, slots = len(chosen), receipt.engine.slots
    work = receipt.seconds_in_workers
    mean, of_sample = listing.mean_bytes, pc.mean(chosen["bytes"]).as_py() or 0.0
    scale = mean / of_sample if mean and of_sample else 1.0
    per_image = {
        stage: seconds / size * (scale if stage in BY_BYTES else 1.0)
        for stage, seconds in work.items()
        if stage not in BY_PART
    }
    growing = sum(seconds for stage, seconds in work.items() if stage not in BY_PART)
    start = beside + receipt.seconds["total"] - growing / min(slots, size)
    return Measured(
        images=len(listing),
        bytes=round(mean * len(listing)),
        listing=listed,
        sample=size,
        featurized=receipt.counts.featurized,
        cores=slots,
        processor=processor(),
        start=start,
        per_image=per_image,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the job's words of the sample's run to itself: they are of no batch."""
    logger = logging.getLogger("orchard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
