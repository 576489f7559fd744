"""What the committed images of ``golden/`` were decoded and featurized to, to hold against today.

    python -m tests.spark_job.networks.golden_set

writes ``golden.json`` and ``features.npy`` anew from the committed images. It refuses where pixels
or features changed under the same extractor: they would mix with those of earlier runs. Raise the
decode version first, in `RULES` of ``spark_job/networks/card.py`` and in each card.

The images themselves stay as they are: another encoder draws other files. ``--draw`` draws those
that are not there.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, features

from spark_job.decode import decode
from spark_job.networks import DEFAULT, load_card
from spark_job.networks.extractor import shared_extractor
from tests.spark_job.photographs import fruit
from tests.spark_job.profiles import wide_gamut

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from numpy.typing import NDArray

FOLDER: Final = Path(__file__).parent / "golden"
CODECS: Final = ("libjpeg_turbo", "zlib", "webp", "avif", "littlecms2")
COMMAND: Final = "python -m tests.spark_job.networks.golden_set"


@dataclass(frozen=True)
class Golden:
    """What came of the images.

    Attributes
    ----------
    extractor
        Whose features they are.
    decode_version
        Whose pixels they are.
    versions
        Of the libraries at work.
    pixels
        SHA-256 of each file's decoded pixels.
    features
        float32 [files, d], in the order of `pixels`.
    """

    extractor: str
    decode_version: int
    versions: dict[str, str]
    pixels: dict[str, str]
    features: NDArray[np.float32]


def committed() -> Golden:
    """What came of the images when the golden files were written."""
    told: dict[str, Any] = json.loads((FOLDER / "golden.json").read_text("utf-8"))
    return Golden(**told, features=np.load(FOLDER / "features.npy"))


def computed() -> Golden:
    """What comes of the images here and now."""
    card = load_card()
    extract = shared_extractor(DEFAULT)
    images = {
        path.name: decode(path.read_bytes(), card, max_pixels=10**6).pixels
        for path in sorted(FOLDER.iterdir())
        if path.suffix not in (".json", ".npy")
    }
    return Golden(
        extractor=card.extractor,
        decode_version=card.decode.version,
        versions=_versions(),
        pixels={
            name: hashlib.sha256(pixels.tobytes()).hexdigest() for name, pixels in images.items()
        },
        features=np.stack([extract(pixels) for pixels in images.values()]),
    )


def differences(then: Golden, now: Golden, tolerance: float) -> str:
    """Say for each file what changed and what to do; nothing where nothing did."""
    if (added := now.pixels.keys() - then.pixels.keys()) or then.pixels.keys() - now.pixels.keys():
        return (
            f"the golden files are of {sorted(then.pixels)}, the folder has {sorted(now.pixels)}; "
            + (f"run `{COMMAND}`" if added else "restore the images")
        )
    if then.extractor != now.extractor:
        return (
            f"the golden files are of {then.extractor}, the card is of {now.extractor}; if that is "
            f"meant, run `{COMMAND}`"
        )
    found = list(_changed(then, now, tolerance))
    if not found:
        return ""
    upgraded = [
        f"{library} {then.versions.get(library, 'none')} -> {is_now}"
        for library, is_now in now.versions.items()
        if then.versions.get(library) != is_now
    ]
    return "\n".join(
        [
            f"features of {now.extractor} are no longer what they were:",
            *found,
            f"libraries: {', '.join(upgraded) or 'the same'}",
            "Features of before and after must not mix. If the change is meant, raise the decode "
            f"version {now.decode_version} in RULES of spark_job/networks/card.py and in the "
            "card of each network, which gives every extractor another id, and then run "
            f"`{COMMAND}`.",
        ]
    )


def _changed(then: Golden, now: Golden, tolerance: float) -> Iterator[str]:
    for row, name in enumerate(now.pixels):
        apart = float(np.abs(now.features[row] - then.features[row]).max())
        moved = [] if now.pixels[name] == then.pixels[name] else ["other pixels"]
        if not apart <= tolerance:
            moved.append(f"features up to {apart:.2g} away (tolerance {tolerance:g})")
        if moved:
            yield f"  {name}: {', '.join(moved)}"


def _only(golden: Golden, names: Set[str]) -> Golden:
    """Leave out the images that another one does not have."""
    rows = [row for row, name in enumerate(golden.pixels) if name in names]
    pixels = {name: digest for name, digest in golden.pixels.items() if name in names}
    return replace(golden, pixels=pixels, features=golden.features[rows])


def _versions() -> dict[str, str]:
    codecs = {name: str(features.version(name)) for name in CODECS}
    return {name: version(name) for name in ("pillow", "numpy", "ai-edge-litert")} | codecs


def draw() -> dict[str, bytes]:
    """The images, one for each way of storing pixels that decoders treat in a way of its own."""
    picture = fruit(11, 240).crop((0, 20, 240, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = picture.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(picture.size))
    wide = np.asarray(picture.convert("L"), np.uint16) * 200 + np.arange(240, dtype=np.uint16)
    return {
        "baseline.jpg": _encoded(picture, "JPEG", quality=85),
        "progressive.jpg": _encoded(picture, "JPEG", quality=85, progressive=True, subsampling=0),
        "cmyk.jpg": _encoded(picture.convert("CMYK"), "JPEG", quality=85),
        "turned.jpg": _encoded(picture, "JPEG", quality=85, exif=exif),
        "alpha.png": _encoded(alpha, "PNG", optimize=True),
        "grey16.png": _encoded(Image.fromarray(wide), "PNG", optimize=True),
        "palette.gif": _encoded(picture.quantize(32), "GIF"),
        "lossy.avif": _encoded(picture, "AVIF", quality=80),
        "lossy.webp": _encoded(picture, "WEBP", quality=80),
        # Large enough to be decoded at half its scale.
        "photograph.jpg": _encoded(fruit(12, 950).crop((0, 25, 950, 925)), "JPEG", quality=70),
        "wide_gamut.jpg": _encoded(picture, "JPEG", quality=85, icc_profile=wide_gamut()),
    }


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def main() -> None:
    """Write the golden files, or say why not."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--draw", action="store_true", help="draw the images that are not there")
    FOLDER.mkdir(exist_ok=True)
    if parser.parse_args().draw:
        for name, content in draw().items():
            if not (FOLDER / name).exists():
                (FOLDER / name).write_bytes(content)
    now = computed()
    if (FOLDER / "golden.json").exists():
        then = committed()
        both = then.pixels.keys() & now.pixels.keys()
        changed = differences(_only(then, both), _only(now, both), load_card().tolerance)
        if changed and then.extractor == now.extractor:
            raise SystemExit(changed)
    written = {key: value for key, value in vars(now).items() if key != "features"}
    (FOLDER / "golden.json").write_text(json.dumps(written, indent=2) + "\n", "utf-8")
    np.save(FOLDER / "features.npy", now.features)
    print(f"{len(now.pixels)} images of {now.extractor} in {FOLDER}")


if __name__ == "__main__":
    main()
