"""An exported file's card: what an app must do, and what may be expected of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from orchard.phone.fuse import PHOTOGRAPH, PROBABILITIES, VECTOR
from spark_job.receipts import to_json

if TYPE_CHECKING:
    from orchard.phone.head import Head, HeadCard
    from orchard.phone.sources import Source
    from spark_job.networks import Card

FORMAT: Final = 1
"""Number of this layout of the card."""


@dataclass(frozen=True)
class Checked:
    """How far the file's vectors are from the job's on the same pixels.

    Attributes
    ----------
    pictures
        How many were tried.
    published
        Whether they are published ones, held against their published vectors; otherwise they are
        made up, and held against what the job would publish.
    largest_distance
        Of a component, absolutely.
    largest_component
        By magnitude.
    """

    pictures: int
    published: bool
    largest_distance: float
    largest_component: float


@dataclass(frozen=True)
class ExportCard:
    """What is known of an exported file.

    Attributes
    ----------
    network, extractor, model
        What was fused; vectors compare with published ones of this `model` only.
    k, features, variance_kept
        Components of a vector, features that they are made of, share of the variance they keep.
    takes, gives
        Tensors by name: type, shape, and what is in them.
    preprocessing
        What an app does to a photograph, in this order.
    head
        Of the labels; None without one.
    warnings
        Sentences for a person.
    file, size, sha256
        The file's name, bytes and digest; None in the card that is inside it.
    checked
        None in the card that is inside the file.
    format
        Of this card.
    """

    network: str
    extractor: str
    model: str
    k: int
    features: int
    variance_kept: float
    takes: dict[str, Any]
    gives: dict[str, Any]
    preprocessing: list[str]
    head: HeadCard | None
    warnings: list[str]
    file: str | None = None
    size: int | None = None
    sha256: str | None = None
    checked: Checked | None = None
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Serialize, readable by a person."""
        return to_json(asdict(self))


def card_of(source: Source, head: Head | None) -> ExportCard:
    """Say all that is known before there is a file."""
    card, model = source.card, source.model.card
    gives: dict[str, Any] = {
        VECTOR: {"type": "float32", "shape": [1, model.k], "holds": f"of model {model.model}"}
    }
    if head is not None:
        gives[PROBABILITIES] = {
            "type": "float32",
            "shape": [1, len(head.card.labels)],
            "holds": "of the head's labels, in their order; they add up to 1",
        }
    return ExportCard(
        network=card.name,
        extractor=card.extractor,
        model=model.model,
        k=model.k,
        features=card.features,
        variance_kept=model.variance_kept,
        takes={
            PHOTOGRAPH: {
                "type": "uint8",
                "shape": [1, card.height, card.width, 3],
                "holds": "rows from the top, pixels from the left, red green blue of 0 to 255",
            }
        },
        gives=gives,
        preprocessing=preprocessing(card),
        head=None if head is None else head.card,
        warnings=[] if head is None else head.warnings,
    )


def preprocessing(card: Card) -> list[str]:
    """What turns a file into the pixels that the job gives the network, step by step."""
    rules = card.decode
    if rules.draft is None:
        scaled = "decode all of a JPEG's pixels"
    else:
        width, height = rules.draft * card.width, rules.draft * card.height
        scaled = (
            "decode a JPEG at the smallest of the scales 1/1, 1/2, 1/4 and 1/8 that keeps at least "
            f"{width} pixels of its width and {height} of its height, once upright"
        )
    return [
        scaled,
        "turn the picture upright by its EXIF orientation",
        "put what is transparent on white",
        f"resize the whole picture to {card.width}x{card.height}, neither cropped nor padded, with "
        f"a {rules.resize} filter as wide as the picture shrinks (antialiased)",
        "convert its colours to sRGB by its ICC profile",
        "give the pixels as they are: red, green, blue of 0 to 255; the file scales them itself",
    ]
