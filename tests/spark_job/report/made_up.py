"""Results of runs that never were, as large and as odd as a test needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job.findings.card import FindingsCard
from spark_job.receipts import (
    Counts,
    Digests,
    EngineReceipt,
    ModelReceipt,
    RunReceipt,
)
from spark_job.report.results import AXES, MAPPED, MapPoints, Results

if TYPE_CHECKING:
    from spark_job.drift import DriftCard

VOTERS = 10
TYPICAL = 8


def card(**changes: Any) -> FindingsCard:
    """A card of a batch in which nothing was found."""
    nothing = FindingsCard(
        images=1000,
        identical=0,
        identical_groups=0,
        near=0,
        near_share=0.0,
        near_groups=0,
        duplicates_listed=0,
        duplicates_left_out=0,
        suspects=0,
        outliers=0,
        selected=500,
        radius=0.3,
        labels=4,
        cells=1,
        recall=1.0,
        seconds=0.5,
    )
    return replace(nothing, **changes)


def receipt(
    counts: Counts | None = None,
    findings: FindingsCard | None = None,
    drift: DriftCard | None = None,
    **changes: Any,
) -> RunReceipt:
    """A receipt of a batch of a thousand images of which each could be used."""
    model = ModelReceipt(
        model="0123456789abcdef",
        k=40,
        n=1000,
        rule={"variance": 0.8},
        standardize=True,
        variance_kept=0.8,
        variance_kept_here=0.8,
        largest_z=9.0,
        reused=False,
    )
    plain = RunReceipt(
        batch="monday",
        run="20261126T080000.000000Z",
        images="/images/monday",
        output="/out",
        results="/out/results/monday/runs/20261126T080000.000000Z",
        started="2026-11-26T08:00:00Z",
        finished="2026-11-26T08:00:30Z",
        counts=counts or Counts(listed=1000, computed=1000),
        digests=Digests(),
        model=model,
        engine=EngineReceipt("processes", 2),
        network="mobilenet_v2",
        extractor="mobilenet_v2-0123456789abcdef",
        processors={"abacus": 1},
        images_per_second=33.3,
        seconds={"total": 30.0},
        seconds_in_workers={},
        settings={},
        versions={"orchard": "0.1.0"},
        drift=drift,
        findings=findings,
    )
    return replace(plain, **changes)


def results(n: int, labels: int, *, seed: int = 0) -> Results:
    """Results of n images in which as much was found as the tables hold."""
    random = np.random.default_rng(seed)
    names = [f"Fruit of a kind {number:03d}" for number in range(labels)]
    label = [names[number] for number in random.integers(0, labels, n)]
    numbers = random.integers(0, 100_000_000, n)
    path = [f"{name}/IMG_{number:08d}.jpg" for name, number in zip(label, numbers, strict=True)]
    shown = min(n, MAPPED)
    vector = random.standard_normal((shown, AXES)).astype(np.float32)
    most = min(n, 10_000)

    def some(number: int) -> list[str]:
        return [path[at] for at in random.integers(0, n, number)]

    def about(at: int) -> dict[str, Any]:
        return {"rank": at + 1, "path": path[at], "label": label[at], "distance": 0.1}

    suspects = [
        about(at)
        | {"suggested": names[0], "votes": 9, "votes_own": 1, "cast": 10, "voters": some(VOTERS)}
        for at in range(most)
    ]
    duplicates = [
        about(at)
        | {"group": at // 3, "kind": "near", "keep": at % 3 == 0, "pixels": 1, "bytes": 1}
        | {"sha256": f"{at:064x}", "bits": 2}
        for at in range(min(n, 20_000))
    ]
    outliers = [
        about(at) | {"reason": "unlike the others", "share": 0.1, "z": 3.0, "nearest": path[-at]}
        for at in range(min(n, 1_000))
    ]
    table = [
        {"label": name, "n": label.count(name), "spread": 0.2, "nearest": names[0]}
        | {"nearest_distance": 0.3, "agreeing": 0.9, "confused_with": names[0], "confused": 3}
        | {"typical": some(TYPICAL), "least_typical": some(TYPICAL)}
        for name in names
    ]
    rejects = [
        {"path": f"{names[0]}/bad {at}.jpg", "label": names[0], "bytes": 9, "version": "1"}
        | {"stage": "decode", "reason": "truncated", "detail": "OSError: it ends too soon"}
        for at in range(min(n, 2_000))
    ]
    counts = Counts(
        listed=n + len(rejects),
        computed=n,
        rejected=len(rejects),
        rejects={"truncated": len(rejects)},
    )
    found = card(
        images=n,
        suspects=len(suspects),
        near_groups=len(duplicates) // 3,
        outliers=len(outliers),
        labels=labels,
    )
    return Results(
        receipt=receipt(counts, found),
        model=None,
        shares=np.full(1280, 1 / 1280),
        rejects=rejects,
        findings={
            "suspects": suspects,
            "duplicates": duplicates,
            "outliers": outliers,
            "selection": [about(at) for at in range(min(n, 500))],
            "labels": table,
        },
        points=MapPoints(path[:shown], list(label[:shown]), vector),
    )
