"""``orchard batches``, ``show`` and ``rejects``: what there is, how a run went, what fell out."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self

import pyarrow.compute as pc
import typer

from orchard import console
from orchard.collection import (
    batch_names,
    current_models,
    find_receipt,
    is_published,
    why_unpublished,
)
from orchard.options import Batch, Json, Output, Stack, open_root
from orchard.published import Tables, find_run
from spark_job import contract, lineage
from spark_job.accounting import in_words
from spark_job.drift import DriftCard
from spark_job.formats import UNSUPPORTED
from spark_job.pointers import ModelPointer
from spark_job.receipts import RunReceipt
from spark_job.summary import facts

BATCHES_EXAMPLE = "Example: orchard batches --output out/fruits"
SHOW_EXAMPLE = "Example: orchard show monday --output out/fruits"
REJECTS_EXAMPLE = "Example: orchard rejects monday --reason empty --output out/fruits"

MOST_LABELS = 10
"""Labels that `show` tells of."""

FILES = (
    contract.VARIANCE_FILE,
    contract.MOMENTS_FILE,
    contract.PARTS_FILE,
    contract.VECTORS_FILE,
    contract.CORRECTIONS_FILE,
    contract.REPORT,
    contract.RUN,
)
"""Files of a run that `show` says where to find, where it has them."""

Run = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="Another run than the published one."),
]


def batches(output: Output = None, stack: Stack = None, json: Json = False) -> None:
    """List the batches and their published runs."""
    root = open_root(output, stack)
    current = current_models(root)
    published = lineage.published_receipts(root)
    rows = [_Listed.of(receipt, current) for receipt in published.values()]
    if json:
        console.write_json([asdict(row) for row in rows])
    else:
        columns = ("batch", "run", "finished", "images", "rejected", "model", "current", "dollars")
        numbers = ("images", "rejected", "dollars")
        console.write_table(columns, [row.cells for row in rows], numbers=numbers)
    for batch in batch_names(root):
        if batch not in published:
            console.say(f"Batch {batch} has no published run: {why_unpublished(root, batch)}")


def show(
    batch: Batch, output: Output = None, stack: Stack = None, run: Run = None, json: Json = False
) -> None:
    """Show how a batch's run went, how well the model knows it, and where things lie."""
    root = open_root(output, stack)
    receipt = find_receipt(root, batch, run)
    tables = Tables([find_run(root, batch, receipt.run)])
    labels = _labels(tables)
    places = _places(tables)
    published = is_published(root, receipt)
    if json:
        beside = {"published": published, "labels": labels, "places": places}
        console.write_json(asdict(receipt) | beside)
        return
    told = [
        ("run", receipt.run),
        ("published", "yes" if published else "no"),
        ("finished", _moment(receipt.finished)),
        ("labels", f"{len(labels):,}{_most(labels)}"),
        *facts(receipt),
    ]
    console.write_table(("batch", batch), told)
    if receipt.drift is not None:
        console.write("")
        _write_drift(receipt.drift)
    console.write("")
    console.write_table(("what", "where"), list(places.items()))


def rejects(
    batch: Batch,
    output: Output = None,
    stack: Stack = None,
    run: Run = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REASON", help="Only these; say it once for each.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the images that could not be used, and why."""
    root = open_root(output, stack)
    receipt = find_receipt(root, batch, run)
    tables = Tables([find_run(root, batch, receipt.run)])
    wanted = pc.field("reason").isin(reason) if reason else None
    found = tables.rows(contract.REJECTS, wanted)
    if json:
        console.write_records(found)
    else:
        columns = ("path", "stage", "reason", "detail")
        console.write_table(columns, ([str(row[name]) for name in columns] for row in found))
    known = receipt.counts.rejects
    if not known and not receipt.counts.unsupported and not reason:
        console.say(f"Nothing of batch {batch} was rejected")
    for one in reason or ():
        if one not in known and not (one == UNSUPPORTED and receipt.counts.unsupported):
            have = f"; it has {in_words(known)}" if known else ", nor for any other"
            console.say(f"Batch {batch} has no images that were rejected as {one}{have}")


@dataclass(frozen=True)
class _Listed:
    """A line of the list."""

    batch: str
    run: str
    finished: str
    listed: int
    images: int
    rejected: int
    unsupported: int
    network: str
    extractor: str
    model: str
    current: bool
    advice: str | None
    dollars: float | None
    results: str

    @classmethod
    def of(cls, receipt: RunReceipt, current: dict[str, ModelPointer | None]) -> Self:
        """Make the line of a run."""
        pointer = current.get(receipt.extractor)
        return cls(
            batch=receipt.batch,
            run=receipt.run,
            finished=receipt.finished,
            listed=receipt.counts.listed,
            images=receipt.counts.featurized,
            rejected=receipt.counts.rejected,
            unsupported=receipt.counts.unsupported,
            network=receipt.network,
            extractor=receipt.extractor,
            model=receipt.model.model,
            current=pointer is not None and pointer.model == receipt.model.model,
            advice=None if receipt.drift is None else receipt.drift.advice,
            dollars=None if receipt.dollars is None else receipt.dollars.estimate,
            results=receipt.results,
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's cells."""
        return (
            self.batch,
            self.run,
            _moment(self.finished),
            f"{self.images:,}",
            f"{self.rejected:,}",
            self.model,
            "yes" if self.current else "no",
            "" if self.dollars is None else f"{self.dollars:.2f}",
        )


def _moment(text: str) -> str:
    """Leave the fractions of a second out of a time in UTC."""
    return f"{text[:19]}Z"


def _labels(tables: Tables) -> dict[str, int]:
    """Count the vectors of each label, the most first."""
    counts: Counter[str] = Counter()
    for row in pc.value_counts(tables.open(contract.VECTORS).to_table(["label"])["label"]):
        counts[row["values"].as_py() or ""] += row["counts"].as_py()
    return dict(counts.most_common())


def _most(labels: dict[str, int]) -> str:
    shown = [f"{count:,} {label or 'without label'}" for label, count in labels.items()][
        :MOST_LABELS
    ]
    more = ", ..." if len(labels) > MOST_LABELS else ""
    return f" ({', '.join(shown)}{more})" if shown else ""


def _places(tables: Tables) -> dict[str, str]:
    """Say where the tables and files of a run lie."""
    [one] = tables.runs
    places = {
        name: f"{one.folder.uri}/{one.files[name][0].name.rpartition('/')[0]}"
        for name in tables.names
        if name != contract.RUNS
    }
    there = one.folder.files()
    places |= {name: f"{one.folder.uri}/{name}" for name in FILES if name in there}
    return places


def _write_drift(card: DriftCard) -> None:
    """Write how well the model knows the batch, and the labels that it knows least."""
    columns = ("label", "images", "loss", "error", "far", "shift", "advice")
    rows = [
        ("(all)", card.n, card.loss, card.error, card.far, card.shift, card.advice),
        *(
            (one.label, one.n, one.loss, one.error, one.far, one.shift, one.advice)
            for one in card.labels[:MOST_LABELS]
        ),
    ]
    console.write_table(columns, [_drift_cells(*row) for row in rows], numbers=columns[1:-1])


def _drift_cells(
    label: str, n: int, loss: float, error: float, far: float | None, shift: float, advice: Any
) -> tuple[str, ...]:
    return (
        label or "no label",
        f"{n:,}",
        f"{loss:.0%}",
        f"{error:.2f}",
        "" if far is None else f"{far:.0%}",
        f"{shift:.2f}",
        advice or "",
    )
