"""``orchard report``: the page of a batch, made anew from what is stored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spark_job import contract
from spark_job.objects import open_folder
from tests.orchard.command import orchard, refusal, succeed
from tests.spark_job.photographs import encoded, fruit
from tests.spark_job.published import publish_batch

if TYPE_CHECKING:
    from spark_job.objects import Folder

pytestmark = pytest.mark.slow

BATCH = "apples"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a browser was asked to show."""
    found: list[str] = []
    monkeypatch.setattr("webbrowser.open", found.append)
    return found


def publish(output: Folder, *, pictures: int = 0, publish: bool = True) -> str:
    """A run of 12 images, the first of which are there."""
    images = open_folder(f"{output.uri}-images")
    receipt = publish_batch(output, BATCH, publish=publish)
    for number in range(pictures):
        images.write(f"Fruit/{BATCH}-{number // 6}-{number % 6}.jpg", encoded(fruit(number)))
    folder = output / contract.run_folder(BATCH, receipt.run)
    fields = json.loads(folder.read(contract.RUN))
    folder.write(contract.RUN, json.dumps(fields | {"images": images.uri}).encode())
    return receipt.run


def report_of(output: Folder, run: str) -> str:
    return (output / contract.run_folder(BATCH, run)).read(contract.REPORT).decode()


def pictures(page: str) -> int:
    return len(re.findall("<image id=", page))


def test_it_is_made_of_the_published_run_and_says_where_it_is(output: Folder) -> None:
    publish(output)
    run = publish(output, pictures=12)
    result = succeed("report", BATCH, output=output)
    folder = output / contract.run_folder(BATCH, run)
    assert result.stdout == f"{folder.uri}/report.html\n"
    assert result.stderr == ""
    page = report_of(output, run)
    assert f"<h1>{BATCH}</h1>" in page
    assert run in page
    assert pictures(page) == 12


def test_pictures_that_are_gone_are_counted(output: Folder) -> None:
    run = publish(output, pictures=5)
    result = succeed("report", BATCH, output=output)
    assert result.stderr == ("5 pictures are on it; 7 are no longer where the run read them\n")
    assert pictures(report_of(output, run)) == 5


def test_it_is_made_without_pictures_if_so_wanted(output: Folder) -> None:
    run = publish(output, pictures=12)
    result = succeed("report", BATCH, "--no-pictures", output=output)
    assert result.stderr == ""
    assert pictures(report_of(output, run)) == 0
    succeed("report", BATCH, output=output)
    assert pictures(report_of(output, run)) == 12, "and with them again"


def test_of_another_run_and_to_a_file(output: Folder, tmp_path: Path) -> None:
    first = publish(output)
    second = publish(output)
    to = tmp_path / "first.html"
    result = succeed("report", BATCH, "--run", first, "--to", str(to), output=output)
    assert result.stdout == f"{to}\n"
    assert f'data-run="{first}"' in to.read_text("utf-8")
    for run in (first, second):
        folder = output / contract.run_folder(BATCH, run)
        assert contract.REPORT not in folder.files(), "not there too"


def test_a_run_that_is_not_published_has_one_too(local: Folder) -> None:
    run = publish(local, publish=False)
    assert "has no published run" in refusal("report", BATCH, output=local)
    succeed("report", BATCH, "--run", run, output=local)
    assert run in report_of(local, run)


def test_of_a_run_with_findings_it_has_them(local: Folder) -> None:
    run = publish_batch(local, BATCH, findings=True).run
    succeed("report", BATCH, output=local)
    assert '<section id="outliers"' in report_of(local, run)
    plain = publish(local)
    succeed("report", BATCH, output=local)
    assert '<section id="outliers"' not in report_of(local, plain)


def test_programs_are_told_the_same(local: Folder, tmp_path: Path) -> None:
    publish(local, pictures=5)
    to = str(tmp_path / "page.html")
    result = succeed("report", BATCH, "--to", to, "--json", output=local)
    assert json.loads(result.stdout) == {"where": to, "pictures": 5, "missing": 7}


def test_it_is_shown_in_the_browser(output: Folder, tmp_path: Path, opened: list[str]) -> None:
    run = publish(output)
    succeed("report", BATCH, output=output)
    assert opened == []
    succeed("report", BATCH, "--open", output=output)
    succeed("report", BATCH, "--open", "--to", str(tmp_path / "page.html"), output=output)
    first, second = (Path(address.removeprefix("file://")) for address in opened)
    assert first.read_text("utf-8") == report_of(output, run)
    assert second == tmp_path / "page.html"


def test_a_batch_that_does_not_exist_is_told(output: Folder) -> None:
    publish(output)
    told = refusal("report", "pears", output=output)
    assert told == f"{output.uri} has no batch 'pears'; there are {BATCH}"


def test_a_run_that_does_not_exist_or_is_not_finished_is_told(output: Folder) -> None:
    run = publish(output)
    told = refusal("report", BATCH, "--run", "never", output=output)
    assert told == f"batch '{BATCH}' has no complete run 'never'; there are {run}"
    folder = output / contract.run_folder(BATCH, run)
    folder.delete([contract.RUN])
    told = refusal("report", BATCH, "--run", run, output=output)
    assert told.startswith(f"batch '{BATCH}' has no complete run '{run}'")


def test_what_cannot_be_made_is_told_with_a_next_step(local: Folder, tmp_path: Path) -> None:
    run = publish(local)
    (tmp_path / "file").touch()
    to = str(tmp_path / "file" / "page.html")
    told = refusal("report", BATCH, "--to", to, "--no-pictures", output=local, code=1)
    assert told.startswith("the report could not be made: ")
    assert told.endswith("; check --to and --output")
    (local / contract.run_folder(BATCH, run) / contract.VECTORS).clear()
    told = refusal("report", BATCH, output=local, code=1)
    assert "has no files; restore them, or run the batch again" in told


def test_without_a_batch_it_says_what_is_missing() -> None:
    result = orchard("report")
    assert result.exit_code == 2
    assert "BATCH" in result.stderr
