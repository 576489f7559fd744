"""The page as a file: its size, what it asks for, and how names stand in it."""

from __future__ import annotations

import json
import random
import re
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from dataclasses import replace
from functools import cache
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from spark_job.corrections import LONGEST_LABEL, UNFIT, read_corrections
from spark_job.dollars import Dollars
from spark_job.objects import open_folder
from spark_job.receipts import Counts
from spark_job.report import fitting
from spark_job.report.fitting import fit
from spark_job.report.page import SECTIONS, render
from spark_job.report.pictures import Gallery
from spark_job.report.results import MAPPED, MapPoints, Results
from spark_job.report.view import View
from tests.spark_job.report.made_up import receipt, results

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from spark_job.corrections import Corrections
    from spark_job.objects import Folder
    from spark_job.report.pictures import Wanted

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "&amp;'"]


def page(found: Results, gallery: Gallery | None = None) -> str:
    return render(found, View.of(found), gallery or Gallery())


def full_gallery(
    _images: Folder | None, wanted: Iterable[Wanted], *, most_bytes: int = 3_300_000
) -> Gallery:
    """As many pictures as there is room for, which do not compress."""
    drawn = random.Random(1)
    gallery = Gallery()
    size = 0
    for path in dict.fromkeys(one.path for one in wanted):
        uri = f"data:image/webp;base64,{b64encode(drawn.randbytes(2_250)).decode()}"
        if size + len(uri) <= most_bytes:
            gallery.uris[path] = uri
            size += len(uri)
        else:
            gallery.left += 1
    return gallery


def _named(number: int, kind: str) -> str:
    """A name as long, and as hard to compress, as others' cameras and scripts give."""
    drawn = random.Random(number)
    letters, digits = urlsafe_b64encode(drawn.randbytes(750)).decode(), drawn.randbytes(32).hex()
    site = f"northern-orchard/camera-17/2026-11-26/{digits[:32]}"
    return {
        "camera": f"Fruit of a kind 001/IMG_{number:08d}.jpg",
        "uuid": f"Fruit of a kind 001/{digits[:32]}.jpg",
        "sha256": f"Fruit of a kind 001/{digits}.jpg",
        "deep": f"{site}/Fruit of a kind 001/{digits[32:]}.jpg",
        "1 KB": "/".join(letters[at : at + 200] for at in range(0, 1_000, 200)),
        "1 KB to be escaped": f"{number:020d}" + "'" * 1_000,
    }[kind]


@cache
def as_large_as_it_gets() -> Results:
    return results(20_000, 131)


def renamed(found: Results, kind: str) -> Results:
    known: dict[str, str] = {}

    def of(value: Any) -> Any:
        if isinstance(value, str) and value.endswith(".jpg"):
            return known.setdefault(value, _named(len(known), kind))
        if isinstance(value, list):
            return [of(one) for one in value]
        if isinstance(value, dict):
            return {key: of(one) for key, one in value.items()}
        return value

    points = replace(found.points, path=of(found.points.path))
    rejects, findings = of(found.rejects), of(found.findings)
    return replace(found, rejects=rejects, findings=findings, points=points)


@pytest.mark.parametrize(
    ("kind", "least_pictures", "least_points"),
    [
        ("camera", 1_100, 20_000),
        ("uuid", 900, 20_000),
        ("sha256", 800, 15_000),
        ("deep", 700, 13_000),
        ("1 KB", 400, 1_000),
        ("1 KB to be escaped", 100, 1_000),
    ],
)
@pytest.mark.slow
def test_of_20000_images_it_takes_5_megabytes_at_most(
    monkeypatch: pytest.MonkeyPatch, kind: str, least_pictures: int, least_points: int
) -> None:
    """With every list as long as it gets, and all the pictures that there is room for."""
    monkeypatch.setattr(fitting, "make_gallery", full_gallery)
    found = renamed(as_large_as_it_gets(), kind)
    made, gallery = fit(found, open_folder("/nowhere"))
    assert gallery is not None
    assert len(made.encode()) <= 5_000_000
    assert len(gallery.uris) >= least_pictures
    if gallery.left:
        assert f"It shows {len(gallery.uris):,} pictures; {gallery.left:,} more" in made
        assert len(made.encode()) > 4_800_000, "and there was no more room"
    shown = re.search(r"([\d,]+) of 20,000 are shown, spread evenly over the batch", made)
    assert int(shown[1].replace(",", "") if shown else 20_000) >= least_points
    without, nothing = fit(found, None)
    assert nothing is None
    assert len(without.encode()) <= 3_000_000


