"""What an app might do to pixels is measured as the section says."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.phone import compare, phone_section, plain_bilinear
from benchmarks.programs import Run
from orchard.phone.fuse import fuse
from orchard.phone.running import PhoneModel
from spark_job.networks import load_card, load_network
from spark_job.pca import PCAModel
from tests.spark_job.photographs import encoded, fruit, photograph


def test_four_pixels_around_each_point_are_mixed() -> None:
    ramp = np.tile(np.arange(0, 240, 30, dtype=np.uint8)[:, None, None], (1, 8, 3))
    found = plain_bilinear(Image.fromarray(ramp), 4, 4)
    assert found[:, 0, 0].tolist() == [15, 75, 135, 195]
    checks = Image.fromarray(np.indices((64, 64)).sum(axis=0).astype(np.uint8) % 2 * 255)
    aliased = plain_bilinear(checks.convert("RGB"), 64 // 3, 64 // 3)
    assert aliased.std() > 30, "what an antialiased filter makes grey stays a pattern"


def test_the_more_is_done_to_pixels_the_further_vectors_move() -> None:
    card = load_card()
    random = np.random.default_rng(0)
    rows, _ = np.linalg.qr(random.normal(size=(card.features, 5)))
    ones = np.ones(card.features)
    run = PhoneModel(fuse(load_network(card), card, PCAModel(0.4 * ones, ones, rows.T, ones), b""))
    contents = [photograph((1500, 1000), seed) for seed in range(3)]
    palette = fruit(9).convert("P")
    stream = io.BytesIO()
    palette.save(stream, "PNG", transparency=0)
    moves = {move["how"]: move for move in compare([*contents, stream.getvalue()], run)}
    least = [
        moves[how]["least"]
        for how in ("every pixel of a JPEG decoded", "bilinear, antialiased", "cropped to a square")
    ]
    assert least == sorted(least, reverse=True)
    assert moves["bilinear of four pixels"]["moved"] == 1
    small = compare([encoded(fruit(seed), "PNG") for seed in range(3)], run)
    assert small[0]["moved"] == 0, "there is nothing to scale in a decoder"


@pytest.mark.parametrize(("milliseconds", "met"), [(49.0, True), (51.0, False)])
def test_targets_are_absolute(milliseconds: float, met: bool) -> None:
    one = {"label": "kiwi", "pictures": 9, "groups": 5, "held_out": 0, "accuracy": None}
    details: dict[str, Any] = {
        "card": {
            "network": "mobilenet_v2",
            "k": 5,
            "size": 9_300_000,
            "head": {"labels": ["kiwi", "plum"], "of": [one, one | {"accuracy": 0.5}]},
            "checked": {"pictures": 4, "largest_distance": 2e-5, "largest_component": 30.0},
        },
        "milliseconds": [milliseconds] * 3,
        "moves": [
            {
                "how": "as it is",
                "moved": 0.5,
                "component": 1.0,
                "least": 0.9,
                "median": 0.99,
                "same_neighbour": 0.8,
            }
        ],
    }
    section = phone_section(Run("exported file", 18, 1.0, 1, details))
    assert [(target.reached, target.met) for target in section.targets] == [
        ("2.0e-05", True),
        ("9.3 MB", True),
        (f"{milliseconds:.1f} ms", met),
    ]
    page = "\n".join(section.blocks)
    assert "| as it is      | 50%   | 1.00" in page
    assert "| kiwi  | 9           | 5      | 0        | 50%" in page
