"""What a file is taken for, and what a person is told of one that is not taken."""

from __future__ import annotations

import struct
import subprocess
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spark_job import contract
from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from spark_job.formats import FORMATS, broken, open_image, unsupported_by_name
from tests.spark_job.files import png, tiff
from tests.spark_job.jobs import REPOSITORY
from tests.spark_job.photographs import encoded, fruit, photograph
from tests.spark_job.pixels import CARD, LIMIT, assert_plain, plain


def told(content: bytes, *, max_pixels: int = LIMIT) -> tuple[str, str]:
    """Reason and detail of a reject."""
    with pytest.raises(RejectedImageError) as rejected:
        decode(content, CARD, max_pixels=max_pixels)
    assert rejected.value.stage == "decode"
    return rejected.value.reason, rejected.value.detail


def media(major: bytes, *compatible: bytes) -> bytes:
    """The beginning of an ISO media file, as those of HEIF and AVIF are."""
    body = major + bytes(4) + b"".join(compatible)
    return struct.pack(">I4s", len(body) + 8, b"ftyp") + body + bytes(500)


class TestPicturesOfOtherFormats:
    @pytest.mark.parametrize(
        "content",
        [
            media(b"heic", b"mif1", b"heic"),
            media(b"heix", b"mif1", b"heix"),
            media(b"hevc", b"msf1", b"hevc"),
            media(b"heim", b"heim"),
            media(b"mif1", b"mif1", b"heic", b"miaf"),
            media(b"msf1", b"hevc"),
            media(b"mif1"),
            media(b"heic"),
        ],
    )
    def test_heif_is_told_by_its_brands_with_what_to_do(self, content: bytes) -> None:
        why, detail = told(content)
        assert why == "unsupported-format"
        assert "HEIF" in detail
        assert "convert it to JPEG" in detail
        assert "Most Compatible" in detail

    def test_avif_is_taken_whatever_other_brands_it_has(self) -> None:
        content = encoded(plain((200, 100, 0)), "AVIF", quality=95)
        assert b"mif1" in content[16:40]
        assert_plain(content, (200, 100, 0), within=3)
        other = content.replace(b"ftypavif", b"ftypmif1", 1)
        assert_plain(other, (200, 100, 0), within=3)

    @pytest.mark.parametrize("kind", ["JPEG2000", "ICO", "PPM", "TGA", "SGI"])
    def test_an_image_that_pillow_knows_is_named(self, kind: str) -> None:
        why, detail = told(encoded(fruit(1), kind))
        assert why == "unsupported-format"
        assert detail == f"an image of the format {kind}, which is not taken; convert it to JPEG"

    @pytest.mark.parametrize(
        ("content", "name"),
        [
            (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH22x", 3, 9, 9, 8, 3), "PSD"),
            (b"\0\0\1\0\1\0" + bytes([255] * 50), "ICO"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
            (b"\xff\x0a" + bytes(50), "JPEG XL"),
            (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
            (b"FUJIFILMCCD-RAW 0201FF389501" + bytes(50), "raw file of Fujifilm"),
            (b"IIU\0\x18\0\0\0" + bytes(50), "raw file of Panasonic"),
            (media(b"crx ", b"crx ", b"isom"), "raw file (CR3)"),
        ],
    )
    def test_others_are_told_by_their_first_bytes(self, content: bytes, name: str) -> None:
        why, detail = told(content)
        assert why == "unsupported-format"
        assert name in detail
        assert "convert it to JPEG" in detail

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_a_tiff_that_is_a_raw_file_is_not_its_thumbnail(self, order: str) -> None:
        thumbnail = np.zeros((120, 160, 3), np.uint8)
        assert decode(tiff(thumbnail, 2, order), CARD, max_pixels=LIMIT).width == 160
        why, detail = told(tiff(thumbnail, 2, order, more={50706: [1, 4, 0, 0]}))
        assert why == "unsupported-format"
        assert "raw file (DNG)" in detail

    def test_a_raw_file_is_told_by_its_name(self) -> None:
        for extension in contract.RAW:
            for path in (f"a/x.{extension}", f"a.jpg/x.jpg.{extension.upper()}"):
                rejected = unsupported_by_name(path)
                assert rejected is not None
                assert (rejected.stage, rejected.reason) == ("decode", "unsupported-format")
                assert f"raw file (.{extension})" in rejected.detail
                assert "convert it to JPEG" in rejected.detail

    @pytest.mark.parametrize(
        "path", ["x.jpg", "x.heic", "a/x.HIF", "dng", "a.dng/x", "a.dng/x.jpg", "x.dng.jpg", "x."]
    )
    def test_no_other_file_is_told_by_its_name(self, path: str) -> None:
        assert unsupported_by_name(path) is None


class TestDamagedImages:
    @pytest.mark.parametrize(
        ("content", "why", "detail"),
        [
            (png(4, 4, 8, 2, b"")[:8], "truncated", "begins as PNG files do, but ends within"),
            (
                png(4, 4, 8, 2, b"").replace(b"IHDR\0", b"IHDR\1"),
                "corrupt",
                "begins as PNG files do, but its header is damaged (broken PNG file (bad header",
            ),
            (png(0, 4, 8, 2, b""), "corrupt", "begins as PNG files do, but its header tells no si"),
            (b"GIF89a", "truncated", "begins as GIF files do, but ends within its header"),
            (b"GIF89a" + bytes(30), "truncated", "begins as GIF files do, but ends within"),
            (b"\xff\xd8\xff", "corrupt", "begins as JPEG files do, but its header tells no size"),
            (
                encoded(fruit(1), "JPEG").replace(b"\xff\xdb\0C\0", b"\xff\xdb\0C\x55"),
                "corrupt",
                "begins as JPEG files do, but its header is damaged (bad quantization table",
            ),
            (encoded(fruit(1), "TIFF")[:30], "truncated", "begins as TIFF files do, but ends with"),
            (
                encoded(fruit(1), "TIFF").replace(b"\0\1\4\0\1\0", b"\7\1\4\0\1\0", 1),
                "corrupt",
                "begins as TIFF files do, but its header is damaged (Missing dimensions)",
            ),
            (encoded(fruit(1), "AVIF")[:100], "truncated", "begins as AVIF files do, but ends w"),
            (encoded(fruit(1), "WEBP")[:100], "truncated", "it ends too soon"),
        ],
    )
    def test_are_told_for_what_they_are(self, content: bytes, why: str, detail: str) -> None:
        found = told(content)
        assert found[0] == why, found
        assert detail in found[1]

    @pytest.mark.parametrize("kind", FORMATS)
    def test_are_never_told_to_begin_as_no_image_does(self, kind: str) -> None:
        """Whatever is broken of a file, as long as its first bytes are those of an image."""
        content = encoded(fruit(5), kind)
        random = np.random.default_rng(7)
        for _ in range(100):
            broken_file = bytearray(content[: int(random.integers(40, len(content) + 1))])
            for position in random.integers(24, len(broken_file), 5):
                broken_file[position] = int(random.integers(256))
            with suppress(RejectedImageError):
                decode(bytes(broken_file), CARD, max_pixels=10**6)
                continue
            why, _ = told(bytes(broken_file), max_pixels=10**6)
            # Of AVIF's brands there may be none left but HEIF's.
            assert why != "not-an-image"
            assert why != "unsupported-format" or kind == "AVIF"

    @pytest.mark.parametrize(
        ("error", "why"),
        [(IndexError, "truncated"), (struct.error, "truncated"), (TypeError, "corrupt")],
    )
    def test_on_which_a_parser_fails_in_a_way_of_its_own(
        self, error: type[Exception], why: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of which `Image.open` says nothing but that it found no image."""

        def fail(*_: object) -> Image.Image:
            raise error("no such index")

        content = encoded(fruit(1))
        monkeypatch.setitem(Image.OPEN, "PNG", (fail, Image.OPEN["PNG"][1]))
        found, detail = told(content)
        assert found == why
        assert "begins as PNG files do" in detail

    def test_a_bigtiff_of_more_tags_than_there_can_be_is_broken(self) -> None:
        content = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 70_000) + bytes(70_000 * 20)
        assert told(content)[0] in ("truncated", "corrupt")

    @pytest.mark.parametrize(
        "content",
        [
            b"x",
            b"<html>",
            bytes(1000),
            "りんご".encode() * 50,
            b"path,label\na.jpg,a\n",
            b"BM is a town in the south, and a long way off",
            b"P6 hello",
            b"Python notes",
            b"\x0a\x05 no PCX",
            media(b"mp42", b"isom", b"mp42"),
            b"%PDF-1.7\n",
        ],
    )
    def test_and_what_is_no_image_is_not(self, content: bytes) -> None:
        why, detail = told(content)
        assert why == "not-an-image"
        assert detail == f"no image that is taken begins with {content[:8]!r}"


class TestPixelsThatAreNotRead:
    @pytest.mark.parametrize(("mode", "told_of"), [("I", "integers of 32 bits"), ("F", "floats")])
    def test_have_no_agreed_range(self, mode: str, told_of: str) -> None:
        why, detail = told(encoded(plain(7, mode), "TIFF"))
        assert why == "unsupported-pixels"
        assert told_of in detail
        assert "save it with 8 or 16 bits per channel" in detail

    @pytest.mark.parametrize(
        "values",
        [
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 4, 3), np.uint32),
            np.zeros((4, 4, 2), np.uint16),
        ],
        ids=["RGB of floats", "RGB of 32 bits", "grey with alpha of 16 bits"],
    )
    def test_are_of_a_kind_that_pillow_does_not_know(self, values: Any) -> None:
        why, detail = told(tiff(values, 2 if values.shape[2] == 3 else 1))
        assert why == "unsupported-pixels"
        assert "begins as TIFF files do, but is of a kind that is not read" in detail
        assert "save it with 8 or 16 bits per channel" in detail


class TestBombs:
    def test_a_jpeg_that_claims_to_be_as_large_as_can_be(self) -> None:
        content = bytearray(photograph((64, 64)))
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
        why, detail = told(bytes(content))
        assert why == "too-large"
        assert "65500x65500 pixels, more than the limit of 64,000,000" in detail

    def test_an_avif_that_claims_more_than_the_limit(self) -> None:
        content = bytearray(encoded(fruit(1), "AVIF"))
        size = content.index(b"ispe") + 8
        content[size : size + 8] = struct.pack(">II", 8_192, 8_192)
        assert told(bytes(content))[0] == "too-large"

    def test_a_png_that_unpacks_to_more_than_the_memory_is_read_as_far_as_its_size_goes(
        self,
    ) -> None:
        assert limited("content = png(100, 100, 8, 2, bytes(1 << 28))") == "featurized 100x100"

    def test_a_profile_that_unpacks_to_more_than_the_memory(self) -> None:
        code = (
            "content = png(4, 4, 8, 2, bytes(52), (b'iCCP', b'x\\0\\0' + compress(bytes(1 << 28))))"
        )
        assert limited(code).startswith("corrupt")


class TestTooLittleMemory:
    def test_says_nothing_about_the_image(self) -> None:
        """6,000 x 6,000 pixels take 144 MB, of which the process may have less."""
        assert limited("content = encoded(Image.new('RGB', (6000, 6000)))") == "MemoryError"

    def test_of_a_decoder_is_no_damage_either(self) -> None:
        for error in (MemoryError(), OSError("out of memory error when reading image file")):
            with pytest.raises(MemoryError):
                broken(error)

    def test_before_the_first_pixel_neither(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhaust(*_: object, **__: object) -> None:
            raise MemoryError

        monkeypatch.setattr(Image, "open", exhaust)
        with pytest.raises(MemoryError):
            open_image(encoded(fruit(1)))


def limited(code: str) -> str:
    """What comes of the image that `code` makes in a process that may take 100 MB more."""
    program = f"""
import resource
from zlib import compress
from PIL import Image
from spark_job.decode import decode
from spark_job.errors import RejectedImageError
from tests.spark_job.files import png
from tests.spark_job.photographs import encoded
from tests.spark_job.pixels import CARD, LIMIT
{code}
decode(encoded(Image.new("RGB", (4, 4))), CARD, max_pixels=LIMIT)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 100_000_000,) * 2)
try:
    decoded = decode(content, CARD, max_pixels=LIMIT)
    print("featurized", f"{{decoded.width}}x{{decoded.height}}", end="")
except RejectedImageError as rejected:
    print(rejected.reason, rejected.detail, end="")
except MemoryError:
    print("MemoryError", end="")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
