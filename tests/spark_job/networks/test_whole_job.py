"""The whole job with another network, and with a network that is not what its card says."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.spark_job.jobs import REPOSITORY, Job, read_json, run_job
from tests.spark_job.networks.conftest import SECOND

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.job


@pytest.fixture(scope="module")
def both(
    checkout_with_second_network: Path, few: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, Job]:
    """A batch by the first network, and a batch by the second, in one output."""
    output = tmp_path_factory.mktemp("both")
    folder = checkout_with_second_network
    first = run_job(few, output, batch="first", folder=folder)
    second = run_job(few, output, "--network", SECOND, batch="second", folder=folder)
    assert (first.exit_code, second.exit_code) == (0, 0), first.err + second.err
    return first, second


@pytest.mark.keras
class TestASecondNetwork:
    def test_it_featurizes_the_same_images_otherwise(self, both: tuple[Job, Job]) -> None:
        first, second = both
        assert second.receipt["network"] == SECOND
        assert second.receipt["counts"]["computed"] == first.receipt["counts"]["computed"]
        assert second.table("features")["path"] == first.table("features")["path"]
        assert second.table("features")["features"] != first.table("features")["features"]
        assert second.receipt["digests"]["images"] == first.receipt["digests"]["images"]

    def test_it_fits_a_model_of_its_own_and_says_so(self, both: tuple[Job, Job]) -> None:
        first, second = both
        assert second.receipt["extractor"] != first.receipt["extractor"]
        assert second.receipt["model"]["reused"] is False
        assert second.receipt["model"]["model"] != first.receipt["model"]["model"]
        assert "are of other networks" in second.err
        assert first.receipt["extractor"] in second.err

    def test_a_model_of_the_other_network_is_refused(
        self, both: tuple[Job, Job], checkout_with_second_network: Path, few: Path, tmp_path: Path
    ) -> None:
        """Even where somebody put it in the place of one of this network's."""
        first, second = both
        output = tmp_path / "out"
        shutil.copytree(first.output, output)
        ours = output / "models" / second.receipt["extractor"]
        theirs = first.receipt["model"]["model"]
        shutil.copytree(first.model, ours / theirs)
        pointer = read_json(ours / "current.json")
        (ours / "current.json").write_text(json.dumps(pointer | {"model": theirs}))
        refused = run_job(
            few, output, "--network", SECOND, batch="third", folder=checkout_with_second_network
        )
        assert refused.exit_code == 2
        assert f"the model {theirs} takes 1280 features of {first.receipt['extractor']}" in (
            refused.err
        )
        assert "use --pca fit" in refused.err
        assert not (output / "results" / "third").exists()


@pytest.mark.parametrize(
    "options",
    [
        (),
        pytest.param(("--engine", "spark", "--master", "local[1]"), marks=pytest.mark.spark),
    ],
    ids=["processes", "spark"],
)
def test_a_card_that_does_not_fit_its_network_ends_the_run_in_a_sentence(
    options: tuple[str, ...], few: Path, tmp_path: Path
) -> None:
    shutil.copytree(REPOSITORY / "spark_job", tmp_path / "spark_job")
    path = tmp_path / "spark_job" / "networks" / "mobilenet_v2" / "card.json"
    card = json.loads(path.read_text())
    card["output"]["features"] = 640
    path.write_text(json.dumps(card))
    ended = run_job(few, tmp_path / "out", *options, folder=tmp_path)
    assert ended.exit_code == 1
    assert "Traceback" not in ended.err
    assert "does not fit its card" in ended.err.splitlines()[-1]
    assert not (tmp_path / "out" / "results").exists()
