"""The map: whose point is where, and what a pointer or a keyboard does with it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from playwright.sync_api import expect
from pyarrow import parquet

from spark_job import tables
from spark_job.report.pictures import LARGE, SMALL
from spark_job.report.thumbnails import thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from playwright.sync_api import Locator, Page

    from tests.browser.batches import Reported
    from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.job]

MARGIN = 14
"""Pixels around the outermost points."""


@dataclass(frozen=True)
class Points:
    """Where the map is to show the published vectors.

    Attributes
    ----------
    page
        With the map on it.
    path, label
        [n], of the pictures.
    vector
        [n, k].
    """

    page: Page
    path: list[str]
    label: list[str | None]
    vector: NDArray[np.float32]

    @classmethod
    def of(cls, reported: Reported, visitor: Visitor) -> Points:
        page = visitor.open(reported.page)
        # The page scrolls to what it is asked to point at; this keeps the map where it is.
        page.locator("#map-box").scroll_into_view_if_needed()
        table = reported.job.table("vectors")
        vector = tables.as_matrix(table["vector"])
        return cls(page, table["path"].to_pylist(), table["label"].to_pylist(), vector)

    @property
    def canvas(self) -> Locator:
        return self.page.locator("#map-canvas")

    def places(self, across: int = 0, up: int = 1) -> NDArray[np.float64]:
        """Where all points are on the canvas at two components, [n, 2], unless it is zoomed."""
        chosen = self.vector[:, [across, up]].astype(float)
        low, high = chosen.min(axis=0), chosen.max(axis=0)
        scaled = (chosen - low) / (high - low)
        scaled[:, 1] = 1 - scaled[:, 1]
        box = self.canvas.bounding_box()
        assert box is not None
        size = np.array([box["width"], box["height"]])
        places: NDArray[np.float64] = MARGIN + scaled * (size - 2 * MARGIN)
        return places

    def apart(self, across: int = 0, up: int = 1) -> list[int]:
        """Points that no other one is near, the most lonely first."""
        places = self.places(across, up)
        squared = ((places[:, None] - places) ** 2).sum(axis=2)
        np.fill_diagonal(squared, np.inf)
        nearest = squared.min(axis=1)
        return [int(at) for at in np.argsort(-nearest) if nearest[at] > 20**2]

    def hover(self, place: NDArray[np.float64]) -> None:
        self.canvas.hover(position={"x": float(place[0]), "y": float(place[1])}, force=True)

    def tip(self) -> str:
        """What is shown of the point under the pointer; empty where nothing is."""
        tip = self.page.locator("#map-tip")
        return tip.inner_text() if tip.is_visible() else ""

    @property
    def status(self) -> str:
        return self.page.locator("#map-status").inner_text()


@pytest.fixture
def points(reported: Reported, visitor: Visitor) -> Points:
    return Points.of(reported, visitor)


def pictures_of(reported: Reported, path: str) -> set[str]:
    """How a picture may stand on the page."""
    content = (reported.images / path).read_bytes()
    return {
        f"data:image/webp;base64,{base64.b64encode(thumbnail(content, side)).decode()}"
        for side in (SMALL, LARGE)
    }


def test_each_point_shows_its_picture_and_name_where_its_vector_is(
    reported: Reported, points: Points
) -> None:
    for at in points.apart()[:6]:
        points.hover(points.places()[at])
        path = points.path[at]
        assert points.tip().splitlines() == [points.label[at] or "no label", path]
        [uri] = points.page.locator("#map-tip use").evaluate_all(
            "all => all.map(one => document.querySelector(one.getAttribute('href')))"
            ".map(one => one.getAttribute('href'))"
        )
        assert uri in pictures_of(reported, path)
    points.page.mouse.move(5, 5)
    assert points.tip() == ""


def test_any_two_components_can_be_its_axes(points: Points) -> None:
    page = points.page
    kept = min(points.vector.shape[1], 8)
    assert page.locator("#map-x option").count() == page.locator("#map-y option").count() == kept
    page.locator("#map-x").select_option(index=3)
    page.locator("#map-y").select_option(index=2)
    for at in points.apart(3, 2)[:3]:
        points.hover(points.places(3, 2)[at])
        assert points.path[at] in points.tip()
    told = page.locator("#map-axes").inner_text()
    assert re.fullmatch(r"Across: component 4 \(\d+\.\d%\)\. Up: component 3 \(\d+\.\d%\)\.", told)


def test_a_label_alone_is_shown(points: Points) -> None:
    label = max({one for one in points.label if one}, key=points.label.count)
    number = points.label.count(label)
    points.page.locator("#map-label").select_option(f"{label} ({number})")
    assert points.status == f"{number} of {len(points.path)} pictures"
    pressed = points.page.locator("#map-legend [aria-pressed=true]")
    assert pressed.all_inner_texts() == [label]
    others = [at for at in points.apart() if points.label[at] != label]
    points.hover(points.places()[others[0]])
    assert points.path[others[0]] not in points.tip()
    points.page.locator("#map-label").select_option("all")
    assert points.status == ""
    points.hover(points.places()[others[0]])
    assert points.path[others[0]] in points.tip()


def test_the_legend_shows_a_label_alone_and_all_again(points: Points) -> None:
    names = sorted({one for one in points.label if one})
    unlabelled = ["no label"] if None in points.label else []
    legend = points.page.locator("#map-legend button")
    assert legend.all_inner_texts() == [*names, *unlabelled]
    for at in (0, -1):
        name = legend.all_inner_texts()[at]
        legend.nth(at).click()
        number = points.label.count(None if name == "no label" else name)
        assert points.status == f"{number} of {len(points.path)} pictures"
        legend.nth(at).click()
        assert points.status == ""
    colours = legend.locator(".swatch").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(colours)) == len(colours)


def test_what_was_found_can_be_shown_alone(reported: Reported, points: Points) -> None:
    findings = reported.job.receipt["findings"]
    duplicates = parquet.read_table(reported.job.run / "findings" / "duplicates").to_pylist()
    expected = {
        "doubtful labels": findings["suspects"],
        "copies": len([row for row in duplicates if not row["keep"]]),
        "outliers": findings["outliers"],
        "where to begin": findings["selected"],
    }
    offered = points.page.locator("#map-flag option").all_inner_texts()
    assert offered == ["all", *(f"{word} ({number})" for word, number in expected.items())]
    points.page.locator("#map-flag").select_option(offered[3])
    assert points.status == f"{findings['outliers']} of {len(points.path)} pictures"
    noise = points.path.index(reported.strange[0])
    points.hover(points.places()[noise])
    assert points.path[noise] in points.tip()


def test_a_part_of_a_name_finds_pictures(points: Points) -> None:
    page = points.page
    searched = points.path[0].rpartition("/")[2].upper()
    matching = [path for path in points.path if searched.lower() in path.lower()]
    page.locator("#map-search").fill(searched)
    assert points.status == f"{len(matching)} of {len(points.path)} pictures"
    found = page.locator("#map-found button")
    assert found.all_inner_texts() == matching[:12]
    page.locator("#map-search").press("Enter")
    assert page.locator("#map-detail .path").first.inner_text() == matching[0]
    page.locator("#map-search").fill("no picture is called so")
    assert points.status == f"0 of {len(points.path)} pictures"
    assert found.count() == 0


def test_it_comes_closer_and_moves(points: Points) -> None:
    page, canvas = points.page, points.canvas
    box = canvas.bounding_box()
    assert box is not None
    middle = np.array([box["width"], box["height"]]) / 2
    # Two axes at which some point is still there when all is larger.
    (across, up), at = next(
        (axes, at)
        for axes in permutations(range(5), 2)
        for at in points.apart(*axes)
        if (abs(points.places(*axes)[at] / middle - 1) < 0.5).all()
    )
    page.locator("#map-x").select_option(index=across)
    page.locator("#map-y").select_option(index=up)
    places = points.places(across, up)
    page.get_by_role("button", name="Closer").click()
    nearer = middle + 1.6 * (places[at] - middle)
    points.hover(nearer)
    assert points.path[at] in points.tip()
    by = np.array([40, -30])
    points.hover(middle)
    page.mouse.down()
    points.hover(middle + by)
    page.mouse.up()
    assert page.locator("#map-detail").is_hidden(), "to drag is not to click"
    points.hover(nearer + by)
    assert points.path[at] in points.tip()
    page.get_by_role("button", name="Whole").click()
    points.hover(places[at])
    assert points.path[at] in points.tip()


def test_the_wheel_with_ctrl_comes_closer_to_what_is_under_the_pointer(points: Points) -> None:
    page = points.page
    at = points.apart()[0]
    points.hover(points.places()[at])
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    expect(page.locator("#announcement")).to_have_text("1.3 times as large")
    points.hover(points.places()[at] + [1, 0])
    assert points.path[at] in points.tip(), "what is under the pointer stays there"


def test_the_wheel_alone_scrolls_the_page(points: Points) -> None:
    points.canvas.hover()
    before = points.canvas.bounding_box()
    points.page.mouse.wheel(0, -300)
    for _ in range(50):
        if points.canvas.bounding_box() != before:
            return
        points.page.wait_for_timeout(50)
    pytest.fail("the page stays where it is")


def test_a_click_holds_a_picture_to_be_marked(points: Points) -> None:
    page = points.page
    at = points.apart()[1]
    place = points.places()[at]
    points.canvas.click(position={"x": float(place[0]), "y": float(place[1])})
    held = page.locator("#map-detail")
    assert held.locator(".path").first.inner_text() == points.path[at]
    held.get_by_role("button", name=f"Drop: {points.path[at]}").click()
    assert page.locator("#corrections-count").inner_text() == "1 to drop"
    held.get_by_role("button", name="Let go").click()
    assert held.is_hidden()


def test_pictures_at_the_same_place_are_told(reported: Reported, points: Points) -> None:
    copy, source = next(iter(reported.copies.items()))
    points.page.locator("#map-search").fill(source)
    points.page.locator("#map-found button").first.click()
    points.page.locator("#map-search").fill("")
    points.canvas.click(
        position={
            "x": float(points.places()[points.path.index(copy)][0]),
            "y": float(points.places()[points.path.index(copy)][1]),
        }
    )
    held = points.page.locator("#map-detail")
    at_once = {*held.locator(".path").all_inner_texts()[:1]}
    at_once |= {*held.locator(".buttons button").all_inner_texts()}
    assert {copy, source} <= at_once


class TestTheKeyboard:
    def test_arrow_keys_go_to_the_next_picture_that_way(self, points: Points) -> None:
        canvas, places = points.canvas, points.places()
        canvas.press("ArrowRight")
        for key, axis, sign in (
            ("ArrowRight", 0, 1),
            ("ArrowDown", 1, 1),
            ("ArrowLeft", 0, -1),
            ("ArrowUp", 1, -1),
        ):
            before = points.status
            canvas.press(key)
            if points.status == before:  # at an edge there is none further
                continue
            one, other = (told.partition(": ")[2] for told in (before, points.status))
            moved = places[points.path.index(other)] - places[points.path.index(one)]
            assert sign * moved[axis] > 0, key
            assert other in points.tip(), "what a pointer would show"

    def test_page_down_reaches_every_picture_those_on_one_spot_too(self, points: Points) -> None:
        canvas = points.canvas
        seen = []
        for _ in points.path:
            canvas.press("PageDown")
            seen.append(points.status.partition(": ")[2])
        assert sorted(seen) == points.path
        canvas.press("PageUp")
        assert points.status.partition(": ")[2] == seen[-2]
        assert len({*pairwise(seen)}) == len(seen) - 1

    def test_enter_holds_one_and_escape_lets_go(self, points: Points) -> None:
        page, canvas = points.page, points.canvas
        canvas.press("PageDown")
        path = points.status.partition(": ")[2]
        canvas.press("Enter")
        held = page.locator("#map-detail")
        assert held.locator(".path").first.inner_text() == path
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.locator("#corrections-count").inner_text() == "1 to drop"
        page.keyboard.press("Escape")
        assert held.is_hidden()
        assert page.evaluate("document.activeElement.id") == "map-canvas"
        page.keyboard.press("Escape")
        assert points.tip() == ""

    def test_it_is_no_trap(self, points: Points) -> None:
        for key in ("Tab", "Shift+Tab"):
            points.canvas.focus()
            points.canvas.press("ArrowRight")
            points.page.keyboard.press(key)
            assert points.page.evaluate("document.activeElement.id") != "map-canvas"

    def test_plus_and_minus_zoom(self, points: Points) -> None:
        points.canvas.press("+")
        announced = points.page.locator("#announcement")
        assert announced.inner_text() == "1.6 times as large"
        points.canvas.press("-")
        assert announced.inner_text() == "The whole map"
