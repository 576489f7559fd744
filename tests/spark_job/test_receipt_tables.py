"""The receipts as tables: SQL reads from them what the receipts say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pytest

from spark_job import pca
from spark_job.dollars import Dollars
from spark_job.moments import Moments
from spark_job.objects import open_folder
from spark_job.receipt_tables import (
    PARTS_SCHEMA,
    RUN_SCHEMA,
    write_parts,
    write_receipt,
    write_variance,
)
from spark_job.receipts import (
    Counts,
    Digests,
    EngineReceipt,
    ModelReceipt,
    PartReceipt,
    RunReceipt,
)

if TYPE_CHECKING:
    from pathlib import Path

PARTS = [
    PartReceipt(
        part=0,
        attempt="ab",
        features="part-00000.parquet",
        rejects="part-00000.parquet",
        counts=Counts(8, 4, 1, 2, 1, {"empty": 1, "missing": 1}),
        digests=Digests("1" * 64, "2" * 64, "3" * 64),
        seconds={"read": 0.25, "infer": 2.5},
        processor="x86_64 Some CPU",
        versions={"numpy": "2.0", "orchard": "0.1.0"},
        first="Kiwi/1.jpg",
        last="Plum/9.jpg",
    ),
    PartReceipt(
        part=1,
        attempt="cd",
        features=None,
        rejects=None,
        counts=Counts(),
        digests=Digests(),
        seconds={},
        processor="aarch64 Other",
        versions={},
    ),
]

RUN = RunReceipt(
    batch="2026-11-20",
    run="r",
    images="s3://b/images",
    output="s3://b",
    results="s3://b/results/2026-11-20/runs/r",
    started="2026-11-20T10:00:00.123456+00:00",
    finished="2026-11-20T11:00:00.000000+00:00",
    counts=Counts(8, 4, 1, 2, 1, {"empty": 1, "missing": 1}, {"txt": 5}),
    digests=Digests(),
    model=ModelReceipt("m", 3, 5, {"variance": 0.8}, True, 0.81, 0.75, 12.5, False),
    engine=EngineReceipt("processes", 2),
    network="mobilenet_v2",
    extractor="mobilenet_v2-0123",
    processors={"x86_64 Some CPU": 1, "aarch64 Other": 1},
    images_per_second=1.5,
    seconds={"list and start": 1.0, "featurize": 4.0, "total": 5.5},
    seconds_in_workers={"infer": 3.0},
    settings={"batch": "2026-11-20"},
    versions={"numpy": "2.0"},
    dollars=Dollars(0.21, 0.25, 2, 0.82),
)


def rows(path: Path) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.sql("set timezone = 'UTC'")
        found = connection.sql(f"select * from '{path}'")
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def test_the_parts_are_a_table_of_a_row_each(tmp_path: Path) -> None:
    write_parts(open_folder(str(tmp_path)), PARTS)
    first, second = rows(tmp_path / "parts.parquet")
    assert list(first) == PARTS_SCHEMA.names
    assert first == {
        "part": 0,
        "attempt": "ab",
        "features": "part-00000.parquet",
        "rejects": "part-00000.parquet",
        "first": "Kiwi/1.jpg",
        "last": "Plum/9.jpg",
        "listed": 8,
        "computed": 4,
        "carried_over": 1,
        "rejected": 2,
        "unsupported": 1,
        "reasons": {"empty": 1, "missing": 1},
        "digest_listing": "1" * 64,
        "digest_images": "2" * 64,
        "digest_features": "3" * 64,
        "seconds": {"read": 0.25, "infer": 2.5},
        "processor": "x86_64 Some CPU",
        "versions": {"numpy": "2.0", "orchard": "0.1.0"},
    }
    assert (second["features"], second["rejects"], second["reasons"]) == (None, None, {})


def test_where_time_went_is_a_query(tmp_path: Path) -> None:
    write_parts(open_folder(str(tmp_path)), PARTS)
    query = f"select sum(seconds['infer']) from '{tmp_path}/parts.parquet'"
    assert duckdb.execute(query).fetchall() == [(2.5,)]


def test_a_run_is_a_table_of_one_row(tmp_path: Path) -> None:
    write_receipt(open_folder(str(tmp_path)), RUN)
    [row] = rows(tmp_path / "receipt" / "run.parquet")
    assert list(row) == RUN_SCHEMA.names
    for name in ("started", "finished"):
        row[name] = row[name].astimezone(UTC)
    assert row == {
        "batch": "2026-11-20",
        "run": "r",
        "images": "s3://b/images",
        "started": datetime(2026, 11, 20, 10, 0, 0, 123456, UTC),
        "finished": datetime(2026, 11, 20, 11, tzinfo=UTC),
        "listed": 8,
        "computed": 4,
        "carried_over": 1,
        "rejected": 2,
        "unsupported": 1,
        "reasons": {"empty": 1, "missing": 1},
        "network": "mobilenet_v2",
        "extractor": "mobilenet_v2-0123",
        "model": "m",
        "model_reused": False,
        "k": 3,
        "variance_kept": 0.81,
        "variance_kept_here": 0.75,
        "largest_z": 12.5,
        "engine": "processes",
        "slots": 2,
        "processors": {"x86_64 Some CPU": 1, "aarch64 Other": 1},
        "images_per_second": 1.5,
        "seconds": 5.5,
        "stages": {"list and start": 1.0, "featurize": 4.0},
        "dollars": 0.21,
    }


def test_runs_of_several_batches_are_one_table(tmp_path: Path) -> None:
    for batch in ("a", "b"):
        write_receipt(open_folder(str(tmp_path / batch)), replace(RUN, batch=batch))
    query = f"select batch, listed from '{tmp_path}/*/receipt/run.parquet' order by batch"
    assert duckdb.execute(query).fetchall() == [("a", 8), ("b", 8)]


def test_the_spectrum_is_a_csv(tmp_path: Path) -> None:
    model = pca.fit(Moments.of(np.random.default_rng(1).standard_normal((30, 6))), components=2)
    write_variance(open_folder(str(tmp_path)), model)
    table = rows(tmp_path / "variance.csv")
    assert list(table[0]) == ["component", "eigenvalue", "share", "cumulative_share"]
    assert [row["component"] for row in table] == [1, 2, 3, 4, 5, 6], "all, not only those kept"
    assert [row["eigenvalue"] for row in table] == model.eigenvalues.tolist(), "every digit"
    assert [row["share"] for row in table] == model.explained_variance_ratio.tolist()
    assert table[1]["cumulative_share"] == pytest.approx(model.variance_kept)
    assert table[-1]["cumulative_share"] == pytest.approx(1)
