"""A network's card: everything that the job must know of the flatbuffer that lies beside it.

A network is a folder of this package, ``<name>/``, with ``network.tflite`` and ``card.json``::

    {
      "sha256": "...",                                of network.tflite
      "input": {
        "width": 224, "height": 224,                  pixels of the resized image
        "channels": "RGB",                            their order, or "BGR"
        "scaling": {"divide_by": 127.5, "subtract": 1.0, "then_divide_by": 1.0}
      },
      "output": {"features": 1280},
      "decode": {"version": 2, ...},                  see DecodeRules
      "tolerance": 0.0001,                            largest distance of a feature from Keras'
      "provenance": {...}                             where it comes from, for people
    }

Scaling is ``(pixel / divide_by - subtract) / then_divide_by``; each of the three is one number, or
three in the order of `channels`. No other key is allowed but within the provenance, of which the
job reads nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from spark_job.errors import JobError, UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT: Final = "mobilenet_v2"
CARD: Final = "card.json"
FLATBUFFER: Final = "network.tflite"

PerChannel = tuple[float, float, float]


@dataclass(frozen=True)
class DecodeRules:
    """How a file becomes pixels; :mod:`spark_job.decode` says each rule in full.

    Attributes
    ----------
    version
        Of the pixels that come out. Another set of rules, or an upgraded Pillow that follows the
        same rules to other pixels, is another version.
    orientation
        ``exif``: applied.
    frame
        ``first``: of an animation.
    transparency
        ``white``: what is composited under it.
    wide
        ``high byte``: of 16 bits per channel.
    profile
        ``sRGB``: what colours become, by the image's ICC profile.
    draft
        JPEGs are decoded at the smallest scale that keeps both sides at least so many times those
        of the network's input; None: in full.
    resize
        ``bicubic``: Pillow's filter, without cropping.
    """

    version: int
    orientation: str
    frame: str
    transparency: str
    wide: str
    profile: str
    draft: int | None
    resize: str


RULES: Final = DecodeRules(
    version=2,
    orientation="exif",
    frame="first",
    transparency="white",
    wide="high byte",
    profile="sRGB",
    draft=2,
    resize="bicubic",
)
"""Of a card that is written today."""

KNOWN_RULES: Final = (RULES, replace(RULES, draft=None))
"""What `decode` can do; a card with other rules, or another version of them, is refused."""


@dataclass(frozen=True)
class Scaling:
    """``(pixel / divide_by - subtract) / then_divide_by``, per channel in the network's order."""

    divide_by: PerChannel = (1.0, 1.0, 1.0)
    subtract: PerChannel = (0.0, 0.0, 0.0)
    then_divide_by: PerChannel = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Card:
    """What determines a feature, and how exactly; see the module for the file.

    Attributes
    ----------
    name
        The network's folder.
    sha256
        Of the flatbuffer.
    width, height
        Pixels of the network's input.
    channels
        ``RGB`` or ``BGR``: the order in which the network takes them.
    scaling
        From pixels of 0 to 255 to the network's input.
    features
        Numbers per image.
    decode
        The rules by which files become pixels.
    tolerance
        Largest absolute distance of a feature from Keras' on the same pixels.
    """

    name: str
    sha256: str
    width: int
    height: int
    channels: str
    scaling: Scaling
    features: int
    decode: DecodeRules
    tolerance: float

    def in_full(self) -> Card:
        """Give the card of the same network that has every JPEG decoded in full."""
        return replace(self, decode=replace(self.decode, draft=None))

    @cached_property
    def extractor(self) -> str:
        """Name, and 16 digits of the SHA-256 of all that determines a feature, in canonical JSON.

        Neither the name nor the tolerance nor the provenance is part of it.
        """
        determined_by = {
            "flatbuffer": self.sha256,
            "width": self.width,
            "height": self.height,
            "channels": self.channels,
            "scaling": asdict(self.scaling),
            "features": self.features,
            "decode": asdict(self.decode),
        }
        canonical = json.dumps(determined_by, sort_keys=True, separators=(",", ":"))
        return f"{self.name}-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"


def names() -> list[str]:
    """Networks that are installed, in order."""
    folders = resources.files("spark_job.networks").iterdir()
    return sorted(folder.name for folder in folders if (folder / CARD).is_file())


def load_card(name: str = DEFAULT) -> Card:
    """Read the card of an installed network.

    Raises
    ------
    UsageError
        Where there is no such network.
    JobError
        Where its card is malformed, or asks for decoding that this code does not do.
    """
    known = names()
    if name not in known:
        similar = get_close_matches(name.lower().replace("-", "_"), known, n=1)
        raise UsageError(
            f"there is no network {name!r}"
            + (f"; did you mean {similar[0]!r}?" if similar else "")
            + f" (installed: {', '.join(known)}; `make export-model` makes another one)"
        )
    return parse_card(name, (_folder(name) / CARD).read_bytes())


