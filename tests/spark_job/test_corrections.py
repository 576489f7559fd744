"""Corrections that a person saved: how they are read, refused and applied to a listing."""

from __future__ import annotations

import csv
import io
import logging
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_job import contract
from spark_job import listing as listings
from spark_job.corrections import LONGEST_LABEL, correct, read_corrections, read_kept
from spark_job.errors import UsageError
from spark_job.listing import list_images, read_manifest, read_part, write_listing
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.listing import Listing
    from spark_job.objects import Folder

AWKWARD = {
    "Apple Red 1/a photo.jpg": "pear",
    "café/composed é.jpg": "cafe\u0301",
    "リンゴ/リンゴ 01.jpg": "ナシ",
    '100%/it\'s "quoted", comma.jpg': 'a "label", with a comma',
    "two/line\nbreak.jpg": "=1+1",
    "on top.jpg": "had none",
}
"""Paths, and what they are to be called."""


def write(
    path: Path,
    rows: list[tuple[str, str, str]],
    *,
    end: str = "\n",
    encoding: str = "utf-8",
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL,
) -> str:
    """Save corrections as a spreadsheet does, and give their URI."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=quoting)
    writer.writerows([("path", "action", "label"), *rows])
    path.write_bytes(file.getvalue().encode(encoding))
    return str(path)


def plant(folder: Folder, *names: str) -> Listing:
    for size, name in enumerate(names):
        folder.write(name, bytes(size))
    return list_images(folder)


def labels(listing: Listing) -> dict[str, str | None]:
    rows = listing.rows(0, len(listing))
    return dict(zip(rows["path"].to_pylist(), rows["label"].to_pylist(), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return open_folder(str(tmp_path / "images"))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_what_a_spreadsheet_saves_is_what_was_meant(
    folder: Folder, tmp_path: Path, end: str, encoding: str
) -> None:
    listed = plant(folder, *AWKWARD, "Plum/1.jpg", "Plum/2.jpg")
    rows = [(path, "relabel", label) for path, label in AWKWARD.items()]
    uri = write(tmp_path / "c.csv", [*rows, ("Plum/1.jpg", "drop", "")], end=end, encoding=encoding)
    corrected = correct(listed, read_corrections(uri))
    assert labels(corrected) == AWKWARD | {"Plum/2.jpg": "Plum"}
    assert (corrected.dropped, corrected.relabelled) == (1, len(AWKWARD))
    assert labels(listed)["Plum/1.jpg"] == "Plum"


TEXT = st.characters(codec="utf-8", exclude_characters="\0")
LABEL = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/")


@given(st.dictionaries(st.text(TEXT), st.text(LABEL, max_size=LONGEST_LABEL), max_size=5))
@settings(deadline=None, max_examples=50)
def test_any_text_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, str]
) -> None:
    rows = [(path, "relabel" if label.strip() else "drop", label) for path, label in said.items()]
    uri = write(tmp_path_factory.getbasetemp() / "any.csv", rows, quoting=csv.QUOTE_ALL)
    found = read_corrections(uri)
    expected = {path: label if label.strip() else None for path, label in said.items()}
    assert dict(zip(found.paths.to_pylist(), found.labels.to_pylist(), strict=True)) == expected
    run = open_folder(str(tmp_path_factory.getbasetemp() / "run"))
    run.write(contract.CORRECTIONS_FILE, found.to_csv())
    kept = read_kept(run)
    assert kept is not None
    assert dict(zip(kept.paths.to_pylist(), kept.labels.to_pylist(), strict=True)) == expected


def test_a_run_that_was_given_none_keeps_none(folder: Folder) -> None:
    folder.write("run.json", b"{}")
    assert read_kept(folder) is None


def test_columns_may_stand_in_any_order_and_beside_others(folder: Folder, tmp_path: Path) -> None:
    listed = plant(folder, "Kiwi/1.jpg", "Kiwi/2.jpg")
    (tmp_path / "c.csv").write_text("note,label,path,action\n7,Plum,Kiwi/1.jpg,relabel\n")
    corrected = correct(listed, read_corrections(str(tmp_path / "c.csv")))
    assert labels(corrected) == {"Kiwi/1.jpg": "Plum", "Kiwi/2.jpg": "Kiwi"}


def test_they_may_lie_in_s3(bucket: str, tmp_path: Path) -> None:
    root = open_folder(f"s3://{bucket}/{tmp_path.name}")
    listed = plant(root / "images", "Kiwi/1.jpg", "Kiwi/2.jpg")
    root.write("c.csv", b"path,action,label\nKiwi/2.jpg,drop,\n")
    assert labels(correct(listed, read_corrections(f"{root.uri}/c.csv"))) == {"Kiwi/1.jpg": "Kiwi"}
    with pytest.raises(UsageError, match=r"there are no corrections at s3://.*; check --correct"):
        read_corrections(f"{root.uri}/other.csv")


def test_a_manifest_is_corrected_too(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\nKiwi/1.jpg\nKiwi/2.jpg\nKiwi/3.jpg\n")
    listed = read_manifest(str(tmp_path / "m.csv"), folder)
    uri = write(tmp_path / "c.csv", [("Kiwi/3.jpg", "drop", ""), ("Kiwi/1.jpg", "relabel", "Plum")])
    corrected = correct(listed, read_corrections(uri))
    assert labels(corrected) == {"Kiwi/1.jpg": "Plum", "Kiwi/2.jpg": "Kiwi"}


def test_parts_and_what_is_left_of_a_listing_have_the_new_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a listing of many chunks, in another order than that of its paths."""
    for name, size in (("BLOCK", 7), ("CHUNK", 14)):
        monkeypatch.setattr(listings, name, size)
    names = [f"old-{number % 5}/{number * 37 % 101:03d}.jpg" for number in range(101)]
    folder, work = open_folder(str(tmp_path / "in")), open_folder(str(tmp_path / "work"))
    listed = plant(folder, *names)
    rows = [
        *((name, "drop", "") for name in names[::10]),
        *((name, "relabel", f"new {name[-5]}") for name in names[1::3] if name not in names[::10]),
    ]
    corrected = correct(listed, read_corrections(write(tmp_path / "c.csv", rows)))
    said = {path: label for path, _, label in rows}
    expected = {
        name: said.get(name, name.partition("/")[0]) for name in sorted(names) if said.get(name, 1)
    }
    assert list(labels(corrected).items()) == list(expected.items())
    sizes = [30, 1, 45, len(corrected) - 76]
    write_listing(work, corrected, sizes)
    written = [image for part in range(4) for image in read_part(work, part)]
    assert {image.path: image.label for image in written} == expected
    wanted = corrected.order % 2 == 0
    kept = dict(zip(expected, wanted.tolist(), strict=True))
    assert labels(corrected.only(wanted)) == {
        path: label for path, label in expected.items() if kept[path]
    }


