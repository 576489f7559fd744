"""``python -m benchmarks``: measure the job against its ceiling and its rivals, in one run."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.collection import collection_section, run_collection
from benchmarks.finding import findings_section, run_findings
from benchmarks.from_s3 import from_s3_section, run_from_s3, skipped_section
from benchmarks.machine import describe_machine, describe_versions, is_busy
from benchmarks.measure import BenchmarkError
from benchmarks.order import run_engines, run_scale, sizes_of
from benchmarks.page import Context, put_into, render
from benchmarks.phone import phone_section, run_on_phone
from benchmarks.photographs import photographs_section, run_photographs
from benchmarks.planning import planning_section, run_planning
from benchmarks.poison import poison_section, run_poison
from benchmarks.report import engines_section, scale_section
from benchmarks.rows import require_space
from benchmarks.s3_server import NoServerError
from benchmarks.subset import Subsets, list_paths
from spark_job.errors import JobError
from spark_job.networks import load_provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.page import Section

LOGGER = logging.getLogger("benchmarks")


def main() -> int:
    """Run the programs of each section, print it and put it into the page."""
    arguments = _parser().parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    try:
        paths = list_paths(arguments.images) if arguments.images else []
        _check(arguments, len(paths))
        if is_busy():
            LOGGER.warning("this machine is busy already, which distorts the ratios")
        with TemporaryDirectory(prefix="orchard-benchmark-") as folder:
            subsets = Subsets(arguments.images, paths, Path(folder))
            for name in _chosen(arguments):
                _measure(
                    partial(SECTIONS[name], arguments, subsets, Path(folder)), arguments.output
                )
    except (BenchmarkError, JobError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; this section was not written", file=sys.stderr)
        return 130
    return 0


def _measure(run: Callable[[], Section], output: Path) -> None:
    """Run one section and write it at once: a later one may fail, hours from now."""
    machine = describe_machine()
    started = perf_counter()
    section = run()
    minutes = (perf_counter() - started) / 60
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    rendered = render(section, Context(date, minutes, machine, describe_versions()))
    print(rendered, flush=True)
    page = output.read_text("utf-8") if output.exists() else ""
    output.write_text(put_into(page, rendered), "utf-8")


def _engines(given: argparse.Namespace, subsets: Subsets, _folder: Path) -> Section:
    return engines_section(run_engines(given, subsets))


def _scale(given: argparse.Namespace, _subsets: Subsets, _folder: Path) -> Section:
    return scale_section(run_scale(given))


def _from_s3(given: argparse.Namespace, subsets: Subsets, folder: Path) -> Section:
    try:
        return from_s3_section(run_from_s3(given, subsets, folder))
    except NoServerError as error:
        return skipped_section(str(error))


def _photographs(given: argparse.Namespace, _subsets: Subsets, folder: Path) -> Section:
    return photographs_section(run_photographs(given, folder))


def _poison(given: argparse.Namespace, subsets: Subsets, _folder: Path) -> Section:
    return poison_section(run_poison(given, subsets))


def _phone(given: argparse.Namespace, _subsets: Subsets, _folder: Path) -> Section:
    return phone_section(run_on_phone(given))


def _collection(given: argparse.Namespace, subsets: Subsets, _folder: Path) -> Section:
    return collection_section(run_collection(given, subsets))


def _findings(given: argparse.Namespace, subsets: Subsets, _folder: Path) -> Section:
    return findings_section(run_findings(given, subsets))


def _planning(given: argparse.Namespace, subsets: Subsets, _folder: Path) -> Section:
    return planning_section(run_planning(given, subsets))


SECTIONS: dict[str, Callable[[argparse.Namespace, Subsets, Path], Section]] = {
    "engines": _engines,
    "scale": _scale,
    "s3": _from_s3,
    "photographs": _photographs,
    "poison": _poison,
    "phone": _phone,
    "collection": _collection,
    "findings": _findings,
    "plan": _planning,
}
"""What can be measured by itself, in the order in which it is."""

IMAGES_FOR = {"engines", "s3", "poison", "collection", "findings", "plan"}

PHOTOGRAPHS_FOR = {"photographs", "phone"}


def _chosen(arguments: argparse.Namespace) -> list[str]:
    """Name the sections that were asked for: all where none was, if there are photographs."""
    if arguments.only:
        return [name for name in SECTIONS if name in arguments.only]
    return [name for name in SECTIONS if name not in PHOTOGRAPHS_FOR or arguments.photographs]


def _check(arguments: argparse.Namespace, available: int) -> None:
    """Find what would otherwise fail after minutes."""
    chosen = _chosen(arguments)
    _check_needs(arguments, chosen)
    if not arguments.output.parent.is_dir():
        raise BenchmarkError(f"there is no folder {arguments.output.parent} to write to")
    if "engines" in chosen:
        _check_weights(arguments.weights)
        for sizes in sizes_of(arguments):
            _check_sizes(sizes, available, arguments.images)
        _check_size("--small", arguments.small, available, arguments.images)
    if "scale" in chosen:
        require_space(Path(gettempdir()), max(arguments.rows))
    if "s3" in chosen:
        _check_sizes(arguments.s3_sizes, available, arguments.images)
    if "photographs" in chosen:
        list_paths(arguments.photographs)
        for sizes in (arguments.photograph_sizes, arguments.large_sizes):
            _check_sizes(sizes, max(sizes), arguments.photographs)  # they are repeated
    if "collection" in chosen:
        size = arguments.collection_images
        _check_size("--collection-images", size, available, arguments.images)
    if "findings" in chosen:
        _check_sizes(arguments.finding_sizes, available, arguments.images)
        require_space(Path(gettempdir()), max(arguments.finding_rows))
    if "plan" in chosen:
        for size in arguments.plan_images:
            _check_size("--plan-images", size, available, arguments.images)
    if "poison" in chosen:
        size = arguments.poison_images
        _check_size("--poison-images", size, available, arguments.images)


def _check_needs(arguments: argparse.Namespace, chosen: list[str]) -> None:
    needs = {"images": IMAGES_FOR, "weights": {"engines"}, "photographs": PHOTOGRAPHS_FOR}
    for option, sections in needs.items():
        needing = [name for name in chosen if name in sections]
        if needing and not getattr(arguments, option):
            raise BenchmarkError(
                f"{' and '.join(needing)} cannot be measured without --{option}; give it, or "
                "choose other sections with --only"
            )


def _check_sizes(sizes: list[int], available: int, folder: str) -> None:
    if not 2 <= sizes[0] < sizes[1] <= available:
        raise BenchmarkError(
            f"sizes {sizes[0]} and {sizes[1]} are not a smaller and a larger number of images "
            f"from 2 to the {available:,} in {folder}"
        )


def _check_size(option: str, size: int, available: int, folder: str) -> None:
    if not 2 <= size <= available:
        raise BenchmarkError(
            f"{option} {size} is not a number of images from 2 to the {available:,} in {folder}"
        )


def _check_weights(path: str) -> None:
    try:
        found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise BenchmarkError(f"cannot read the weights {path}: {error}") from error
    weights = load_provenance()["weights"]
    if found != weights["sha256"]:
        raise BenchmarkError(
            f"{path} are not the weights of the job's network; take Keras' {weights['file']}"
        )


def _sections(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no section {unknown[0]!r}; they are {', '.join(SECTIONS)}"
        )
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument(
        "--only",
        type=_sections,
        metavar="SECTION,...",
        help=f"measure only these, of {', '.join(SECTIONS)}; the others stay on the page as they "
        "are (default: all, photographs and phone where there are photographs)",
    )
    parser.add_argument(
        "--images", help=f"folder of labelled JPEG images, for {', '.join(sorted(IMAGES_FOR))}"
    )
    parser.add_argument(
        "--weights", help="Keras' MobileNetV2 weights without classifier, .h5, for engines"
    )
    parser.add_argument("--photographs", metavar="FOLDER", help="folder of labelled photographs")
    sizes = partial(parser.add_argument, nargs=2, type=int, metavar=("SMALL", "LARGE"))
    sizes("--sizes", default=[2_000, 20_000], help="images for the ceiling and the job")
    sizes("--script-sizes", default=[1_024, 4_096], help="images for the single-machine script")
    sizes("--notebook-sizes", default=[512, 2_048], help="images for the notebook shape")
    parser.add_argument("--notebook", action="store_true", help="also the notebook shape: 9 min")
    sizes("--s3-sizes", default=[500, 8_000], help="images in S3; the gate has the larger number")
    sizes("--photograph-sizes", default=[480, 4_800], help="photographs, repeated under many names")
    sizes("--large-sizes", default=[48, 480], help="the same of 12 megapixels")
    sizes("--rows", default=[100_000, 1_000_000], help="synthetic rows to reduce")
    number = partial(parser.add_argument, type=int, metavar="N")
    number("--small", default=300, help="images of the small batch on processes")
    number("--collection-images", default=20_000, help="images of a batch that is run again")
    sizes("--match-images", default=[1_000_000, 10_000_000], help="images that are all known")
    sizes("--finding-sizes", default=[2_000, 20_000], help="images to look at")
    sizes("--finding-rows", default=[100_000, 400_000], help="made-up rows to look at")
    sizes("--plan-images", default=[2_000, 20_000], help="images of batches that are planned first")
    number("--poison-images", default=5_000, help="images of a run of which one is poisonous")
    number("--rounds", default=2, help="how often the job and the ceiling, or the gate, take turns")
    number(
        "--pairs",
        default=5,
        help="how often do small batches and what they are held against, and disk and S3",
    )
    number("--refs", default=10_000_000, help="references to list")
    number("--parts", default=10_000, help="parts to settle")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/RESULTS.md"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
