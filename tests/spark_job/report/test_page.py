"""The page as a file: its size, what it asks for, and how names stand in it."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from spark_job.dollars import Dollars
from spark_job.receipts import Counts
from spark_job.report.page import SECTIONS, render
from spark_job.report.pictures import MOST_BYTES, Gallery
from spark_job.report.results import MAPPED, MapPoints, Results
from spark_job.report.view import View
from tests.spark_job.report.made_up import receipt, results

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "&amp;'"]


def page(found: Results, gallery: Gallery | None = None) -> str:
    return render(found, View.of(found), gallery or Gallery())


def full_gallery(found: Results) -> Gallery:
    """As many pictures as there is room for, which do not compress."""
    drawn = random.Random(1)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    uris: dict[str, str] = {}
    size = 0
    for one in View.of(found).wanted(found):
        uri = "data:image/webp;base64," + "".join(drawn.choices(letters, k=3_000))
        if one.path not in uris and size + len(uri) <= MOST_BYTES:
            uris[one.path] = uri
            size += len(uri)
    assert size > 0.99 * MOST_BYTES
    return Gallery(uris, left=400)


def test_of_20000_images_it_takes_5_megabytes_at_most() -> None:
    """With every list as long as it gets, and all the pictures that there is room for."""
    found = results(20_000, 131)
    made = page(found, full_gallery(found))
    assert len(made.encode()) < 5_000_000
    assert "It shows 1,0" in made, "how many there was room for"


def test_of_more_images_the_map_shows_some() -> None:
    found = results(MAPPED + 5_000, 20)
    assert len(found.points.path) == MAPPED
    assert f"{MAPPED:,} of {MAPPED + 5_000:,} are shown, spread evenly" in page(found)


class Elements(HTMLParser):
    """Names of the elements, and attributes that could ask for something or run something."""

    def __init__(self, made: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.handlers: list[str] = []
        self.feed(made)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data-src", "action", "srcset"):
                self.urls.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def test_it_refers_to_nothing_but_itself() -> None:
    found = results(200, 4)
    elements = Elements(page(found, full_gallery(results(20_000, 131))))
    assert {url[:5] for url in elements.urls if not url.startswith("#")} == {"data:"}
    targets = {url[1:] for url in elements.urls if url.startswith("#")}
    assert {"main", "suspects", "map"} <= targets


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_html(name: str) -> None:
    """As a path, a label, a batch, a folder, a detail or an extension."""
    found = results(60, 3)
    label = found.points.label[0]

    def with_name(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(str(label), name)
        if isinstance(value, list):
            return [with_name(one) for one in value]
        if isinstance(value, dict):
            return {key: with_name(one) for key, one in value.items()}
        return value

    def made(word: str) -> str:
        """The page of a batch in which that name, or a word, stands wherever one may."""
        points = found.points
        if word == name:
            points = MapPoints(with_name(points.path), with_name(points.label), points.vector)
        counts: dict[str, Any] = {"ignored": {word: 3}, "formats": {word: 2}, "unsupported": 2}
        told: dict[str, Any] = dict.fromkeys(("batch", "run", "images", "results", "output"), word)
        receipt = replace(found.receipt, counts=replace(found.receipt.counts, **counts), **told)
        findings = with_name(found.findings) if word == name else found.findings
        rejects = [row | {"path": word, "detail": word} for row in found.rejects]
        return page(
            replace(found, receipt=receipt, points=points, findings=findings, rejects=rejects)
        )

    before, after = Elements(made("word")), Elements(made(name))
    assert Counter(after.tags) == Counter(before.tags)
    assert after.handlers == []
    [heading] = re.findall(r"<h1>(.*)</h1>", made(name))
    assert unescape(heading) == name, "as it is, and not evaluated"


def test_the_policy_names_the_pages_own_script_alone() -> None:
    made = page(results(20, 2))
    [policy] = re.findall(r'Content-Security-Policy" content="(.*?)"', made)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    assert re.search(r"script-src 'sha256-[\w+/=]+'$", policy.replace("&#43;", "+"))


def test_sections_of_what_was_not_looked_for_are_not_there() -> None:
    found = results(50, 3)
    assert _sections(page(found)) == [name for name, _ in SECTIONS]
    without = replace(found, receipt=replace(found.receipt, findings=None), findings={})
    assert _sections(page(without)) == ["model", "rejects", "variance", "map"]


def _sections(made: str) -> list[str]:
    return re.findall(r'<section id="(\w+)" aria-labelledby="\w+-title">', made)


def facts(**changes: object) -> dict[str, str]:
    told = replace(receipt(), **changes)  # type: ignore[arg-type]
    found = replace(results(20, 2), receipt=told, findings={})
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page(found)))


def test_the_run_is_told_in_words() -> None:
    counts = Counts(
        listed=1010,
        computed=600,
        carried_over=400,
        rejected=7,
        unsupported=3,
        rejects={"empty": 7},
        formats={"heic": 3},
        ignored={"txt": 2, "": 1},
        dropped=4,
        relabelled=1,
    )
    found = facts(counts=counts, seconds={"total": 5400.0}, dollars=Dollars(0.214, 0.3, 2, 0.7))
    assert found["files"] == "1,010 listed"
    assert found["pictures"] == "1,000 could be used, 400 of them known from before"
    assert found["not used"] == "7 rejected, 3 in formats that are not taken"
    assert found["corrected"] == "4 dropped, 1 relabelled"
    assert found["other files"] == "2 .txt, 1 without extension: no pictures by their names"
    assert found["time"] == "1 h 30 min, 33.3 pictures a second"
    assert found["cost"] == "about 0.21 dollars, an estimate"


def test_what_was_not_is_not_told() -> None:
    assert set(facts()) == {"files", "pictures", "time", "model", "network", "pictures lie in"}
