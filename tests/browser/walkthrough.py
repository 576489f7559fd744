"""The pictures of docs/walkthrough.md: ``python -m tests.browser.walkthrough`` makes them anew.

All of it is really done: the demo is run, and what it and the commands print is drawn as a terminal
shows it; its report is opened in the browser of these tests.
"""

from __future__ import annotations

import html
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image
from playwright.sync_api import sync_playwright

from spark_job import contract
from tests.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PICTURES: Final = REPOSITORY / "docs" / "pictures"

WIDTH: Final = 1120
QUALITY: Final = 82

HEIGHT: Final = 760
"""Pixels that are shown of a long section."""

TERMINAL: Final = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #10141a; color: #dfe5ea; font: 15px/1.5 monospace; }}
pre {{ margin: 0; padding: 18px 22px; white-space: pre-wrap; overflow-wrap: anywhere; }}
b {{ color: #8fd3a8; font-weight: 600; }}
</style><pre>{text}</pre>"""

COMMANDS: Final = {
    "findings": ("findings", "synthetic-fruit"),
    "suspects": ("findings", "synthetic-fruit", "--kind", "suspects"),
    "sql": ("sql", "select label, count(*) as pictures from vectors group by label order by 1"),
}
"""What is asked of the results, by the name of its picture."""


def main() -> None:
    """Run what the page tells of, and draw it."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="orchard-") as scratch:
        place = Path(scratch) / "orchard"
        (place / "out").mkdir(parents=True)
        said = {"demo": ("make demo", _run(place, "demo"))}
        output = place / "out" / "synthetic-fruit"
        for name, arguments in COMMANDS.items():
            told = _run(place, "orchard", *arguments, "--output", str(output))
            said[name] = (f"orchard {_shown(arguments)}", told)
        results = output / contract.results_folder("synthetic-fruit")
        run = json.loads((results / contract.CURRENT).read_bytes())["run"]
        report = output / contract.run_folder("synthetic-fruit", run) / contract.REPORT
        with sync_playwright() as playwright:
            browser = chromium.launch(playwright, chromium.install(), Path(scratch))
            for name, (command, told) in said.items():
                _draw_terminal(browser, name, command, _as_yours(told, place))
            yours = Path(scratch) / contract.REPORT
            yours.write_text(_as_yours(report.read_text("utf-8"), place), "utf-8")
            _draw_report(browser, yours)
            browser.close()


def _run(place: Path, module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "FORCE_COLOR": "1", "COLUMNS": "110"},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def _as_yours(told: str, place: Path) -> str:
    """Put places in as they are where somebody has the checkout in the home folder."""
    told = told.replace(str(place), "/home/you/orchard")
    return re.sub(r"\S*/bin/orchard\b", ".venv/bin/orchard", told)


def _shown(arguments: tuple[str, ...]) -> str:
    return " ".join(f'"{one}"' if " " in one else one for one in arguments)


def _draw_terminal(browser: Browser, name: str, command: str, told: str) -> None:
    text = f"<b>$ {html.escape(command)}</b>\n{html.escape(told.strip())}"
    page = browser.new_page(viewport={"width": WIDTH, "height": 200})
    page.set_content(TERMINAL.format(text=text))
    _save(page.screenshot(full_page=True), f"terminal-{name}")
    page.close()


def _draw_report(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(report.as_uri())
    page.wait_for_selector("html.mapped")
    _save(page.screenshot(), "report")
    page.evaluate("document.querySelector('nav').style.position = 'static'")  # or it lies above
    for section in ("suspects", "duplicates"):
        _save(page.locator(f"#{section}").screenshot(), f"report-{section}", HEIGHT)
    _point_at_the_map(page)
    _save(page.locator("#map").screenshot(), "report-map")
    page.close()


def _point_at_the_map(page: Page) -> None:
    """Show a picture of the map's, as a pointer over it does."""
    canvas = page.locator("#map-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    for step in range(40):
        x, y = box["x"] + box["width"] * (0.2 + 0.015 * step), box["y"] + box["height"] * 0.35
        page.mouse.move(x, y)
        if page.locator("#map-tip img, #map-tip svg").count():
            return


def _save(png: bytes, name: str, most: int | None = None) -> None:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if most is not None:
        image = image.crop((0, 0, image.width, min(most, image.height)))
    image.save(PICTURES / f"{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
