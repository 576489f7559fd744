"""The notebook runs on what the job really writes, and says what the receipt says."""

from __future__ import annotations

import base64
import io
import json
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

from demo.drawing.fruits import FRUITS
from demo.synthetic import make_batch

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


def test_it_shows_the_receipt_the_variance_and_the_map(results: Path) -> None:
    notebook = _execute(root=str(results), batch="drawn")
    (current,) = results.glob("results/drawn/runs/*/run.json")
    receipt: dict[str, Any] = json.loads(current.read_text())
    said = "".join(output.get("text", "") for output in _outputs(notebook))
    counts = receipt["counts"]
    assert counts["rejected"] > 0
    assert f"{counts['listed']} listed, {len(FRUITS) * PER_LABEL} computed\n" in said
    assert f"rejected    {counts['rejected']} " in said
    assert f"labels      {len(FRUITS)}" in said
    assert f"components  {receipt['model']['k']} of 1,280" in said
    assert f"keep {receipt['model']['variance_kept']:.1%} of the variance" in said
    figures = _figures(notebook)
    assert len(figures) == 2
    for figure in figures:
        assert len(np.unique(figure.reshape(-1, 3), axis=0)) > 50, "something is drawn"


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


def _execute(*, root: str, batch: str) -> Any:
    notebook = _read()
    environment = {**os.environ, "ORCHARD_ROOT": root, "ORCHARD_BATCH": batch}
    NotebookClient(notebook, timeout=120).execute(env=environment)
    return notebook


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def _figures(notebook: Any) -> list[Any]:
    """Decode the figures, each as pixels [height, width, 3]."""
    drawn = [output.data for output in _outputs(notebook) if "data" in output]
    images = [base64.b64decode(data["image/png"]) for data in drawn if "image/png" in data]
    return [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images]
