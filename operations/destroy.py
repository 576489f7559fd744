"""Remove a deployment: ``make destroy``. The data go too where both of their keys are turned."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from operations.account import Account, AccountError, configured, find_account
from stacks.config import ConfigError, cluster_name_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stacks.config import OrchardConfig

ALIVE: Final = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]
_TRIES: Final = 4
"""How often the buckets are emptied: logs go on to arrive for a while."""
_NOT_DEPLOYED_AGAIN: Final = ("DELETE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
"""The states of a stack that CloudFormation does not update, or that CDK would make anew."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask once, and remove the stacks."""
    parser = argparse.ArgumentParser(prog="make destroy", description=__doc__)
    parser.add_argument("--cdk", nargs=argparse.REMAINDER, required=True, help="CDK's command")
    given = parser.parse_args(arguments)
    try:
        config = configured()
        account = find_account(config)
        return remove(config, account, given.cdk, ask=input)
    except (AccountError, ConfigError) as error:
        sys.exit(f"orchard: {error}")


def remove(
    config: OrchardConfig,
    account: Account,
    cdk: Sequence[str],
    *,
    ask: Callable[[str], str],
    run: Callable[[Sequence[str]], int] = subprocess.call,
) -> int:
    """Remove the stacks of a configuration after one question; return the exit code.

    Parameters
    ----------
    config
        What is deployed, as `cdk.json` has it.
    account
        Where.
    cdk
        The command of CDK, without a verb.
    ask
        Puts the question, and returns what is answered.
    run
        Runs a command, and returns its exit code.
    """
    stack = find_stack(account, config.name)
    if stack is None:
        print(f"There is no stack {config.name} in {account.region} of {account.number}.")
        return 0
    # A stack whose first deployment failed has no outputs.
    buckets = " and ".join(_buckets(_outputs(stack))) or "that it may have made"
    fate = (
        f"and DELETE ALL DATA in the buckets {buckets}, every version of every object"
        if config.deletes_data
        else f"and keep the buckets {buckets} (removal_policy=destroy and"
        " delete_data=true in cdk.json would delete them)"
    )
    answer = ask(
        f"This will stop what {config.name} runs and remove it from {account.region} of account"
        f" {account.number}, {fate}.\nType its name to go on: "
    )
    if answer.strip() != config.name:
        print("Nothing was removed.")
        return 1
    _delete_notebooks(account, f"{config.name}-notebooks")
    if config.deletes_data and stack["StackStatus"] not in _NOT_DEPLOYED_AGAIN:
        # The template must say so, too: what is deployed may be older than cdk.json.
        code = run([*cdk, "deploy", config.name, "--require-approval", "never"])
        if code:
            return code
    return take_down(config, account, [*cdk, "destroy", config.name, "--force"], run)


def take_down(
    config: OrchardConfig,
    account: Account,
    destroy: Sequence[str],
    run: Callable[[Sequence[str]], int] = subprocess.call,
) -> int:
    """Stop what a stack runs, empty its buckets if they go too, and run the command.

    What is still running would keep the stack from being deleted, or go on without its janitor.
    """
    outputs = find_outputs(account, config.name) or {}
    stop_everything(account, config.name)
    code = 1
    for _ in range(_TRIES):
        if config.deletes_data:
            for name in _buckets(outputs):
                empty(account, name)
        if config.vpc_id is None:
            _remove_endpoints(account, config.name)
        code = run(destroy)
        if not code:
            break
    return code


def stop_everything(account: Account, stack: str, poll_seconds: float = 15.0) -> None:
    """Stop a stack's batches, end its clusters, and then stop its other executions."""
    states = account.session.client("stepfunctions", region_name=account.region)
    emr = account.session.client("emr", region_name=account.region)
    machines = [
        arn for kind, arn in resources(account, stack) if kind == "AWS::StepFunctions::StateMachine"
    ]
    # The batches first: the janitor, which looks after their clusters, is another machine.
    for machine in sorted(machines, key=lambda arn: "Workflow" not in arn):
        pages = states.get_paginator("list_executions").paginate(
            stateMachineArn=machine, statusFilter="RUNNING"
        )
        for page in pages:
            for execution in page["executions"]:
                states.stop_execution(
                    executionArn=execution["executionArn"], cause=f"{stack} is removed"
                )
    while clusters := living_clusters(emr, cluster_name_prefix(stack)):
        print(f"waiting for the end of {', '.join(clusters)}", flush=True)
        emr.terminate_job_flows(JobFlowIds=clusters)
        time.sleep(poll_seconds)


