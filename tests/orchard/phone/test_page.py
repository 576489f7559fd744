"""What docs/phone.md tells an app to do is what the job does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchard.phone.card import preprocessing
from spark_job.networks import load_card

PAGE = (Path(__file__).parents[3] / "docs" / "phone.md").read_text("utf-8")


@pytest.fixture(scope="module")
def resize() -> Any:
    """The page's own code."""
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["resize"]


@pytest.mark.parametrize(
    "size",
    [
        *((100, 100), (150, 200), (196, 250), (250, 196), (298, 450), (340, 420), (600, 320)),
        *((450, 600), (500, 900), (900, 1200), (700, 1400), (600, 601), (9, 700), (700, 9)),
    ],
)
def test_its_filter_gives_pillows_pixels(resize: Any, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)
    apart = np.abs(resize(pixels).astype(int) - np.asarray(expected))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3


def test_it_has_the_numbers_of_the_network() -> None:
    card = load_card()
    assert card.decode.draft is not None
    assert f"at least {card.decode.draft * card.width} pixels of its width" in PAGE
    assert f"{card.height * card.width * 3:,} bytes" in PAGE
    told = preprocessing(card)
    assert f"at least {card.decode.draft * card.width} pixels of its width" in told[0]
    assert "antialiased" in told[3]
