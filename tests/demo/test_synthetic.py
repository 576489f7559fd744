from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from demo.drawing.fruits import FRUITS
from demo.synthetic import make_batch
from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.listing import list_images
from spark_job.networks import load_card
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from pathlib import Path

BAD = {
    "Banana/IMG_1180.jpg": "empty",
    "Cherry/IMG_1281.jpg": "truncated",
    "Lemon/notes.png": "not-an-image",
    "Pear/pear-turning.gif": "too-large",
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    make_batch(folder, per_label=3)
    return folder


def test_bad_files_are_bad_each_in_its_own_way(batch: Path) -> None:
    reasons = {}
    for path in BAD:
        with pytest.raises(RejectedImageError) as reject:
            decode((batch / path).read_bytes(), load_card(), max_pixels=64_000_000)
        reasons[path] = reject.value.reason
    assert reasons == BAD


def test_the_rest_are_images_of_every_label(batch: Path) -> None:
    listing = list_images(open_folder(str(batch)))
    listed = listing.rows(0, len(listing)).to_pylist()
    good = [image for image in listed if image["path"] not in BAD]
    assert {image["label"] for image in good} == {fruit.label for fruit in FRUITS}
    assert len(good) == 3 * len(FRUITS)
    for image in good:
        decode((batch / image["path"]).read_bytes(), load_card(), max_pixels=64_000_000)


def test_batch_is_the_same_each_time(batch: Path, tmp_path: Path) -> None:
    make_batch(tmp_path, per_label=3)
    files = sorted(path.relative_to(batch) for path in batch.rglob("*.*"))
    assert files
    assert all((batch / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)
