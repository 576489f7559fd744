"""What a run says that it costs: an estimate, where it was told enough."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spark_job.dollars import SHUT_DOWN_SECONDS, estimate
from spark_job.settings import parse_args

ALWAYS = ["--images", "i", "--output", "o", "--batch", "b"]
TOLD = {
    "--billed-since": "2026-11-20T18:00:00.000Z",
    "--nodes": "2",
    "--node-price": "0.274",
    "--primary-price": "0.28",
}
END = datetime(2026, 11, 20, 18, 57, tzinfo=UTC)


def options(told: dict[str, str]) -> list[str]:
    return [*ALWAYS, *(part for pair in told.items() for part in pair)]


def test_it_is_hours_times_nodes_until_the_last_is_gone() -> None:
    found = estimate(parse_args(options(TOLD)), END)
    assert found is not None
    assert SHUT_DOWN_SECONDS == 180
    assert (found.hours, found.nodes, found.per_hour) == (1.0, 2, 0.828)
    assert found.estimate == 0.83


@pytest.mark.parametrize("missing", TOLD)
def test_without_one_of_them_there_is_none(missing: str) -> None:
    assert estimate(parse_args(options({**TOLD, missing: "none"})), END) is None
    assert estimate(parse_args(ALWAYS), END) is None


@pytest.mark.parametrize("time", ["yesterday", "2026-11-20T18:00:00", ""])
def test_a_time_without_a_zone_is_refused(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(options({**TOLD, "--billed-since": time}))
    assert "with its zone" in capsys.readouterr().err
