"""A run's receipt in a few lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_job.accounting import in_words as counts_in_words
from spark_job.accounting import with_dots
from spark_job.drift import in_words
from spark_job.findings.card import in_words as findings_in_words

if TYPE_CHECKING:
    from spark_job.drift import DriftCard
    from spark_job.receipts import RunReceipt


def summarize(receipt: RunReceipt, report: str | None = None) -> str:
    """Render what `facts` gives, and where the report lies, if there is one."""
    lines = facts(receipt) + ([("report", report)] if report is not None else [])
    width = max(len(name) for name, _ in lines)
    return "\n".join(
        [f"Batch {receipt.batch}, run {receipt.run}"]
        + [f"  {name:<{width}}  {text}" for name, text in lines]
    )


def facts(receipt: RunReceipt) -> list[tuple[str, str]]:
    """Tell counts, rejects by reason, components, speed, time per stage, where results are."""
    counts, model, seconds = receipt.counts, receipt.model, receipt.seconds
    known = f" ({counts.carried_over:,} known from before)" if counts.carried_over else ""
    lines = [("images", f"{counts.listed:,} listed, {counts.featurized:,} featurized{known}")]
    if counts.dropped or counts.relabelled:
        corrected = f"{counts.dropped:,} dropped, {counts.relabelled:,} relabelled"
        lines += [("corrected", corrected)]
    lines += [("rejected", f"{counts.rejected:,}{_by_name(counts.rejects)}")]
    if counts.unsupported:
        formats = _by_name(with_dots(counts.formats))
        told, remedy = "pictures in formats that are not taken", "convert them to JPEG"
        if counts.unsupported == 1:
            told, remedy = "picture in a format that is not taken", "convert it to JPEG"
        lines += [("unsupported", f"{counts.unsupported:,} {told}{formats}: {remedy}")]
    if counts.ignored:
        ignored = with_dots(counts.ignored)
        lines += [("ignored", f"{sum(ignored.values()):,} other files{_by_name(ignored)}")]
    kept = f"{model.variance_kept:.2%} of the variance"
    if model.reused:
        here = model.variance_kept_here
        ours = "an unknown share" if here is None else f"{here:.2%}"  # of one image, for example
        kept = (
            f"{ours} of this batch's variance, and "
            f"{model.variance_kept:.2%} of that of the model's own images"
        )
    drift = receipt.drift
    workers = {"processes": "processes", "spark": "Spark tasks"}[receipt.engine.name]
    lines += [
        ("components", f"{model.k}, which keep {kept}"),
        ("model", f"{model.model} ({origin(receipt)})"),
        *(_drift(drift) if drift is not None else []),
        *([("findings", findings_in_words(receipt.findings))] if receipt.findings else []),
        (
            "speed",
            f"{receipt.images_per_second:,} images/s over {seconds['total']:.1f} s, "
            f"{receipt.engine.slots} {workers} at a time",
        ),
        ("stages", ", ".join(f"{k} {v:.1f} s" for k, v in seconds.items() if k != "total")),
    ]
    if receipt.dollars is not None:
        cost = receipt.dollars
        lines += [
            (
                "dollars",
                f"about {cost.estimate:.2f}, an estimate: {cost.nodes} nodes and a primary one for "
                f"{cost.hours:.2f} h at {cost.per_hour:.2f} an hour",
            )
        ]
    return [*lines, ("results", receipt.results)]


def origin(receipt: RunReceipt) -> str:
    """Say where the run's model is from."""
    model = receipt.model
    if model.reused:
        return "reused"
    others = model.n - receipt.counts.featurized
    return "fitted on this batch" + (f" and {others:,} images of others" if others > 0 else "")


def _drift(card: DriftCard) -> list[tuple[str, str]]:
    """Advice and reason; the shift, and the labels that stand out most."""
    expected = "" if card.shift_expected is None else f" ({card.shift_expected:.2f} is expected)"
    shift = f"the mean is {card.shift:.2f} standard deviations away{expected}"
    worst = ", ".join(f"{one.label or 'no label'} {one.loss:.0%}" for one in card.standing_out[:3])
    return [
        ("drift", in_words(card)),
        ("", f"{shift}; loses most of {worst}" if worst else shift),
    ]


def _by_name(counts: dict[str, int]) -> str:
    return f" ({counts_in_words(counts)})" if counts else ""
