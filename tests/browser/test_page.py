"""The report as one sees it: on a screen, on a phone, on paper, without script, by a screen reader.

`visitor` refuses every request, and fails a test whose page made one, or complained of anything.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from spark_job.objects import open_folder
from spark_job.report.making import make_report
from tests.browser import chromium
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

    from tests.browser.batches import Reported
    from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.job]

SECTIONS = [
    "model",
    "rejects",
    "suspects",
    "duplicates",
    "outliers",
    "selection",
    "labels",
    "variance",
    "map",
]

PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def sections(page: Page) -> list[str]:
    found: list[str] = page.locator("main > section").evaluate_all("all => all.map(one => one.id)")
    return found


def test_a_request_or_an_error_of_a_page_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    from tests.browser.conftest import Visitor

    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="icon" href="data:,"><img src="https://example.invalid/pixel.png">'
        '<script>console.log("said"); alert("shown"); absent()</script>'
    )
    visitor = Visitor(browser)
    visitor.open(page).wait_for_load_state("networkidle")
    visitor.contexts[0].close()
    assert visitor.asked == ["https://example.invalid/pixel.png"]
    assert {"log: said", "alert: shown", "absent is not defined"} <= set(visitor.complaints)


def test_every_section_is_there_in_order_and_in_the_navigation(
    reported: Reported, visitor: Visitor
) -> None:
    page = visitor.open(reported.page)
    assert sections(page) == ["verdict", *SECTIONS]
    links = page.get_by_role("navigation", name="Sections").get_by_role("link")
    assert links.evaluate_all("all => all.map(one => one.hash)") == [
        f"#{name}" for name in SECTIONS
    ]
    for link in links.all():
        link.click()
        target = link.get_attribute("href") or ""
        heading = page.locator(f"{target} h2")
        assert in_sight(heading), target
        assert (link.inner_text().split(" ")[0]) == heading.inner_text().split(" ")[0]


def in_sight(element: Locator) -> bool:
    """Whether an element is in the window with nothing above it."""
    return bool(
        element.evaluate(
            """one => {
                const {left, right, top, bottom} = one.getBoundingClientRect();
                if (top < 0 || bottom > innerHeight) return false;
                const seen = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
                return one === seen || one.contains(seen) || seen.contains(one);
            }"""
        )
    )


def test_the_first_thing_said_is_whether_the_batch_is_fine(
    reported: Reported, visitor: Visitor
) -> None:
    page = visitor.open(reported.page)
    verdict = page.locator("#verdict")
    number = reported.job.receipt["counts"]["computed"]
    assert verdict.get_by_role("heading").inner_text() == (
        f"Look at this before you use the {number} pictures."
    )
    for remark in verdict.get_by_role("link").all():
        remark.click()
        assert in_sight(page.locator(f"{remark.get_attribute('href')} h2"))


def test_what_was_planted_stands_in_its_section(reported: Reported, visitor: Visitor) -> None:
    page = visitor.open(reported.page)
    suspects = paths(page, "#suspects figure .path")
    assert set(reported.swapped) <= set(suspects)
    groups = [
        set(one.locator(".path").all_inner_texts()) for one in page.locator(".groups > li").all()
    ]
    for copy, source in reported.copies.items():
        assert any({copy, source} <= group for group in groups), copy
    assert set(reported.strange) <= set(paths(page, "#outliers .path"))
    rejects = reported.job.receipt["counts"]["rejects"]
    for reason, number in rejects.items():
        heading = page.locator("#rejects h3", has_text=reason)
        assert heading.inner_text() == f"{reason} {number}"
    named = set(page.locator("#rejects li b").all_inner_texts())
    assert named == {path for path, came in reported.job.outcomes().items() if came != "featurized"}


def paths(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def test_every_picture_on_it_is_one(reported: Reported, visitor: Visitor) -> None:
    page = visitor.open(reported.page)
    broken = page.evaluate(
        """async () => {
            const broken = [];
            for (const one of document.querySelectorAll("svg.shot")) {
                const image = document.querySelector(one.querySelector("use").getAttribute("href"));
                const shown = new Image();
                shown.src = image.getAttribute("href");
                await shown.decode().catch(() => broken.push(one.dataset.path));
            }
            return broken;
        }"""
    )
    assert broken == []
    assert page.locator(".shot.none").count() == 0
    assert page.locator("svg.shot").count() > 60
    drawn = page.locator("#labels svg.shot").first
    drawn.scroll_into_view_if_needed()
    assert colours(drawn.screenshot()) > 50


def colours(png: bytes) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


def faults(page: Page) -> list[str]:
    """What axe calls serious or critical, with the first element of each."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(chromium.AXE.read_text("utf-8"))  # the page's policy refuses script tags
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    assert len(found["passes"]) > 5
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(reported: Reported, visitor: Visitor, scheme: str) -> None:
    page = visitor.open(reported.page, color_scheme=scheme)
    assert faults(page) == []
    # And when something is marked, opened, held and looked up.
    page.locator("#suspects .marks button").first.click()
    page.locator("#duplicates .head button").first.click()
    page.locator("#outliers").get_by_role("button", name="Relabel").first.click()
    page.locator("#map-search").fill("1")
    page.locator("#map-found button").first.click()
    page.get_by_text("What is marked").click()
    assert faults(page) == []
    page.locator("#selection .pick").first.click()
    assert page.get_by_role("dialog").is_visible()
    assert faults(page) == []


