"""``orchard models``: which there are, what they are made from, which one the next run reuses."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import typer

from orchard import console
from orchard.collection import current_models
from orchard.options import Batches, Json, Output, open_root, split_names
from spark_job import contract, lineage, reprojection
from spark_job import models as store
from spark_job.calibration import calibrate_model, find_samples, is_calibrated
from spark_job.claims import now
from spark_job.engines import Engine
from spark_job.errors import UsageError
from spark_job.models import ModelCard
from spark_job.objects import Folder
from spark_job.pca import PCAModel
from spark_job.pointers import ModelPointer, choose_model
from spark_job.receipts import RunReceipt
from spark_job.reprojection import Reprojection
from spark_job.settings import DEFAULT_VARIANCE

SHARES = 10
"""Components whose shares `show` names."""

MOST_NAMED = 8
"""Batches that a sentence names."""

LIST_EXAMPLE = "Example: orchard models list --output out/fruits"
SHOW_EXAMPLE = "Example: orchard models show 3f2a91c0 --output out/fruits"
USE_EXAMPLE = "Example: orchard models use 3f2a91c0 --output out/fruits"
BUILD_EXAMPLE = (
    "Example: orchard models build --batches monday,tuesday --variance 0.9 --use "
    "--output out/fruits"
)
REPROJECT_EXAMPLE = "Example: orchard models reproject --batches monday --output out/fruits"

app = typer.Typer(
    help="What batches are compared by: list, show, build and choose models.",
    no_args_is_help=True,
)

Model = Annotated[
    str, typer.Argument(metavar="ID", help="A model's id, or its first digits.", show_default=False)
]


@app.command("list", epilog=LIST_EXAMPLE)
def list_models(output: Output = None, json: Json = False) -> None:
    """List the stored models, and which batches' vectors are of each."""
    root = open_root(output)
    current = current_models(root)
    published = lineage.published_receipts(root)
    rows = [
        _Listed(
            model=model,
            current=_turn(current.get(extractor), model) is not None,
            extractor=extractor,
            card=store.read_card(root, extractor, model),
            vectors_of=_batches_of(published, extractor, model),
        )
        for extractor, model in store.stored_models(root)
    ]
    if json:
        console.write_json([asdict(row) for row in rows])
        return
    columns = (
        "model",
        "current",
        "k",
        "images",
        "variance",
        "fitted on",
        "vectors of",
        "extractor",
    )
    console.write_table(columns, [row.cells for row in rows], numbers=("k", "images"))
    if not rows:
        console.say(
            f"{root.uri} has no models yet: a batch's first run fits one, and so does `orchard "
            "models build`"
        )


@app.command("show", epilog=SHOW_EXAMPLE)
def show(model: Model, output: Output = None, json: Json = False) -> None:
    """Show what a model was made from, and how much its components explain."""
    root = open_root(output)
    extractor, found = store.find_model(root, model)
    stored = store.require_model(root, extractor, found)
    pointer = current_models(root)[extractor]
    vectors_of = _batches_of(lineage.published_receipts(root), extractor, found)
    if json:
        told = asdict(stored.card) | {
            "current": _turn(pointer, found) is not None,
            "vectors_of": vectors_of,
            "eigenvalues": stored.pca.eigenvalues.tolist(),
        }
        console.write_json(told)
        return
    console.write_table(("model", found), _facts(stored.card, pointer, vectors_of))
    console.write("")
    console.write_table(
        ("batch", "run", "images"),
        [(one["batch"], one["run"], f"{one['n']:,}") for one in stored.card.batches],
        numbers=("images",),
    )
    console.write("")
    console.write_table(
        ("component", "eigenvalue", "share", "cumulative"),
        _spectrum(stored.pca),
        numbers=("component", "eigenvalue", "share", "cumulative"),
    )


@app.command("use", epilog=USE_EXAMPLE)
def use(model: Model, output: Output = None, json: Json = False) -> None:
    """Choose the model that the next runs reuse."""
    root = open_root(output)
    extractor, found = store.find_model(root, model)
    former = _use(root, store.require_model(root, extractor, found).card)
    if json:
        console.write_json({"extractor": extractor, "model": found, "former": former})


