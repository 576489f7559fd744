"""The keyboard alone reaches all that a pointer does, in the order of the page, in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.batches import Reported
    from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.job]

NUMBER_THEM = """() => {
    const controls = [...document.querySelectorAll(
        "a[href], button, input, select, summary, [tabindex='0']"
    )].filter(one => one.tabIndex >= 0 && !one.disabled && one.checkVisibility());
    controls.forEach((one, at) => { one.dataset.number = at; });
    return controls.map(one => one.outerHTML.slice(0, 120));
}"""

FOCUSED = """() => {
    const one = document.activeElement;
    const {left, right, top, bottom} = one.getBoundingClientRect();
    // Of what is higher than the window, such as the map, some is enough.
    const whole = top >= 0 && bottom <= innerHeight;
    const middle = (top + bottom) / 2;
    const y = whole ? middle : Math.min(Math.max(middle, 90), innerHeight - 90);
    const seen = document.elementFromPoint((left + right) / 2, y);
    const {outlineStyle, outlineWidth} = getComputedStyle(one);
    return {
        number: one.dataset.number ?? null,
        html: one.outerHTML.slice(0, 120),
        inSight: seen !== null && (one.contains(seen) || seen.contains(one)),
        outlined: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    };
}"""


@pytest.mark.parametrize("width", [1280, 360])
def test_tab_reaches_every_control_in_order_and_in_sight(
    reported: Reported, visitor: Visitor, width: int
) -> None:
    page = visitor.open(reported.page, viewport={"width": width, "height": 800})
    # With the bar of corrections at the bottom, which must not lie over what has the focus.
    page.locator("#suspects .marks button").first.click()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.locator("body").press("Escape")
    controls = page.evaluate(NUMBER_THEM)
    assert len(controls) > 60
    page.locator(".skip").focus()
    reached, hidden, faint = [], [], []
    for _ in controls:
        found = page.evaluate(FOCUSED)
        reached.append(found["number"])
        if not found["inSight"]:
            hidden.append(found["html"])
        if not found["outlined"]:
            faint.append(found["html"])
        page.keyboard.press("Tab")
    assert reached == [str(number) for number in range(len(controls))]
    assert (hidden, faint) == ([], [])


def focused(page: Page) -> str:
    told: str = page.evaluate(
        "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"
    )
    return told


def test_the_first_stop_leads_past_the_navigation(reported: Reported, visitor: Visitor) -> None:
    page = visitor.open(reported.page)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the report"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    first = page.locator("#verdict a").first.inner_text()
    assert focused(page) == first


def test_marks_are_set_saved_and_undone_with_it(reported: Reported, visitor: Visitor) -> None:
    page = visitor.open(reported.page)
    mark = page.locator("#suspects .marks button").first
    mark.focus()
    page.keyboard.press("Enter")
    assert mark.get_attribute("aria-pressed") == "true"
    assert page.locator("#announcement").inner_text() == "1 to relabel"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("#announcement").inner_text() == "1 to drop"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.type("Quince")
    page.keyboard.press("Enter")
    assert page.locator("#announcement").inner_text() == "1 to relabel"
    page.keyboard.type(" tree")
    page.keyboard.press("Escape")
    assert focused(page).startswith("Other label: ")
    assert page.locator("#corrections-count").inner_text() == "1 to relabel"
    assert page.locator("#suspects .marks input").first.input_value() == "Quince", "as it was"
    page.locator("#corrections-save").focus()
    with page.expect_download():
        page.keyboard.press("Enter")
    page.locator("#corrections summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page).startswith("Undo: ")
    page.keyboard.press("Enter")
    assert page.locator("#corrections").is_hidden()
    assert page.evaluate("document.activeElement.id") == "main", "not lost"


def test_a_row_of_pictures_is_one_stop_and_arrows_go_on_in_it(
    reported: Reported, visitor: Visitor
) -> None:
    page = visitor.open(reported.page)
    picks = page.locator("#selection .pick")
    picks.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert focused(page) == picks.nth(1).get_attribute("aria-label")
    page.keyboard.press("End")
    assert focused(page) == picks.last.get_attribute("aria-label")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('section').id") == "labels"
    page.keyboard.press("Shift+Tab")
    assert focused(page) == picks.last.get_attribute("aria-label"), "where one was"
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('body, dialog *')")
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert focused(page) == picks.last.get_attribute("aria-label")


def test_escape_in_a_field_closes_the_field_and_not_the_dialog(
    reported: Reported, visitor: Visitor
) -> None:
    page = visitor.open(reported.page)
    page.locator("#selection .pick").first.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Relabel").press("Enter")
    page.keyboard.type("Quin")
    page.keyboard.press("Escape")
    assert dialog.is_visible()
    assert focused(page).startswith("Relabel: ")
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert page.locator("#corrections").is_hidden(), "nothing was marked"
