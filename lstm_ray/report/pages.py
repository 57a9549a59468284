"""Reports for a browser, and the picture of the training curves.

A report is one file that loads nothing else, neither script nor font: it can be mailed, attached to a run or opened
years later. `templates/` holds the HTML; this module computes what the templates show.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jinja2

from lstm_ray.report.charts import accuracy_chart, loss_chart, reliability_chart, roc_chart
from lstm_ray.report.curves import Curves, describe, is_number, points, read_curves
from lstm_ray.report.marks import Point
from lstm_ray.report.parts import advice, part_figures
from lstm_ray.report.picture import draw_charts
from lstm_ray.wording import visible

if TYPE_CHECKING:
    import pyarrow as pa

    from lstm_ray.evaluate.counts import BinaryCounts
    from lstm_ray.evaluate.shard import Mistake

_MAX_CHARACTERS = 420  # of a review; about five lines
_LABELS = ("negative", "positive")

_METRICS = {
    "accuracy": ("accuracy", "share of all rows that are predicted correctly"),
    "accuracy_standard_error": ("its standard error", "of other rows like these, two in three differ by less"),
    "base_rate": ("base rate", "share of the larger class: the accuracy of always predicting it"),
    "balanced_accuracy": ("balanced accuracy", "mean of recall and specificity; 0.5 is guessing"),
    "precision": ("precision", "share of predicted positives that are positive"),
    "recall": ("recall", "share of positives that are predicted positive"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "specificity": ("specificity", "share of negatives that are predicted negative"),
    "auc": ("AUC", "chance that a positive gets a higher probability than a negative; 0.5 is guessing"),
    "log_loss": ("log loss", "mean -ln of the probability given to the true label; 0.693 is always saying 50%"),
    "brier": ("Brier score", "mean squared difference of probability and label; 0.25 is always saying 50%"),
    "calibration_error": ("calibration error", "mean difference of probability and share of positives"),
}
"""Name and meaning of each metric that the reports show."""

_EPOCH_COLUMNS = {
    "loss": ".3f",
    "accuracy": ".1%",
    "validation_loss": ".3f",
    "validation_accuracy": ".1%",
    "validation_auc": ".3f",
    "validation_lstm_accuracy": ".1%",
    "validation_ngram_accuracy": ".1%",
    "lstm_share": ".0%",
    "learning_rate": ".4g",
    "seconds": ",.1f",
    "rows_per_s": ",.0f",
}
"""Columns of the history that the training report shows, and their formats."""

Metrics = Mapping[str, float | int | None]
Figure = tuple[str, str, str]
"""A headline figure: its name, the figure, its unit."""


def training_report(
    *,
    title: str,
    history: pa.Table,
    best_by: str,
    metrics: Metrics | None,
    config: Mapping[str, object],
    summary: str,
    notes: Sequence[str] = (),
) -> str:
    """Returns the report of a training run as one HTML file.

    Args:
        title: Heading of the page.
        history: One row an epoch; columns epoch, loss, accuracy, and where they are known validation_loss,
            validation_accuracy, validation_auc, learning_rate, seconds, rows_per_s (float64) and best (bool); with
            n-grams those of `part_figures`.
        best_by: The metric that decided which epoch is best, a key of `METRIC_NAMES`.
        metrics: Of the best epoch's model on the validation rows (`BinaryCounts.metrics`); None without validation.
        config: The resolved settings, nested or flat.
        summary: The model as Keras prints it.
        notes: Sentences to add to the one on the curves.
    """
    curves = read_curves(history, best_by)
    metrics = metrics or {}
    columns = {name: _column(history, name) for name in _EPOCH_COLUMNS}
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    errors = {"validation_accuracy": curves.validation_error}
    best: dict[str, Any] = next((row for row in history.to_pylist() if row["epoch"] == curves.best_epoch), {})
    epochs = [
        (
            epoch,
            [
                _figure(values[row], _EPOCH_COLUMNS[name]) + (points(errors[name][row]) if name in errors else "")
                for name, values in shown.items()
            ],
        )
        for row, epoch in enumerate(curves.epochs)
    ]
    return _render(
        "training.html",
        title=title,
        lead=" ".join([describe(curves), *notes, *_as_sentence(advice(best, config))]),
        figures=_training_figures(history, curves, metrics),
        charts=[loss_chart(curves), accuracy_chart(curves)] if curves.epochs else [],
        metrics=metrics if metrics.get("rows") else None,
        explained=list(_explain(metrics)),
        parts=list(part_figures(best)),
        columns=["epoch", *(name.replace("rows_per_s", "rows/s").replace("_", " ") for name in shown)],
        epochs=epochs,
        best_epoch=curves.best_epoch,
        summary=summary.strip(),
        settings=list(_flatten(config)),
    )


def history_png(history: pa.Table, best_by: str) -> bytes:
    """Returns loss and accuracy by epoch, side by side, as a PNG of 1800 x 720 pixels.

    Args:
        history, best_by: As for `training_report`.
    """
    curves = read_curves(history, best_by)
    return draw_charts([loss_chart(curves), accuracy_chart(curves)], "png")


def evaluation_report(
    *, title: str, counts: BinaryCounts, config: Mapping[str, object], mistakes: Sequence[Mistake] = ()
) -> str:
    """Returns the report of an evaluation as one HTML file.

    Args:
        title: Heading of the page.
        counts: Of all evaluated rows.
        config: The resolved settings, nested or flat.
        mistakes: Wrong predictions to show, in this order.
    """
    metrics = counts.metrics()
    figures = [
        ("Accuracy", _figure(metrics["accuracy"], ".1%"), points(metrics["accuracy_standard_error"]).strip()),
        ("AUC", _figure(metrics["auc"], ".3f"), ""),
        ("F1", _figure(metrics["f1"], ".3f"), ""),
        ("Log loss", _figure(metrics["log_loss"], ".3f"), ""),
        ("Rows", f"{counts.rows:,}", ""),
    ]
    return _render(
        "evaluation.html",
        title=title,
        lead=_describe_evaluation(counts),
        figures=figures,
        charts=[roc_chart(counts), reliability_chart(counts)],
        metrics=metrics,
        explained=list(_explain(metrics)),
        mistakes=[_show_mistake(mistake) for mistake in mistakes],
        settings=list(_flatten(config)),
    )


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lstm_ray.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: visible(value) if type(value) is str else value,  # what is markup was made of such
    )
    environment.filters["coordinates"] = _coordinates
    return environment


def _coordinates(points: Sequence[Point]) -> str:
    """Returns points as SVG's polylines and polygons take them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _training_figures(history: pa.Table, curves: Curves, metrics: Metrics) -> Iterator[Figure]:
    """Yields the headline figures of a training run; those that were not measured are left out."""
    accuracy = metrics.get("accuracy", curves.at_best(curves.validation_accuracy))
    if accuracy is not None:
        yield "Validation accuracy", _figure(accuracy, ".1%"), points(metrics.get("accuracy_standard_error")).strip()
    elif curves.training_accuracy and curves.training_accuracy[-1] is not None:
        yield "Training accuracy", _figure(curves.training_accuracy[-1], ".1%"), ""
    auc = metrics.get("auc", curves.at_best(_column(history, "validation_auc")))
    if auc is not None:
        yield "Validation AUC", _figure(auc, ".3f"), ""
    if curves.best_epoch is not None:
        yield "Best epoch", f"{curves.best_epoch}", f"of {curves.epochs[-1]}"
    else:
        yield "Epochs", f"{len(curves.epochs)}", ""
    rates = [rate for rate in _column(history, "rows_per_s") if is_number(rate)]
    if rates:
        yield "Training speed", f"{statistics.median(rates):,.0f}", "rows/s"
    seconds = math.fsum(value for value in _column(history, "seconds") if is_number(value))
    if seconds:
        yield "Training time", *_duration(seconds)