@app.command("build", epilog=BUILD_EXAMPLE)
def build(
    batches: Batches,
    output: Output = None,
    variance: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO",
            help="Keep as many components as explain this share of the variance "
            f"(default: {DEFAULT_VARIANCE:.2f}).",
            show_default=False,
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="Keep K components instead.", show_default=False),
    ] = None,
    standardize: Annotated[
        bool,
        typer.Option(
            "--standardize/--no-standardize",
            help="PCA of the standardized features, or of the centred ones.",
        ),
    ] = True,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Refuse batches of any other network.", show_default=False
        ),
    ] = None,
    choose: Annotated[
        bool, typer.Option("--use", help="Choose it for the next runs, as `models use` does.")
    ] = False,
    json: Json = False,
) -> None:
    """Fit one model to the published runs of several batches; its id goes to stdout.

    No image is read: the moments of the batches' features are merged, as if all the images had
    been one batch. What its drift cards compare with comes of samples that the runs settled.
    """
    rule = _rule(variance, components)
    root = open_root(output)
    receipts = lineage.require_published(root, split_names(batches))
    extractor = _one_extractor(receipts, network)
    known = store.stored_models(root)
    merged = lineage.merge_published(root, extractor, list(receipts))
    model = lineage.fit_merged(root, extractor, merged, rule=rule, standardize=standardize)
    if not is_calibrated(model):
        samples = find_samples(root, model.card, merged.batches)
        with reprojection.start_workers() as engine:
            model = calibrate_model(engine, root, model, samples)
    card = model.card
    there = "was stored before" if (extractor, card.model) in known else "is stored"
    console.say(
        f"The model {card.model} {there}: {card.k} components, {card.variance_kept:.2%} of the "
        f"variance of {console.counted(card.n, 'image')} in "
        f"{console.counted(len(card.batches), 'batch', 'batches')}"
    )
    if json:
        console.write_json(asdict(card))
    else:
        console.write(card.model)
    if choose:
        _use(root, card)
    else:
        console.say(f"The next runs reuse it after: orchard models use {card.model}{_at(root)}")


