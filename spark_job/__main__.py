"""The job's entry point, on a laptop (``python -m spark_job``) and as an EMR step."""

from __future__ import annotations

import logging
import re
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

# Absolute imports: spark-submit runs this file alone, beside the zipped package.
from spark_job import contract, runs
from spark_job.arrow import spare_pandas
from spark_job.errors import JobError, OutputRefusedError, UnavailableError
from spark_job.objects import BusyError, ExpiredError, open_folder
from spark_job.pipeline import run
from spark_job.receipts import Failure
from spark_job.report.making import report_after
from spark_job.retries import lose_patience
from spark_job.runs import State
from spark_job.settings import parse_args
from spark_job.summary import summarize

if TYPE_CHECKING:
    from types import FrameType

    from spark_job.receipts import RunReceipt
    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")
INTERRUPTED = 130

BUSY = re.compile(
    rf"{BusyError.__module__}\.(%s): (.*)"
    % "|".join(one.__name__ for one in BusyError.__subclasses__())
)
"""What Spark says of a worker that met a busy store."""


def main() -> int:
    """Run the job; the exit codes are those of ``--help``."""
    settings = parse_args()
    spare_pandas()
    _set_up_logging()
    outcome = execute(settings)
    if isinstance(outcome, Failure):
        print(f"orchard: error: {outcome.message}", file=sys.stderr)
        return outcome.exit_code
    if outcome is not None:
        print(summarize(outcome, report(outcome)))
    return 0


def execute(settings: JobSettings) -> RunReceipt | Failure | None:
    """Run the job; whatever ends it early is a sentence, which stays in the work folder too.

    Returns
    -------
    RunReceipt, Failure
        Of the run that is published, or why none is; None where it was interrupted a moment after
        its publication.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(settings)
    except KeyboardInterrupt:
        if _state(settings) is State.PUBLISHED:
            LOGGER.info("interrupted, but the run was published already")
            return None
        message = f"interrupted; nothing was published{_what_is_left(settings)}"
        if _state(settings) is not State.SETTLED:
            message += "; the same command goes on from there"
        failure = Failure(INTERRUPTED, "Interrupted", message)
    except JobError as error:
        failure = Failure(error.exit_code, type(error).__name__, str(error))
    except BusyError as error:
        failure = _unavailable(settings, type(error).__name__, str(error))
    except Exception as error:
        message = _describe(error)
        busy = BUSY.search(message)
        if busy is not None:
            failure = _unavailable(settings, busy[1], busy[2])
        else:
            if not _is_full(error):
                LOGGER.exception("what went wrong, for a bug report:")
            failure = Failure(JobError.exit_code, type(error).__name__, message)
    _record(settings, failure)
    return failure


def report(receipt: RunReceipt) -> str | None:
    """Make the report of a run that is published, if its findings were asked for; where it is."""
    if receipt.findings is None:
        return None
    with suppress(KeyboardInterrupt):  # whoever does not want to wait for it
        return report_after(open_folder(receipt.output), receipt.batch, receipt.run)
    return None


def _set_up_logging() -> None:
    """Log the job's own words, and nothing of py4j's, which logs on the root what it raises."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("orchard: %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    logging.getLogger().addHandler(logging.NullHandler())


def _record(settings: JobSettings, failure: Failure) -> None:
    """Leave what happened in the work folder, for those who did not see it."""
    if failure.error != OutputRefusedError.__name__ and _state(settings) is not State.PUBLISHED:
        try:
            output = open_folder(settings.output)
            runs.record_failure(output, settings.batch, settings.run, failure)
        except (OSError, JobError):
            LOGGER.warning("%s could not be written under %s", contract.FAILURE, settings.output)


def _what_is_left(settings: JobSettings) -> str:
    """Say what a run that ended early leaves, and what can be done with it."""
    state = _state(settings)
    if state is State.SETTLED:
        return f", but the run is complete: run it again with --run {settings.run} to publish it"
    where = contract.work_folder(settings.batch, settings.run)
    with suppress(OSError, JobError):
        if (open_folder(settings.output) / where).files():
            return f", and what was done stays in {settings.output.rstrip('/')}/{where}"
    return ""


def _state(settings: JobSettings) -> State | None:
    with suppress(OSError, JobError):
        return runs.state_of(open_folder(settings.output), settings.batch, settings.run)
    return None


def _unavailable(settings: JobSettings, kind: str, told: str) -> Failure:
    """Say that S3 failed, by the name of the `BusyError`, in a way that may pass."""
    lose_patience()
    if kind == ExpiredError.__name__:
        happened, remedy = f"the AWS credentials expired ({told})", "Sign in, and run it again"
    else:
        happened = f"S3 was asked for a minute, and is busy or out of reach ({told})"
        remedy = "Wait a while, and run it again"
    message = f"{happened}; nothing was published{_what_is_left(settings)}. {remedy}"
    return Failure(UnavailableError.exit_code, UnavailableError.__name__, message)


def _is_full(error: Exception) -> bool:
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _describe(error: Exception) -> str:
    """Say what went wrong; if in a Python worker, what Python said there, not what Spark says."""
    if _is_full(error):
        return (
            "the disk is full; nothing was published, and what was done stays in its work folder. "
            "Free some space, or choose another --output, and run it again"
        )
    if "Python worker exited unexpectedly" in str(error):
        return (
            "a Python worker crashed, most likely for want of memory; nothing was published. Run "
            "it again with more memory or fewer tasks at a time (--master 'local[1,4]')"
        )
    in_worker = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception): .+$", str(error), re.MULTILINE)
    lines = in_worker[-1:] or str(error).strip().splitlines()[:1]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
