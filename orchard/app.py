"""All commands together, and how one ends: exit codes as the job's, errors as sentences."""

from __future__ import annotations

import errno
import logging
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchard import console
from orchard.commands import (
    batches,
    doctor,
    export,
    findings,
    models,
    plan,
    prune,
    report,
    run,
    search,
    sql,
)
from spark_job import __version__
from spark_job.arrow import spare_pandas
from spark_job.errors import JobError, UnavailableError, UsageError
from spark_job.objects import BusyError, ExpiredError, NoSuchBucketError

INTERRUPTED = 130

HELP = "Turn batches of photographs into vectors that compare, and look after what came of them."

EPILOG = """\
ROOT is the folder of all results, local or s3://; ORCHARD_OUTPUT says it for all commands. Exit
codes: 0 success; 1 failure; 2 wrong arguments, or they name something that cannot be used; 3 too
few images; 4 too many of them are of no use; 5 S3 is busy or out of reach; 130 interrupted.
"""


class _Commands(TyperGroup):
    """Ends a command that fails in a sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises
        ------
        typer.Exit
            Where it failed, with the code.
        """
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, SystemExit):
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # nobody reads on
            code, sentence = _explain(error)
            if ctx.params.get("debug"):
                console.say(traceback.format_exc())
            console.say(f"orchard: error: {sentence}")
            raise typer.Exit(code) from error


app = typer.Typer(
    name="orchard",
    cls=_Commands,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan", epilog=plan.EXAMPLE)(plan.make_plan)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("batches", epilog=batches.BATCHES_EXAMPLE)(batches.batches)
app.command("show", epilog=batches.SHOW_EXAMPLE)(batches.show)
app.command("rejects", epilog=batches.REJECTS_EXAMPLE)(batches.rejects)
app.command("findings", epilog=findings.EXAMPLE)(findings.findings)
app.command("sql", epilog=sql.EXAMPLE)(sql.sql)
app.add_typer(models.app, name="models")
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.command("export", epilog=export.EXAMPLE)(export.export)
app.command("search", epilog=search.EXAMPLE)(search.search)
app.command("report", epilog=report.EXAMPLE)(report.report)
app.command("prune", epilog=prune.EXAMPLE)(prune.prune)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.write(f"orchard {__version__}")
        raise typer.Exit


@app.callback()
def begin(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the code an error was met.")
    ] = False,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Begin a command."""
    spare_pandas()
    logger = logging.getLogger("orchard")
    logger.handlers = [console.Handler(debug=debug)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _explain(error: BaseException) -> tuple[int, str]:
    """Give the exit code and the sentence of what ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted; the same command takes up what is left to do"
    if isinstance(error, JobError):
        return error.exit_code, str(error)
    if isinstance(error, ExpiredError):
        sentence = f"the AWS credentials expired ({error}); sign in, and try again"
        return UnavailableError.exit_code, sentence
    if isinstance(error, BusyError):
        sentence = f"S3 is busy or out of reach ({error}); wait a while, and try again"
        return UnavailableError.exit_code, sentence
    if isinstance(error, NoSuchBucketError | PermissionError):
        return UsageError.exit_code, f"{error}; check --output, and who you are signed in as"
    if isinstance(error, OSError):
        return JobError.exit_code, f"{type(error).__name__}: {error}; check --output, and try again"
    told = " ".join(str(error).split()) or "without a word"
    return (
        JobError.exit_code,
        f"{type(error).__name__}: {told}; this is a bug: `orchard --debug` and the same command "
        "show where, for a report",
    )
