"""Reports for a browser, and the picture of the training curves.

A report is one file that loads nothing else, neither script nor font: it can be mailed, attached to a run or opened
years later. `templates/` holds the HTML; this module computes what the templates show.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lstm_ray.evaluate.intervals import Interval, intervals, show_interval, show_p_value
from lstm_ray.report.charts import (
    accuracy_chart,
    class_histogram_chart,
    loss_chart,
    precision_recall_chart,
    reliability_chart,
    roc_chart,
    threshold_chart,
)
from lstm_ray.report.curves import Curves, column, describe, is_number, points, read_curves
from lstm_ray.report.parts import advice, part_figures
from lstm_ray.report.picture import draw_charts
from lstm_ray.report.rendering import Figure, duration, figure, flatten, render
from lstm_ray.wording import are, counted, shown_path

if TYPE_CHECKING:
    import pyarrow as pa

    from lstm_ray.evaluate.counts import BinaryCounts
    from lstm_ray.evaluate.groups import GroupResult
    from lstm_ray.evaluate.shard import Comparison, Mistake
    from lstm_ray.model.profile import Profile, TrainingData

_MOST_WORDS = 5  # shown for a mistake
_MAX_CHARACTERS = 420  # shown of a review; about five lines
_MOST_GROUPS = 200  # shown of a column
_LABELS = ("negative", "positive")
_CALIBRATED = 0.03  # calibration error that hardly matters in a decision
_CHANCE = 1.5  # by chance, a calibrated model's error exceeds this many times its mean in 5 % of cases

_METRICS = {
    "accuracy": ("accuracy", "share of all rows that are predicted correctly"),
    "accuracy_standard_error": (
        "its standard error",
        "on other rows like these, accuracy differs by less in two of three cases",
    ),
    "base_rate": ("base rate", "share of the larger class: the accuracy of always predicting it"),
    "balanced_accuracy": ("balanced accuracy", "mean of recall and specificity; 0.5 is guessing"),
    "precision": ("precision", "share of predicted positives that are positive"),
    "recall": ("recall", "share of positives that are predicted positive"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "specificity": ("specificity", "share of negatives that are predicted negative"),
    "auc": ("AUC", "chance that a positive gets a higher probability than a negative; 0.5 is guessing"),
    "log_loss": ("log loss", "mean -ln of the probability given to the true label; 0.693 if that is always 50%"),
    "brier": ("Brier score", "mean squared difference of probability and label; 0.25 if that is always 50%"),
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


def training_report(
    *,
    title: str,
    history: pa.Table,
    best_by: str,
    metrics: Metrics | None,
    counts: BinaryCounts | None = None,
    profile: TrainingData | None = None,
    rows_seen: int = 0,
    config: Mapping[str, object],
    summary: str,
    notes: Sequence[str] = (),
) -> str:
    """Returns the report of a training run as one HTML file.

    Args:
        title: Heading of the page.
        history: One row per epoch; columns epoch, loss, accuracy and, if known, validation_loss, validation_accuracy,
            validation_auc, learning_rate, seconds, rows_per_s (float64) and best (bool); with n-grams also those of
            `part_figures`.
        best_by: The metric that decided which epoch is best, a key of `METRIC_NAMES`.
        metrics: `BinaryCounts.metrics` of the best epoch's model on the validation rows; None without validation.
        counts: The counts behind these metrics; None without validation.
        profile: Figures of the training and validation rows; None if they are not known.
        rows_seen: Validation rows whose text is also a training row's.
        config: The resolved settings, nested or flat.
        summary: The model as Keras prints it.
        notes: Sentences to add to the description of the curves.
    """
    curves = read_curves(history, best_by)
    metrics = metrics or {}
    columns = {name: column(history, name) for name in _EPOCH_COLUMNS}
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    errors = {"validation_accuracy": curves.validation_error}
    best: dict[str, Any] = next((row for row in history.to_pylist() if row["epoch"] == curves.best_epoch), {})
    epochs = [
        (
            epoch,
            [
                figure(values[row], _EPOCH_COLUMNS[name]) + (points(errors[name][row]) if name in errors else "")
                for name, values in shown.items()
            ],
        )
        for row, epoch in enumerate(curves.epochs)
    ]
    return render(
        "training.html",
        title=title,
        lead=" ".join([describe(curves), *notes, *_as_sentence(advice(best, config))]),
        figures=_training_figures(history, curves, metrics),
        charts=[loss_chart(curves), accuracy_chart(curves)] if curves.epochs else [],
        metrics=metrics if metrics.get("rows") else None,
        outcomes=[roc_chart(counts), reliability_chart(counts)] if counts is not None else [],
        rows=list(_describe_rows(profile, rows_seen)) if profile is not None else [],
        explained=list(_explain(metrics, {})),
        parts=list(part_figures(best)),
        columns=["epoch", *(name.replace("rows_per_s", "rows/s").replace("_", " ") for name in shown)],
        epochs=epochs,
        best_epoch=curves.best_epoch,
        summary=summary.strip(),
        settings=list(flatten(config)),
    )


def history_png(history: pa.Table, best_by: str) -> bytes:
    """Returns loss and accuracy by epoch, side by side, as a PNG of 1800 x 720 pixels.

    Args:
        history, best_by: As for `training_report`.
    """
    curves = read_curves(history, best_by)
    return draw_charts([loss_chart(curves), accuracy_chart(curves)])


def evaluation_png(counts: BinaryCounts) -> bytes:
    """Returns the ROC curve and the reliability diagram, side by side, as a PNG."""
    return draw_charts([roc_chart(counts), reliability_chart(counts)])


def evaluation_report(
    *,
    title: str,
    counts: BinaryCounts,
    config: Mapping[str, object],
    mistakes: Sequence[Mistake] = (),
    groups: Sequence[GroupResult] = (),
    comparison: Comparison | None = None,
    ngrams: Comparison | None = None,
    chosen: BinaryCounts | None = None,
    left_out: int = 0,
    doubts: Sequence[str] = (),
) -> str:
    """Returns the report of an evaluation as one HTML file.

    Args:
        title: Heading of the page.
        counts: Counts of all evaluated rows.
        config: The resolved settings, nested or flat.
        mistakes: Wrong predictions to show, in this order.
        groups: Results of groups of rows.
        comparison: The comparison with another model, if there is one.
        ngrams: The comparison with the model's n-gram part alone, if it has one.
        chosen: Counts at the threshold that was chosen for the target, if there is one.
        left_out: Rows that have no words, or another label.
        doubts: Why the metrics may say little about other rows.
    """
    metrics = counts.metrics()
    sentences = [
        _describe_evaluation(counts),
        *_describe_choice(chosen),
        *_describe_comparison(comparison, "The other model's accuracy is"),
        *_describe_comparison(ngrams, "The accuracy of its n-grams alone, a linear model, is"),
    ]
    sentences += [sentence for doubt in doubts for sentence in _as_sentence(doubt)]
    figures = [
        ("Accuracy", figure(metrics["accuracy"], ".1%"), points(metrics["accuracy_standard_error"]).strip()),
        ("AUC", figure(metrics["auc"], ".3f"), ""),
        ("F1", figure(metrics["f1"], ".3f"), ""),
        ("Log loss", figure(metrics["log_loss"], ".3f"), ""),
        ("Rows", f"{counts.rows:,}", f"{left_out:,} left out" if left_out else ""),
    ]
    return render(
        "evaluation.html",
        title=title,
        lead=" ".join(sentences),
        figures=figures,
        charts=[
            roc_chart(counts),
            precision_recall_chart(counts),
            reliability_chart(counts),
            class_histogram_chart(counts),
            threshold_chart(counts),
        ],
        metrics=metrics,
        explained=list(_explain(metrics, intervals(counts))),
        groups=[
            (by, _describe_groups(groups, by), _group_rows(groups, by))
            for by in dict.fromkeys(group.by for group in groups)
        ],
        mistakes=[_show_mistake(mistake) for mistake in mistakes],
        settings=list(flatten(config)),
    )


def _training_figures(history: pa.Table, curves: Curves, metrics: Metrics) -> Iterator[Figure]:
    """Yields the headline figures of a training run; those that were not measured are left out."""
    accuracy = metrics.get("accuracy", curves.at_best(curves.validation_accuracy))
    if accuracy is not None:
        yield "Validation accuracy", figure(accuracy, ".1%"), points(metrics.get("accuracy_standard_error")).strip()
    elif curves.training_accuracy and curves.training_accuracy[-1] is not None:
        yield "Training accuracy", figure(curves.training_accuracy[-1], ".1%"), ""
    auc = metrics.get("auc", curves.at_best(column(history, "validation_auc")))
    if auc is not None:
        yield "Validation AUC", figure(auc, ".3f"), ""
    if curves.best_epoch is not None:
        yield "Best epoch", f"{curves.best_epoch}", f"of {curves.epochs[-1]}"
    else:
        yield "Epochs", f"{len(curves.epochs)}", ""
    rates = [rate for rate in column(history, "rows_per_s") if is_number(rate)]
    if rates:
        yield "Training speed", f"{statistics.median(rates):,.0f}", "rows/s"
    seconds = math.fsum(value for value in column(history, "seconds") if is_number(value))
    if seconds:
        yield "Training time", *duration(seconds)


def _describe_rows(profile: TrainingData, rows_seen: int) -> Iterator[tuple[str, str, str]]:
    """Yields the lines of the data table: a name, and its figures for the training and the validation rows."""

    def row(name: str, show: Callable[[Profile], str]) -> tuple[str, str, str]:
        training, validation = (show(side) if side.rows else "—" for side in (profile.training, profile.validation))
        return name, training, validation

    yield row("rows", lambda side: f"{side.rows:,}")
    yield row("labelled positive", lambda side: f"{side.positives / side.rows:.1%}")
    yield row("words read per row", lambda side: f"{side.words / side.rows:,.1f}")
    yield row("truncated rows", lambda side: f"{side.truncated / side.rows:.1%}")
    yield row("unknown words", lambda side: f"{side.unknown / max(side.words, 1):.1%}")
    yield "rows also in training", "", f"{rows_seen:,}" if profile.validation.rows else "—"


def _explain(metrics: Metrics, found: Mapping[str, Interval | None]) -> Iterator[tuple[str, str, str]]:
    """Yields the name, the figure (with its confidence interval, if known) and the meaning of each metric."""
    for key, (name, meaning) in _METRICS.items():
        if key in metrics:
            yield name, figure(metrics[key], ".4f") + show_interval(found.get(key)), meaning


def _describe_groups(groups: Sequence[GroupResult], by: str) -> str:
    """Returns a note on which groups of a column are shown; "" if all are."""
    number = sum(group.by == by for group in groups)
    if number <= _MOST_GROUPS:
        return ""
    return f"{_MOST_GROUPS} of {number:,} groups: those that stand out first, then the largest; metrics.json lists all."


def _group_rows(groups: Sequence[GroupResult], by: str) -> list[tuple[bool, list[str]]]:
    """Returns, for each group that is shown, whether it stands out and its cells."""
    found = [group for group in groups if group.by == by]
    if len(found) > _MOST_GROUPS:
        found = sorted(found, key=lambda group: (not group.stands_out, -group.rows))[:_MOST_GROUPS]
    return [
        (
            group.stands_out,
            [
                "null" if group.value is None else group.value,
                f"{group.rows:,}",
                f"{group.positives / group.rows:.1%}",
                f"{group.accuracy:.1%}",
                " to ".join(f"{bound:.1%}" for bound in group.accuracy_interval),
                figure(group.precision, ".1%"),
                figure(group.recall, ".1%"),
                "—" if group.p_value is None else f"{group.p_value:.2g}",
            ],
        )
        for group in found
    ]


def _describe_choice(chosen: BinaryCounts | None) -> list[str]:
    """Returns a sentence on the threshold that was chosen for the target, or nothing."""
    if chosen is None:
        return []
    metrics = chosen.metrics()
    reached = f"precision {metrics['precision']:.1%}, recall {metrics['recall']:.1%}"
    return [f"On these rows, the threshold that meets the target is {chosen.threshold:g}: {reached}."]


def _describe_comparison(comparison: Comparison | None, subject: str) -> list[str]:
    """Returns a sentence on the comparison with another model, or nothing."""
    paired = None if comparison is None else comparison.paired()
    if comparison is None or paired is None:
        return []
    low, high = (f"{100 * bound:+.1f}" for bound in paired.interval)
    return [
        f"{subject} {comparison.other.metrics()['accuracy']:.1%} on the "
        f"{counted(comparison.rows, 'row')} that both score: a difference of {100 * paired.difference:+.1f} points "
        f"({low} to {high}; {paired.test}: {show_p_value(paired.p_value)})."
    ]


def _show_mistake(mistake: Mistake) -> dict[str, Any]:
    """Returns the template's values for a mistake: labels, confidence, position, shortened text and its words."""
    text = " ".join(mistake.text.split())
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS].rsplit(" ", 1)[0] + "\N{NO-BREAK SPACE}…"
    predicted = 1 - mistake.label
    return {
        "predicted": _LABELS[predicted],
        "actual": _LABELS[mistake.label],
        "confidence": mistake.probability if predicted else 1 - mistake.probability,
        "text": text,
        "words": ", ".join(f"{one.word} {one.weight:+.2f}" for one in mistake.words[:_MOST_WORDS]),
        "file": os.path.basename(shown_path(mistake.file)),
        "row": mistake.row,
    }


