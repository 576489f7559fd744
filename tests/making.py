"""Running make as a person does, whatever make runs the tests."""

from __future__ import annotations

import os
import subprocess

from tests.pages import REPOSITORY


def make(*arguments: str) -> str:
    """Run make in the checkout, which must succeed; what it prints."""
    done = subprocess.run(
        ["make", *arguments],
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
