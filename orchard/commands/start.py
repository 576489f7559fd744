"""``orchard start``: a run of a batch that is uploaded, on a cluster of its own."""

from contextlib import suppress
from typing import Annotated, Any

import typer

from orchard import console
from orchard.cloud import executions
from orchard.cloud.following import outcome, wait_until_admitted
from orchard.cloud.stack import Stack, find_stack
from orchard.cloud.starting import Given, images_of, read_given, take_fields
from orchard.commands.follow import follow_run
from orchard.options import Json, TheStack
from spark_job.errors import JobError, NoImagesError

EXAMPLE = "Example: orchard start july --components 200 --core-instances 4 --follow"


@take_fields
def start(
    batch: Annotated[
        str, typer.Argument(metavar="BATCH", help="The batch's name.", show_default=False)
    ],
    stack: TheStack = "Orchard",
    follow: Annotated[bool, typer.Option("--follow", help="Follow the run until its end.")] = False,
    json: Json = False,
    **options: Any,
) -> None:
    """Start a run of a batch that is uploaded.

    What is not said is the deployment's default, and what it does not say the job's. All of it is
    checked here first, as the state machine checks it.
    """
    found = find_stack(stack)
    begin(found, read_given(batch, options, found), follow=follow, json=json)


def begin(stack: Stack, given: Given, *, follow: bool, json: bool) -> None:
    """Start a run, unless one of the batch goes on, and tell where it stands.

    Raises
    ------
    JobError
        Where the state machine refuses it, or with `follow` where it fails.
    """
    batch = given.input["batch"]
    going = executions.running_of(stack, batch)
    if going is not None:
        raise executions.going_on(stack, going)
    images = stack.root / images_of(batch, given.input)
    if not images.exists():
        upload = stack.again(f"upload DIR {batch}")
        raise NoImagesError(f"there is nothing in {images.uri}; {upload} brings pictures there")
    given.upload(stack)
    execution = executions.start(stack, given.input)
    run = execution.run
    console.say(f"Started the run {run}")
    if follow:
        follow_run(stack, execution, json=json)
        return
    admitted = None
    with suppress(KeyboardInterrupt, JobError):  # it is started, whether it can be seen or not
        admitted = wait_until_admitted(stack, run)
    if admitted is not None and not admitted.is_running:
        outcome(stack, admitted)  # which raises what it says, if it failed
    if json:
        console.write_json({"batch": batch, "run": run, "execution": stack.execution(run)})
    else:
        console.write(run)
    back, end = stack.again(f"follow {run}"), stack.again(f"stop {run}")
    console.say(f"{back} shows how it goes, and {end} ends it")
