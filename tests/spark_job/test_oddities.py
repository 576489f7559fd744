"""48 awkward files of real life in one run: what becomes of each, and why that is right."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from spark_job.decode import decode
from spark_job.networks import load_card
from spark_job.objects import open_folder
from tests.spark_job.jobs import Job, run_job

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = [pytest.mark.spark, pytest.mark.shared]

USED = "featurized"
TRUNCATED = ("decode", "truncated")

EXPECTED: dict[str, str | tuple[str, str]] = {
    # Sound images in a usual format.
    "Ankylosaurus_&_Stegosaurus_Thumbnail.jpg": USED,
    "a%20b#c?.jpg": USED,
    "avif_hopper.avif": USED,
    "coffee.png": USED,
    "flower2.jpg": USED,
    "hopper.jpg": USED,
    "hopper.webp": USED,
    "hopper_gray.jpg": USED,
    "ljt_testorig.jpg": USED,
    "ljt_vgl_5674_0098.png": USED,
    "parrot.jpg": USED,
    "pil_sample_rgb.jpg": USED,
    "wood.jpg": USED,
    "リンゴ 01.jpg": USED,
    # Unusual and sound: every viewer shows them.
    "hopper_16bit_qtables.jpg": USED,
    "ljt_testimgari.jpg": USED,  # arithmetic coding
    "icc_profile_big.jpg": USED,
    "icc-after-SOF.jpg": USED,  # 10x10 and black, and so it should be
    "tiff_strip_cmyk_jpeg.tif": USED,
    "uncompressed_la.png": USED,
    "l_trns.png": USED,
    "rgb_trns.png": USED,
    "pal8rletrns.png": USED,
    "no_palette_with_transparency.gif": USED,
    "png_named.jpg": USED,  # what a file is decides, not its name
    # Something beside the pixels is broken, the pixels are whole.
    "broken_exif_dpi.jpg": USED,
    "invalid-exif.jpg": USED,
    "jpeg_ff00_header.jpg": USED,
    "trailing_garbage.jpg": USED,
    # Animations: the first frame.
    "apng_blend_op_over_near_transparent.png": USED,
    "dispose_bgnd.gif": USED,
    "iss634.webp": USED,
    "newtonscradle.gif": USED,
    # To be turned.
    "exif_Portrait_3.jpg": USED,
    "exif_Portrait_8.jpg": USED,
    "hopper_orientation_3.jpg": USED,
    "hopper_orientation_5.jpg": USED,
    "hopper_orientation_7.jpg": USED,
    "orientation_rectangle.jpg": USED,
    "xmp_tags_orientation.png": USED,
    # Pixels are missing, or may be: a half image is no image.
    "fruit_truncated_half.jpg": TRUNCATED,
    "truncated_jpeg.jpg": TRUNCATED,
    "truncated_end_chunk.png": TRUNCATED,
    "broken_data_stream.png": ("decode", "corrupt"),
    "zero_byte.jpg": ("decode", "empty"),
    # 65,535 x 66,601 pixels claimed by 44 bytes.
    "decompression_bomb.gif": ("decode", "too-large"),
}

OTHER_FORMATS = {
    # Listing a folder passes them over by their extension; a manifest insists on an answer.
    "16bit.cropped.jp2": ("decode", "unsupported-format"),
    "decompression_bomb.ico": ("decode", "unsupported-format"),
}

TWINS = [
    ("hopper.jpg", "hopper_orientation_3.jpg"),
    ("hopper.jpg", "hopper_orientation_5.jpg"),
    ("hopper.jpg", "hopper_orientation_7.jpg"),
    ("hopper.jpg", "hopper.webp"),
    ("hopper.jpg", "avif_hopper.avif"),
    ("exif_Portrait_3.jpg", "exif_Portrait_8.jpg"),
    ("pil_sample_rgb.jpg", "tiff_strip_cmyk_jpeg.tif"),
    ("ljt_testorig.jpg", "ljt_testimgari.jpg"),
    ("リンゴ 01.jpg", "a%20b#c?.jpg"),
    ("リンゴ 01.jpg", "trailing_garbage.jpg"),
]


@pytest.fixture(scope="module")
def oddities(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oddities") / "odd"
    shutil.copytree(shared / "oddities", folder)
    (folder / "manifest.tsv").unlink()
    return folder


@pytest.fixture(scope="module")
def listed(oddities: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    output = tmp_path_factory.mktemp("listed")
    return run_job(oddities.parent, output, "--max-reject-rate", "0.5")


@pytest.fixture(scope="module")
def named(oddities: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The same by a manifest of all 48, and of two that are not there."""
    output = tmp_path_factory.mktemp("named")
    names = [*(path.name for path in oddities.iterdir()), "no/such file.jpg", "mislaid.png"]
    csv.write_csv(pa.table({"path": names}), output / "manifest.csv")
    options = ["--manifest", str(output / "manifest.csv"), "--max-reject-rate", "0.5"]
    return run_job(oddities, output, *options)


