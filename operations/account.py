"""The account and the region that a deployment goes to, looked at before anything is deployed."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from aws_cdk import App
from botocore.exceptions import BotoCoreError, ClientError

from stacks.config import ConfigError, OrchardConfig, check_region
from stacks.emr.instances import fitting
from stacks.knobs import keep

if TYPE_CHECKING:
    from collections.abc import Mapping

CDK_JSON: Final = Path(__file__).resolve().parents[1] / "cdk.json"
# Where `cdk bootstrap` says that it was here.
_BOOTSTRAPPED: Final = "/cdk-bootstrap/hnb659fds/version"


class AccountError(RuntimeError):
    """Why nothing can be deployed; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Account:
    """Where a deployment goes."""

    number: str
    region: str
    session: boto3.Session


def configured(context: Mapping[str, Any] | None = None) -> OrchardConfig:
    """Read the configuration of `cdk.json`.

    Parameters
    ----------
    context
        What is said on the command line, over it.
    """
    block = json.loads(CDK_JSON.read_text(encoding="utf-8"))["context"]
    return OrchardConfig.from_context(App(context={**block, **(context or {})}).node)


def find_account(config: OrchardConfig) -> Account:
    """Return where a configuration is deployed: by its region, else the profile's.

    Raises
    ------
    AccountError
        Where there is no region, or there are no credentials that AWS takes.
    """
    # AWS' command line knows AWS_REGION, boto3 only AWS_DEFAULT_REGION.
    session = boto3.Session(region_name=config.region or os.environ.get("AWS_REGION"))
    region = session.region_name
    if not region:
        raise AccountError(
            "No region is chosen: say `make deploy SET=region=eu-west-1` once, or set AWS_REGION,"
            " or give your AWS profile a region."
        )
    try:
        check_region(region, config)
    except ConfigError as error:
        raise AccountError(str(error)) from error
    try:
        number = session.client("sts", region_name=region).get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise AccountError(
            f"AWS knows nobody by these credentials ({error}): set AWS_PROFILE to a profile of"
            " yours (`aws configure sso` makes one), or sign in anew with `aws sso login`."
        ) from error
    return Account(str(number), region, session)


def check_bootstrapped(account: Account) -> None:
    """Look whether CDK can publish assets there.

    Raises
    ------
    AccountError
        With the command to run first.
    """
    try:
        account.session.client("ssm", region_name=account.region).get_parameter(Name=_BOOTSTRAPPED)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            # Whoever may not look may still deploy: CDK looks for itself.
            return
        raise AccountError(
            f"Account {account.number} has not been prepared for CDK in {account.region} yet; once"
            f" for each region, run: make bootstrap-account"
        ) from error


def find_unoffered(config: OrchardConfig, account: Account) -> tuple[str, ...] | None:
    """Return which known instance types the region does not offer; None where it may not be seen.

    EMR refuses a whole fleet for one type that there is not.
    """
    client = account.session.client("ec2", region_name=account.region)
    offered: set[str] = set()
    try:
        pages = client.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="region"
        )
        for page in pages:
            offered |= {found["InstanceType"] for found in page["InstanceTypeOfferings"]}
    except (BotoCoreError, ClientError):
        return None
    return tuple(name for name in fitting(config.architecture) if name not in offered)


def main() -> None:
    """Say where a deployment would go, or what is missing for it."""
    try:
        config = configured()
        account = find_account(config)
        if "--bootstrap" not in sys.argv:
            check_bootstrapped(account)
            unoffered = find_unoffered(config, account)
            if unoffered is not None and set(unoffered) != set(config.unoffered_types):
                keep(CDK_JSON, OrchardConfig, [f"unoffered_types={','.join(unoffered)}"])
                shown = ", ".join(unoffered) or "nothing"
                print(f"{account.region} lacks {shown}: kept in cdk.json", file=sys.stderr)
    except (AccountError, ConfigError) as error:
        sys.exit(f"orchard: {error}")
    print(f"{config.name} goes to account {account.number}, {account.region}", file=sys.stderr)
    print(account.region)


if __name__ == "__main__":
    main()
