"""Making a report, and leaving it be where it does not come about.

Pictures are decoded again for it, among them some that could not be used: it is made in a child
process with limits of time and memory. After a run it is made when the run is published, and no run
fails for want of it.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spark_job import contract
from spark_job.arrow import spare_pandas
from spark_job.errors import JobError
from spark_job.objects import open_folder
from spark_job.report.fitting import fit
from spark_job.report.pictures import MOST_SECONDS
from spark_job.report.results import read_results

if TYPE_CHECKING:
    from spark_job.objects import Folder

LOGGER = logging.getLogger("orchard")

SECONDS: Final = 2 * MOST_SECONDS
"""For a child that reads pictures, all in all."""

SECONDS_WITHOUT: Final = MOST_SECONDS
"""For one that does not."""

CHILD_BYTES: Final = 4_000_000_000
"""Address space of a child."""


@dataclass(frozen=True)
class Made:
    """A report that was made.

    Attributes
    ----------
    where
        The file.
    pictures
        How many are on it.
    missing
        How many others were wanted, and not to be had.
    """

    where: str
    pictures: int
    missing: int


def make_report(output: Folder, batch: str, run: str, *, pictures: bool = True) -> str:
    """Make the report of a settled run from its stored results, in this process.

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

    Raises
    ------
    UsageError, FileNotFoundError
        See `read_results`.
    """
    return _make(output, batch, run, pictures=pictures)[0]


def write_report(
    output: Folder, batch: str, run: str, *, pictures: bool = True, to: Path | None = None
) -> Made:
    """Make the report of a settled run in a child process, and write it.

    Parameters
    ----------
    output, batch, run, pictures
        See `make_report`.
    to
        The file; None for the one in the run's folder.

    Raises
    ------
    JobError
        Where it could not be made; the message says why.
    """
    target = "" if to is None else str(to.absolute())
    command = [sys.executable, "-P", "-m", "spark_job.report.making", output.uri, batch, run]
    seconds = SECONDS if pictures else SECONDS_WITHOUT
    try:
        ended = subprocess.run(
            [*command, "pictures" if pictures else contract.NONE, target],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a name may be told that is no text
            timeout=seconds,
            check=False,
            # On a cluster this package lies in a zip that only this process has on its path.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired as error:
        raise JobError(f"it took more than {seconds:g} s") from error
    except OSError as error:
        raise JobError(str(error)) from error
    if ended.returncode == 0:
        try:
            return Made(**json.loads(ended.stdout.splitlines()[-1]))
        except (ValueError, IndexError, TypeError) as error:
            raise JobError("its process did not say where the report is") from error
    if ended.returncode == -signal.SIGKILL:
        raise JobError("its process was killed, most likely for want of memory")
    if ended.returncode < 0:
        raise JobError(f"its process was ended by {signal.Signals(-ended.returncode).name}")
    told = ended.stderr.strip().splitlines()
    raise JobError(told[-1] if told else f"its process ended with code {ended.returncode}")


def report_after(output: Folder, batch: str, run: str) -> str | None:
    """Make the report of a run that was just published; without pictures, if need be.

    Returns
    -------
    str or None
        Where it is. None where there is none, which a warning explains.
    """
    again = f"try again with: orchard report {batch} --run {run} --output {output.uri}"
    try:
        return write_report(output, batch, run).where
    except JobError as error:
        because = str(error)
    try:
        where = write_report(output, batch, run, pictures=False).where
    except JobError as error:
        LOGGER.warning(
            "the run is published, but its report could not be made (%s); %s", error, again
        )
        return None
    LOGGER.warning(
        "the report has no pictures: with them it could not be made (%s); %s", because, again
    )
    return where


def _make(output: Folder, batch: str, run: str, *, pictures: bool) -> tuple[str, int, int]:
    """Make a page; it, the number of pictures on it, and of those that were not to be had."""
    results = read_results(output, batch, run)
    page, gallery = fit(results, open_folder(results.receipt.images) if pictures else None)
    return page, *((0, 0) if gallery is None else (len(gallery.uris), gallery.missing))


def main() -> int:
    """Write a report, and say so in JSON: OUTPUT BATCH RUN pictures|none FILE, which may be empty.

    Returns
    -------
    int
        The exit code; a sentence says on stderr why it is not 0.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):  # some systems know no limit of memory
        most = CHILD_BYTES if hard == resource.RLIM_INFINITY else min(CHILD_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    spare_pandas()
    root, batch, run, pictures, file = sys.argv[1:]
    try:
        output = open_folder(root)
        page, shown, missing = _make(output, batch, run, pictures=pictures != contract.NONE)
        folder, name = output / contract.run_folder(batch, run), contract.REPORT
        if file:
            folder, name = open_folder(str(Path(file).parent)), Path(file).name
        folder.write(name, page.encode())
    except (JobError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except MemoryError:
        print(f"it took more than {CHILD_BYTES / 1e9:g} GB of memory", file=sys.stderr)
        return 1
    print(json.dumps(asdict(Made(f"{folder.uri}/{name}", shown, missing))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
