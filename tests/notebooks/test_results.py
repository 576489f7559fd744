"""The notebook runs on what the job really writes, and says what the receipt says."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import nbformat
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image
from pyarrow import parquet

from demo.synthetic import make_batch
from spark_job.objects import open_folder
from spark_job.receipts import RunReceipt
from spark_job.report.verdict import judge_batch
from spark_job.summary import summarize
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = REPOSITORY / "notebooks" / "results.ipynb"
PER_LABEL = 3


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job's own output for a few drawn fruits and some files that are no images."""
    folder = tmp_path_factory.mktemp("batch")
    make_batch(folder / "images", per_label=PER_LABEL)
    job = [sys.executable, "-m", "spark_job", "--batch", "drawn"]
    job += ["--images", str(folder / "images"), "--output", str(folder / "out")]
    subprocess.run(
        [*job, "--max-reject-rate", "1"], cwd=REPOSITORY, check=True, capture_output=True
    )
    return folder / "out"


@pytest.fixture(scope="module")
def bucket(results: Path) -> Iterator[str]:
    """The same results in S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_REGION", "eu-west-1")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="fruits")
        for path in filter(Path.is_file, results.rglob("*")):
            s3.upload_file(str(path), "fruits", path.relative_to(results).as_posix())
        yield "s3://fruits"
    server.stop()


def test_it_shows_the_receipt_the_findings_the_variance_and_the_map(results: Path) -> None:
    notebook = _execute(root=str(results), batch="drawn")
    (current,) = results.glob("results/drawn/runs/*/run.json")
    receipt = RunReceipt.from_json(current.read_bytes(), str(current.parent))
    said = "".join(output.get("text", "") for output in _outputs(notebook))
    assert summarize(receipt) in said
    verdict = judge_batch(receipt)
    assert verdict.remarks
    for told in (verdict.sentence, *(f"- {remark.text}" for remark in verdict.remarks)):
        assert f"{told}\n" in said
    shown = "".join(str(output.data.get("text/plain", "")) for output in _displayed(notebook))
    for kind in ("outliers", "labels"):
        rows = parquet.read_table(current.parent / "findings" / kind).to_pylist()
        assert f"{kind}: the first of {len(rows)}\n" in said
        first = rows[0]["path" if kind == "outliers" else "label"]
        assert first in shown
    figures = _figures(notebook)
    assert len(figures) == 2
    for figure in figures:
        assert len(np.unique(figure.reshape(-1, 3), axis=0)) > 50, "something is drawn"


def test_it_shows_a_run_without_findings_too(tmp_path: Path) -> None:
    publish_batch(open_folder(str(tmp_path)), "plain", 60)
    notebook = _execute(root=str(tmp_path), batch="plain")
    said = "".join(output.get("text", "") for output in _outputs(notebook))
    assert "were not looked for" in said
    assert "the first of" not in said
    assert len(_figures(notebook)) == 2


def test_it_takes_the_code_that_it_lies_beside_or_says_what_is_missing(
    results: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.modules['spark_job'] = None  # as where it is not installed\n"
    )
    with pytest.raises(CellExecutionError, match=r"open this notebook where it lies in the rep"):
        _execute(root=str(results), batch="drawn", folder=tmp_path, PYTHONPATH=str(tmp_path))
    notebook = _execute(
        root=str(results), batch="drawn", last="import spark_job; print(spark_job.__file__)"
    )
    [*_, told] = _outputs(notebook)
    assert told.text.strip() == str(REPOSITORY / "spark_job" / "__init__.py")


def test_it_reads_from_s3_what_it_reads_from_a_folder(results: Path, bucket: str) -> None:
    local = _figures(_execute(root=str(results), batch="drawn"))
    remote = _figures(_execute(root=bucket, batch="drawn"))
    assert all(np.array_equal(one, other) for one, other in zip(local, remote, strict=True))


def test_a_batch_without_results_is_named(results: Path) -> None:
    with pytest.raises(CellExecutionError, match="has no published results of the batch 'typo'"):
        _execute(root=str(results), batch="typo")


def test_the_notebook_is_committed_without_its_outputs() -> None:
    notebook = _read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def _read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def _execute(
    *,
    root: str,
    batch: str,
    folder: Path = NOTEBOOK.parent,
    last: str | None = None,
    **environment: str,
) -> Any:
    """Run the notebook as one does that is open in a folder, and one more cell at its end."""
    notebook = _read()
    if last is not None:
        notebook.cells.append(nbformat.v4.new_code_cell(last))  # type: ignore[no-untyped-call]
    asked = {"ORCHARD_ROOT": root, "ORCHARD_BATCH": batch, **environment}
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, **asked})
    return notebook


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def _displayed(notebook: Any) -> list[Any]:
    return [output for output in _outputs(notebook) if "data" in output]


def _figures(notebook: Any) -> list[Any]:
    """Decode the figures, each as pixels [height, width, 3]."""
    drawn = [output.data for output in _displayed(notebook)]
    images = [base64.b64decode(data["image/png"]) for data in drawn if "image/png" in data]
    return [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images]
