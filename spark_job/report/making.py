"""Making a report, and leaving it be where it does not come about.

Pictures are decoded again for it, among them some that could not be used: it is made in a child
process with limits of time and memory, after the run is published, and no run fails for want of it.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from spark_job import contract
from spark_job.errors import JobError
from spark_job.objects import open_folder
from spark_job.report.page import render
from spark_job.report.pictures import MOST_SECONDS, Gallery, make_gallery
from spark_job.report.results import read_results
from spark_job.report.view import View

if TYPE_CHECKING:
    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")

SECONDS: Final = 3 * MOST_SECONDS
"""For the child, all in all."""

CHILD_BYTES: Final = 4_000_000_000
"""Address space of the child."""

TELL: Final = "orchard report"
"""The command that makes one anew."""


def make_report(output: Folder, batch: str, run: str, *, pictures: bool = True) -> str:
    """Make the report of a settled run from its stored results.

    Parameters
    ----------
    output
        The root of all batches.
    batch, run
        Whose.
    pictures
        Whether to read pictures; without them, or where they are gone, the page has none.

    Returns
    -------
    str
        The page.
    """
    results = read_results(output, batch, run)
    view = View.of(results)
    gallery = Gallery()
    if pictures:
        gallery = make_gallery(open_folder(results.receipt.images), view.wanted(results))
    return render(results, view, gallery)


def report_after(output: Folder, batch: str, run: str) -> str | None:
    """Make the report of a run that was just published, in a child process.

    Returns
    -------
    str or None
        Where it is. None where there is none, which a warning explains.
    """
    where = output / contract.run_folder(batch, run)
    for pictures in (True, False):
        ended = _run_child(output.uri, batch, run, pictures=pictures)
        if ended is None:
            return f"{where.uri}/{contract.REPORT}"
        LOGGER.warning(
            "the report %s%s",
            "could not be made with pictures: " if pictures else "could not be made: ",
            f"{ended}; {TELL} {batch} makes it anew" if not pictures else ended,
        )
    return None


def _run_child(output: str, batch: str, run: str, *, pictures: bool) -> str | None:
    """Make a report in a child; None where it was made, or else why not."""
    command = [sys.executable, "-m", "spark_job.report.making", output, batch, run]
    try:
        ended = subprocess.run(
            [*command, "pictures" if pictures else "none"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            # On a cluster this package lies in a zip that only this process has on its path.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {SECONDS:g} s"
    except OSError as error:
        return str(error)
    if ended.returncode == 0:
        return None
    if ended.returncode < 0:
        return f"its process was ended by {signal.Signals(-ended.returncode).name}"
    told = ended.stderr.strip().splitlines()
    return told[-1] if told else f"its process ended with code {ended.returncode}"


def main() -> int:
    """Write the report of a run into its folder: OUTPUT BATCH RUN pictures|none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):  # some systems know no limit of memory
        most = CHILD_BYTES if hard == resource.RLIM_INFINITY else min(CHILD_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    output, batch, run, pictures = sys.argv[1:]
    folder = open_folder(output)
    try:
        page = make_report(folder, batch, run, pictures=pictures == "pictures")
        (folder / contract.run_folder(batch, run)).write(contract.REPORT, page.encode())
    except (JobError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