def test_axe_would_find_something(visitor: Visitor, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(
        '<!doctype html><title>A page</title><img src="data:,">'
        '<p style="color: #ccc; background: white">faint</p>'
        + "".join(f"<h{n}>A heading</h{n}>" for n in (1, 2, 3))
    )
    found = " ".join(faults(visitor.open(file)))
    assert "image-alt" in found
    assert "color-contrast" in found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_a_scroll_bar_at_the_side(
    reported: Reported, visitor: Visitor, scheme: str
) -> None:
    page = visitor.open(reported.page, color_scheme=scheme, **PHONE)
    assert overflowing(page) == []
    for name in ("Drop", "Relabel"):
        page.locator("#outliers").get_by_role("button", name=name).first.tap()
    page.locator("#map-search").fill("1")
    page.locator("#map-found button").first.tap()
    assert page.locator("#map-detail").is_visible()
    page.get_by_text("What is marked").tap()
    assert overflowing(page) == []
    page.locator("#labels .pick").last.tap()
    assert page.get_by_role("dialog").is_visible()
    assert overflowing(page) == []


def overflowing(page: Page) -> list[str]:
    """What is wider than the phone, if anything makes the page so."""
    found: list[str] = page.evaluate(
        # innerWidth would grow with the page: a phone shows all of its width, and smaller.
        """() => document.documentElement.scrollWidth <= screen.width ? [] :
            [...document.querySelectorAll("body *")]
                .filter(one => one.getBoundingClientRect().right > screen.width + 1)
                .map(one => one.outerHTML.slice(0, 90))"""
    )
    return found


def test_on_paper_there_are_all_pictures_and_no_controls(
    reported: Reported, visitor: Visitor
) -> None:
    page = visitor.open(reported.page, color_scheme="dark")
    page.locator("#suspects .marks button").first.click()
    before = page.locator("main svg.shot:visible").count()
    page.emulate_media(media="print")
    assert page.locator("main svg.shot:visible").count() == before
    controls = page.locator("select, input, summary, button:not(.pick, .legend button), nav a")
    assert controls.locator("visible=true").count() == 0
    assert page.locator("#map-canvas").is_visible()
    assert page.locator("#corrections").is_hidden()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)", "in a dark room too"
    corner = page.locator("#map-canvas").screenshot()
    assert Image.open(io.BytesIO(corner)).convert("RGB").getpixel((20, 20)) == (255, 255, 255)
    assert page.pdf(format="A4").startswith(b"%PDF-")


def test_without_a_script_all_is_there_but_the_map(reported: Reported, visitor: Visitor) -> None:
    with_script = visitor.open(reported.page)
    page = visitor.open(reported.page, java_script_enabled=False)
    for part in ("#suspects", "#duplicates", "#outliers", "#selection", "#labels"):
        pictures = page.locator(f"{part} svg.shot:visible")
        assert pictures.count() == with_script.locator(f"{part} svg.shot:visible").count() > 0
        pictures.last.scroll_into_view_if_needed()
        assert colours(pictures.last.screenshot()) > 50, part
    assert page.get_by_text("The map needs JavaScript").is_visible()
    assert (
        page.locator("button:visible, select:visible, input:visible, canvas:visible").count() == 0
    )
    assert with_script.get_by_text("The map needs JavaScript").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_of_a_run_without_findings_it_shows_the_rest(
    visitor: Visitor, tmp_path: Path, scheme: str
) -> None:
    output = open_folder(str(tmp_path / "out"))
    receipt = publish_batch(output, "plain", 60)
    file = tmp_path / "report.html"
    file.write_text(make_report(output, "plain", receipt.run), encoding="utf-8")
    page = visitor.open(file, color_scheme=scheme)
    assert sections(page) == ["verdict", "model", "rejects", "variance", "map"]
    verdict = page.locator("#verdict h2").inner_text()
    assert "not looked for" in verdict
    assert page.locator("#map-label option").all_inner_texts() == ["all", "Fruit (60)"]
    page.locator("#map-canvas").press("PageDown")
    assert page.locator("#map-status").inner_text() == "Fruit: Fruit/plain-0-0.jpg"
    assert faults(page) == []
