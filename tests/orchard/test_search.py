"""``orchard search``: what is nearest to a picture, as a user asks and is answered."""

from __future__ import annotations

import base64
import io
import json
import re
import resource
import shlex
import shutil
from html.parser import HTMLParser
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image
from pyarrow import parquet

from orchard import searching
from orchard.commands import search
from orchard.search_page import render
from orchard.searching import Neighbour, find_nearest, find_space, most_common_label
from spark_job import contract, lineage, tables
from spark_job.objects import LocalFolder, open_folder
from spark_job.report import pictures
from spark_job.report.thumbnails import thumbnail
from tests.orchard.command import orchard, refusal, rows, start, succeed
from tests.spark_job.jobs import run_job
from tests.spark_job.photographs import encoded, fruit, plant
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from spark_job.objects import Folder

pytestmark = pytest.mark.job

BATCHES = {"monday": {"Kiwi": 8, "Plum": 8}, "tuesday": {"Lemon": 6}}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of two batches, one of monday's without a label."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (batch, labels) in enumerate(BATCHES.items()):
        plant(folder / batch, labels, seed=700 + 100 * number)
    shutil.copy(folder / "monday/Kiwi/Kiwi_000.jpg", folder / "monday/on top.jpg")
    return folder


@pytest.fixture(scope="module")
def made(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the job made of the two batches, which share a model."""
    root = tmp_path_factory.mktemp("made")
    for batch in BATCHES:
        ended = run_job(images / batch, root, batch=batch)
        assert ended.exit_code == 0, ended.err
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Folder:
    """A copy of it, to be changed."""
    shutil.copytree(made, tmp_path / "made")
    return open_folder(str(tmp_path / "made"))


@pytest.fixture
def photo(images: Path) -> Path:
    return images / "monday/Plum/Plum_003.jpg"


def vectors(root: Folder, batch: str) -> tuple[list[str], NDArray[np.float32]]:
    """Paths and published vectors of a batch."""
    receipt = lineage.published_receipts(root)[batch]
    folder = root / contract.run_folder(batch, receipt.run) / contract.VECTORS
    table = pa.concat_tables(tables.read_table(folder, name) for name in folder.files())
    return table["path"].to_pylist(), tables.as_matrix(table["vector"])


class TestWhatIsFound:
    def test_the_nearest_are_those_of_the_published_vectors(
        self, root: Folder, photo: Path
    ) -> None:
        """Held against all distances at once, from the picture's own published vector."""
        result = succeed("search", str(photo), "--all", "--number", "7", output=root)
        expected = []
        paths, monday = vectors(root, "monday")
        own = monday[paths.index("Plum/Plum_003.jpg")]
        for batch in BATCHES:
            names, matrix = vectors(root, batch)
            apart = np.linalg.norm(matrix.astype(float) - own, axis=1).tolist()
            expected += list(zip(apart, [batch] * len(names), names, strict=True))
        expected.sort()
        found = rows(result)
        assert [(row["batch"], row["path"]) for row in found] == [one[1:] for one in expected[:7]]
        assert [row["distance"] for row in found] == [f"{one[0]:.2f}" for one in expected[:7]]
        assert found[0] == {
            "path": "Plum/Plum_003.jpg",
            "label": "Plum",
            "batch": "monday",
            "distance": "0.00",
        }

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "turned"])
    def test_a_picture_in_another_format_finds_itself(
        self, root: Folder, photo: Path, tmp_path: Path, kind: str
    ) -> None:
        image = Image.open(photo)
        if kind == "turned":
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = 6
            turned = image.transpose(Image.Transpose.ROTATE_90)
            content = encoded(turned, "JPEG", quality=95, exif=exif)
        else:
            content = encoded(image, kind)
        (tmp_path / "photo").write_bytes(content)
        arguments = ("search", str(tmp_path / "photo"), "--batch", "monday", "--number", "1")
        [found] = rows(succeed(*arguments, output=root))
        assert found["path"] == "Plum/Plum_003.jpg"

    def test_labels_are_counted_last_on_stderr(self, root: Folder, photo: Path) -> None:
        arguments = ("search", str(photo), "--batch", "tuesday", "--number", "4")
        result = succeed(*arguments, output=root)
        assert result.stderr.splitlines()[-1] == "4 of the 4 nearest are labelled Lemon"
        assert len(rows(result)) == 4
        more = succeed("search", str(photo), "--batch", "tuesday", output=root)
        assert len(rows(more)) == 6, "all that there are"

    def test_programs_are_told_the_same(self, root: Folder, images: Path) -> None:
        photo = images / "monday/on top.jpg"
        arguments = ("search", str(photo), "--batch", "monday", "--number", "3")
        found = json.loads(succeed(*arguments, "--json", output=root).stdout)
        shown = rows(succeed(*arguments, output=root))
        assert [one["path"] for one in found[:2]] == ["Kiwi/Kiwi_000.jpg", "on top.jpg"]
        assert [one["label"] for one in found[:2]] == ["Kiwi", None]
        assert [
            {**one, "label": one["label"] or "", "distance": f"{one['distance']:.2f}"}
            for one in found
        ] == shown

    def test_s3_answers_as_a_disk_does(
        self, root: Folder, photo: Path, bucket: str, tmp_path: Path
    ) -> None:
        far = open_folder(f"s3://{bucket}/{tmp_path.name}")
        for entry in root.entries():
            far.write(entry.name, root.read(entry.name))
        (far / "photos").write("1.jpg", photo.read_bytes())
        near = succeed("search", str(photo), "--all", output=root)
        assert succeed("search", str(photo), "--all", output=far).stdout == near.stdout
        picture = f"{far.uri}/photos/1.jpg"
        assert succeed("search", picture, "--all", output=far).stdout == near.stdout

    @pytest.mark.parametrize("number", [1, 5, 100])
    def test_block_by_block_is_as_all_at_once(
        self, root: Folder, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Though many are equally far: then names decide, whatever the blocks."""
        space = find_space(root, ["monday"])
        paths, matrix = vectors(root, "monday")
        run = root / contract.run_folder("monday", space.runs[0].run) / contract.VECTORS
        repeated = [f"{path} {again}" for again in range(9, 0, -1) for path in paths]
        columns = [
            repeated,
            ["Kiwi"] * len(repeated),
            [space.model.card.model] * len(repeated),
            tables.as_lists(np.tile(matrix, (9, 1))),
        ]
        schema = tables.vectors_schema(matrix.shape[1])
        tables.write_table(run, run.files()[0], schema, columns, {})
        apart = np.linalg.norm(np.tile(matrix, (9, 1)) - matrix[4], axis=1)
        expected = sorted(zip(apart.tolist(), repeated, strict=True))[:number]
        for size in (3, 50, 10_000):
            monkeypatch.setattr(searching, "BLOCK_ROWS", size)
            found = find_nearest(root, space, matrix[4], number)
            assert [one.path for one in found] == [path for _, path in expected]

    def test_of_labels_as_common_as_each_other_the_nearest_is_told(self) -> None:
        labels = [None, "b", "a", "a", "b", None, None]
        neighbours = [Neighbour(n, "m", f"{n}", label) for n, label in enumerate(labels)]
        assert most_common_label(neighbours) == ("b", 2)
        assert most_common_label(neighbours[:1]) is None


class TestWhichBatches:
    def test_the_only_one_need_not_be_named(self, root: Folder, photo: Path) -> None:
        told = refusal("search", str(photo), output=root)
        assert told == "there are 2 batches (monday, tuesday); say --batch NAME or --all"
        (root / contract.results_folder("tuesday")).clear()
        assert rows(succeed("search", str(photo), output=root))[0]["batch"] == "monday"

    def test_several_may_be_named(self, root: Folder, photo: Path) -> None:
        publish_batch(root, "toys")
        both = ("--batch", "tuesday", "--batch", "monday", "--batch", "monday")
        result = succeed("search", str(photo), *both, "--number", "100", output=root)
        assert len(rows(result)) == 23
        assert "Left out" not in result.stderr

    def test_of_all_those_of_the_current_model_are_searched_and_the_others_named(
        self, root: Folder, photo: Path, images: Path
    ) -> None:
        ended = run_job(images / "tuesday", root.uri, "--pca", "fit", batch="tuesday")
        assert ended.exit_code == 0, ended.err
        receipts = lineage.published_receipts(root)
        result = succeed("search", str(photo), "--all", output=root)
        assert {row["batch"] for row in rows(result)} == {"tuesday"}
        assert (
            f"Left out: batch monday, whose vectors are of the model "
            f"{receipts['monday'].model.model} and not of {receipts['tuesday'].model.model}"
        ) in result.stderr
        both = ("--batch", "tuesday", "--batch", "monday")
        told = refusal("search", str(photo), *both, output=root)
        monday, tuesday = (receipts[batch].model.model for batch in BATCHES)
        assert f"do not compare (monday of {monday} of mobilenet_v2-" in told
        assert f"tuesday of {tuesday} of mobilenet_v2-" in told
        assert told.endswith("`orchard models reproject --batches monday,tuesday`")
        old = succeed("search", str(photo), "--batch", "monday", "--number", "1", output=root)
        assert rows(old)[0]["path"] == "Plum/Plum_003.jpg", "in the space of its own model"

    def test_what_cannot_be_searched_is_told(self, root: Folder, photo: Path) -> None:
        def told(*arguments: str, of: Folder = root) -> str:
            return refusal("search", str(photo), *arguments, output=of)

        assert "has no batch 'friday'; there are monday, tuesday" in told("--batch", "friday")
        assert "say it without --batch" in told("--all", "--batch", "monday")
        publish_batch(root, "toys")
        assert told("--batch", "toys", "--batch", "monday").endswith("name batches of one model")
        assert "there is no network toy here, only mobilenet_v2; install" in told("--batch", "toys")
        assert "batches are of several networks (mobilenet_v2-" in told("--all")
        (root / contract.MODELS).clear()
        assert "no batch has vectors of a current model (monday, toys, tuesday" in told("--all")
        assert "cannot be read" in told("--batch", "monday")
        empty = root / "empty"
        (empty / "work/b/r").write("claim.json", b"{}")
        assert "has no published batch; run one first" in told(of=empty)

    def test_damaged_vectors_are_told(self, root: Folder, photo: Path) -> None:
        run = lineage.published_receipts(root)["monday"].run
        folder = root / contract.run_folder("monday", run) / contract.VECTORS
        folder.write(folder.files()[0], b"not a table")
        told = refusal("search", str(photo), "--batch", "monday", output=root)
        assert "are damaged" in told
        assert told.endswith("run batch 'monday' again")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("photo.jpg", None, "there is no picture at"),
        ("photo.jpg", b"", "is no picture to search by: the file has zero bytes; choose another"),
        ("photo.jpg", b"notes", "is no picture to search by: no image that is taken begins with"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "a HEIF picture, which is not taken"),
        ("photo.nef", b"raw", "a camera's raw file (.nef), which is not taken"),
        ("photo.png", encoded(fruit(1, 200))[:900], "is no picture to search by: "),
        ("", None, "name one picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(
    root: Folder, tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    path = str(tmp_path / name) if name else str(tmp_path)
    assert sentence in refusal("search", path, "--batch", "monday", output=root)


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and what asks for something else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "a handler"
            assert name not in ("href", "srcset", "action"), "a link"
            assert name != "src" or str(value).startswith("data:image/webp;base64,")
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


class TestThePage:
    def test_it_shows_the_picture_and_what_was_found(
        self, root: Folder, photo: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "found.html"
        arguments = ("search", str(photo), "--all", "--number", "4", "--page", str(file))
        result = succeed(*arguments, output=root)
        assert f"The page is {file}" in result.stderr
        page = Page(file.read_text("utf-8"))
        alternatives = [image["alt"] for image in page.images]
        assert alternatives == [
            "The picture that was searched for: Plum_003.jpg",
            *(f"{row['label'] or 'no label'}: {row['path']}" for row in rows(result)),
        ]
        for image in page.images:
            content = base64.b64decode(str(image["src"]).partition(",")[2])
            assert Image.open(io.BytesIO(content)).size == (64, 64)
        assert "script" not in page.tags
        for row in rows(result):
            assert f"distance {row['distance']}" in page.text
            assert f"{row['batch']}: {row['path']}" in page.text

    def test_hostile_names_are_text(self, images: Path, tmp_path: Path) -> None:
        names = [
            "<script>alert(1)<",
            '"><img src=x onerror=alert(1)>',
            "'onload='alert(1)",
            "{{1}}",
        ]
        for name in names:
            folder = tmp_path / "in" / name
            folder.mkdir(parents=True)
            for number in range(3):
                content = encoded(fruit(len(name) * 10 + number))
                (folder / f"{number} {name}.png").write_bytes(content)
        ended = run_job(tmp_path / "in", tmp_path / "out", batch="odd")
        assert ended.exit_code == 0, ended.err
        query = tmp_path / f"{names[1]}.jpg"
        shutil.copy(images / "monday/Plum/Plum_003.jpg", query)
        file = tmp_path / "page.html"
        root = open_folder(str(tmp_path / "out"))
        succeed("search", str(query), "--page", str(file), "--number", "12", output=root)
        page = Page(file.read_text("utf-8"))
        assert page.tags.count("img") == len(page.images) == 13
        assert page.tags.count("strong") == 13
        assert "script" not in page.tags
        for name in names:
            assert f"0 {name}.png" in page.text

    def test_pictures_that_are_gone_are_told(self, root: Folder, photo: Path) -> None:
        """A folder that has moved, a file that is none any more, and one that is there."""
        [run] = find_space(root, ["monday"]).runs
        images = root / "images"
        for number, content in enumerate((photo.read_bytes(), b"notes")):
            images.write(f"{number}.jpg", content)
        moved = {**run.__dict__, "images": images.uri}
        found = [Neighbour(n, "monday", f"{n}.jpg", "Plum") for n in range(3)]
        page = Page(render("p.jpg", photo.read_bytes(), found, [type(run)(**moved)]))
        assert [image["alt"] for image in page.images[1:]] == ["Plum: 0.jpg"]
        assert page.text.count("the picture cannot be reached") == 2

    def test_no_more_files_are_held_than_are_read_at_a_time(
        self, root: Folder, photo: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else a thousand photographs of 4 MB are 4 GB."""
        [run] = find_space(root, ["monday"]).runs
        images = root / "images"
        images.write("0.jpg", photo.read_bytes())
        there = type(run)(**{**run.__dict__, "images": images.uri})
        lock, held, most = Lock(), 0, 0
        read, make = LocalFolder.read, thumbnail

        def reading(self: LocalFolder, name: str, *, limit: int | None = None) -> bytes:
            nonlocal held, most
            with lock:
                held += 1
                most = max(most, held)
            return read(self, name, limit=limit)

        def making(content: bytes, side: int, *, max_pixels: int) -> bytes:
            nonlocal held
            sleep(0.002)
            made = make(content, side, max_pixels=max_pixels)
            with lock:
                held -= 1
            return made

        monkeypatch.setattr(LocalFolder, "read", reading)
        monkeypatch.setattr(pictures, "thumbnail", making)
        found = [Neighbour(n, "monday", "0.jpg", "Plum") for n in range(20 * lineage.READS)]
        page = Page(render("p.jpg", photo.read_bytes(), found, [there]))
        assert len(page.images) == 1 + len(found)
        assert held == 0
        assert 1 < most <= lineage.READS

    def test_pictures_in_s3_are_reached(self, root: Folder, photo: Path, bucket: str) -> None:
        images = open_folder(f"s3://{bucket}/pictures")
        images.write("Plum/1.jpg", photo.read_bytes())
        [run] = find_space(root, ["monday"]).runs
        far = type(run)(**{**run.__dict__, "images": images.uri})
        found = [Neighbour(0.0, "monday", "Plum/1.jpg", "Plum")]
        assert len(Page(render("p.jpg", photo.read_bytes(), found, [far])).images) == 2

    def test_it_is_opened_in_the_browser_on_request(
        self, root: Folder, photo: Path, tmp_path: Path
    ) -> None:
        browser, opened = tmp_path / "browser", tmp_path / "opened"
        browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {shlex.quote(str(opened))}\n')
        browser.chmod(0o755)
        environment = {"BROWSER": f"{browser} %s", "TMPDIR": str(tmp_path)}
        arguments = ("search", str(photo), "--batch", "monday", "--output", root.uri)
        file = tmp_path / "a page.html"
        done = start(*arguments, "--page", str(file), environment=environment)
        assert done.returncode == 0, done.stderr
        assert not opened.exists()
        done = start(*arguments, "--open", environment=environment)
        assert done.returncode == 0, done.stderr
        address = opened.read_text()
        assert address.startswith(f"file://{tmp_path}/orchard-")
        [page] = tmp_path.glob("orchard-*/search.html")
        assert f"The page is {page}" in done.stderr
        assert Page(page.read_text("utf-8")).images
        start(*arguments, "--open", "--page", str(file), environment=environment)
        assert opened.read_text() == file.as_uri()

    def test_a_page_that_cannot_be_written_is_told(
        self, root: Folder, photo: Path, tmp_path: Path
    ) -> None:
        page = str(tmp_path / "nowhere/page.html")
        told = refusal("search", str(photo), "--batch", "monday", "--page", page, output=root)
        assert f"cannot write {page}" in told
        assert told.endswith("choose another --page")


def test_the_example_in_its_help_runs(
    root: Folder, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = search.EXAMPLE.removeprefix("Example: ")
    assert example in " ".join(succeed("search", "--help").stdout.split())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/fruits").symlink_to(root.uri)
    shutil.copy(photo, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    assert len(rows(succeed(*shlex.split(example)[1:]))) == 10


@pytest.mark.parametrize("number", ["0", "1001", "few"])
def test_a_number_out_of_bounds_is_refused(photo: Path, number: str) -> None:
    result = orchard("search", str(photo), "--number", number)
    assert result.exit_code == 2
    assert re.search(r"--number", result.stderr)


def test_20000_images_are_searched_in_two_seconds_of_a_core(root: Folder, photo: Path) -> None:
    """From the start of the interpreter to its end."""
    run = lineage.published_receipts(root)["monday"].run
    folder = root / contract.run_folder("monday", run) / contract.VECTORS
    n, k = 20_000, vectors(root, "monday")[1].shape[1]
    model = lineage.published_receipts(root)["monday"].model.model
    wide = np.random.default_rng(1).standard_normal((n, k)).astype(np.float32)
    columns = [[f"Fruit/{row}.jpg" for row in range(n)], ["Fruit"] * n, [model] * n]
    schema = tables.vectors_schema(k)
    table = pa.table([*columns, tables.as_lists(wide)], schema=schema)
    parquet.write_table(table, f"{folder.uri}/{folder.files()[0]}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = start("search", str(photo), "--batch", "monday", "--output", root.uri)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 11
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert seconds < 2
