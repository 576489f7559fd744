"""Schemas of the findings' tables."""

from __future__ import annotations

import pyarrow as pa

_PATHS = pa.list_(pa.string())

NEIGHBOURS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("neighbours", _PATHS),
        ("distances", pa.list_(pa.float32())),
    ]
)

DUPLICATES = pa.schema(
    [
        ("group", pa.int64()),
        ("kind", pa.string()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("keep", pa.bool_()),
        ("sha256", pa.string()),
        ("pixels", pa.int64()),
        ("bytes", pa.int64()),
        ("distance", pa.float32()),
        ("bits", pa.int32()),
    ]
)

SUSPECTS = pa.schema(
    [
        ("rank", pa.int64()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("suggested", pa.string()),
        ("votes", pa.int32()),
        ("votes_own", pa.int32()),
        ("cast", pa.int32()),
        ("voters", _PATHS),
        ("distance", pa.float32()),
    ]
)

OUTLIERS = pa.schema(
    [
        ("rank", pa.int64()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("reason", pa.string()),
        ("share", pa.float64()),
        ("z", pa.float64()),
        ("nearest", pa.string()),
        ("distance", pa.float32()),
    ]
)

SELECTION = pa.schema(
    [
        ("rank", pa.int64()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("distance", pa.float32()),
    ]
)

LABELS = pa.schema(
    [
        ("label", pa.string()),
        ("n", pa.int64()),
        ("spread", pa.float64()),
        ("nearest", pa.string()),
        ("nearest_distance", pa.float64()),
        ("agreeing", pa.float64()),
        ("confused_with", pa.string()),
        ("confused", pa.int64()),
        ("typical", _PATHS),
        ("least_typical", _PATHS),
    ]
)

KINDS = {
    "neighbours": NEIGHBOURS,
    "duplicates": DUPLICATES,
    "suspects": SUSPECTS,
    "outliers": OUTLIERS,
    "selection": SELECTION,
    "labels": LABELS,
}
"""By the names of their folders."""
