"""The job's command line, checked before anything is read or started."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FEATURES = 1280
"""Features per image, and so the largest possible number of components."""

DEFAULT_VARIANCE = 0.80

LOCAL = "local[*,4]"

EPILOG = """\
exit codes:
  0    success: the run is published
  1    failure: the message says what happened
  2    wrong arguments, or arguments that point to something unusable
  3    no images to work on (none listed, or too few usable ones for a PCA)
  4    more images were rejected than --max-reject-rate allows; nothing is published
  130  interrupted; nothing is published

A failed run leaves its reason in OUTPUT/results/BATCH/runs/RUN/failure.json.
"""


@dataclass(frozen=True)
class JobSettings:
    """One run's settings; the command line's own help says what each means."""

    images: str
    output: str
    batch: str
    run: str
    manifest: str | None = None
    variance: float | None = None
    components: int | None = None
    standardize: bool = True
    pca: str = "auto"
    max_reject_rate: float = 0.05
    max_pixels: int = 64_000_000
    csv: bool = False
    master: str = LOCAL

    @property
    def rule(self) -> dict[str, Any]:
        """How many components to keep, as `pca.fit` takes it; empty where it was left open."""
        if self.components is not None:
            return {"components": self.components}
        return {} if self.variance is None else {"variance": self.variance}


def parse_args(argv: Sequence[str] | None = None) -> JobSettings:
    """Read `argv` (default: the process's own).

    Raises
    ------
    SystemExit
        With code 2 and a sentence on stderr where an argument is wrong.
    """
    arguments = vars(_parser().parse_args(argv))
    if arguments["run"] is None:
        arguments["run"] = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return JobSettings(**arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spark_job",
        description="Turn a batch of photographs into MobileNetV2 features and PCA vectors.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--images", required=True, metavar="URI", help="the batch's folder, local or s3://"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="URI",
        help="where results/ and models/ are written, local or s3://",
    )
    parser.add_argument(
        "--batch", required=True, type=_identifier("batch", 64), help="the batch's name"
    )
    parser.add_argument(
        "--run",
        type=_identifier("run", 128),
        help="this run's name (default: the time it starts, UTC)",
    )
    parser.add_argument(
        "--manifest",
        metavar="URI",
        help="CSV or Parquet with a column `path` (relative to --images), instead of listing",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--variance",
        type=_number("variance", float, 0.0, 1.0, above=True),
        metavar="RATIO",
        help="keep as many components as explain this share of the variance (default 0.80)",
    )
    size.add_argument(
        "--components",
        type=_number("components", int, 1, FEATURES),
        metavar="K",
        help=f"keep K components (1 to {FEATURES})",
    )
    parser.add_argument(
        "--no-standardize",
        dest="standardize",
        action="store_false",
        help="PCA of the centred features (covariance) instead of the standardized (correlation)",
    )
    parser.add_argument(
        "--pca",
        choices=("auto", "fit"),
        default="auto",
        help="fit: a new model from this batch; auto (default): the current model of OUTPUT, "
        "so that batches compare, or a new one where there is none",
    )
    parser.add_argument(
        "--max-reject-rate",
        type=_number("max-reject-rate", float, 0.0, 1.0),
        default=0.05,
        metavar="RATIO",
        help="fail if a larger share of the images is rejected (default 0.05)",
    )
    parser.add_argument(
        "--max-pixels",
        type=_number("max-pixels", int, 1, 1_000_000_000),
        default=64_000_000,
        metavar="N",
        help="reject an image of more pixels before decoding it (default 64000000)",
    )
    parser.add_argument("--csv", action="store_true", help="also write the vectors as one CSV")
    parser.add_argument(
        "--master",
        default=LOCAL,
        help="Spark master when spark-submit does not say (default: all cores of this machine, "
        f"four tries per task, {LOCAL})",
    )
    return parser


def _identifier(name: str, longest: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if len(text) > longest or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
            raise argparse.ArgumentTypeError(
                f"a {name} name is 1 to {longest} letters, digits, '.', '_' or '-', "
                f"the first a letter or digit; not {text!r}"
            )
        return text

    return check


def _number(
    name: str, kind: type[float], low: float, high: float, *, above: bool = False
) -> Callable[[str], float]:
    def check(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(
                f"{name} is {'a whole number' if kind is int else 'a number'} "
                f"{'above' if above else 'from'} {low} {'and at most' if above else 'to'} "
                f"{high}; not {text!r}"
            )
        return value

    return check
