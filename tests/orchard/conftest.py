"""Outputs on a disk and in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spark_job.objects import Folder, open_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_output_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHARD_OUTPUT", raising=False)


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return open_folder(str(tmp_path / "out"))
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}")


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "out"))
