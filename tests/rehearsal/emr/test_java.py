"""The jars are those that were pinned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rehearsal.emr import java

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rehearsal

SMALL = next(jar for jar in java.YARN if jar.name == "junit")


def test_a_fetched_jar_is_kept(tmp_path: Path) -> None:
    (fetched,) = java.fetch((SMALL,), tmp_path)
    written = fetched.stat().st_mtime_ns
    assert java.fetch((SMALL,), tmp_path) == [fetched]
    assert fetched.stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [SMALL.file_name]


def test_a_jar_with_another_checksum_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(java.JarError, match="do not use this mirror"):
        java.fetch((replace(SMALL, sha256="0" * 64),), tmp_path)
    assert list(tmp_path.iterdir()) == []
