"""`python app.py`, as a user and as the CDK CLI run it: offline, with no account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cdk

REPOSITORY = Path(__file__).parents[2]


def app(
    tmp_path: Path, *, context: dict[str, str] | None = None, cli: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "CDK_")) and not name.lower().endswith("_proxy")
    }
    # Any call to AWS, or out of this machine, would have to go through here.
    variables |= {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    if cli:
        variables |= {
            "CDK_OUTDIR": str(tmp_path / "out"),
            "CDK_CONTEXT_JSON": json.dumps(context or {}),
        }
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "app.py")],
        cwd=tmp_path,
        env=variables | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_app_synthesizes_with_no_account(tmp_path: Path, wheelhouse: Path) -> None:
    done = app(tmp_path, context={"wheelhouse": str(wheelhouse), "name": "Apples"})
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["artifacts"]["Apples"]["environment"] == "aws://unknown-account/eu-west-1"
    assert "Apples-notebooks" not in manifest["artifacts"]
    assert "missing" not in manifest, "a look-up would need an account"


def test_the_profiles_region_is_used_and_the_notebook_cluster_comes_when_asked_for(
    tmp_path: Path, wheelhouse: Path
) -> None:
    done = app(
        tmp_path,
        context={"wheelhouse": str(wheelhouse), "interactive": "true", "ssm": "true"},
        CDK_DEFAULT_REGION="eu-central-1",
        CDK_DEFAULT_ACCOUNT="123456789012",
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for stack in ("Orchard", "Orchard-notebooks"):
        environment = manifest["artifacts"][stack]["environment"]
        assert environment == "aws://123456789012/eu-central-1"
    assert "missing" not in manifest, "a look-up would need credentials"


def test_a_bad_value_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = app(tmp_path, context={"core_instances": "none"})
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "orchard" in line]
    assert lines == [
        'orchard: orchard.core_instances is "none"; allowed is a whole number from 1 to 500.'
    ]
    assert "Traceback" not in done.stderr
