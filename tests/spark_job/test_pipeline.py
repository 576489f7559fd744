"""The whole job in processes of its own, as a user runs it: what is published, and how it reads."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import dataset, parquet

from spark_job import listing, pca, pipeline, tables
from spark_job.findings.schemas import KINDS
from spark_job.listing import listing_digest
from spark_job.moments import Moments
from spark_job.networks import load_card
from spark_job.objects import open_folder
from spark_job.parts import features_digest
from spark_job.pca import PCAModel
from spark_job.receipts import add_digests
from spark_job.settings import JobSettings
from tests.spark_job.inline import InlineEngine
from tests.spark_job.jobs import REPOSITORY, Job, files_below, read_json, run_job
from tests.spark_job.photographs import BAD, GOOD

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.job

SPARK = ("--engine", "spark", "--master")


def matrix(table: pa.Table, column: str) -> NDArray[np.float32]:
    return np.stack(table[column].to_numpy())


class TestWhatIsPublished:
    def test_every_image_is_featurized_or_rejected_with_a_reason(
        self, job: Job, photographs: Path
    ) -> None:
        expected: dict[str, Any] = {
            path: "featurized" for path in files_below(photographs) if path != "README.txt"
        }
        expected.update(BAD)
        assert job.outcomes() == expected

    def test_counts_in_the_receipt_are_those_of_the_tables(self, job: Job) -> None:
        good = sum(GOOD.values()) + 1
        counts = job.receipt["counts"]
        assert counts["listed"] == good + len(BAD)
        assert counts["computed"] == good == job.table("features").num_rows
        assert (counts["carried_over"], counts["unsupported"]) == (0, 0)
        assert counts["rejected"] == len(BAD) == job.table("rejects").num_rows
        assert sum(counts["rejects"].values()) == len(BAD)
        assert counts["ignored"] == {"txt": 1}

    def test_nothing_lies_about_but_what_is_documented(self, job: Job) -> None:
        assert files_below(job.output) == {
            "results/batch/current.json",
            f"models/{job.receipt['extractor']}/current.json",
            f"models/{job.receipt['extractor']}/{job.receipt['model']['model']}/model.npz",
            f"models/{job.receipt['extractor']}/{job.receipt['model']['model']}/model.json",
            f"models/{job.receipt['extractor']}/{job.receipt['model']['model']}/calibration.json",
        } | {
            f"results/batch/runs/first/{name}"
            for name in [
                "moments.npz",
                "sample.npz",
                "variance.csv",
                "parts.parquet",
                "receipt/run.parquet",
                "run.json",
                "vectors.csv",
                "report.html",
            ]
            + [f"findings/{kind}/part-00000.parquet" for kind in KINDS]
            + [
                f"{table}/{path.name}"
                for table in ("features", "rejects", "vectors")
                for path in (job.run / table).iterdir()
            ]
        }

    def test_a_feature_row_tells_which_file_it_is_of(self, job: Job, photographs: Path) -> None:
        for row in job.table("features").to_pylist():
            content = (photographs / row["path"]).read_bytes()
            assert row["sha256"] == hashlib.sha256(content).hexdigest()
            assert row["bytes"] == len(content)
            assert row["label"] == (row["path"].rpartition("/")[0] or None)
            image = Image.open(io.BytesIO(content))
            assert (row["width"], row["height"]) == image.size
            assert row["format"] == image.format
            status = (photographs / row["path"]).stat()
            times = f"{status.st_mtime_ns}-{status.st_ctime_ns}"
            assert row["version"] == f"{times}-{status.st_size}"
            assert len(row["features"]) == 1280

    def test_a_reject_row_says_why_for_a_person(self, job: Job) -> None:
        details = {row["path"]: row["detail"] for row in job.table("rejects").to_pylist()}
        assert "10000x10000 pixels" in details["Lemon/100 megapixels.png"]
        assert "zero bytes" in details["Lemon/empty.jpg"]
        assert all(details.values())

    def test_moments_and_model_follow_from_the_features(self, job: Job) -> None:
        features = matrix(job.table("features"), "features")
        moments = Moments.from_bytes((job.run / "moments.npz").read_bytes())
        direct = Moments.of(features)
        assert moments.n == direct.n
        assert np.allclose(moments.mean, direct.mean, rtol=1e-12)
        assert np.allclose(moments.scatter, direct.scatter, rtol=1e-9, atol=1e-12)
        model = stored_model(job)
        refitted = pca.fit(direct, variance=0.80)
        assert model.k == refitted.k
        assert np.allclose(model.eigenvalues, refitted.eigenvalues, rtol=1e-9, atol=1e-9)
        assert len(model.eigenvalues) == 1280

    def test_vectors_are_the_features_in_the_models_space(self, job: Job) -> None:
        features, vectors = job.table("features"), job.table("vectors")
        assert vectors["path"] == features["path"]
        assert vectors["label"] == features["label"]
        expected = stored_model(job).project(matrix(features, "features"))
        assert np.array_equal(matrix(vectors, "vector"), expected)

    def test_the_receipt_says_what_ran_and_with_what(self, job: Job, photographs: Path) -> None:
        receipt = job.receipt
        assert (receipt["batch"], receipt["run"]) == ("batch", "first")
        assert receipt["images"] == str(photographs)
        assert receipt["model"]["rule"] == {"variance": 0.80}
        assert receipt["settings"]["max_reject_rate"] == 0.2
        assert receipt["contract"] == 1
        assert receipt["engine"]["name"] == "processes"
        assert receipt["model"]["n"] == receipt["counts"]["computed"]
        assert receipt["model"]["variance_kept"] > 0.80
        assert receipt["model"]["variance_kept_here"] == pytest.approx(
            receipt["model"]["variance_kept"], abs=1e-9
        )
        assert receipt["model"]["reused"] is False
        assert sum(receipt["processors"].values()) == len(job.parts())
        assert receipt["images_per_second"] > 0
        stages = {name: value for name, value in receipt["seconds"].items() if name != "total"}
        assert sum(stages.values()) == pytest.approx(receipt["seconds"]["total"], abs=0.5)
        assert {"orchard", "python", "pillow", "numpy", "pyarrow"} <= set(receipt["versions"])

    def test_the_largest_z_is_that_of_the_features(self, job: Job) -> None:
        scaled = stored_model(job).standardize(matrix(job.table("features"), "features"))
        assert job.receipt["model"]["largest_z"] == pytest.approx(np.abs(scaled).max(), abs=1e-9)

    def test_digests_are_those_of_the_tables(self, job: Job) -> None:
        features, rejects = job.table("features"), job.table("rejects")
        rows = [
            (row["path"], row["version"])
            for table in (features, rejects)
            for row in table.select(["path", "version"]).to_pylist()
        ]
        digests = job.receipt["digests"]
        assert digests["listing"] == listing_digest(rows)
        assert digests["images"] == add_digests(features["sha256"].to_pylist())
        found = features_digest(features["path"].to_pylist(), matrix(features, "features"))
        assert digests["features"] == found

    def test_the_pointers_name_the_run_and_the_model(self, job: Job) -> None:
        assert job.current["run"] == "first"
        pointer = read_json(job.model.parent / "current.json")
        assert pointer["model"] == job.receipt["model"]["model"]
        assert (pointer["contract"], pointer["generation"], pointer["run"]) == (1, 1, "first")
        card = read_json(job.model / "model.json")
        assert card["batches"] == [{"batch": "batch", "run": "first", "n": card["n"]}]

    def test_a_person_reads_a_summary(self, job: Job) -> None:
        receipt = job.receipt
        for part in (
            f"{receipt['counts']['listed']} listed, {receipt['counts']['computed']} featurized",
            "1 truncated",
            "1 .txt",
            f"{receipt['model']['k']}, which keep",
            "images/s",
            "featurize",
            str(job.run),
        ):
            assert part in job.out
        assert "Traceback" not in job.err


class TestReadingAsAUser:
    def test_pandas(self, job: Job) -> None:
        frame = pd.read_parquet(job.run / "features")
        assert frame["features"].iloc[0].shape == (1280,)
        assert frame["features"].iloc[0].dtype == np.float32
        vectors = pd.read_parquet(job.run / "vectors")
        assert np.stack(vectors["vector"]).shape == (len(frame), job.receipt["model"]["k"])
        assert "caf\u00e9" in set(frame["label"])
        assert "cafe\u0301" in set(frame["label"])

    def test_pyarrow(self, job: Job) -> None:
        for name in ("features", "vectors", "rejects"):
            assert dataset.dataset(job.run / name).to_table().num_rows > 0
        types = parquet.read_table(job.run / "features").schema
        assert pa.types.is_list(types.field("features").type) or pa.types.is_fixed_size_list(
            types.field("features").type
        )
        assert types.field("features").type.value_type == pa.float32()

    def test_duckdb(self, job: Job) -> None:
        database = duckdb.connect()
        rows = database.execute(
            f"select label, count(*), avg(len(features)), sum(features[1]) "
            f"from '{job.run}/features/*.parquet' group by label"
        ).fetchall()
        assert {label: count for label, count, *_ in rows} == GOOD | {None: 1}
        assert {length for _, _, length, _ in rows} == {1280.0}
        sizes = database.execute(
            f"select distinct len(vector) from '{job.run}/vectors/*.parquet'"
        ).fetchall()
        assert sizes == [(job.receipt["model"]["k"],)]

    @pytest.mark.spark
    def test_spark(self, job: Job, spark: SparkSession) -> None:
        frame = spark.read.parquet(str(job.run / "features"))
        counts = frame.selectExpr("count(*)", "sum(size(features))").collect()
        assert dict(frame.dtypes)["features"] == "array<float>"
        featurized = job.receipt["counts"]["computed"]
        assert [tuple(row) for row in counts] == [(featurized, featurized * 1280)]

    def test_footers_carry_the_extractors_id_and_the_models(self, job: Job) -> None:
        for name in ("features", "rejects", "vectors"):
            for part in (job.run / name).glob("*.parquet"):
                found = parquet.read_schema(part).metadata
                assert found[b"orchard.extractor"].decode() == load_card().extractor
                if name == "vectors":
                    assert found[b"orchard.model"].decode() == job.receipt["model"]["model"]
        assert set(job.table("vectors")["model"].to_pylist()) == {job.receipt["model"]["model"]}

    def test_csv(self, job: Job) -> None:
        vectors = {
            row["path"]: (row["label"], row["vector"]) for row in job.table("vectors").to_pylist()
        }
        with (job.run / "vectors.csv").open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        k = job.receipt["model"]["k"]
        assert header == ["path", "label", *(f"v{number}" for number in range(1, k + 1))]
        assert len(rows) == len(vectors)
        for path, label, *values in rows:
            expected_label, expected = vectors[path]
            assert label == (expected_label or "")
            assert [np.float32(value) for value in values] == [np.float32(v) for v in expected]


@pytest.fixture(
    scope="module",
    params=[
        (),
        pytest.param((*SPARK, "local[2]"), marks=pytest.mark.spark),
        pytest.param((*SPARK, "local-cluster[2,1,1024]"), marks=pytest.mark.spark),
    ],
    ids=["one process", "local[2]", "local-cluster[2,1,1024]"],
)
def other(
    request: pytest.FixtureRequest,
    photographs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Job:
    options = ["--max-reject-rate", "0.2", *request.param]
    output = tmp_path_factory.mktemp("other")
    if request.param:
        return run_job(photographs, output, *options)
    # The C locale must not matter to Japanese names either.
    core = min(os.sched_getaffinity(0))
    return run_job(
        photographs,
        output,
        *options,
        environment={"LC_ALL": "C"},
        before=lambda: os.sched_setaffinity(0, {core}),
    )


@pytest.mark.spark
def test_the_code_may_lie_in_a_folder_of_any_name(few: Path, tmp_path: Path) -> None:
    checkout = tmp_path / 'it\'s my "code"'
    shutil.copytree(REPOSITORY / "spark_job", checkout / "spark_job")
    for options in ((), (*SPARK, "local[1]")):
        ended = run_job(few, tmp_path / "out", *options, folder=checkout)
        assert ended.exit_code == 0, ended.err
        assert "WARN" not in ended.err, "the log4j2 configuration is found"


class TestPartitioning:
    """The same tables from each engine, from one slot and from two, and from two executors."""

    def test_features_are_bit_for_bit_the_same(self, job: Job, other: Job) -> None:
        assert other.table("features").equals(job.table("features"))
        # The unreadable file of the batch is a part of the process that looks at it, never older.
        ours, theirs = (run.table("rejects").drop_columns("version") for run in (job, other))
        assert theirs.equals(ours)

    def test_the_model_has_the_same_id_and_the_same_numbers(self, job: Job, other: Job) -> None:
        assert other.receipt["model"]["model"] == job.receipt["model"]["model"]
        ours, theirs = stored_model(job), stored_model(other)
        for name in ("mean", "scale", "components", "eigenvalues"):
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-9, err_msg=name
            )
        vectors = [matrix(run.table("vectors"), "vector") for run in (job, other)]
        assert np.abs(vectors[0] - vectors[1]).max() < 1e-5

    def test_the_findings_are_the_same(self, job: Job, other: Job) -> None:
        for kind in KINDS:
            ours, theirs = (
                parquet.read_table(run.run / "findings" / kind).to_pylist() for run in (job, other)
            )
            for one in (*ours, *theirs):
                one.update({name: round(v, 4) for name, v in one.items() if isinstance(v, float)})
                one.pop("distances", None)
            assert theirs == ours, kind
        cards = [run.receipt["findings"] | {"seconds": 0.0} for run in (job, other)]
        assert cards[0].pop("parameters") == cards[1].pop("parameters")
        assert cards[0] == pytest.approx(cards[1], abs=1e-4)


@pytest.mark.parametrize("slow", ["store", "network"])
def test_parts_are_small_where_an_image_takes_long(
    slow: str, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of megabytes that a manifest names, without its size, or a large network's."""
    names = sorted(str(path.relative_to(few)) for path in few.rglob("*.jpg"))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path\n" + "".join(f"{name}\n" for name in names))
    if slow == "store":
        mean = sum((few / name).stat().st_size for name in names) / len(names)
        monkeypatch.setattr(listing, "BYTES_PER_SECOND", mean / 4)
    else:
        monkeypatch.setattr(pipeline, "RatePass", lambda _: lambda *_: 4.0)
    monkeypatch.setattr(pipeline, "start_engine", lambda *_, **__: InlineEngine())
    settings = JobSettings(str(few), str(tmp_path / "out"), "b", "r", manifest=str(manifest))
    pipeline.run(settings)
    parts = parquet.read_table(tmp_path / "out/results/b/runs/r/parts.parquet")
    assert len(names) == 12
    assert max(parts["listed"].to_pylist()) == 2


