"""Reports that a person opens in a browser, and the picture of the training curves.

Each is one file that needs no other: it can be mailed, attached to a run or opened years later.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.report import charts, page
from lstm_ray.report.curves import Curves, describe, is_number, read_curves
from lstm_ray.report.picture import history_png

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Example", "evaluation_report", "history_png", "training_report"]

_MOST_EXAMPLES = 12
_MOST_CHARACTERS = 420  # of a text; about five lines

_MEANINGS = {
    "accuracy": "share of all rows that are predicted right",
    "precision": "share of the rows called positive that are",
    "recall": "share of the positive rows that are found",
    "f1": "harmonic mean of precision and recall",
    "specificity": "share of the negative rows that are called negative",
    "auc": "chance that a positive row gets a higher probability than a negative one; 0.5 is guessing",
    "log_loss": "mean surprise at the true label, in nats; 0.693 is always saying 50%",
    "brier": "mean squared distance from probability to label; 0.25 is always saying 50%",
    "calibration_error": "how far probabilities are from the shares that come true, on average",
}


@dataclass(frozen=True)
class Example:
    """A text that the model scored.

    Attributes:
        text: as the reader should see it; reports cut it when it is long.
        label: 0 or 1, what is true.
        probability: of label 1, what the model says.
    """

    text: str
    label: int
    probability: float


def training_report(
    *,
    title: str,
    history: pa.Table,
    metrics: Mapping[str, float | int | None] | None,
    config: Mapping[str, object],
    summary: str,
    worked_examples: Sequence[Example] = (),
) -> str:
    """Returns the report of a training run as one HTML file.

    Args:
        title: heading of the page.
        history: one row an epoch; columns epoch, loss, accuracy, and where they are known validation_loss,
            validation_accuracy, validation_auc, learning_rate, seconds, rows_per_s (float64) and best (bool).
        metrics: of the best epoch's model on the validation rows (`BinaryCounts.metrics`); None without validation.
        config: the resolved settings, nested or flat.
        summary: the model as Keras prints it.
        worked_examples: texts to show with the model's verdict, in this order.
    """
    curves = read_curves(history)
    metrics = metrics or {}
    parts = []
    if curves.epochs:
        loss, accuracy = charts.loss_chart(curves), charts.accuracy_chart(curves)
        panels = page.columns(("Loss by epoch", 420, loss), ("Accuracy by epoch", 420, accuracy))
        parts.append(page.section("Learning curves", panels))
    outcomes = [
        metrics.get(name) for name in ("true_negatives", "false_positives", "false_negatives", "true_positives")
    ]
    if metrics.get("rows") and None not in outcomes:
        matrix = page.confusion_matrix(*(int(count) for count in outcomes if count is not None))
        explained = page.explained_table(_metric_rows(metrics))
        panels = page.columns(("Confusion matrix", 340, matrix), ("Metrics", 500, explained))
        parts.append(page.section("On the validation rows", panels))
    if worked_examples:
        threshold = float(metrics.get("threshold") or 0.5)
        parts.append(page.section("Examples", *(_example(one, threshold) for one in worked_examples)))
    if curves.epochs:
        parts.append(page.section("Epochs", _history_table(history, curves)))
    parts.append(page.section("Model", f"<pre>{escape(summary.strip())}</pre>"))
    parts.append(page.section("Configuration", page.settings_table(config)))
    figures = _training_figures(history, curves, metrics)
    return page.page(title, describe(curves), figures, parts)


def evaluation_report(
    *,
    title: str,
    counts: BinaryCounts,
    config: Mapping[str, object],
    examples: Sequence[Example] = (),
) -> str:
    """Returns the report of an evaluation as one HTML file.

    Args:
        title: heading of the page.
        counts: of all evaluated rows.
        config: the resolved settings, nested or flat.
        examples: texts to choose from; those that the model got wrong are shown, the most confident first.
    """
    metrics = counts.metrics()
    matrix = page.confusion_matrix(
        counts.true_negatives, counts.false_positives, counts.false_negatives, counts.true_positives
    )
    panels = page.columns(
        ("Confusion matrix", 300, matrix),
        ("ROC curve", 300, charts.roc_chart(counts)),
        ("Reliability", 300, charts.reliability_chart(counts)),
    )
    parts = [
        page.section("Outcomes", panels),
        page.section("Metrics", page.explained_table(_metric_rows(metrics))),
    ]
    wrong = _confidently_wrong(examples, counts.threshold)
    if wrong:
        note = "Where the model was surest of the wrong answer. Worth reading: some of these labels may be the mistake."
        parts.append(
            page.section("Most confidently wrong", *(_example(one, counts.threshold) for one in wrong), note=note)
        )
    parts.append(page.section("Configuration", page.settings_table(config)))
    figures = {
        "Accuracy": (_figure(metrics["accuracy"], ".1%"), ""),
        "AUC": (_figure(metrics["auc"], ".3f"), ""),
        "F1": (_figure(metrics["f1"], ".3f"), ""),
        "Log loss": (_figure(metrics["log_loss"], ".3f"), ""),
        "Rows": (f"{counts.rows:,}", ""),
    }
    return page.page(title, _describe_evaluation(counts), figures, parts)


def _training_figures(
    history: pa.Table, curves: Curves, metrics: Mapping[str, float | int | None]
) -> dict[str, tuple[str, str]]:
    """The headline of a training run; what was not measured is left out."""
    figures = {}
    accuracy = metrics.get("accuracy", curves.at_best(curves.validation_accuracy))
    if accuracy is not None:
        figures["Validation accuracy"] = (_figure(accuracy, ".1%"), "")
    elif curves.training_accuracy and curves.training_accuracy[-1] is not None:
        figures["Training accuracy"] = (_figure(curves.training_accuracy[-1], ".1%"), "")
    auc = metrics.get("auc", curves.at_best(_column(history, "validation_auc")))
    if auc is not None:
        figures["Validation AUC"] = (_figure(auc, ".3f"), "")
    if curves.best_epoch is not None:
        figures["Best epoch"] = (f"{curves.best_epoch}", f"of {curves.epochs[-1]}")
    else:
        figures["Epochs"] = (f"{len(curves.epochs)}", "")
    rates = [rate for rate in _column(history, "rows_per_s") if rate is not None and math.isfinite(rate)]
    if rates:
        figures["Training speed"] = (f"{statistics.median(rates):,.0f}", "rows/s")
    seconds = sum(value for value in _column(history, "seconds") if value is not None and math.isfinite(value))
    if seconds:
        figures["Training time"] = _duration(seconds)
    return figures


def _history_table(history: pa.Table, curves: Curves) -> str:
    """Every column that has a value, an epoch a row, the best one standing out."""
    formats = {
        "loss": ".3f",
        "accuracy": ".1%",
        "validation_loss": ".3f",
        "validation_accuracy": ".1%",
        "validation_auc": ".3f",
        "learning_rate": ".4g",
        "seconds": ",.1f",
        "rows_per_s": ",.0f",
    }
    columns = {name: _column(history, name) for name in formats}
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    head = ["epoch", *(name.replace("rows_per_s", "rows/s").replace("_", " ") for name in shown)]
    rows = [
        [str(epoch), *(_figure(values[at], formats[name]) for name, values in shown.items())]
        for at, epoch in enumerate(curves.epochs)
    ]
    return page.table(head, rows, best=[at for at, epoch in enumerate(curves.epochs) if epoch == curves.best_epoch])


def _metric_rows(metrics: Mapping[str, float | int | None]) -> list[tuple[str, str, str]]:
    """(name, figure, meaning) of each metric that is there."""
    names = {"auc": "AUC", "f1": "F1", "brier": "Brier score"}
    return [
        (names.get(key, key.replace("_", " ")), _figure(metrics[key], ".4f"), meaning)
        for key, meaning in _MEANINGS.items()
        if key in metrics
    ]


def _confidently_wrong(examples: Iterable[Example], threshold: float) -> list[Example]:
    """The wrong ones, farthest from the truth first, and no more than a reader will read."""
    wrong = [one for one in examples if (one.probability > threshold) != (one.label == 1)]
    return sorted(wrong, key=lambda one: -abs(one.probability - one.label))[:_MOST_EXAMPLES]


def _example(one: Example, threshold: float) -> str:
    names = ("negative", "positive")
    predicted = int(one.probability > threshold)
    text = " ".join(one.text.split())
    if len(text) > _MOST_CHARACTERS:
        text = text[:_MOST_CHARACTERS].rsplit(" ", 1)[0] + "\N{NO-BREAK SPACE}…"
    sureness = one.probability if predicted else 1 - one.probability
    verdict = f"{names[predicted]}, {sureness:.1%} sure"
    return page.example(text, verdict, f"truly {names[one.label]}", sureness, right=predicted == one.label)


def _describe_evaluation(counts: BinaryCounts) -> str:
    """What the evaluation says, in two English sentences."""
    if not counts.rows:
        return "No rows were evaluated."
    right = counts.true_positives + counts.true_negatives
    error = counts.metrics()["calibration_error"] or 0.0
    said = f"{right:,} of {counts.rows:,} rows are predicted right ({right / counts.rows:.1%})."
    missed, alarms = counts.false_negatives, counts.false_positives
    lean = "positive" if alarms > missed else "negative"
    if max(alarms, missed) > 1.5 * min(alarms, missed) and alarms + missed >= 20:
        said += f" Mistakes lean to {lean}: {alarms:,} false positives, {missed:,} false negatives."
    trust = "can be taken at face value" if error < 0.03 else "should not be taken at face value"
    return f"{said} Probabilities are off by {100 * error:.1f} points on average, so they {trust}."


def _column(history: pa.Table, name: str) -> list[float | None]:
    """The values of a column; all None if the table lacks it."""
    values: list[float | None] = history[name].to_pylist() if name in history.column_names else []
    return values or [None] * history.num_rows


def _figure(value: float | None, form: str) -> str:
    """A number in Python's format, or a dash where there is none."""
    return format(value, form) if value is not None and is_number(value) else "—"


def _duration(seconds: float) -> tuple[str, str]:
    """(figure, unit) as one would say it."""
    if seconds < 90:
        return f"{seconds:.1f}", "s"
    if seconds < 5400:
        return f"{seconds / 60:.1f}", "min"
    return f"{seconds / 3600:.1f}", "h"
