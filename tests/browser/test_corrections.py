"""What is marked on the page, and what the job makes of it."""

from __future__ import annotations

import csv
import shutil
from typing import TYPE_CHECKING

import pytest

from spark_job.corrections import read_corrections
from tests.browser.batches import IMAGE_LABEL, SCRIPT_PATH
from tests.spark_job.jobs import run_job

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.batches import Reported
    from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.job]


def count(page: Page) -> str:
    bar = page.locator("#corrections")
    return page.locator("#corrections-count").inner_text() if bar.is_visible() else ""


def save(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    assert download.value.suggested_filename == "corrections-harvest.csv"
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def pressed(page: Page, name: str) -> list[str]:
    buttons = page.get_by_role("button", name=name, exact=True)
    return [one.get_attribute("aria-pressed") or "" for one in buttons.all()]


def relabel(page: Page, section: str, path: str, label: str) -> None:
    marks = page.locator(f"{section} .marks:visible").and_(page.locator(f'[data-path="{path}"]'))
    marks.get_by_role("button", name="abel", exact=False).last.click()
    field = marks.get_by_role("textbox").or_(marks.get_by_role("combobox"))
    field.fill(label)
    field.press("Enter")


def test_the_job_takes_what_was_marked(
    synthetic: Reported, visitor: Visitor, tmp_path: Path
) -> None:
    page = visitor.open(synthetic.page)
    assert count(page) == ""
    # As suggested; as typed; all copies of a group; of a hostile name; a strange one; on the map.
    page.get_by_role("button", name="Relabel to Banana: Pear/IMG_1.jpg").click()
    relabel(page, "#suspects", "Watermelon/IMG_2.jpg", 'Banana, "ripe"')
    page.locator("#duplicates .card", has_text="on top.jpg").locator(".head button").click()
    page.get_by_role("button", name=f"Relabel to Lemon: {SCRIPT_PATH}").click()
    page.get_by_role("button", name="Drop: Orange/noise.jpg", exact=True).first.click()
    page.locator("#map-search").fill("Orange/grey")
    page.locator("#map-found button").click()
    page.locator("#map-detail").get_by_role("button", name="Drop: ").click()
    assert count(page) == "3 to relabel, 3 to drop"
    assert (
        page.locator("#corrections .hint")
        .inner_text()
        .endswith("--corrections corrections-harvest.csv")
    )
    file = save(page, tmp_path)
    cherry = {"on top.jpg", synthetic.copies["on top.jpg"]}
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {row["path"]: (row["action"], row["label"]) for row in csv.DictReader(lines)}
    [dropped_copy] = cherry & set(rows)
    assert rows == {
        "Pear/IMG_1.jpg": ("relabel", "Banana"),
        "Watermelon/IMG_2.jpg": ("relabel", 'Banana, "ripe"'),
        dropped_copy: ("drop", ""),
        SCRIPT_PATH: ("relabel", "Lemon"),
        "Orange/noise.jpg": ("drop", ""),
        "Orange/grey.jpg": ("drop", ""),
    }

    shutil.copytree(synthetic.job.output, tmp_path / "out")
    options = ["--corrections", str(file), "--max-reject-rate=0.5"]
    again = run_job(synthetic.images, tmp_path / "out", *options, batch="harvest")
    assert again.exit_code == 0, again.err
    counts = again.receipt["counts"]
    assert (counts["relabelled"], counts["dropped"], counts["computed"]) == (3, 3, 0)
    table = again.table("vectors")
    labels = dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))
    for path, (action, label) in rows.items():
        assert (labels[path] == label) if action == "relabel" else (path not in labels)

    # The corrected run's page has them already, and what it saves undoes none of them.
    page = visitor.open(again.run / "report.html")
    assert count(page) == "3 to relabel, 3 to drop; 6 applied in this run already"
    assert page.locator("[data-marked]").count() == 0
    assert page.get_by_role("button", name="Clear").is_disabled()
    page.locator("#map-search").fill("Pear/IMG_1.jpg")
    page.locator("#map-found button").click()
    held = page.locator("#map-detail")
    held.get_by_role("button", name="Drop: ").click()
    assert count(page) == "2 to relabel, 4 to drop; 5 applied in this run already"
    held.get_by_role("button", name="Drop: ").click()
    assert count(page).endswith("; 6 applied in this run already"), "as it was"
    page.locator("#map-search").fill("Pear/")
    page.locator("#map-found button").last.click()
    held.get_by_role("button", name="Drop: ").click()
    other = held.locator(".path").first.inner_text()
    page.reload()
    assert count(page) == "3 to relabel, 4 to drop; 6 applied in this run already"
    expected = {path: label or None for path, (_, label) in rows.items()} | {other: None}
    saved = read_corrections(str(save(page, tmp_path)))
    found = dict(zip(saved.paths.to_pylist(), saved.labels.to_pylist(), strict=True))
    assert found == expected
    page.get_by_text("What is marked").click()
    page.get_by_role("button", name="Undo: Pear/IMG_1.jpg").click()
    page.get_by_role("button", name="Clear").click()
    assert count(page).startswith("3 to relabel, 3 to drop; 6 applied"), "as at the beginning"
    page.get_by_role("button", name="Bring them back").click()
    assert count(page) == "2 to relabel, 4 to drop; 5 applied in this run already"


