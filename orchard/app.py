"""All commands together, and how one ends: exit codes as the job's, errors as sentences."""

from __future__ import annotations

import errno
import logging
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from orchard import console
from orchard.commands import (
    batches,
    doctor,
    export,
    fetch,
    findings,
    follow,
    history,
    logs,
    models,
    plan,
    prune,
    report,
    run,
    search,
    sql,
    start,
    status,
    stop,
    upload,
)
from spark_job import __version__
from spark_job.arrow import spare_pandas
from spark_job.errors import JobError, UnavailableError, UsageError
from spark_job.objects import BusyError, ExpiredError, NoSuchBucketError, WrongClockError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
            command = self.commands.get(ctx.invoked_subcommand or "")
            code, sentence = _explain(error, _places(command))
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

CLOUD = "In the cloud"

app.command("upload", epilog=upload.EXAMPLE, rich_help_panel=CLOUD)(upload.upload)
app.command("start", epilog=start.EXAMPLE, rich_help_panel=CLOUD)(start.start)
app.command("follow", epilog=follow.EXAMPLE, rich_help_panel=CLOUD)(follow.follow)
app.command("stop", epilog=stop.EXAMPLE, rich_help_panel=CLOUD)(stop.stop)
app.command("status", epilog=status.EXAMPLE, rich_help_panel=CLOUD)(status.status)
app.command("logs", epilog=logs.EXAMPLE, rich_help_panel=CLOUD)(logs.logs)
app.command("history", epilog=history.EXAMPLE, rich_help_panel=CLOUD)(history.history)
app.command("fetch", epilog=fetch.EXAMPLE, rich_help_panel=CLOUD)(fetch.fetch)


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


def _places(command: Any) -> list[str]:
    """Name the options by which a command, or one of a group, is told where to look."""
    below = getattr(command, "commands", {}).values() or [command]
    options = {
        option for one in below for param in getattr(one, "params", []) for option in param.opts
    }
    return [option for option in ("--output", "--stack") if option in options]


def _explain(error: BaseException, places: Sequence[str]) -> tuple[int, str]:
    """Give the exit code and the sentence of what ended a command that is told where by options."""
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
    if isinstance(error, WrongClockError):
        return UsageError.exit_code, f"{error}; set this machine's clock, and try again"
    if isinstance(error, NoSuchBucketError | PermissionError):
        check = ", and ".join(filter(None, [" or ".join(places), "who you are signed in as"]))
        return UsageError.exit_code, f"{error}; check {check}"
    if isinstance(error, OSError):
        check = "check --output" if "--output" in places else "see what it says"
        return JobError.exit_code, f"{type(error).__name__}: {error}; {check}, and try again"
    told = " ".join(str(error).split()) or "without a word"
    return (
        JobError.exit_code,
        f"{type(error).__name__}: {told}; this is a bug: `orchard --debug` and the same command "
        "show where, for a report",
    )