def _describe_evaluation(counts: BinaryCounts) -> str:
    """Returns a summary of the evaluation in a few sentences."""
    if not counts.rows:
        return "No rows were evaluated."
    right = counts.true_positives + counts.true_negatives
    metrics = counts.metrics()
    error = metrics["calibration_error"] or 0.0
    share = f"{right / counts.rows:.1%}{points(metrics['accuracy_standard_error'])}"
    larger = "positive" if counts.positives >= counts.negatives else "negative"
    right_are = f"{right:,} of {counted(counts.rows, 'row')} {are(1 if counts.rows == 1 else right)}"
    sentences = [
        f"{right_are} predicted correctly ({share}).",
        f"Always predicting {larger} gets {figure(metrics['base_rate'], '.1%')}.",
    ]
    missed, alarms = counts.false_negatives, counts.false_positives
    if max(alarms, missed) > 1.5 * min(alarms, missed) and alarms + missed >= 20:
        lean = "positive" if alarms > missed else "negative"
        found = f"{counted(alarms, 'false positive')}, {counted(missed, 'false negative')}"
        sentences.append(f"Most mistakes are false {lean}s: {found}.")
    chance = counts.calibration_error_by_chance()
    if error < _CALIBRATED:
        trust = "so they are well calibrated"
    elif error < _CHANCE * chance:
        trust = f"which may be chance: calibrated ones would be off by about {100 * chance:.1f} with so few rows"
    else:
        trust = "so lstm-ray calibrate may improve them"
    sentences.append(f"Probabilities are off by {100 * error:.1f} points on average, {trust}.")
    return " ".join(sentences)


def _as_sentence(text: str | None) -> list[str]:
    """Returns a text as a sentence, with a capital letter and a full stop; nothing for None."""
    return [] if text is None else [f"{text[0].upper()}{text[1:]}."]