def test_pictures_leave_again_where_the_words_grew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of what is left out, whose name stands on the page instead."""

    def too_much(images: Folder, wanted: Iterable[Wanted], *, most_bytes: int) -> Gallery:
        return full_gallery(images, wanted, most_bytes=most_bytes + 100_000)

    monkeypatch.setattr(fitting, "make_gallery", too_much)
    made, gallery = fit(results(2_000, 131), open_folder("/nowhere"), most_bytes=1_000_000)
    assert gallery is not None
    assert 980_000 < len(made.encode()) <= 1_000_000
    assert f"{gallery.left:,} more had no room" in made


def test_of_more_images_the_map_shows_some() -> None:
    found = results(MAPPED + 5_000, 20)
    assert len(found.points.path) == MAPPED
    assert f"{MAPPED:,} of {MAPPED + 5_000:,} are shown, spread evenly" in page(found)


def corrections(tmp_path: Path, n: int) -> Corrections:
    file = tmp_path / "c.csv"
    lines = [f'"it\'s <{number}>.jpg",drop,' for number in range(n)]
    file.write_text("\n".join(["path,action,label", "Lemon/1.jpg,relabel,Lime", *lines]))
    return read_corrections(str(file))


def test_it_begins_with_the_corrections_that_the_run_was_made_with(tmp_path: Path) -> None:
    """Else the next run's, saved here, would undo them: it takes one file."""
    found = replace(results(20, 2), corrections=corrections(tmp_path, 1))
    made = page(found)
    assert "This run was made with 2 corrections, which this page begins with" in made
    [applied] = re.findall(r"data-applied='(.*?)'", made)
    assert json.loads(unescape(applied)) == [["Lemon/1.jpg", "Lime"], ["it's <0>.jpg", None]]
    assert "made with" not in page(results(20, 2))


def test_where_it_cannot_begin_with_them_it_says_what_to_do(tmp_path: Path) -> None:
    found = results(20, 2)
    made = page(replace(found, corrections=corrections(tmp_path, 20_000)))
    assert "data-applied='[]'" in made
    assert "This run was made with 20,001 corrections, too many to be marked here." in made
    assert len(made) < 1_000_000
    counts = replace(found.receipt.counts, relabelled=1)
    of_before = replace(found.receipt, counts=counts, settings={"corrections": "s3://b/<1>.csv"})
    made = page(replace(found, receipt=of_before))
    assert "was made with corrections, which it did not keep." in made
    assert "<code>s3://b/&lt;1&gt;.csv</code>" in made


def test_labels_are_refused_by_the_jobs_own_rule() -> None:
    made = page(results(20, 2))
    assert f'data-longest-label="{LONGEST_LABEL}" data-unfit="{UNFIT}"' in made


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
    large = as_large_as_it_gets()
    elements = Elements(page(found, full_gallery(None, View.of(large).wanted(large))))
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


def test_a_carriage_return_in_a_name_stays_one() -> None:
    """HTML takes it for the end of a line, and the path of a correction would name no image."""
    found = results(20, 2)
    path = "Fruit of a kind 000/two\rlines\n.jpg"
    suspects = [row | {"path": path} for row in found.findings["suspects"][:1]]
    made = page(replace(found, findings=found.findings | {"suspects": suspects}))
    assert "\r" not in made
    marks = re.findall(r'class="marks" data-path="(.*?)"', made, re.DOTALL)
    assert path in map(unescape, marks)


def test_what_is_most_like_an_outlier_has_its_own_label() -> None:
    found = results(MAPPED + 20, 3)
    at = len(found.points.path) - 1  # on the map, and in no table
    row = found.findings["outliers"][0]
    rows = [row | {"nearest": found.points.path[at]}, row | {"nearest": "elsewhere/1.jpg"}]
    found = replace(found, findings=found.findings | {"outliers": rows})
    made = page(found, Gallery({one["nearest"]: "data:," for one in rows}))
    titles = re.findall(r"most like it:</span>\s*<svg.*?<title>(.*?)</title>", made)
    assert titles[0] == f"{found.points.label[at]}: {found.points.path[at]}"
    assert titles[1] == "elsewhere/1.jpg", "which is not called one without a label"


def test_reasons_none_of_whose_rows_were_read_are_told() -> None:
    found = results(100, 2)
    counts = replace(found.receipt.counts, rejects={"truncated": 100, "timed-out": 7}, rejected=107)
    made = page(replace(found, receipt=replace(found.receipt, counts=counts)))
    [section] = re.findall(r'<section id="rejects".*?</section>', made, re.DOTALL)
    assert re.findall(r"<h3>([a-z-]+) ", section) == ["truncated", "timed-out"]
    assert section.count("<ul") == 1
    assert "They are in the table <code>rejects</code>." in section


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