def _explain(metrics: Metrics) -> Iterator[Figure]:
    """Yields name, figure and meaning of each metric that is there."""
    for key, (name, meaning) in _METRICS.items():
        if key in metrics:
            yield name, _figure(metrics[key], ".4f"), meaning


def _show_mistake(mistake: Mistake) -> dict[str, Any]:
    """Returns what the template shows of a mistake: predicted and actual label, confidence, and the text, cut."""
    text = " ".join(mistake.text.split())
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS].rsplit(" ", 1)[0] + "\N{NO-BREAK SPACE}…"
    predicted = 1 - mistake.label
    return {
        "predicted": _LABELS[predicted],
        "actual": _LABELS[mistake.label],
        "confidence": mistake.probability if predicted else 1 - mistake.probability,
        "text": text,
    }


def _describe_evaluation(counts: BinaryCounts) -> str:
    """Returns what the evaluation shows, in two or three sentences."""
    if not counts.rows:
        return "No rows were evaluated."
    right = counts.true_positives + counts.true_negatives
    metrics = counts.metrics()
    error = metrics["calibration_error"] or 0.0
    share = f"{right / counts.rows:.1%}{points(metrics['accuracy_standard_error'])}"
    larger = "positive" if counts.positives >= counts.negatives else "negative"
    sentences = [
        f"{right:,} of {counts.rows:,} rows are predicted correctly ({share}).",
        f"Calling every row {larger} gets {_figure(metrics['base_rate'], '.1%')}.",
    ]
    missed, alarms = counts.false_negatives, counts.false_positives
    if max(alarms, missed) > 1.5 * min(alarms, missed) and alarms + missed >= 20:
        lean = "positive" if alarms > missed else "negative"
        sentences.append(f"Mistakes lean to {lean}: {alarms:,} false positives, {missed:,} false negatives.")
    trust = "can be taken at face value" if error < 0.03 else "should not be taken at face value"
    sentences.append(f"Probabilities are off by {100 * error:.1f} points on average, so they {trust}.")
    return " ".join(sentences)


def _as_sentence(text: str | None) -> list[str]:
    """Returns a text with a capital letter and a full stop, or nothing."""
    return [] if text is None else [f"{text[0].upper()}{text[1:]}."]


def _column(history: pa.Table, name: str) -> list[float | None]:
    """Returns the values of a column; all None if the table lacks it."""
    values: list[float | None] = history[name].to_pylist() if name in history.column_names else []
    return values or [None] * history.num_rows


def _figure(value: float | None, form: str) -> str:
    """Returns a number in a format of Python's, or a dash if it is missing or not finite."""
    return format(value, form) if is_number(value) else "—"


def _duration(seconds: float) -> tuple[str, str]:
    """Returns a duration as (figure, unit), in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.1f}", "s"
    if seconds < 5400:
        return f"{seconds / 60:.1f}", "min"
    return f"{seconds / 3600:.1f}", "h"


def _flatten(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields names and values of settings; those of nested ones by their dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is None or isinstance(value, bool):
            yield f"{prefix}{name}", str(value).lower()
        else:
            yield f"{prefix}{name}", str(value)
