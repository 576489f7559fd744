"""The job's command line, checked before anything is read or started."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from spark_job import networks
from spark_job.contract import NONE, PCA, WHICH_FINDINGS
from spark_job.engines import submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_VARIANCE = 0.80

LOCAL = "local[*,4]"

LONGEST_BATCH = 64
"""Characters of a batch's name."""

EPILOG = """\
Every option also has a form with a value, for callers that cannot leave one out: --csv false,
--standardize true, --components none.

exit codes:
  0    success: the run is published, or a later run of the batch is
  1    failure: the message says what happened
  2    wrong arguments, or arguments that point to something unusable
  3    no images to work on (none listed, or too few usable ones for a PCA)
  4    more images were rejected than --max-reject-rate allows, or more are in formats that are not
       taken (HEIC, raw files) than could be used; nothing is published
  5    S3 was busy or out of reach for long, or the credentials expired; nothing is published, and
       the same command may succeed later
  130  interrupted; nothing is published

A failed run leaves its reason in OUTPUT/work/BATCH/RUN/failure.json.
"""


@dataclass(frozen=True)
class JobSettings:
    """One run's settings; the command line's own help says what each means."""

    images: str
    output: str
    batch: str
    run: str
    engine: str | None = None
    network: str = networks.DEFAULT
    manifest: str | None = None
    corrections: str | None = None
    variance: float | None = None
    default_variance: float = DEFAULT_VARIANCE
    components: int | None = None
    standardize: bool | None = None
    pca: str = "auto"
    model: str | None = None
    max_reject_rate: float = 0.05
    allow_unsupported: bool = False
    max_pixels: int = 64_000_000
    full_decode: bool = False
    again: bool = False
    findings: str = WHICH_FINDINGS[0]
    csv: bool = False
    master: str = LOCAL
    billed_since: str | None = None
    nodes: int | None = None
    node_price: float | None = None
    primary_price: float | None = None

    @property
    def rule(self) -> dict[str, Any]:
        """How many components to keep, as `pca.fit` takes it; empty where it was left open."""
        if self.components is not None:
            return {"components": self.components}
        return {} if self.variance is None else {"variance": self.variance}


def parse_args(
    argv: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None
) -> JobSettings:
    """Read `argv` (default: the process's own).

    Parameters
    ----------
    argv
        The command line.
    parser
        `make_parser`'s, of a kind that refuses in another way.

    Raises
    ------
    SystemExit
        With code 2 and a sentence on stderr where an argument is wrong.
    """
    parser = parser or make_parser()
    arguments = vars(parser.parse_args(argv))
    # What was said to be none, or not said, has the default.
    given = {name: value for name, value in arguments.items() if value is not None}
    if given.get("variance") is not None and given.get("components") is not None:
        parser.error(
            "--variance and --components each say how many components to keep; say one of them"
        )
    if given.get("model") is not None and given.get("pca") != "reuse":
        parser.error("--model says which model --pca reuse takes; say that too")
    engine = given.get("engine") or ("spark" if submitted() else "processes")
    if "master" in given and engine == "processes":
        parser.error("--master is Spark's; say --engine spark with it, or leave it out")
    return JobSettings(**({"run": new_run()} | given))


def name_batch(images: str) -> str:
    """Make a batch's name of the folder's, local or in S3."""
    folder = images if "://" in images else str(Path(images).resolve())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.rstrip("/").rpartition("/")[2])
    return name.strip("-._")[:LONGEST_BATCH] or "batch"


