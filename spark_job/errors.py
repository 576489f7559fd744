"""What can end a run, one exception per thing that a caller would do differently."""

from __future__ import annotations


class JobError(Exception):
    """The run failed; the message is a sentence for a person. Exit code 1."""

    exit_code = 1


class UsageError(JobError):
    """The arguments, or what they point to, cannot be used: correct them. Exit code 2."""

    exit_code = 2


class OutputRefusedError(UsageError):
    """The output is not this run's to write to, and nothing was written. Exit code 2."""


class NoImagesError(JobError):
    """There is nothing to work on: check the batch. Exit code 3."""

    exit_code = 3


class TooManyRejectsError(JobError):
    """More images were rejected than allowed: read the rejects table. Exit code 4."""

    exit_code = 4


class UnsupportedFormatsError(TooManyRejectsError):
    """More images are in formats that are not taken than could be used. Exit code 4."""


class UnavailableError(JobError):
    """The store is busy, or the credentials expired: run it again later. Exit code 5."""

    exit_code = 5


class RejectedImageError(Exception):
    """One image cannot be used; it becomes a row of the rejects table, never a failed run.

    Parameters
    ----------
    stage
        Where it fell out: ``read``, ``decode`` or ``infer``.
    reason
        One of the words documented in :mod:`spark_job.decode`, :mod:`spark_job.isolation` and
        :mod:`spark_job.reading`.
    detail
        What exactly was wrong, for a person.
    """

    def __init__(self, stage: str, reason: str, detail: str) -> None:
        super().__init__(f"{stage}: {reason}: {detail}")
        self.stage = stage
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[RejectedImageError], tuple[str, str, str]]:
        """Pickle it by its parts."""
        return type(self), (self.stage, self.reason, self.detail)
