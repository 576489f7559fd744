"""The job's entry point, on a laptop (``python -m spark_job``) and as an EMR step."""

from __future__ import annotations

import logging
import re
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

# Absolute imports: spark-submit runs this file alone, beside the zipped package.
from spark_job import catalog
from spark_job.errors import JobError
from spark_job.objects import open_folder
from spark_job.pipeline import run
from spark_job.settings import parse_args
from spark_job.summary import summarize

if TYPE_CHECKING:
    from types import FrameType

    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")
INTERRUPTED = 130


def main() -> int:
    """Run the job; the exit codes are those of ``--help``."""
    settings = parse_args()
    _speak_alone()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        receipt = run(settings)
    except KeyboardInterrupt:
        if _discard(settings):
            message = "interrupted; nothing was published"
            _record_failure(settings, INTERRUPTED, "Interrupted", message)
        else:
            print("orchard: interrupted, but the run was published already", file=sys.stderr)
        return INTERRUPTED
    except JobError as error:
        _record_failure(settings, error.exit_code, type(error).__name__, str(error))
        return error.exit_code
    except Exception as error:
        LOGGER.exception("what went wrong, for a bug report:")
        _record_failure(settings, JobError.exit_code, type(error).__name__, _in_one_line(error))
        return JobError.exit_code
    print(summarize(receipt))
    return 0


def _speak_alone() -> None:
    """Log the job's own words, and nothing of py4j's, which logs on the root what it raises."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("orchard: %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    logging.getLogger().addHandler(logging.NullHandler())


def _record_failure(settings: JobSettings, exit_code: int, error: str, message: str) -> None:
    """Say what happened, and leave it in the run's folder for those who did not see it."""
    failure: dict[str, Any] = {"exit_code": exit_code, "error": error, "message": message}
    try:
        folder = catalog.run_folder(open_folder(settings.output), settings.batch, settings.run)
        if folder.read_or_none("run.json") is None:
            catalog.write_json(folder, "failure.json", failure)
    except (OSError, JobError):
        LOGGER.warning("failure.json could not be written under %s", settings.output)
    print(f"orchard: error: {message}", file=sys.stderr)


def _discard(settings: JobSettings) -> bool:
    """Remove what an interrupted run has written, unless it is published; whether it was not."""
    with suppress(OSError, JobError):
        folder = catalog.run_folder(open_folder(settings.output), settings.batch, settings.run)
        if folder.read_or_none("run.json") is not None:
            return False
        folder.clear()
    return True


def _in_one_line(error: Exception) -> str:
    """Say what went wrong; if in a Python worker, what Python said there, not what Spark says."""
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