@app.command("reproject", epilog=REPROJECT_EXAMPLE)
def reproject(
    batches: Batches,
    output: Output = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="The model, by its id or its first digits (default: the current one).",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write batches' vectors anew in a model's space, as new published runs.

    No image is read: features, rejects and moments are copied from the runs that are published.
    """
    root = open_root(output)
    planned = reprojection.plan(root, split_names(batches), model)
    todo = [one for one in planned if not one.is_done]
    for one in planned:
        if one.is_done:
            console.say(
                f"The vectors of batch {one.source.batch} are of {one.model.card.model} already"
            )
    receipts = []
    if todo:
        with reprojection.start_workers() as engine:
            receipts = [_reproject(root, one, engine) for one in todo]
    if json:
        console.write_json([asdict(receipt) for receipt in receipts])
    elif receipts:
        columns = ("batch", "run", "model", "variance")
        console.write_table(columns, [_reprojected(receipt) for receipt in receipts])


def _reproject(root: Folder, one: Reprojection, engine: Engine) -> RunReceipt:
    receipt = reprojection.reproject(root, one, engine)
    console.say(
        f"Batch {receipt.batch}: run {receipt.run} has "
        f"{console.counted(receipt.counts.featurized, 'vector')} of {receipt.model.model}, "
        f"instead of {one.source.model.model} in run {one.source.run}"
    )
    return receipt


def _reprojected(receipt: RunReceipt) -> tuple[str, ...]:
    here = receipt.model.variance_kept_here
    kept = "" if here is None else f"{here:.2%}"
    return (receipt.batch, receipt.run, receipt.model.model, kept)


@dataclass(frozen=True)
class _Listed:
    """A line of the list; a model without a card is damaged."""

    model: str
    current: bool
    extractor: str
    card: ModelCard | None
    vectors_of: list[str]

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's cells."""
        card = self.card
        numbers = ("", "", "")
        if card is not None:
            numbers = (str(card.k), f"{card.n:,}", f"{card.variance_kept:.2%}")
        fitted_on = "damaged" if card is None else _some([one["batch"] for one in card.batches])
        current = "yes" if self.current else "no"
        return (self.model, current, *numbers, fitted_on, _some(self.vectors_of), self.extractor)


def _use(root: Folder, card: ModelCard) -> str | None:
    """Choose a model, and give the one that was chosen before."""
    former = choose_model(root / contract.models_folder(card.extractor), card.model, now())
    if former is not None and former.model == card.model:
        console.say(f"{card.model} is the current model of {card.extractor} already")
    else:
        was = "there was none before" if former is None else f"it was {former.model}"
        console.say(f"The current model of {card.extractor} is {card.model}; {was}")
    others = [
        batch
        for batch, receipt in lineage.published_receipts(root).items()
        if receipt.extractor == card.extractor and receipt.model.model != card.model
    ]
    if others:
        console.say(
            f"The vectors of {console.counted(len(others), 'batch', 'batches')} are of other "
            f"models, and do not compare with it: {_some(others)}. To write them anew from the "
            f"stored features: orchard models reproject --batches {','.join(others)}{_at(root)}"
        )
    return None if former is None else former.model


def _at(root: Folder) -> str:
    return f" --output {root.uri}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _rule(variance: float | None, components: int | None) -> dict[str, Any]:
    if variance is not None and components is not None:
        raise UsageError(
            "--variance and --components each say how many components to keep; say one of them"
        )
    if components is not None:
        return {"components": components}
    if variance is not None and not 0 < variance <= 1:
        raise UsageError(f"--variance is a number above 0 and at most 1; not {variance:g}")
    return {"variance": DEFAULT_VARIANCE if variance is None else variance}


def _one_extractor(receipts: dict[str, RunReceipt], network: str | None) -> str:
    """Give the extractor that all runs share; a UsageError where there are several."""
    for batch, receipt in receipts.items():
        if network is not None and receipt.network != network:
            raise UsageError(
                f"the published run of batch {batch!r} is of the network {receipt.network}, not of "
                f"{network}; leave the batch out, or run it with --network {network}"
            )
    batches: dict[str, list[str]] = {}
    for batch, receipt in receipts.items():
        batches.setdefault(receipt.extractor, []).append(batch)
    if len(batches) > 1:
        told = "; ".join(f"{_some(names)} of {one}" for one, names in batches.items())
        raise UsageError(
            f"features of different networks, or of images decoded otherwise, do not mix ({told}); "
            "name batches of one of them"
        )
    return next(iter(batches))


def _turn(pointer: ModelPointer | None, model: str) -> int | None:
    """How many models were current, this one included; None where it is not the current one."""
    return None if pointer is None or pointer.model != model else pointer.generation


def _batches_of(receipts: dict[str, RunReceipt], extractor: str, model: str) -> list[str]:
    return [
        batch
        for batch, receipt in receipts.items()
        if (receipt.extractor, receipt.model.model) == (extractor, model)
    ]


def _facts(
    card: ModelCard, pointer: ModelPointer | None, vectors_of: list[str]
) -> list[tuple[str, str]]:
    turn = _turn(pointer, card.model)
    current = "no" if turn is None else f"yes, as number {turn} of this extractor"
    rule = " ".join(f"--{name} {value:g}" for name, value in card.rule.items())
    return [
        ("extractor", card.extractor),
        ("current", current),
        ("fitted with", f"{rule} --{'' if card.standardize else 'no-'}standardize"),
        ("fitted on", f"{card.n:,} images, {card.features:,} features"),
        ("components", f"{card.k}, which keep {card.variance_kept:.2%} of their variance"),
        ("update of", _some(card.parents) or "none"),
        ("generation", "unknown" if card.generation is None else f"{card.generation}"),
        ("in several batches", "unknown" if card.shared is None else f"{card.shared:,} images"),
        ("vectors of", _some(vectors_of) or "no published batch"),
    ]


def _spectrum(pca: PCAModel) -> list[tuple[str, ...]]:
    """Rows of the first components, and of the last one that is kept."""
    shares = pca.explained_variance_ratio
    cumulative = np.cumsum(shares)
    shown = sorted({*range(min(SHARES, len(shares))), pca.k - 1})
    return [
        (
            str(number + 1),
            f"{pca.eigenvalues[number]:.4g}",
            f"{shares[number]:.2%}",
            f"{cumulative[number]:.2%}",
        )
        for number in shown
    ]