def test_images_that_are_dropped_count_for_nothing(folder: Folder, tmp_path: Path) -> None:
    listed = plant(folder, "a/1.jpg", "a/2.jpg", "a/3.nef", "a/4.dng")
    assert (listed.mean_bytes, sum(listed.raw.values())) == (1.5, 2)
    uri = write(tmp_path / "c.csv", [("a/3.nef", "drop", ""), ("a/2.jpg", "drop", "")])
    corrected = correct(listed, read_corrections(uri))
    assert (len(corrected), corrected.mean_bytes, dict(corrected.raw)) == (2, 1.5, {"dng": 1})
    assert corrected.labels is None


def test_corrections_of_other_images_are_counted_and_passed_over(
    folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = plant(folder, "a/1.jpg", "a/2.jpg")
    rows = [("a/9.jpg", "drop", ""), ("a/1.jpg", "relabel", "b"), ("", "relabel", "c")]
    uri = write(tmp_path / "c.csv", rows)
    with caplog.at_level(logging.WARNING, "orchard"):
        corrected = correct(listed, read_corrections(uri))
    assert (corrected.dropped, corrected.relabelled) == (0, 1)
    assert (
        f"2 of 3 corrections in {uri} name images that are not in the batch, such as 'a/9.jpg'"
        in caplog.text
    )
    with caplog.at_level(logging.WARNING, "orchard"):
        caplog.clear()
        correct(listed, read_corrections(write(tmp_path / "d.csv", rows[1:2])))
    assert caplog.text == ""


@pytest.mark.parametrize("rows", [[], [("a/9.jpg", "drop", ""), ("1.jpg", "drop", "")]])
def test_corrections_of_another_batch_are_refused(
    folder: Folder, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    corrections = read_corrections(write(tmp_path / "c.csv", rows))
    with pytest.raises(UsageError, match=r"c\.csv name no image of this batch; their paths are"):
        correct(plant(folder, "a/1.jpg"), corrections)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"there are no corrections at .*c\.csv; check --corrections"),
        (b"", r"cannot read the corrections .*: Empty CSV file; a CSV that begins with path,actio"),
        (b"path,label\nx.jpg,a\n", r"have no column 'action' and begin with 'path,label'; a CSV"),
        (b"path;action;label\nx.jpg;drop;\n", r"no column 'path' and begin with 'path;action;labe"),
        (b"path,action,label,path\na,drop,,b\n", r"have several columns 'path' and begin with"),
        (b"path,action,label\nx.jpg,drop\n", r"cannot read the corrections .*Expected 3 columns"),
        (b"path,action,label\n\xe9.jpg,drop,\n", r"are not UTF-8 \(at byte 18\); save them as CSV"),
        ("path,action,label\n".encode("utf-16"), r"are not UTF-8 \(at byte 0\)"),
        (b"path,action,label\nx.jpg,Drop,\n", r"have the action 'Drop' for 'x\.jpg'; an action is"),
        (b"path,action,label\n,,\n", r"have the action '' for ''; an action is drop or relabel"),
        (b"path,action,label\nx,relabel,\n", r"have no label to relabel 'x' with; write one, or d"),
        (b"path,action,label\nx,relabel, \n", r"have no label to relabel 'x' with"),
        (b"path,action,label\nx,drop,\ny,drop,\nx,drop,\n", r"name 'x' more than once; say one t"),
        (b"path,action,label\nx,relabel,a/b\n", r"the label 'a/b' for 'x'; a label has up to 200"),
        (b'path,action,label\nx,relabel,"a\nb"\n', r"the label 'a\\nb' for 'x'; .* control char"),
        (b"path,action,label\nx,relabel,a\x00b\n", r"the label 'a\\x00b' for 'x'"),
        ("path,action,label\nx,relabel,a\x85b\n".encode(), r"the label 'a\\x85b' for 'x'"),
        (b"path,action,label\nx,relabel,%s\n" % (b"a" * 201), r"the label 'a{60}\.\.\.' for 'x'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        read_corrections(str(tmp_path / "c.csv"))


def test_a_label_of_200_characters_is_taken_whatever_their_bytes(tmp_path: Path) -> None:
    longest = "リ" * LONGEST_LABEL
    found = read_corrections(write(tmp_path / "c.csv", [("x", "relabel", longest)]))
    assert found.labels.to_pylist() == [longest]


def test_a_folder_is_no_file_of_corrections(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the corrections"):
        read_corrections(str(tmp_path))