def new_run() -> str:
    """Name a run by the time it starts, UTC."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def make_parser(kind: type[Parser] | None = None) -> argparse.ArgumentParser:
    """Make the parser; its every option but the first three may be left out or be ``none``."""
    parser = (kind or Parser)(
        prog="python -m spark_job",
        description="Turn a batch of photographs into a network's features and PCA vectors.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    required = {"required": True}
    _add(parser, "images", _text, "the batch's folder, local or s3://", metavar="URI", **required)
    _add(
        parser,
        "output",
        _text,
        "where work/, results/ and models/ are written, local or s3://",
        metavar="URI",
        **required,
    )
    _add(parser, "batch", _identifier("batch", LONGEST_BATCH), "the batch's name", **required)
    _add(
        parser,
        "run",
        _optional(_identifier("run", 128)),
        "this run's name (default: the time it starts, UTC)",
    )
    _add(
        parser,
        "engine",
        _optional(_choice("engine", ("processes", "spark"))),
        "where the work is done: processes of this machine (default), or spark (default where "
        "spark-submit started the job)",
        metavar="NAME",
    )
    _add(
        parser,
        "network",
        _optional(_text),
        f"the network that gives the features: {', '.join(networks.names())} "
        f"(default {networks.DEFAULT})",
        metavar="NAME",
    )
    _add(
        parser,
        "manifest",
        _optional(_text),
        "CSV or Parquet with a column `path` (relative to --images), instead of listing",
        metavar="URI",
    )
    _add(
        parser,
        "corrections",
        _optional(_text),
        "CSV with the columns path, action and label, as saved from a report: images to drop, and "
        "images to relabel",
        metavar="URI",
    )
    _add(
        parser,
        "variance",
        _optional(_number("variance", float, 0.0, 1.0, above=True)),
        "keep as many components as explain this share of the variance "
        f"(default {DEFAULT_VARIANCE:.2f})",
        metavar="RATIO",
    )
    _add(
        parser,
        "default-variance",
        _optional(_number("default-variance", float, 0.0, 1.0, above=True)),
        "what a new model keeps where neither --variance nor --components is said; a model that is "
        f"reused may be of another rule (default {DEFAULT_VARIANCE:.2f})",
        metavar="RATIO",
    )
    _add(
        parser,
        "components",
        _optional(_number("components", int, 1, 100_000)),
        "keep K components, at most as many as the network has features",
        metavar="K",
    )
    _add_flag(parser, "standardize", "PCA of the standardized features (correlation; the default)")
    parser.add_argument(
        "--no-standardize",
        dest="standardize",
        action="store_false",
        default=None,
        help="PCA of the centred features (covariance) instead",
    )
    _add(
        parser,
        "pca",
        _optional(_choice("pca", PCA)),
        "auto (default): the current model of OUTPUT, so that batches compare, or a new one where "
        "there is none; fit: a new model from this batch; reuse: the current model, or --model; "
        "update: a new model from this batch and those of the current one",
        metavar="|".join(PCA),
    )
    _add(
        parser,
        "model",
        _optional(_identifier("model", 64)),
        "the model that --pca reuse takes (default: the current one)",
        metavar="ID",
    )
    _add(
        parser,
        "max-reject-rate",
        _optional(_number("max-reject-rate", float, 0.0, 1.0)),
        "fail if a larger share of the images is rejected (default 0.05)",
        metavar="RATIO",
    )
    _add_flag(
        parser,
        "allow-unsupported",
        "publish although more images are in formats that are not taken (HEIC, raw files) than "
        "could be used; they do not count as rejected",
    )
    _add(
        parser,
        "max-pixels",
        _optional(_number("max-pixels", int, 1, 1_000_000_000)),
        "reject an image of more pixels before decoding it (default 64000000)",
        metavar="N",
    )
    _add_flag(
        parser,
        "full-decode",
        "decode every pixel of a large JPEG, not the fewest that the network needs; slower, and "
        "another extractor: batches with and without it do not compare",
    )
    _add_flag(
        parser,
        "again",
        "compute every image anew, also those that earlier runs of the batch know",
    )
    _add(
        parser,
        "findings",
        _choice("findings", WHICH_FINDINGS),
        "all (default): also the tables of what a person should look at (copies, doubtful labels, "
        "outliers, where to begin), and the report; none: leave them out",
        metavar="all|none",
    )
    _add_flag(parser, "csv", "also write the vectors as one CSV")
    _add(
        parser,
        "master",
        _optional(_text),
        "Spark master when spark-submit does not say (default: all cores of this machine, four "
        f"tries per task, {LOCAL})",
    )
    _add(
        parser,
        "billed-since",
        _optional(_moment),
        "since when a cluster is paid for, as 2026-11-20T18:00:00Z: with the next three, the "
        "receipt estimates what the run costs",
        metavar="TIME",
    )
    _add(
        parser, "nodes", _optional(_number("nodes", int, 1, 10_000)), "nodes beside the primary one"
    )
    for name, what in (("node", "a node"), ("primary", "the primary node")):
        _add(
            parser,
            f"{name}-price",
            _optional(_number(f"{name}-price", float, 0.0, 1_000.0)),
            f"US dollars for an hour of {what}",
            metavar="USD",
        )
    return parser


class Parser(argparse.ArgumentParser):
    """Suggests what was meant where an option is not known."""

    def error(self, message: str) -> NoReturn:
        """End with a sentence, and with what was meant where that can be told."""
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if unknown is not None:
            known = [name for action in self._actions for name in action.option_strings]
            meant = difflib.get_close_matches(unknown[1], known, 1)
            hint = f"did you mean {meant[0]}?" if meant else "--help lists the options"
            message = f"there is no option {unknown[1]}; {hint}"
        self.refuse(message)

    def refuse(self, message: str) -> NoReturn:
        """End with a sentence."""
        super().error(message)


def _add(
    parser: argparse.ArgumentParser,
    name: str,
    kind: Callable[[str], Any],
    text: str,
    **more: Any,
) -> None:
    parser.add_argument(f"--{name}", type=kind, help=text, **more)


def _add_flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    kind = _optional(_truth(name))
    _add(parser, name, kind, text, nargs="?", const=True, metavar="true|false")


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"a time is like 2026-11-20T18:00:00Z, with its zone; not {text!r}"
        )
    return text


def _optional(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text.lower() == NONE else kind(text)


def _truth(name: str) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise argparse.ArgumentTypeError(f"{name} is true or false; not {text!r}")
        return text.lower() == "true"

    return check


def _choice(name: str, choices: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(
                f"{name} is {', '.join(choices[:-1])} or {choices[-1]}; not {text!r}"
            )
        return text

    return check


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
