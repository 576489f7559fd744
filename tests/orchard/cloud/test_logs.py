"""Which lines of a log matter, and which logs are whose."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from orchard.cloud.logs import MOST_LINES, Kind, find_logs, pick, read_lines, wanted

if TYPE_CHECKING:
    from orchard.cloud.stack import Stack

DRIVER = "containers/application_1_0001/container_1_0001_01_000001"
FILES = {
    f"{DRIVER}/stderr.gz": Kind.DRIVER,
    "containers/application_1_0001/container_1_0001_01_000002/stdout.gz": Kind.EXECUTOR,
    # Of a second attempt, with the epoch of a ResourceManager that started again.
    "containers/application_1_0001/container_e02_1_0001_02_000001/stdout.gz": Kind.DRIVER,
    "steps/s-1/stderr.gz": Kind.STEP,
    "node/i-0/bootstrap-actions/1/stderr.gz": Kind.BOOTSTRAP,
    "node/i-0/bootstrap-actions/master.log.gz": None,
    "node/i-0/provision-node/apps-phase/stderr.gz": None,
    "steps/s-1/syslog.gz": None,
}

LOG = """\
26/11/20 10:00:00 INFO Client: Requesting a new application
orchard: 40 images
26/11/20 10:00:01 WARN TaskSetManager: Lost task 0.0
-XX:OnOutOfMemoryError='kill %p'
Traceback (most recent call last):
  File "a.py", line 1, in <module>
ValueError: an earlier one
26/11/20 10:00:02 ERROR Executor: Exception in task 1.0 in stage 1.0
26/11/20 10:00:03 ERROR Executor: Exception in task 2.0 in stage 1.0
Traceback (most recent call last):
  File "b.py", line 7, in run
    job()

spark_job.errors.JobError: the last one
Caused by: java.io.IOException: No space left on device
\tat org.apache.hadoop.Whatever(Whatever.java:1)
orchard: error: the disk is full
26/11/20 10:00:04 INFO Client: done
"""


def test_the_jobs_own_lines_the_last_traceback_and_errors_matter() -> None:
    assert pick(iter(LOG.splitlines())) == [
        "orchard: 40 images",
        "26/11/20 10:00:02 ERROR Executor: Exception in task 1.0 in stage 1.0",
        "Traceback (most recent call last):",
        '  File "b.py", line 7, in run',
        "    job()",
        "",
        "spark_job.errors.JobError: the last one",
        "Caused by: java.io.IOException: No space left on device",
        "orchard: error: the disk is full",
    ]


def test_of_many_the_last_are_shown() -> None:
    lines = [f"orchard: {chr(97 + number % 26) * (number + 1)}" for number in range(500)]
    assert pick(iter(lines)) == lines[-MOST_LINES:]
    assert pick(iter(["nothing", "of interest"])) == []


def test_each_log_is_told_by_where_it_lies(stack: Stack) -> None:
    for name in FILES:
        stack.logs.write(f"emr/j-1/{name}", gzip.compress(b"x"))
    stack.logs.write("emr/j-10/steps/s-1/stderr.gz", gzip.compress(b"another cluster's"))
    found = find_logs(stack, "j-1")
    assert {one.name: one.kind for one in found} == {k: v for k, v in FILES.items() if v}
    assert [one.kind for one in found] == sorted(
        (one.kind for one in found), key=list(Kind).index
    ), "in the order in which they came about"
    assert Kind.EXECUTOR not in {one.kind for one in wanted(found, [])}
    assert [one.kind for one in wanted(found, [Kind.EXECUTOR])] == [Kind.EXECUTOR]


@pytest.mark.parametrize("cut", [0, 4, 12])
def test_a_log_that_was_cut_off_is_shown_as_far_as_it_goes(stack: Stack, cut: int) -> None:
    content = gzip.compress(LOG.encode())
    stack.logs.write(f"emr/j-1/{DRIVER}/stderr.gz", content[: len(content) - cut])
    stack.logs.write(f"emr/j-1/{DRIVER}/stdout", b"plain \xff\n")
    unpacked, plain = find_logs(stack, "j-1")
    lines = list(read_lines(stack, unpacked))
    assert lines[:-1] == LOG.splitlines()[: len(lines) - 1]
    assert lines[1] == "orchard: 40 images"
    assert list(read_lines(stack, plain)) == ["plain �"]