def test_all_48_files_are_in_the_table(oddities: Path) -> None:
    assert {path.name for path in oddities.iterdir()} == EXPECTED.keys() | OTHER_FORMATS.keys()


def test_listing_the_folder_accounts_for_each(listed: Job) -> None:
    assert listed.outcomes() == {f"odd/{name}": outcome for name, outcome in EXPECTED.items()}
    assert listed.receipt["counts"]["ignored"] == {"jp2": 1, "ico": 1}


def test_a_manifest_accounts_for_each(named: Job) -> None:
    missing = dict.fromkeys(("no/such file.jpg", "mislaid.png"), ("read", "missing"))
    assert named.outcomes() == EXPECTED | OTHER_FORMATS | missing
    assert named.receipt["counts"]["listed"] == 50


@pytest.mark.parametrize("way", ["spark", "s3"])
def test_the_other_engine_and_s3_give_the_same(
    way: str, listed: Job, oddities: Path, bucket: str, tmp_path: Path
) -> None:
    if way == "spark":
        job = run_job(oddities.parent, tmp_path, "--max-reject-rate", "0.5", "--engine", "spark")
    else:
        images = open_folder(f"s3://{bucket}/oddities")
        for path in oddities.iterdir():
            images.write(f"odd/{path.name}", path.read_bytes())
        job = run_job(images.uri, tmp_path, "--max-reject-rate", "0.5")
    assert job.exit_code == 0, job.err
    assert job.outcomes() == listed.outcomes()
    ours, theirs = listed.table("features"), job.table("features")
    for column in ("path", "sha256", "phash", "chroma", "features"):
        assert ours[column].equals(theirs[column])


def test_both_ways_give_the_same_features(listed: Job, named: Job) -> None:
    by_listing, by_manifest = (job.table("features") for job in (listed, named))
    assert by_listing["sha256"].equals(by_manifest["sha256"])
    assert by_listing["features"].equals(by_manifest["features"])


@pytest.mark.parametrize(("upright", "other"), TWINS)
def test_twins_look_alike(listed: Job, oddities: Path, upright: str, other: str) -> None:
    """The same picture, stored turned, in other inks, or coded in another way."""
    pixels = [pixels_of(oddities / name) for name in (upright, other)]
    alike = np.abs(pixels[0] - pixels[1]).mean()
    turned = min(
        np.abs(pixels[0] - wrong).mean() for wrong in (pixels[1][::-1], pixels[1][:, ::-1])
    )
    assert alike < 6, f"{alike:.1f} of 255 apart on average"
    assert turned > 3 * alike
    rows = {row["path"]: row for row in listed.table("features").to_pylist()}
    ours, theirs = (np.array(rows[f"odd/{name}"]["features"]) for name in (upright, other))
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine > 0.8


def test_sizes_are_those_of_the_upright_image(listed: Job) -> None:
    rows = {row["path"]: row for row in listed.table("features").to_pylist()}
    sizes = {
        name: (rows[f"odd/{name}"]["width"], rows[f"odd/{name}"]["height"])
        for name in ("exif_Portrait_8.jpg", "orientation_rectangle.jpg", "coffee.png")
    }
    assert sizes == {
        "exif_Portrait_8.jpg": (1200, 1800),
        "orientation_rectangle.jpg": (1, 2),
        "coffee.png": (600, 400),
    }


def test_xmp_orientation_counts_where_there_is_no_exif(oddities: Path) -> None:
    from PIL import Image, ImageCms

    stored = Image.open(oddities / "xmp_tags_orientation.png").convert("RGBA")
    turned = stored.transpose(Image.Transpose.ROTATE_180)
    white = Image.new("RGBA", turned.size, "white")
    resized = Image.alpha_composite(white, turned).convert("RGB").resize((224, 224))
    # It is in ColorMatch RGB.
    profile = ImageCms.ImageCmsProfile(io.BytesIO(stored.info["icc_profile"]))
    expected = ImageCms.profileToProfile(resized, profile, ImageCms.createProfile("sRGB"))
    found = pixels_of(oddities / "xmp_tags_orientation.png")
    assert np.array_equal(found, np.asarray(expected, np.int64))


@pytest.mark.parametrize(
    ("name", "where"),
    [("l_trns.png", (112, 112)), ("rgb_trns.png", (112, 112)), ("png_named.jpg", (2, 2))],
)
def test_what_is_transparent_is_white(oddities: Path, name: str, where: tuple[int, int]) -> None:
    assert (pixels_of(oddities / name)[where] == 255).all()


def pixels_of(path: Path) -> NDArray[np.int64]:
    return decode(path.read_bytes(), load_card(), max_pixels=64_000_000).pixels.astype(np.int64)