def find_card(extractor: str) -> Card:
    """Find the card of the installed network that gives an extractor's features.

    Raises
    ------
    UsageError
        Where none does; the message is why, for a longer sentence.
    """
    known = names()
    for name in known:
        card = load_card(name)
        for decoded in (card, card.in_full()):
            if decoded.extractor == extractor:
                return decoded
    name = extractor.rpartition("-")[0]
    if name in known:
        raise UsageError(f"the installed {name} is another one, or decodes images by other rules")
    raise UsageError(f"there is no network {name} here, only {', '.join(known)}")


def load_network(card: Card) -> bytes:
    """Read the LiteRT flatbuffer that `card` was written for.

    Raises
    ------
    JobError
        Where the file is another one, or is not there.
    """
    told = f"the network spark_job/networks/{card.name}/{FLATBUFFER}"
    remedy = "restore the file, or export it again with `make export-model`"
    file = _folder(card.name) / FLATBUFFER
    if not file.is_file():
        raise JobError(f"{told} is missing; {remedy}")
    content: bytes = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise JobError(
            f"{told} is damaged: its sha256 is {found}, its card says {card.sha256}; {remedy}"
        )
    return content


def load_provenance(name: str = DEFAULT) -> dict[str, Any]:
    """What the card of an installed network tells people of its origin, licence and export."""
    provenance: dict[str, Any] = json.loads((_folder(name) / CARD).read_bytes())["provenance"]
    return provenance


def _folder(name: str) -> Traversable:
    return resources.files("spark_job.networks") / name


def parse_card(name: str, content: bytes) -> Card:
    """Make a card of the bytes of its file; a JobError names what is wrong with them."""
    try:
        return _read(name, json.loads(content))
    except (ValueError, TypeError) as error:
        raise JobError(
            f"the card spark_job/networks/{name}/{CARD} cannot be used: {error}; restore the file, "
            "or export the network again with `make export-model`"
        ) from error


def format_card(card: Card, provenance: dict[str, Any]) -> str:
    """The file of a card, which `parse_card` reads."""
    scaling = {
        step: values[0] if len(set(values)) == 1 else values
        for step, values in asdict(card.scaling).items()
    }
    content = {
        "sha256": card.sha256,
        "input": {
            "width": card.width,
            "height": card.height,
            "channels": card.channels,
            "scaling": scaling,
        },
        "output": {"features": card.features},
        "decode": asdict(card.decode),
        "tolerance": card.tolerance,
        "provenance": provenance,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _read(name: str, card: Any) -> Card:
    sha256, given, output, decode, tolerance, provenance = _values(
        card, "the card", ("sha256", "input", "output", "decode", "tolerance", "provenance")
    )
    width, height, channels, scaling = _values(
        given, "'input'", ("width", "height", "channels", "scaling")
    )
    [features] = _values(output, "'output'", ("features",))
    if not isinstance(sha256, str) or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError(f"'sha256' is 64 hexadecimal digits, not {sha256!r}")
    if channels not in ("RGB", "BGR"):
        raise ValueError(f"'channels' is 'RGB' or 'BGR', not {channels!r}")
    if not _is_number(tolerance) or tolerance <= 0:
        raise ValueError(f"'tolerance' is a number above 0, not {tolerance!r}")
    if not isinstance(provenance, dict):
        raise ValueError("'provenance' is not an object")
    return Card(
        name=name,
        sha256=sha256,
        width=_count("width", width),
        height=_count("height", height),
        channels=channels,
        scaling=_scaling(scaling),
        features=_count("features", features),
        decode=_rules(decode),
        tolerance=float(tolerance),
    )


def _values(block: Any, told: str, keys: tuple[str, ...]) -> list[Any]:
    if not isinstance(block, dict):
        raise ValueError(f"{told} is not an object")
    if missing := [key for key in keys if key not in block]:
        raise ValueError(f"{told} has no {missing[0]!r}")
    if unknown := [key for key in block if key not in keys]:
        raise ValueError(f"{told} has {unknown[0]!r}, of which this version knows nothing")
    return [block[key] for key in keys]


def _count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key!r} is a whole number from 1, not {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _scaling(block: Any) -> Scaling:
    keys = tuple(field.name for field in fields(Scaling))
    steps = dict(zip(keys, _values(block, "'scaling'", keys), strict=True))
    return Scaling(**{key: _per_channel(key, value) for key, value in steps.items()})


def _per_channel(key: str, value: Any) -> PerChannel:
    three = value if isinstance(value, list) else [value] * 3
    if len(three) != 3 or not all(map(_is_number, three)):
        raise ValueError(f"{key!r} is a number or three numbers, not {value!r}")
    if "divide" in key and not all(three):
        raise ValueError(f"{key!r} is {value!r}, and nothing can be divided by 0")
    first, second, third = map(float, three)
    return first, second, third


def _rules(block: Any) -> DecodeRules:
    if not isinstance(block, dict):
        raise ValueError("'decode' is not an object")
    for known in KNOWN_RULES:
        if block == asdict(known):
            return known
    versions = " or ".join(json.dumps(asdict(known)) for known in KNOWN_RULES)
    raise ValueError(
        f"this version of Orchard decodes by {versions}, and the card asks for {json.dumps(block)}"
    )
