"""Settling and publishing a run of many parts on a disk."""

from __future__ import annotations

import argparse
import json
import secrets
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from spark_job import contract, runs, tables
from spark_job.arrow import spare_pandas
from spark_job.claims import now
from spark_job.objects import open_folder
from spark_job.receipt_tables import write_parts, write_receipt
from spark_job.receipts import (
    Clock,
    Counts,
    Digests,
    EngineReceipt,
    ModelReceipt,
    PartReceipt,
    RunReceipt,
    processor,
    versions,
)

if TYPE_CHECKING:
    from spark_job.claims import Claim

PART_BYTES = b"PAR1" * 256


def main() -> None:
    """Settle a run of so many parts; prints what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settling", description=main.__doc__)
    parser.add_argument("--parts", type=int, required=True)
    parts = parser.parse_args().parts
    spare_pandas()
    with TemporaryDirectory(prefix="orchard-benchmark-") as output:
        claim = runs.claim_run(open_folder(output), "batch", "run", "/images", "synthetic")
        receipts = [_write_part(claim, part) for part in range(parts)]
        print(json.dumps({"parts": parts, "seconds": settle(claim, receipts)}))


def settle(claim: Claim, receipts: list[PartReceipt]) -> dict[str, float]:
    """Do what the job does with its parts' files when the last vector is written."""
    files = []
    for one in receipts:
        for table, name in ((contract.FEATURES, one.features), (contract.REJECTS, one.rejects)):
            files.append((f"{table}/{name}", f"{table}/{tables.part_name(one.part)}"))
    clock = Clock()
    runs.copy_files(claim, files)
    clock.lap("copy")
    write_parts(claim.results, receipts)
    receipt = _receipt(claim, receipts)
    write_receipt(claim.results, receipt)
    runs.require_complete(claim, files)
    runs.settle(claim, receipt)
    clock.lap("receipts")
    runs.publish(claim.output, receipt)
    clock.lap("publish")
    runs.clean_up(claim)
    claim.release()
    clock.lap("clean up")
    settled = claim.results / contract.FEATURES
    if len(settled.files()) != len(receipts):
        raise SystemExit(f"{settled.uri} has not the {len(receipts):,} parts")
    return clock.seconds | {"total": clock.total}


def _write_part(claim: Claim, part: int) -> PartReceipt:
    """Leave in the work folder what a worker leaves there, with few bytes in it."""
    attempt = secrets.token_hex(8)
    name = tables.attempt_name(part, attempt)
    for table in (contract.FEATURES, contract.REJECTS):
        claim.work.write(f"{table}/{name}", PART_BYTES)
    receipt = PartReceipt(
        part=part,
        attempt=attempt,
        features=name,
        rejects=name,
        counts=Counts(listed=1024, computed=1023, rejected=1, rejects={"truncated": 1}),
        digests=Digests(),
        seconds={"read": 0.1, "decode": 1.0, "infer": 5.0, "write": 0.1},
        processor=processor(),
        versions=versions(),
    )
    claim.work.write(f"{contract.PARTS}/part-{part:05d}-{attempt}.json", receipt.to_json())
    return receipt


def _receipt(claim: Claim, receipts: list[PartReceipt]) -> RunReceipt:
    listed = sum(one.counts.listed for one in receipts)
    return RunReceipt(
        batch=claim.batch,
        run=claim.run,
        images="/images",
        output=claim.output.uri,
        results=claim.results.uri,
        started=claim.started,
        finished=now(),
        counts=Counts(listed=listed, computed=listed - len(receipts), rejected=len(receipts)),
        digests=Digests(),
        model=ModelReceipt(
            model="synthetic",
            k=200,
            n=listed,
            rule={"components": 200},
            standardize=True,
            variance_kept=0.9,
            variance_kept_here=0.9,
            largest_z=9.0,
            reused=False,
        ),
        engine=EngineReceipt("processes", 2),
        network="synthetic",
        extractor="synthetic",
        processors={processor(): len(receipts)},
        images_per_second=1.0,
        seconds={"total": 1.0},
        seconds_in_workers={},
        settings={},
        versions=versions(),
    )


if __name__ == "__main__":
    main()
