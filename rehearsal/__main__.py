"""Rehearse the deployed pipeline on this machine: ``make rehearsal [IMAGES=/path/to/images]``."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.planting import plant
from demo.synthetic import make_batch
from rehearsal.local_cloud import LocalCloud
from rehearsal.story import Story
from spark_job.contract import (
    CURRENT,
    IMAGES,
    MODELS,
    READY,
    REPORT,
    RUN,
    results_folder,
    run_folder,
)
from spark_job.receipts import RunReceipt
from spark_job.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "out" / "rehearsal"
STARTED = time.monotonic()
PACE = 15
"""How many times shorter than deployed the state machines wait: for nodes that are here at once."""


def main() -> int:
    """Deploy, upload, start, follow, fetch, and say what came out."""
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.filterwarnings("ignore", module="moto")
    images, batch = _batch(arguments.images)
    folder = Path(tempfile.mkdtemp(prefix="orchard-rehearsal-"))
    try:
        with LocalCloud(folder, narrate=_say, pace=PACE) as cloud:
            return _rehearse(cloud, images, batch, arguments.input)
    finally:
        if arguments.keep:
            _say(f"everything is left in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; ``input`` is what the execution says besides the batch."""
    parser = argparse.ArgumentParser(prog="make rehearsal")
    parser.add_argument("--images", type=Path, help="a folder of LABEL/FILE images")
    parser.add_argument(
        "--input",
        # Words: where JSON has spaces, `make` lets the shell part it.
        nargs="+",
        default=["{}"],
        metavar="JSON",
        help="""what the execution says besides the batch, such as {"components":20}; without it
        the batch's marker starts it""",
    )
    parser.add_argument("--keep", action="store_true", help="keep the work folder, logs included")
    arguments = parser.parse_args(words)
    if any(map(str.isspace, str(ROOT))):
        parser.error(f"YARN starts nothing from a path with a space; move {str(ROOT)!r}")
    text = " ".join(arguments.input)
    try:
        arguments.input = json.loads(text)
    except ValueError:
        arguments.input = None
    if not isinstance(arguments.input, dict):
        parser.error(f'--input is a JSON object such as {{"components":20}}; not {text!r}')
    return arguments


def _rehearse(cloud: LocalCloud, images: Path, batch: str, given: dict[str, Any]) -> int:
    _say(f"{cloud.upload(images, batch)} images uploaded to s3://{cloud.bucket}/{IMAGES}/{batch}/")
    if given:
        given = {"batch": batch, **given}
        _say(f"starting an execution with {json.dumps(given)}")
        arn = cloud.start_execution(given, f"{batch}.1")
    else:
        _say(f"writing {IMAGES}/{batch}/{READY}, which starts the batch")
        cloud.mark_ready(batch)
        arn = cloud.first_execution(batch)
    Story(cloud, arn, _say).follow()
    outcome = cloud.outcome(arn)
    for message in cloud.messages():
        _say(f"SNS: {message}")
    if outcome.status != "SUCCEEDED":
        print(f"rehearsal: the execution is {outcome.status}: {outcome.cause}", file=sys.stderr)
        return 1
    for folder in (results_folder(batch), MODELS):
        cloud.fetch(f"{folder}/", OUTPUT)
    print(f"\n{published(OUTPUT, batch)}")
    return 0


def published(output: Path, batch: str) -> str:
    """Summarize the published run of a batch that was fetched into a folder."""
    pointer = output / results_folder(batch) / CURRENT
    current = json.loads(pointer.read_text(encoding="utf-8"))
    run = output / run_folder(batch, current["run"])
    receipt = RunReceipt.from_json((run / RUN).read_bytes(), str(run / RUN))
    report = run / REPORT
    summary = summarize(receipt, str(report) if report.exists() else None)
    return f"{summary}\n\nFetched to {run}"


def _batch(images: Path | None) -> tuple[Path, str]:
    if images is None:
        folder = OUTPUT / "synthetic-fruit"
        _say(f"no IMAGES given: drawing a synthetic batch in {folder}")
        make_batch(folder)
        plant(folder)
        return folder, "synthetic-fruit"
    folder = images.expanduser().resolve()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-._")[:64]
    return folder, name or "batch"


def _say(line: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s  {line}", flush=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
