"""Photographs are repeated, enlarged and scaled as the section says."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter

from benchmarks.photographs import (
    Large,
    Photographs,
    Repeats,
    Turn,
    make_large,
    photographs_section,
)
from benchmarks.programs import Run
from benchmarks.results import TwoSizes
from benchmarks.scaling import compare, without_pixels

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photographs of several sizes and kinds."""
    folder = tmp_path_factory.mktemp("photographs")
    for label in ("kiwi", "plum"):
        (folder / label).mkdir()
    photograph(1, (1200, 900)).save(folder / "kiwi/1.jpg")
    photograph(2, (300, 500)).save(folder / "kiwi/2.jpeg")
    photograph(3, (2000, 1800)).convert("CMYK").save(folder / "plum/1.jpg")
    photograph(4, (2000, 1800)).convert("L").save(folder / "plum/2.jpg")
    photograph(5, (600, 500)).convert("RGBA").save(folder / "plum/3.png")
    return folder


def test_photographs_are_repeated_under_many_names_without_taking_space(
    photographs: Path, tmp_path: Path
) -> None:
    repeats = Repeats(photographs, tmp_path)
    paths = [path for path in repeats[12].rglob("*") if path.is_file()]
    assert len(paths) == 12
    assert repeats[12] == repeats[12]
    assert repeats[3] != repeats[12]
    # Each one twice, and two of them a third time.
    assert sorted(Counter(path.stat().st_ino for path in paths).values()) == [2, 2, 2, 3, 3]
    assert {path.suffix for path in paths} == {".jpg", ".jpeg", ".png"}
    assert {path.parent.name for path in paths} == {"kiwi", "plum"}


def test_large_photographs_are_jpeg_files_of_twelve_megapixels(
    photographs: Path, tmp_path: Path
) -> None:
    paths = list(make_large(photographs, tmp_path, kinds=3).rglob("*.jpg"))
    assert len(paths) == 3
    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (4000, 3000))


@pytest.mark.parametrize(
    ("size", "times", "expected"),
    [
        ((1200, 900), None, (1200, 900)),
        ((1200, 900), 1, (300, 225)),
        ((1200, 900), 2, (600, 450)),
        ((1200, 900), 3, (1200, 900)),
        ((1200, 447), 1, (1200, 447)),
        ((300, 500), 1, (300, 500)),
    ],
)
def test_a_photograph_is_scaled_as_far_as_both_sides_stay_large_enough(
    size: tuple[int, int], times: int | None, expected: tuple[int, int]
) -> None:
    stream = io.BytesIO()
    photograph(1, size).save(stream, "JPEG")
    content, smaller = without_pixels(stream.getvalue(), times)
    assert Image.open(io.BytesIO(content)).size == expected
    assert smaller == (expected != size)


def test_pixels_and_profile_of_all_pixels_are_those_of_the_file() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stream = io.BytesIO()
    photograph(1, (500, 400)).save(stream, "JPEG", icc_profile=profile)
    content, _ = without_pixels(stream.getvalue(), None)
    decoded, original = Image.open(io.BytesIO(content)), Image.open(stream)
    assert np.array_equal(np.asarray(decoded), np.asarray(original))
    assert decoded.info["icc_profile"] == profile


def test_features_come_nearer_to_those_of_all_pixels_the_more_pixels_are_kept(
    photographs: Path,
) -> None:
    contents = [path.read_bytes() for path in sorted(photographs.rglob("*")) if path.is_file()]
    once, twice, thrice = compare(contents)
    assert [scale["times"] for scale in (once, twice, thrice)] == [1, 2, 3]
    assert [scale["scaled"] for scale in (once, twice, thrice)] == [3, 3, 2]
    assert 0.5 < once["least"] < twice["least"] < thrice["least"] < 1
    assert once["least"] <= once["median"]
    assert all(0 <= scale["same_neighbour"] <= 1 for scale in (once, twice, thrice))
    small = [content for content in contents if not without_pixels(content, 1)[1]]
    assert compare(small)[0]["least"] == pytest.approx(1, abs=1e-6)


def test_targets_are_ratios_of_slopes() -> None:
    scales = [{"times": 2, "scaled": 4, "least": 0.998, "median": 1.0, "same_neighbour": 0.99}]
    results = Photographs(
        turns=[Turn(before=two(100), job=two(96), full=two(60), after=two(104))],
        large=[Large(job=two(30), full=two(11))],
        scaling=Run("features by scale", 240, 1.0, 1, {"scales": scales}),
    )
    section = photographs_section(results)
    assert [(target.reached, target.met) for target in section.targets] == [
        ("94.1%", False),
        ("1.60", True),
        ("2.73", False),
    ]
    assert "at least 2 x the input | 4 of 240" in "".join(section.blocks)


def two(rate: float) -> TwoSizes:
    """A program with so many images per second by slope."""
    return TwoSizes(Run("job", 100, 5, 1), Run("job", 1_100, 5 + 1_000 / rate, 1))


def photograph(seed: int, size: tuple[int, int]) -> Image.Image:
    """Something with structure at every scale, which loses a little whenever it is scaled."""
    random = np.random.default_rng(seed)
    made = Image.new("RGB", size)
    for cells in (4, 32, 256):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        made = Image.blend(made, noise.resize(size), 0.5)
    return made.filter(ImageFilter.SHARPEN)
