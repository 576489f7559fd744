"""A run's receipt in a few lines for a person."""

from __future__ import annotations

from typing import Any

from spark_job.accounting import in_words


def summarize(receipt: dict[str, Any]) -> str:
    """Render counts, rejects by reason, components, speed, time per stage, where results are."""
    counts, model, seconds = receipt["counts"], receipt["model"], receipt["seconds"]
    lines = [("images", f"{counts['listed']:,} listed, {counts['featurized']:,} featurized")]
    lines += [("rejected", f"{counts['rejected']:,}{_by_name(counts['rejects'])}")]
    if counts["ignored"]:
        ignored = {name and f".{name}": count for name, count in counts["ignored"].items()}
        lines += [("ignored", f"{sum(ignored.values()):,} other files{_by_name(ignored)}")]
    origin = "reused" if model["reused"] else "fitted on this batch"
    lines += [
        ("components", f"{model['k']}, which keep {model['variance_kept']:.2%} of the variance"),
        ("model", f"{model['model']} ({origin})"),
        ("speed", f"{receipt['images_per_second']:,} images/s over {seconds['total']:.1f} s"),
        ("stages", ", ".join(f"{k} {v:.1f} s" for k, v in seconds.items() if k != "total")),
        ("results", receipt["results"]),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(
        [f"Batch {receipt['batch']}, run {receipt['run']}"]
        + [f"  {name:<{width}}  {text}" for name, text in lines]
    )


def _by_name(counts: dict[str, int]) -> str:
    return f" ({in_words(counts)})" if counts else ""
