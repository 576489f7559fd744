"""``orchard findings``: what a person should look at in a batch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import typer

from orchard import console
from orchard.collection import find_receipt
from orchard.commands.batches import Run
from orchard.options import Batch, Json, Output, open_root
from orchard.published import FINDINGS_VIEW, Tables, find_run
from spark_job.errors import UsageError
from spark_job.findings.card import FindingsCard
from spark_job.findings.schemas import KINDS

EXAMPLE = "Example: orchard findings monday --kind suspects --output out/fruits"

NUMBER = 20
"""Rows of a table that are shown."""

Row = dict[str, Any]


def findings(
    batch: Batch,
    output: Output = None,
    run: Run = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(KINDS), help="The rows of one table, in order.", show_default=False
        ),
    ] = None,
    number: Annotated[
        int, typer.Option(metavar="N", min=0, help="At most so many rows; 0 for all.")
    ] = NUMBER,
    json: Json = False,
) -> None:
    """Say what a person should look at: how much of each kind, or the rows of one kind.

    Doubtful labels, copies, outliers, where to begin, labels. Nothing is ever deleted.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind is one of {', '.join(KINDS)}; not {kind!r}")
    root = open_root(output)
    receipt = find_receipt(root, batch, run)
    if receipt.findings is None:
        raise UsageError(
            f"run {receipt.run} of batch {batch!r} has no findings; run the batch again, without "
            "--findings none"
        )
    if kind is None:
        if json:
            console.write_json(asdict(receipt.findings))
        else:
            console.write_table(("kind", "found", ""), _overview(receipt.findings))
            console.say(f"The rows of one: orchard findings {batch} --kind suspects")
        return
    rows = Tables([find_run(root, batch, receipt.run)]).rows(f"{FINDINGS_VIEW}{kind}")
    if kind in _ORDER:  # there is a row for each image in the others
        rows = iter(sorted(rows, key=_ORDER[kind]))
    shown = islice(rows, number) if number else rows
    if json:
        console.write_records(shown)
        return
    columns, cells, numbers = _SHOWN[kind]
    console.write_table(columns, cells(shown), numbers=numbers)
    more = sum(1 for _ in rows) if kind in _ORDER else receipt.findings.images - number
    if number and more > 0:
        console.say(f"{more:,} more; --number 0 shows all")


def _overview(card: FindingsCard) -> Iterator[tuple[str, str, str]]:
    yield (
        "suspects",
        f"{card.suspects:,}",
        "images whose label the pictures most like them contradict",
    )
    yield (
        "duplicates",
        f"{card.identical:,}",
        f"images with the same content as another, in {card.identical_groups:,} groups",
    )
    if card.near_groups is None:
        told = "of the images look nearly the same as another, as frames of one turning fruit do"
        yield "duplicates", f"{card.near_share:.0%}", told
    else:
        told = "groups of pictures that are nearly identical"
        yield "duplicates", f"{card.near_groups:,}", told
    yield "outliers", f"{card.outliers:,}", "images that stand out from the rest"
    yield "selection", f"{card.selected:,}", "images in the order in which to look at them"
    yield "labels", f"{card.labels:,}", "labels: spread, nearest, how well they are told apart"
    exact = "exact" if card.recall == 1 else f"{card.recall:.1%} of the true ones"
    yield "neighbours", f"{card.images:,}", f"images with the ten nearest of each ({exact})"


def _of(*names: str) -> Callable[[Iterable[Row]], Iterator[tuple[str, ...]]]:
    """Give cells of columns by their names, as a person reads them."""

    def cells(rows: Iterable[Row]) -> Iterator[tuple[str, ...]]:
        for row in rows:
            yield tuple(_cell(row[name]) for name in names)

    return cells


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in islice(value, 3))
    return str(value)


def _by_rank(row: Row) -> Any:
    return row["rank"]


_ORDER: dict[str, Callable[[Row], Any]] = {
    "duplicates": lambda row: (row["group"], not row["keep"], row["path"]),
    "suspects": _by_rank,
    "outliers": _by_rank,
    "selection": _by_rank,
    "labels": lambda row: (1.0 if row["agreeing"] is None else row["agreeing"], row["label"]),
}

"""How a person reads them; the table of neighbours has a row for each image, and stays as it is."""

_COLUMNS = {
    "neighbours": ("path", "label", "neighbours", "distances"),
    "duplicates": ("group", "kind", "keep", "path", "label", "distance"),
    "suspects": ("path", "label", "suggested", "votes", "votes_own", "cast"),
    "outliers": ("path", "label", "reason", "z", "nearest"),
    "selection": ("rank", "path", "label", "distance"),
    "labels": ("label", "n", "spread", "nearest", "nearest_distance", "agreeing", "confused_with"),
}

_NUMBERS = {"group", "votes", "votes_own", "cast", "z", "rank", "distance", "n", "spread"}
_NUMBERS |= {"nearest_distance", "agreeing"}

_SHOWN = {
    kind: (names, _of(*names), [name for name in names if name in _NUMBERS])
    for kind, names in _COLUMNS.items()
}
"""Of each kind the columns that a person is shown, what makes their cells, and the numbers."""
