"""Names of files and labels that are HTML stand on the page as they are, and do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.batches import (
    HOSTILE_BAD,
    IMAGE_LABEL,
    IMAGE_PATH,
    SCRIPT_LABEL,
    SCRIPT_PATH,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.batches import Reported
    from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.job]


def made_of_names(page: Page) -> list[str]:
    """Elements that only a name that was taken for HTML makes."""
    found: list[str] = page.evaluate(
        """[
            ...[...document.scripts].slice(2),
            ...document.querySelectorAll("img, [onerror], [onmouseover], [onload], iframe"),
        ].map(one => one.outerHTML)"""
    )
    return found


def test_they_do_nothing_wherever_they_stand(synthetic: Reported, visitor: Visitor) -> None:
    """A dialog, an error or a request of theirs would fail in `visitor`."""
    page = visitor.open(synthetic.page)
    assert page.evaluate("document.scripts.length") == 2
    for path, label in ((SCRIPT_PATH, SCRIPT_LABEL), (IMAGE_PATH, IMAGE_LABEL)):
        suspect = page.locator("#suspects .card").filter(has=page.get_by_text(path, exact=True))
        assert suspect.locator("figcaption b").first.inner_text() == label
        sheet = page.locator("#labels article").filter(has=page.get_by_text(label, exact=True))
        sheet.locator(".pick").first.click()
        dialog = page.get_by_role("dialog")
        assert dialog.locator("h2").inner_text() == label
        assert dialog.locator(".path").inner_text() == path
        dialog.get_by_role("button", name="Drop: ").click()
        dialog.get_by_role("button", name="Show on the map").click()
        assert page.locator("#map-detail .path").first.inner_text() == path
        page.locator("#map-legend button", has_text=label).click()
        page.locator("#map-search").fill(path)
        assert page.locator("#map-found button").all_inner_texts() == [path]
        page.locator("#map-canvas").press("PageDown")
        assert page.locator("#map-status").inner_text() == f"{label}: {path}"
        page.locator("#map-search").fill("")
        page.locator("#map-label").select_option("all")
    page.get_by_text("What is marked").click()
    listed = page.locator("#corrections-list span").all_inner_texts()
    assert listed == sorted(f"drop {path}" for path in (SCRIPT_PATH, IMAGE_PATH))
    assert HOSTILE_BAD in page.locator("#rejects li b").all_inner_texts()
    assert made_of_names(page) == []


def test_a_label_typed_on_the_page_does_nothing_either(
    synthetic: Reported, visitor: Visitor
) -> None:
    page = visitor.open(synthetic.page)
    page.locator("#outliers").get_by_role("button", name="Relabel: ").first.click()
    field = page.locator("#outliers input:visible")
    field.fill("<img src=x onerror=alert(1)>")
    field.press("Enter")
    page.get_by_text("What is marked").click()
    [listed] = page.locator("#corrections-list span").all_inner_texts()
    assert listed.endswith(" to <img src=x onerror=alert(1)>")
    page.reload()
    page.get_by_text("What is marked").click()
    assert made_of_names(page) == []


def test_the_policy_stops_what_would_get_through(synthetic: Reported, visitor: Visitor) -> None:
    """Were a name to become HTML after all, its handlers and scripts would not be run."""
    page = visitor.open(synthetic.page)
    page.evaluate(
        """() => {
            window.done = [];
            const image = `<img src="data:," onerror="done.push(1)">`;
            document.body.insertAdjacentHTML("beforeend", image);
            const script = document.createElement("script");
            script.textContent = "done.push(2)";
            document.body.append(script);
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("done") == []
    assert len(visitor.complaints) == 2
    assert all("Content Security Policy" in told for told in visitor.complaints)
    visitor.complaints.clear()
