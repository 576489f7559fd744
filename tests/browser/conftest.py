"""A browser, and the reports that it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from tests.browser import chromium
from tests.browser.batches import Reported, make_photographs, make_synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Route

INSIDE = ("file:", "data:", "blob:")
"""What a page loads from itself and from its own file; anything else is refused."""


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """Drawn fruit, with hostile names among them."""
    return make_synthetic(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="session")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """Real photographs."""
    archive = shared / "photographs" / "photographs.tar"
    return make_photographs(archive, tmp_path_factory.mktemp("photographs"))


@pytest.fixture(params=["synthetic", pytest.param("photographs", marks=pytest.mark.shared)])
def reported(request: pytest.FixtureRequest) -> Reported:
    """Either of them."""
    found: Reported = request.getfixturevalue(request.param)
    return found


# For a module, and no longer: while it is open, nothing else in this process can use asyncio.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium; skips where there is no build of it."""
    if not chromium.HAS_BUILD:
        pytest.skip("the browser of these tests is built for Linux on x86-64 alone")
    folder = chromium.install()
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright, folder, tmp_path_factory.mktemp("browser"))
        yield browser
        browser.close()


@dataclass
class Visitor:
    """Opens pages, and writes down what they ask for and complain of.

    Attributes
    ----------
    asked
        Addresses that were asked for, of other pages than the one that was opened.
    complaints
        Errors, what was written to the console, and what was popped up.
    """

    browser: Browser
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, path: Path, **options: Any) -> Page:
        """Open a page in a browser of its own, and wait for its map if it has a script."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        page = context.new_page()
        page.route(re.compile(rf"^(?!{'|'.join(INSIDE)})"), self._refuse)
        page.on("request", lambda request: self._write_down(request.url, path.as_uri()))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(error.message))
        page.on("dialog", self._dismiss)
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True) and page.locator("#map-data").count():
            page.wait_for_selector("html.mapped")
        return page

    def _write_down(self, url: str, own: str) -> None:
        if url.partition("#")[0] != own and not url.startswith(("data:", "blob:")):
            self.asked.append(url)

    def _refuse(self, route: Route) -> None:
        route.abort()

    def _hear(self, message: ConsoleMessage) -> None:
        self.complaints.append(f"{message.type}: {message.text}")

    def _dismiss(self, dialog: Dialog) -> None:
        self.complaints.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Who opens pages in a test; whatever was done with these, nothing may be asked or wrong."""
    visitor = Visitor(browser)
    yield visitor
    for context in visitor.contexts:
        context.close()
    assert (visitor.asked, visitor.complaints) == ([], [])
