"""Signing in to AWS with the caller's own credentials, and what AWS refuses, in sentences."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from spark_job.errors import JobError, UnavailableError, UsageError
from spark_job.s3 import CONNECTING, EXPIRED, SKEWED, THROTTLED, aws_session

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 20
"""Seconds."""

ATTEMPTS = 6
"""Of each request, with pauses that double: AWS throttles by account, whoever asks."""

DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
UNKNOWN = {"UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch"}
"""Codes of AWS' answers to those who may not, and to those whom it does not know."""

SKEWED_WORDS = re.compile(r"Signature (expired|not yet current)")
"""Words to those whose clock is wrong, where the code is that of a wrong signature."""


class ExpiredCredentialsError(UnavailableError):
    """The credentials were good once; sign in again. Exit code 5."""


class OutOfReachError(UnavailableError):
    """AWS is busy, or there is no way to it; try again later. Exit code 5."""


class MissingError(JobError):
    """What was asked for is not there. Exit code 1."""


def find_region() -> str:
    """Find the region; AWS' command line knows AWS_REGION, boto3 AWS_DEFAULT_REGION alone.

    Raises
    ------
    UsageError
        Where none is chosen.
    """
    with in_sentences("find the AWS region"):
        region = os.environ.get("AWS_REGION") or aws_session().region_name
    if region is None:
        raise UsageError("no AWS region is chosen; set AWS_REGION, or give your profile one")
    return str(region)


def client(service: str) -> Any:
    """Connect to a service in the region that is chosen, once per process."""
    with CONNECTING:
        return _connected(service, find_region())


@contextmanager
def in_sentences(doing: str, *, if_denied: str = "") -> Iterator[None]:
    """Raise what AWS answers as an error of its kind, whose sentence ends in what to do.

    Parameters
    ----------
    doing
        What is tried, as in "cannot look for the stack".
    if_denied
        What else to do where that is denied, as in "check --stack".

    Raises
    ------
    ExpiredCredentialsError, OutOfReachError
        Where the same may go well later.
    MissingError
        Where what was named is not there.
    UsageError
        Where it will not.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        raise _of_answer(doing, error, if_denied) from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise OutOfReachError(
            f"cannot {doing}, for AWS is out of reach ({_words(error)}); check the network, and "
            "try again"
        ) from error
    except exceptions.BotoCoreError as error:  # no credentials, or none that can be renewed
        told = _words(error)
        if "expired" in told.lower() or "sso" in type(error).__name__.lower():
            raise ExpiredCredentialsError(expired(told)) from error
        raise UsageError(
            f"cannot {doing} ({told}); set AWS_PROFILE, or sign in (aws sso login)"
        ) from error


def expired(told: str) -> str:
    """Say that credentials expired."""
    return f"the AWS credentials expired ({told}); sign in (aws sso login), and try again"


def _of_answer(doing: str, error: Any, if_denied: str) -> JobError:
    """Make an error of AWS' answer."""
    answer = error.response["Error"]
    code, told = answer.get("Code", ""), f"{answer.get('Code')}: {answer.get('Message')}"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in SKEWED or SKEWED_WORDS.search(told):
        return UsageError(
            f"cannot {doing}, for AWS does not take requests of this moment ({told}); set this "
            "machine's clock, and try again"
        )
    if code in EXPIRED:
        return ExpiredCredentialsError(expired(told))
    if code in DENIED:
        return UsageError(
            f"you may not {doing} ({told}); ask an administrator for the policy that the stack's "
            f"output OperatorPolicy or ViewerPolicy names{if_denied and f', or {if_denied}'}"
        )
    if code in UNKNOWN or status == 401:
        return UsageError(
            f"cannot {doing}, for AWS knows nobody by these credentials ({told}); set AWS_PROFILE, "
            "or sign in (aws sso login)"
        )
    if code in THROTTLED or status in (429, 503) or status >= 500:
        return OutOfReachError(
            f"cannot {doing}, for AWS is busy ({told}); wait a while, and try again"
        )
    if "DoesNotExist" in code or "does not exist" in told or "NotFound" in code:
        return MissingError(f"cannot {doing} ({told}); check its name")
    return JobError(f"cannot {doing} ({told}); see what it says, and try again")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@lru_cache
def _connected(service: str, region: str) -> Any:
    from botocore.config import Config

    settings = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    with in_sentences(f"reach AWS in {region}"):
        return aws_session().client(service, region_name=region, config=settings)
