"""Colours by ICC profiles that each test makes, so that what must come out is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from spark_job.colour import to_srgb
from spark_job.decode import decode
from tests.spark_job import profiles
from tests.spark_job.photographs import encoded, photograph
from tests.spark_job.pixels import CARD, LIMIT, SIDE, assert_plain, pixels_of, plain

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class TestAColourProfile:
    COLOUR = (200, 100, 50)

    def wide(self) -> tuple[int, int, int]:
        red, green, blue = profiles.wide_gamut_to_srgb(self.COLOUR).round().astype(int)
        return int(red), int(green), int(blue)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "MPO"])
    def test_is_converted_to_srgb(self, kind: str) -> None:
        options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
        content = encoded(plain(self.COLOUR), kind, icc_profile=profiles.wide_gamut(), **options)
        assert_plain(content, self.wide(), within=3 if kind in ("JPEG", "AVIF", "MPO") else 1)
        assert self.wide()[0] - self.COLOUR[0] > 20, "which shows"

    def test_is_converted_after_the_resize(self) -> None:
        image = Image.open(io.BytesIO(photograph((500, 300))))
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profiles.wide_gamut()))
        expected = ImageCms.profileToProfile(
            image.resize((SIDE, SIDE)), profile, ImageCms.createProfile("sRGB")
        )
        content = encoded(image, icc_profile=profiles.wide_gamut())
        assert np.array_equal(pixels_of(content), np.asarray(expected))

    @pytest.mark.parametrize("size", [(40, 30), (500, 400)])
    def test_counts_in_the_perceptual_hash_too(self, size: tuple[int, int]) -> None:
        content = encoded(plain(self.COLOUR, size=size), icc_profile=profiles.wide_gamut())
        small = decode(content, CARD, max_pixels=LIMIT).small
        assert np.abs(np.asarray(small).astype(int) - self.wide()).max() <= 1

    def test_of_an_image_with_alpha_or_a_palette(self) -> None:
        clear = encoded(plain((*self.COLOUR, 0), "RGBA"), icc_profile=profiles.wide_gamut())
        assert_plain(clear, (255, 255, 255))
        opaque = encoded(plain((*self.COLOUR, 255), "RGBA"), icc_profile=profiles.wide_gamut())
        assert_plain(opaque, self.wide(), within=1)
        palette = plain(self.COLOUR).quantize(2)
        assert_plain(encoded(palette, icc_profile=profiles.wide_gamut()), self.wide(), within=1)

    @pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
    def test_of_grey(self, mode: str) -> None:
        image = plain((128, 255) if mode == "LA" else 128 * 257 if mode == "I;16" else 128, mode)
        assert_plain(encoded(image), (128, 128, 128))
        # 128 of 255 to the power of 3 is 0.126 of the light, which sRGB has at 100.
        assert_plain(encoded(image, icc_profile=profiles.dark_grey(3)), (100, 100, 100), within=1)

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_of_inks(self, kind: str) -> None:
        """By a profile of which cyan prints red: by itself it is (0, 255, 255)."""
        for ink, seen in (
            ((255, 0, 0, 0), (255, 0, 0)),
            ((0, 0, 0, 0), (255, 255, 255)),
            ((0, 255, 255, 0), (255, 255, 255)),
            ((0, 0, 0, 255), (0, 0, 0)),
        ):
            image = plain(ink, "CMYK")
            content = encoded(image, kind, icc_profile=profiles.inks(), quality=95)
            assert_plain(content, seen, within=4)
        assert_plain(encoded(plain((255, 0, 0, 0), "CMYK"), kind), (0, 255, 255), within=3)

    def test_inks_are_resized_before_they_are_converted(self) -> None:
        image = Image.open(io.BytesIO(photograph((500, 300)))).convert("CMYK")
        content = encoded(image, "TIFF", icc_profile=profiles.inks())
        expected = ImageCms.profileToProfile(
            image.resize((SIDE, SIDE)),
            ImageCms.ImageCmsProfile(io.BytesIO(profiles.inks())),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
        assert np.array_equal(pixels_of(content), np.asarray(expected))

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_that_is_srgb_changes_no_pixel(self, kind: str) -> None:
        image = Image.open(io.BytesIO(photograph((300, 300))))
        without, beside = encoded(image, kind), encoded(image, kind, icc_profile=SRGB)
        assert np.array_equal(pixels_of(beside), pixels_of(without))

    @pytest.mark.parametrize(
        "profile",
        [
            b"no profile",
            b"\0" * 5000,
            profiles.wide_gamut()[:200],
            profiles.wide_gamut()[:128] + bytes(400),
            SRGB[:-1000],
            profiles.black(),
            profiles.dark_grey(3),
            profiles.inks(),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(),
        ],
    )
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
    def test_that_is_broken_or_does_not_fit_is_ignored(self, profile: bytes, kind: str) -> None:
        image = Image.open(io.BytesIO(photograph((300, 300))))
        without, beside = encoded(image, kind), encoded(image, kind, icc_profile=profile)
        assert np.array_equal(pixels_of(beside), pixels_of(without))

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_of_rgb_beside_other_colours_is_ignored(self, mode: str) -> None:
        image = Image.open(io.BytesIO(photograph((300, 300)))).convert(mode)
        without = encoded(image, "TIFF")
        beside = encoded(image, "TIFF", icc_profile=profiles.wide_gamut())
        assert np.array_equal(pixels_of(beside), pixels_of(without))

    def test_of_flipped_bits_never_does_more_than_other_colours(self) -> None:
        random = np.random.default_rng(3)
        for sound in (profiles.wide_gamut(), profiles.inks(), SRGB):
            mode = "CMYK" if sound == profiles.inks() else "RGB"
            for _ in range(40):
                broken = bytearray(sound)
                for position in random.integers(0, len(broken), 4):
                    broken[position] ^= 1 << int(random.integers(8))
                content = encoded(plain(0, mode), "TIFF", icc_profile=bytes(broken))
                assert pixels_of(content).shape == (SIDE, SIDE, 3)

    def test_is_built_once_for_all_images_that_have_it(self) -> None:
        content = encoded(plain(self.COLOUR), icc_profile=profiles.wide_gamut())
        pixels_of(content)
        before = to_srgb.cache_info()
        pixels_of(content)
        assert to_srgb.cache_info().hits == before.hits + 1
        assert to_srgb.cache_info().misses == before.misses