def living_clusters(emr: Any, prefix: str) -> list[str]:
    """Return the clusters that are paid for and whose names begin so."""
    return [
        cluster["Id"]
        for page in emr.get_paginator("list_clusters").paginate(ClusterStates=ALIVE)
        for cluster in page["Clusters"]
        if cluster["Name"].startswith(prefix)
    ]


def find_outputs(account: Account, stack: str) -> dict[str, str] | None:
    """Return a stack's outputs; None where there is no such stack.

    Raises
    ------
    AccountError
        Where CloudFormation does not say.
    """
    found = find_stack(account, stack)
    return None if found is None else _outputs(found)


def find_stack(account: Account, stack: str) -> dict[str, Any] | None:
    """Return what CloudFormation says of a stack; None where there is none.

    Raises
    ------
    AccountError
        Where CloudFormation does not say.
    """
    client = account.session.client("cloudformation", region_name=account.region)
    try:
        (found,) = client.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise AccountError(f"CloudFormation does not show {stack}: {error}") from error
    return dict(found)


def resources(account: Account, stack: str) -> Iterator[tuple[str, str]]:
    """Yield the type and the physical id of each resource of a stack that is not deleted yet."""
    client = account.session.client("cloudformation", region_name=account.region)
    for page in client.get_paginator("list_stack_resources").paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceStatus"] == "DELETE_COMPLETE":
                continue
            yield resource["ResourceType"], resource.get("PhysicalResourceId", "")


def empty(account: Account, name: str) -> None:
    """Delete every version of every object of a bucket, and what is half uploaded.

    A try before may have deleted the bucket itself.
    """
    bucket = account.session.resource("s3", region_name=account.region).Bucket(name)
    try:
        bucket.object_versions.delete()
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise
        return
    for upload in bucket.multipart_uploads.all():
        upload.abort()
    print(f"{name} is empty", flush=True)


def _outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {entry["OutputKey"]: entry["OutputValue"] for entry in stack.get("Outputs", [])}


def _buckets(outputs: dict[str, str]) -> list[str]:
    return [outputs[name] for name in ("DataBucket", "LogBucket") if name in outputs]


def _delete_notebooks(account: Account, stack: str) -> None:
    """Delete the notebook cluster's stack, which cdk.json may not know any more."""
    if find_outputs(account, stack) is None:
        return
    client = account.session.client("cloudformation", region_name=account.region)
    print(f"deleting {stack}", flush=True)
    client.delete_stack(StackName=stack)
    client.get_waiter("stack_delete_complete").wait(StackName=stack)


def _remove_endpoints(account: Account, stack: str) -> None:
    """Delete the interface endpoints that EMR made in the stack's own network.

    They are not the stack's, and its VPC could not be deleted with them in it.
    """
    own = list(resources(account, stack))
    networks = [name for kind, name in own if kind == "AWS::EC2::VPC"]
    if not networks:
        return
    ec2 = account.session.client("ec2", region_name=account.region)
    found: list[dict[str, Any]] = ec2.describe_vpc_endpoints(
        Filters=[{"Name": "vpc-id", "Values": networks}]
    )["VpcEndpoints"]
    known = {name for kind, name in own if kind == "AWS::EC2::VPCEndpoint"}
    foreign = [
        endpoint["VpcEndpointId"] for endpoint in found if endpoint["VpcEndpointId"] not in known
    ]
    if foreign:
        ec2.delete_vpc_endpoints(VpcEndpointIds=foreign)
        print(f"deleted the endpoints that EMR made: {', '.join(foreign)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
