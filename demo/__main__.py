"""Run the job on this machine and show what came out: ``make demo [IMAGES=/path/to/images]``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from orchard.options import DEMO, RESULTS_HERE
from spark_job import __main__ as job
from spark_job import contract, runs
from spark_job.errors import JobError, UsageError
from spark_job.listing import require_folder
from spark_job.objects import open_folder
from spark_job.pipeline import prepare
from spark_job.settings import name_batch, parse_args

OUTPUT = Path(DEMO)
"""Below the current folder, which is the repository's where make is at work."""

SYNTHETIC = "synthetic-fruit"

LIKED = "Cherry/IMG_1204.jpg"
"""A picture that is drawn, to search for others like it."""

QUERY = "select label, count(*), avg(vector[1]) from vectors group by label"


def main() -> int:
    """Make or take a batch, run the job on it, and say how to look at what came out."""
    parser = _make_parser()
    asked, further = parser.parse_known_args()
    images = asked.images or str(OUTPUT / SYNTHETIC / contract.IMAGES)
    batch = asked.batch or (name_batch(_expand(images)) if asked.images else SYNTHETIC)
    # What is drawn has an output and a model of its own, or photographs would be held against it.
    output = asked.output or (RESULTS_HERE if asked.images else str(OUTPUT / batch))
    arguments = [f"--images={_expand(images)}", f"--output={_expand(output)}", f"--batch={batch}"]
    drawn = not (asked.images or asked.output)
    arguments += [f"--pca={asked.pca or ('fit' if drawn else 'auto')}", *further]
    settings = parse_args(arguments)
    try:
        folder = prepare(settings)[1]
        if asked.images:
            require_folder(folder)
        else:
            print(f"No IMAGES given: drawing a synthetic batch in {images}", flush=True)
            _draw(Path(images))
    except JobError as error:
        print(f"orchard: error: {error}", file=sys.stderr)
        return error.exit_code
    sys.argv[1:] = arguments  # which the job reads
    code = job.main()
    if code == 0:
        _show(settings.output, settings.batch, None if asked.images else f"{images}/{LIKED}")
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description=main.__doc__,
        allow_abbrev=False,
        epilog="Further arguments are the job's: see python -m spark_job --help.",
    )
    parser.add_argument(
        "--images", metavar="URI", help="a folder of LABEL/FILE images (default: drawn ones)"
    )
    parser.add_argument(
        "--output",
        metavar="URI",
        help="where results are written, and models that further batches reuse (default: "
        f"{RESULTS_HERE}, as of `orchard run`; {OUTPUT}/BATCH of drawn images)",
    )
    parser.add_argument("--batch", help="the batch's name (default: its folder's)")
    parser.add_argument(
        "--pca",
        metavar="auto|fit",
        help="a new model, or the output's (default: auto; fit where images are drawn into an "
        "output of their own)",
    )
    return parser


def _expand(uri: str) -> str:
    """Put the home folder in for ``~``, which the shell leaves alone in ``IMAGES=~/fruit``."""
    return uri if "://" in uri else str(Path(uri).expanduser())


def _draw(images: Path) -> None:
    # Not before the job is imported: it says how many threads numpy takes.
    from demo.planting import plant
    from demo.synthetic import make_batch

    try:
        make_batch(images)
        plant(images)
    except OSError as error:
        raise UsageError(
            f"cannot draw a batch in {images}: {error}; make that folder writable, or give IMAGES"
        ) from error


def _show(output: str, batch: str, photo: str | None) -> None:
    """Say how to look at what is published, and for pictures like `photo`."""
    root = open_folder(output)
    published = runs.read_published(root, batch)
    if published is None:
        return
    run = root / contract.run_folder(batch, published.run)
    if contract.REPORT in run.files():
        page = f"{run.uri}/{contract.REPORT}"
        print("\nTo see what is in the batch, open its report in a browser:")
        print(f"  {Path(page).as_uri() if run.is_local else page}")
    command = Path(sys.executable).with_name("orchard")
    words = [os.path.relpath(command)]
    if not command.exists():  # this environment was not made by make
        words = [os.path.relpath(sys.executable), "-m", "orchard"]
    place = os.path.relpath(root.uri) if root.is_local else root.uri
    where = [] if place == RESULTS_HERE else ["--output", place]
    asking = [["sql", QUERY], ["show", batch]] + ([["search", photo, "--open"]] if photo else [])
    print("\nTo look further:")
    for asked in asking:
        print(f"  {shlex.join([*words, *asked, *where])}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
