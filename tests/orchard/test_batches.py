"""``orchard batches``, ``show`` and ``rejects``: on a disk and in S3, for people and programs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from spark_job import contract, runs
from spark_job.claims import Claim
from spark_job.dollars import Dollars
from spark_job.drift import DriftCard, LabelDrift
from spark_job.receipts import Failure, RunReceipt
from spark_job.summary import origin
from tests.orchard.command import refusal, rows, start, succeed
from tests.spark_job.published import EXTRACTOR, publish_batch

if TYPE_CHECKING:
    from pathlib import Path

    from spark_job.objects import Folder

DRIFT = DriftCard(
    n=12,
    small=True,
    advice="consider update",
    because="it loses more than other pictures of known labels do",
    shift=0.4,
    shift_expected=0.2,
    variance_kept=0.8,
    variance_kept_here=0.7,
    loss=0.55,
    loss_known=0.37,
    loss_unknown=0.66,
    error=1.5,
    error_unknown=2.0,
    far=0.1,
    far_known=0.05,
    errors={},
    errors_known={},
    losses={},
    concentration=0.03,
    labels=[LabelDrift("Fruit", 12, 0.4, None, 0.6, 1.6, 0.2, "consider update")],
)


def rewrite(output: Folder, receipt: RunReceipt, **changes: Any) -> None:
    """Give a settled run another receipt."""
    changed = replace(receipt, **changes)
    (output / contract.run_folder(receipt.batch, receipt.run)).write(
        contract.RUN, changed.to_json()
    )


class TestBatches:
    def test_each_is_listed_with_its_published_run(self, output: Folder) -> None:
        publish_batch(output, "apples", 10)
        apples = publish_batch(output, "apples", 12)
        plums = publish_batch(output, "plums", 2_000, fit=True)
        rewrite(output, plums, dollars=Dollars(0.21, 0.25, 2, 0.82))
        listed = rows(succeed("batches", output=output))
        assert listed == [
            {
                "batch": receipt.batch,
                "run": receipt.run,
                "finished": f"{receipt.finished[:19]}Z",
                "images": images,
                "rejected": "1",
                "model": receipt.model.model,
                "current": current,
                "dollars": dollars,
            }
            for receipt, images, current, dollars in (
                (apples, "12", "no", ""),
                (plums, "2,000", "yes", "0.21"),
            )
        ]
        found = json.loads(succeed("batches", "--json", output=output).stdout)
        assert [(one["batch"], one["images"], one["current"]) for one in found] == [
            ("apples", 12, False),
            ("plums", 2_000, True),
        ]
        assert found[1]["dollars"] == 0.21

    def test_those_without_a_published_run_are_told_and_why(self, output: Folder) -> None:
        publish_batch(output, "apples")
        runs.record_failure(output, "figs", "r", Failure(3, "NoImagesError", "no images in figs"))
        publish_batch(output, "kiwis", run="only", publish=False)
        claim = Claim(output, "pears", "now", EXTRACTOR)
        claim.work.write(contract.PROGRESS, b'{"done": 1200, "images": 5000}')
        try:
            result = succeed("batches", output=output)
        finally:
            claim.release()
        assert [row["batch"] for row in rows(result)] == ["apples"]
        assert result.stderr.splitlines() == [
            "Batch figs has no published run: run r failed: no images in figs",
            "Batch kiwis has no published run: `orchard show kiwis --run only` shows what its last "
            "run left",
            "Batch pears has no published run: run now is at work (1,200 of 5,000 images)",
        ]
        assert "'figs' has no published run: run r failed: no images" in refusal(
            "show", "figs", output=output
        )


class TestShow:
    def test_it_says_what_the_summary_does_and_where_things_lie(self, output: Folder) -> None:
        receipt = publish_batch(output, "apples")
        result = succeed("show", "apples", output=output)
        facts, places = (
            dict(line.split("\t") for line in table.splitlines())
            for table in result.stdout.split("\n\n")
        )
        assert (facts["run"], facts["published"]) == (receipt.run, "yes")
        assert facts["images"] == "13 listed, 12 featurized"
        assert facts["labels"] == "1 (12 Fruit)"
        assert facts["rejected"] == "1 (1 empty)"
        assert facts["results"] == receipt.results
        for name in (contract.FEATURES, contract.VECTORS, contract.REJECTS):
            assert places[name] == f"{receipt.results}/{name}"
        assert places[contract.VARIANCE_FILE] == f"{receipt.results}/{contract.VARIANCE_FILE}"
        assert contract.REPORT not in places
        (output / contract.run_folder("apples", receipt.run)).write(contract.REPORT, b"<p>")
        told = json.loads(succeed("show", "apples", "--json", output=output).stdout)
        assert told["places"][contract.REPORT] == f"{receipt.results}/{contract.REPORT}"
        assert (told["published"], told["labels"]) == (True, {"Fruit": 12})
        assert told["counts"]["rejects"] == {"empty": 1}

    def test_how_well_the_model_knows_it_is_told(self, local: Folder) -> None:
        rewrite(local, publish_batch(local, "apples"), drift=DRIFT)
        facts, drift, _ = succeed("show", "apples", output=local).stdout.split("\n\n")
        assert "drift\tconsider update" in facts
        assert [line.split("\t") for line in drift.splitlines()] == [
            ["label", "images", "loss", "error", "far", "shift", "advice"],
            ["(all)", "12", "55%", "1.50", "10%", "0.40", "consider update"],
            ["Fruit", "12", "60%", "1.60", "20%", "0.40", "consider update"],
        ]

    def test_another_run_can_be_named(self, output: Folder) -> None:
        first = publish_batch(output, "apples", 10)
        publish_batch(output, "apples", 12)
        told = json.loads(
            succeed("show", "apples", "--run", first.run, "--json", output=output).stdout
        )
        assert (told["run"], told["published"], told["labels"]) == (first.run, False, {"Fruit": 10})
        sentence = refusal("show", "apples", "--run", "none", output=output)
        assert sentence.startswith("batch 'apples' has no complete run 'none'; there are ")
        assert first.run in sentence

    def test_a_batch_that_there_is_not_is_told(self, output: Folder) -> None:
        publish_batch(output, "apples")
        sentence = f"{output.uri} has no batch 'pears'; there are apples"
        assert refusal("show", "pears", output=output) == sentence
        assert refusal("rejects", "pears", output=output) == sentence
        assert refusal("show", "pears", "--run", "r", output=output) == sentence


class TestRejects:
    def test_each_image_is_listed_with_its_reason(self, output: Folder) -> None:
        publish_batch(output, "apples")
        assert rows(succeed("rejects", "apples", output=output)) == [
            {"path": "Fruit/bad.jpg", "stage": "decode", "reason": "empty", "detail": "no bytes"}
        ]
        [found] = json.loads(succeed("rejects", "apples", "--json", output=output).stdout)
        assert (found["path"], found["label"], found["bytes"]) == ("Fruit/bad.jpg", "Fruit", 0)

    def test_reasons_can_be_chosen(self, local: Folder) -> None:
        publish_batch(local, "apples")
        chosen = ("--reason", "empty", "--reason", "truncated")
        result = succeed("rejects", "apples", *chosen, output=local)
        assert [row["reason"] for row in rows(result)] == ["empty"]
        assert result.stderr == (
            "Batch apples has no images that were rejected as truncated; it has 1 empty\n"
        )


def test_a_model_of_other_batches_too_is_told_as_such(local: Folder) -> None:
    receipt = publish_batch(local, "apples", fit=True)
    assert origin(receipt) == "fitted on this batch"
    others = replace(receipt, model=replace(receipt.model, n=receipt.counts.featurized + 40))
    assert origin(others) == "fitted on this batch and 40 images of others"
    assert origin(replace(others, model=replace(others.model, reused=True))) == "reused"


@pytest.mark.parametrize(
    "arguments", [["batches", "--output", "s3://b/x"], ["plan", "s3://b/x"], ["run", "s3://b/x"]]
)
def test_without_credentials_s3_is_not_waited_for(arguments: list[str], tmp_path: Path) -> None:
    nobody = {
        **dict.fromkeys(name for name in os.environ if name.startswith("AWS_")),
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = start(*arguments, environment=nobody)
    told = "there are no AWS credentials here; set AWS_PROFILE, or sign in (aws sso login)"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"orchard: error: {told}\n"