@pytest.fixture(scope="module")
def second(job: Job, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Another batch on top of what `job` left, whose own folder stays as it is."""
    output = tmp_path_factory.mktemp("two") / "batches"
    shutil.copytree(job.output, output)
    return run_job(few, output, batch="second")


@pytest.fixture(scope="module")
def refitted(second: Job, few: Path) -> Job:
    options = ["--run", "again", "--components", "30", "--no-standardize", "--pca", "fit"]
    return run_job(few, second.output, *options, batch="second")


class TestMoreThanOneBatch:
    def test_a_second_batch_gets_vectors_in_the_first_ones_space(
        self, job: Job, second: Job
    ) -> None:
        assert second.receipt["model"]["model"] == job.receipt["model"]["model"]
        assert second.receipt["model"]["reused"] is True
        expected = stored_model(job).project(matrix(second.table("features"), "features"))
        assert np.array_equal(matrix(second.table("vectors"), "vector"), expected)

    def test_its_own_moments_are_kept_for_a_later_update(self, second: Job) -> None:
        assert Moments.from_bytes((second.run / "moments.npz").read_bytes()).n == 12

    def test_what_the_model_keeps_of_the_batch_is_told_beside_what_it_kept_of_its_own(
        self, job: Job, second: Job
    ) -> None:
        told = second.receipt["model"]
        assert told["variance_kept"] == job.receipt["model"]["variance_kept"]
        here = Moments.of(matrix(second.table("features"), "features"))
        expected = stored_model(job).variance_kept_of(here)
        assert told["variance_kept_here"] == pytest.approx(expected, abs=1e-9)
        assert abs(told["variance_kept_here"] - told["variance_kept"]) > 0.01
        assert f"{told['variance_kept_here']:.2%} of this batch's variance" in second.out

    def test_the_drift_card_is_in_the_receipt_the_summary_and_the_log(
        self, job: Job, second: Job
    ) -> None:
        assert job.receipt["drift"] is None, "its model was fitted on itself"
        assert "drift" not in job.out
        card = second.receipt["drift"]
        assert (card["n"], card["small"]) == (12, True)
        assert sorted(one["label"] for one in card["labels"]) == ["Kiwi", "Plum"]
        assert sum(one["n"] for one in card["labels"]) == 12
        kept = second.receipt["model"]["variance_kept_here"]
        assert card["variance_kept_here"] == pytest.approx(kept, rel=1e-5)
        assert f"drift       {card['advice']}: {card['because']}" in second.out
        assert "(a small batch: 12 images)" in second.out
        assert "standard deviations away" in second.out
        assert ("drift: " in second.err) == (card["advice"] != "reuse is fine")

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--components", "3"], "--components 3 asks for another"),
            (["--variance", "0.9"], "--variance 0.9 asks for another"),
            (["--no-standardize"], "--standardize false asks for another"),
        ],
    )
    def test_a_rule_that_the_reused_model_was_not_fitted_by_is_refused(
        self, options: list[str], sentence: str, second: Job, few: Path
    ) -> None:
        run = f"refused-{options[0].strip('-')}"
        before = files_below(second.output)
        refused = run_job(few, second.output, *options, "--run", run, batch="second")
        assert refused.exit_code == 2
        assert sentence in refused.err
        assert "use --pca fit" in refused.err
        left = files_below(second.output) - before
        assert left == {f"work/second/{run}/claim.json", f"work/second/{run}/failure.json"}

    def test_a_rerun_becomes_current_and_leaves_the_former_alone(
        self, second: Job, refitted: Job, few: Path
    ) -> None:
        runs = sorted(path.name for path in refitted.run.parent.iterdir())
        assert len(runs) == 2
        assert refitted.current["run"] == "again"
        former = next(run for run in runs if run != "again")
        assert read_json(refitted.run.parent / former / "run.json")["run"] == former
        assert refitted.receipt["images"] == str(few)
        assert second.batch == refitted.batch

    def test_more_components_than_the_images_have_are_not_made_up(self, refitted: Job) -> None:
        assert refitted.receipt["model"]["k"] == 11
        assert "30 components were asked for" in refitted.err

    def test_a_fit_makes_another_model_and_keeps_the_first(self, job: Job, refitted: Job) -> None:
        model = refitted.receipt["model"]["model"]
        assert model != job.receipt["model"]["model"]
        pointer = read_json(refitted.model.parent / "current.json")
        assert (pointer["model"], pointer["generation"]) == (model, 2)
        assert (refitted.model.parent / job.receipt["model"]["model"] / "model.npz").is_file()
        assert (stored_model(refitted).scale == 1).all()


def stored_model(job: Job) -> PCAModel:
    return PCAModel.from_bytes((job.model / "model.npz").read_bytes())


def test_from_s3_to_s3(bucket: str, photographs: Path, job: Job, tmp_path: Path) -> None:
    """The same batch, names and all, read from S3 and written there."""
    images = open_folder(f"s3://{bucket}/images/2026-11-20")
    expected = set()
    for name in sorted(files_below(photographs)):
        if "unreadable" in name or "megapixels" in name:
            continue
        images.write(name, (photographs / name).read_bytes())
        expected.add(name)
    open_folder(f"s3://{bucket}").write("images/2026-11-20-b/Lemon/other.jpg", b"another batch")
    ended = run_job(
        f"s3://{bucket}/images/2026-11-20/",
        f"s3://{bucket}",
        "--run",
        "r",
        "--max-reject-rate",
        "0.2",
        "--csv",
    )
    assert ended.exit_code == 0, ended.err
    output = open_folder(f"s3://{bucket}")
    receipt = json.loads(output.read("results/batch/runs/r/run.json"))
    assert json.loads(output.read("results/batch/current.json"))["run"] == "r"
    assert receipt["counts"]["listed"] == len(expected) - 1, "README.txt is no image"
    assert receipt["counts"]["rejects"] == {"empty": 1, "truncated": 1, "not-an-image": 1}
    # The photographs that were featurized are the same, so are their features and the model.
    assert receipt["model"]["model"] == job.receipt["model"]["model"]
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    listed = client.list_objects_v2(Bucket=bucket, Prefix="images/2026-11-20/")["Contents"]
    tags = {one["Key"].removeprefix("images/2026-11-20/"): one["ETag"] for one in listed}
    features = output / "results/batch/runs/r/features"
    found = pa.concat_tables(
        tables.read_table(features, name) for name in features.files()
    ).sort_by("path")
    for row in found.select(["path", "version"]).to_pylist():
        assert row["version"] == tags[row["path"]]
    assert not list((output / "work").entries()), "what was at work is settled and gone"
    for column in ("path", "label", "sha256", "features"):
        assert found[column].equals(job.table("features")[column]), column
    assert output.read("results/batch/runs/r/vectors.csv").startswith(b'"path","label","v1"')
    assert files_below(tmp_path) == set()