def test_a_mark_shows_wherever_its_picture_stands(reported: Reported, visitor: Visitor) -> None:
    page = visitor.open(reported.page)
    noise = reported.strange[0]
    page.get_by_role("button", name=f"Drop: {noise}", exact=True).last.click()
    assert set(pressed(page, f"Drop: {noise}")) == {"true"}
    everywhere = page.locator(f'svg.shot[data-path="{noise}"]')
    assert everywhere.count() >= 3, "among outliers, where to begin and the least typical"
    marked = everywhere.evaluate_all("all => all.map(one => one.dataset.marked)")
    assert set(marked) == {"drop"}
    page.get_by_role("button", name=f"Drop: {noise}", exact=True).first.click()
    assert set(pressed(page, f"Drop: {noise}")) == {"false"}
    assert count(page) == ""


def test_a_picture_of_a_contact_sheet_opens_to_be_marked(
    reported: Reported, visitor: Visitor
) -> None:
    page = visitor.open(reported.page)
    pick = page.locator("#labels .pick").last
    path = pick.locator(".shot").get_attribute("data-path")
    pick.click()
    dialog = page.get_by_role("dialog")
    assert dialog.locator(".path").inner_text() == path
    assert dialog.locator(".shot").is_visible()
    dialog.get_by_role("button", name="Drop").click()
    assert count(page) == "1 to drop"
    dialog.get_by_role("button", name="Show on the map").click()
    assert page.locator("#map-detail .path").first.inner_text() == path
    held = page.locator("#map-detail").get_by_role("button", name="Drop")
    assert held.get_attribute("aria-pressed") == "true"


def test_marks_stay_until_they_are_undone(reported: Reported, visitor: Visitor) -> None:
    page = visitor.open(reported.page)
    first, second = sorted(reported.swapped)[:2]
    for path in (first, second):
        page.get_by_role("button", name=f"Drop: {path}", exact=True).first.click()
    page.reload()
    assert count(page) == "2 to drop"
    assert set(pressed(page, f"Drop: {first}")) == {"true"}
    page.get_by_text("What is marked").click()
    assert page.locator("#corrections-list span").all_inner_texts() == [
        f"drop {first}",
        f"drop {second}",
    ]
    page.get_by_role("button", name=f"Undo: {first}").click()
    assert count(page) == "1 to drop"
    assert set(pressed(page, f"Drop: {first}")) == {"false"}
    page.get_by_role("button", name="Clear").click()
    assert count(page) == "Nothing is marked"
    assert page.get_by_role("button", name="Save as CSV").is_disabled()
    page.get_by_role("button", name="Bring them back").click()
    assert set(pressed(page, f"Drop: {second}")) == {"true"}
    page.get_by_role("button", name="Clear").click()
    page.reload()
    assert count(page) == ""


def test_what_is_no_label_is_refused(synthetic: Reported, visitor: Visitor) -> None:
    page = visitor.open(synthetic.page)
    path = "Pear/IMG_1.jpg"
    relabel(page, "#suspects", path, "a/b")
    assert count(page) == ""
    field = page.get_by_label(f"Another label for {path}").first
    assert "neither slashes" in field.evaluate("one => one.validationMessage")
    field.fill("x" * 300)
    assert len(field.input_value()) == 200, "as long as the job takes"
    field.fill("Pear")
    field.press("Enter")
    assert count(page) == "", "its own label is no correction"
    field.fill(IMAGE_LABEL)
    field.press("Enter")
    assert count(page) == "1 to relabel"
    field.fill("")
    field.press("Enter")
    assert count(page) == ""


def test_escape_leaves_what_was_marked_before(synthetic: Reported, visitor: Visitor) -> None:
    page = visitor.open(synthetic.page)
    path = "Pear/IMG_1.jpg"
    page.get_by_role("button", name=f"Relabel to Banana: {path}").click()
    for typed in ("", "Quince", "a/b"):
        page.get_by_role("button", name=f"Other label: {path}").first.click()
        field = page.get_by_label(f"Another label for {path}").first
        field.press_sequentially(typed)
        field.press("Escape")
        assert field.is_hidden()
        assert count(page) == "1 to relabel"
        assert set(pressed(page, f"Relabel to Banana: {path}")) == {"true"}


UNFIT = ["x" * 201, "two&#10;lines", "a bell&#7;", "  ", "a/b"]


@pytest.mark.parametrize("label", UNFIT)
def test_a_label_that_the_job_refuses_is_not_offered(
    synthetic: Reported, visitor: Visitor, tmp_path: Path, label: str
) -> None:
    whole = synthetic.page.read_text("utf-8")
    marks = '<div class="marks" data-path="Pear/IMG_1.jpg" data-label="Pear" data-suggested="{}">'
    assert marks.format("Banana") in whole
    changed = tmp_path / "report.html"
    changed.write_text(whole.replace(marks.format("Banana"), marks.format(label)), "utf-8")
    page = visitor.open(changed)
    box = page.locator("#suspects .marks").and_(page.locator('[data-path="Pear/IMG_1.jpg"]'))
    assert box.get_by_role("button").all_inner_texts() == ["Drop", "Relabel"]


def test_a_carriage_return_in_a_path_is_saved_as_one(
    synthetic: Reported, visitor: Visitor, tmp_path: Path
) -> None:
    whole = synthetic.page.read_text("utf-8")
    changed = tmp_path / "report.html"
    changed.write_text(whole.replace("Pear/IMG_1.jpg", "Pear/IMG&#13;1.jpg"), "utf-8")
    page = visitor.open(changed)
    page.locator("#suspects .card", has_text="Pear/IMG").get_by_role("button", name="Drop").click()
    file = save(page, tmp_path)
    assert read_corrections(str(file)).paths.to_pylist() == ["Pear/IMG\r1.jpg"]
