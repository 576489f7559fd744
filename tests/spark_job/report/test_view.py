"""What stands on the page: how much of everything, in which order, and with which pictures."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import re
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spark_job.formats import UNSUPPORTED
from spark_job.receipts import Counts
from spark_job.report import view as room
from spark_job.report.pictures import LARGE, SMALL
from spark_job.report.results import MapPoints
from spark_job.report.view import (
    ADVICE,
    COPIES,
    GROUPS,
    HOVERED,
    LABELS,
    NAMED,
    OUTLIERS,
    SELECTED,
    SUSPECTS,
    View,
    map_data,
    spectrum,
)
from tests.spark_job.jobs import REPOSITORY
from tests.spark_job.report.made_up import results

if TYPE_CHECKING:
    from collections.abc import Iterator

WHERE_REJECTS_ARE_MADE = ("decode", "isolation", "reading", "formats", "featurize")


def documented() -> set[str]:
    """The reasons that docstrings name."""
    found: set[str] = set()
    for name in WHERE_REJECTS_ARE_MADE:
        text = import_module(f"spark_job.{name}").__doc__ or ""
        for told in re.findall(r"Reasons for a reject.*?``:(.*?)(?:\n\n|$)", text, re.DOTALL):
            found |= set(re.findall(r"``([a-z-]+)``", told))
    return found


def raised() -> Iterator[str]:
    """The reasons that code gives."""
    for path in sorted((REPOSITORY / "spark_job").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"RejectedImageError": 1, "rejected": 0}.get(node.func.id)
            if place is None:
                continue
            reason = node.args[place]
            if isinstance(reason, ast.Constant) and isinstance(reason.value, str):
                yield reason.value


def test_every_reason_for_a_reject_has_advice_and_no_advice_is_idle() -> None:
    assert len(documented()) >= 13
    assert set(raised()) >= documented() - {UNSUPPORTED}
    assert documented() | set(raised()) | {UNSUPPORTED} == set(ADVICE)
    for advice in ADVICE.values():
        assert re.fullmatch(r"[A-Z][^.]*: [^.]+\.", advice), f"what is wrong: what to do. {advice}"


class TestBounds:
    def test_no_list_is_longer_than_the_page_shows(self) -> None:
        found = results(20_000, 300)
        view = View.of(found)
        assert len(view.suspects) == SUSPECTS
        assert len(view.duplicates) == GROUPS
        assert len(view.outliers) == OUTLIERS
        assert len(view.selection) == SELECTED
        assert len(view.labels) == LABELS
        assert [len(group.rows) for group in view.rejects] == [NAMED]
        assert view.rejects[0].count == 2_000
        assert view.groups == -(-20_000 // 3)
        wanted = [one.path for one in view.wanted(found)]
        assert len(set(wanted)) < 2_600

    @pytest.mark.parametrize(
        ("labels", "sheet"), [(1, (8, 8)), (12, (8, 8)), (13, (6, 5)), (60, (6, 5)), (61, (4, 3))]
    )
    def test_the_more_labels_the_smaller_their_sheets(
        self, labels: int, sheet: tuple[int, int]
    ) -> None:
        view = View.of(results(700, labels))
        assert (view.typical, view.least_typical) == sheet

    def test_of_a_large_group_the_kept_one_and_a_few_copies_are_shown(self) -> None:
        found = results(30, 2)
        rows = [row | {"group": 0, "keep": at == 17} for at, row in enumerate(_copies(found))]
        [group] = View.of(_with(found, duplicates=rows)).duplicates
        assert len(group.images) == COPIES
        assert group.images[0] == rows[17]
        assert group.more == 30 - COPIES


def _copies(found: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = found.findings["duplicates"]
    return rows


def _with(found: Any, **tables: list[dict[str, Any]]) -> Any:
    return replace(found, findings=found.findings | tables)


class TestOrder:
    def test_identical_copies_come_first_then_the_larger_groups(self) -> None:
        found = results(30, 2)
        rows = _copies(found)
        kinds = {0: "near", 1: "identical", 2: "near"}
        sizes = {0: 2, 1: 2, 2: 3}
        chosen = [
            rows[3 * group + at] | {"kind": kinds[group], "group": group}
            for group, size in sizes.items()
            for at in range(size)
        ]
        groups = View.of(_with(found, duplicates=chosen)).duplicates
        assert [(group.kind, len(group.images)) for group in groups] == [
            ("identical", 2),
            ("near", 3),
            ("near", 2),
        ]

    def test_copies_under_different_labels_are_told(self) -> None:
        found = results(30, 2)
        rows = [row | {"label": "Plum"} for row in _copies(found)[:3]]
        assert not View.of(_with(found, duplicates=rows)).duplicates[0].is_contradictory
        rows[1]["label"] = "Pear"
        assert View.of(_with(found, duplicates=rows)).duplicates[0].is_contradictory

    def test_so_are_those_of_which_only_one_that_is_not_shown_differs(self) -> None:
        found = results(30, 2)
        rows = [row | {"group": 0, "label": "Plum"} for row in _copies(found)]
        shown = {row["path"] for row in View.of(_with(found, duplicates=rows)).duplicates[0].images}
        next(row for row in rows if row["path"] not in shown)["label"] = "Pear"
        assert View.of(_with(found, duplicates=rows)).duplicates[0].is_contradictory

    def test_the_most_doubted_labels_come_first(self) -> None:
        found = results(300, 4)
        table = [
            row | {"agreeing": agreeing}
            for row, agreeing in zip(found.findings["labels"], (0.9, None, 0.2, 0.9), strict=True)
        ]
        names = [row["label"] for row in table]
        shown = [row["label"] for row in View.of(_with(found, labels=table)).labels]
        assert shown == [names[2], names[0], names[3], names[1]]

    def test_the_most_frequent_reason_comes_first_with_all_that_were_counted(self) -> None:
        found = results(100, 2)
        reasons = ["empty", "corrupt", "corrupt", UNSUPPORTED]
        rows = [
            row | {"reason": reason} for row, reason in zip(found.rejects, reasons, strict=False)
        ]
        counts = Counts(
            listed=560,
            computed=100,
            rejected=60,
            unsupported=400,
            rejects={"corrupt": 50, "empty": 10},
            formats={"heic": 400},
        )
        found = replace(found, rejects=rows, receipt=replace(found.receipt, counts=counts))
        groups = View.of(found).rejects
        assert [(one.reason, one.count, len(one.rows)) for one in groups] == [
            (UNSUPPORTED, 400, 1),
            ("corrupt", 50, 2),
            ("empty", 10, 1),
        ]
        assert [one.advice for one in groups] == [ADVICE[one.reason] for one in groups]


class TestWantedPictures:
    def test_what_is_compared_comes_first_and_large(self) -> None:
        found = results(500, 4)
        view = View.of(found)
        wanted = list(view.wanted(found))
        first = view.suspects[0]
        assert [one.path for one in wanted[:5]] == [first["path"], *first["voters"][:4]]
        sides = [one.side for one in wanted]
        assert sides == sorted(sides, reverse=True), "then small ones"
        assert {LARGE, SMALL} == set(sides)

    def test_every_picture_of_every_list_is_wanted(self) -> None:
        found = results(500, 4)
        view = View.of(found)
        wanted = {one.path for one in view.wanted(found)}
        shown = {row["path"] for row in (*view.suspects, *view.outliers, *view.selection)}
        shown |= {path for row in view.suspects for path in row["voters"][:4]}
        shown |= {row["path"] for group in view.duplicates for row in group.images}
        shown |= {row["nearest"] for row in view.outliers}
        shown |= {path for row in view.labels for path in row["typical"][: view.typical]}
        shown |= {path for row in view.labels for path in row["least_typical"]}
        shown |= {row["path"] for group in view.rejects for row in group.rows}
        assert shown <= wanted

    def test_an_outlier_that_nothing_is_like_is_shown_too(self) -> None:
        found = results(500, 4)
        rows = [row | {"nearest": None} for row in found.findings["outliers"]]
        only = _with(found, **{kind: [] for kind in found.findings} | {"outliers": rows})
        only = replace(only, rejects=[], points=replace(only.points, path=[], label=[]))
        wanted = [one.path for one in View.of(only).wanted(only)]
        assert wanted == [row["path"] for row in rows[:OUTLIERS]]

    def test_only_rejects_of_which_something_can_be_seen_are_decoded(self) -> None:
        found = results(100, 2)
        for reason in ADVICE:
            rows = [row | {"reason": reason} for row in found.rejects[:1]]
            one = replace(found, rejects=rows)
            wanted = {one.path for one in View.of(one).wanted(one)}
            assert (rows[0]["path"] in wanted) == (reason in ("truncated", "too-large")), reason

    def test_the_map_has_some_from_everywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = results(20_000, 4)
        only_map = _with(found, **{kind: [] for kind in found.findings})
        only_map = replace(only_map, rejects=[])
        wanted = [one.path for one in View.of(only_map).wanted(only_map)]
        assert len(wanted) == HOVERED
        places = {path: at for at, path in enumerate(found.points.path)}
        steps = {places[other] - places[one] for one, other in pairwise(wanted)}
        assert steps == {40}
        monkeypatch.setattr(room, "HOVERED", 7)
        assert len(list(View.of(only_map).wanted(only_map))) == 7


def unpack(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
    return content


def test_the_maps_data_are_the_vectors_to_a_65535th() -> None:
    vector = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
    vector[:, 2] = 7  # a component in which nothing varies
    path = [f"{number}.jpg" for number in range(50)]
    label = [None if number % 7 == 0 else f"L{number % 3}" for number in range(50)]
    points = MapPoints(path, label, vector)
    flags = {"outliers": ["4.jpg", "2.jpg", "not on the map"], "copies": []}
    pictures = {"3.jpg": "p8", "not on the map": "p9"}
    found = unpack(map_data(points, np.array([0.5, 0.25, 0.2, 0.05]), flags, pictures))
    assert found["path"] == path
    assert [None if at < 0 else found["labels"][at] for at in found["label"]] == label
    assert found["flags"] == {"outliers": [2, 4], "copies": []}
    assert found["pictures"] == {"3": "p8"}
    assert found["shares"] == [0.5, 0.25, 0.2]
    axes = [np.frombuffer(base64.b64decode(axis), "<u2") for axis in found["axes"]]
    low, high = vector.min(axis=0), vector.max(axis=0)
    for axis, column, least, most in zip(axes[:2], vector.T, low, high, strict=False):
        assert np.allclose(least + axis / 65535 * (most - least), column, atol=(most - least) / 9e4)
        assert (axis.min(), axis.max()) == (0, 65535)
    assert not axes[2].any()


@pytest.mark.parametrize(
    ("d", "k", "shown"), [(1280, 4, 10), (1280, 100, 150), (1280, 900, 300), (6, 4, 6)]
)
def test_the_spectrum_shows_what_is_kept_and_half_as_much_more(d: int, k: int, shown: int) -> None:
    shares = np.full(d, 1 / d)
    found = spectrum(shares, k)
    assert len(found) == shown
    assert found[0] == pytest.approx((1 / d, 1 / d))
    assert found[-1][1] == pytest.approx(shown / d)
