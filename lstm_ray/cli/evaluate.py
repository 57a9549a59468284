"""lstm-ray evaluate"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.cli.options import takes_settings
from lstm_ray.config import EvaluateConfig
from lstm_ray.errors import ReportError
from lstm_ray.wording import counted, in_words

if TYPE_CHECKING:
    from lstm_ray.evaluate.counts import BinaryCounts
    from lstm_ray.evaluate.evaluation import Evaluation
    from lstm_ray.evaluate.groups import GroupResult
    from lstm_ray.evaluate.shard import Comparison

_MOST_GROUPS = 12  # of a column in the summary; --json lists all


@takes_settings(EvaluateConfig)
def evaluate(
    config: EvaluateConfig,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel="Input and output")
    ] = False,
) -> None:
    """Measure a model on labelled reviews.

    Example: lstm-ray evaluate test.parquet --model runs/first/model --by length --output evaluation
    """
    try:
        with bars.progress("nothing is written") as progress:
            result = lstm_ray.evaluate(job=config, progress=progress)
    except ReportError as error:  # print the figures first: they took long to compute
        _show(error.result, as_json, config)
        raise
    _show(result, as_json, config)


def _show(result: Evaluation, as_json: bool, config: EvaluateConfig) -> None:
    if as_json:
        console.show_text(json.dumps(result.to_json()) + "\n")
        return
    console.show_table("Evaluated", [*_figures(result, config), *_files(config)])
    for by in config.by:
        console.show_table(f"By {by}", _groups([group for group in result.groups if group.by == by]))


def _figures(result: Evaluation, config: EvaluateConfig) -> Iterator[tuple[str, str]]:
    """Yields the names and figures of an evaluation, with confidence intervals in parentheses."""
    from lstm_ray.evaluate.intervals import show_interval

    metrics, intervals = result.metrics, result.intervals
    yield "rows", f"{metrics['rows']:,}"
    for name in ("accuracy", "base_rate", "balanced_accuracy", "auc", "precision", "recall", "f1", "log_loss"):
        value = metrics[name]
        yield in_words(name), "none" if value is None else f"{value:.4f}{show_interval(intervals.get(name))}"
    yield "threshold", f"{metrics['threshold']:g}"
    if result.comparison is not None:
        yield from _compared(result.comparison, metrics)
    if result.ngrams is not None:
        yield "n-grams alone", _beside_ngrams(result.ngrams)
    for name, rows in (
        ("rows without words", metrics["rows_without_text"]),
        ("rows with other labels", metrics["rows_with_other_label"]),
    ):
        if rows:
            yield name, f"{rows:,} left out"
    if metrics["rows_seen_in_training"]:
        share = metrics["rows_seen_in_training"] / metrics["rows"]
        yield "rows seen in training", f"{metrics['rows_seen_in_training']:,} ({share:.1%})"
    if result.other_rows_seen:
        yield "seen by the other model", f"{result.other_rows_seen:,} ({result.other_rows_seen / metrics['rows']:.1%})"
    yield "speed", f"{metrics['rows_per_s']:,.0f} rows/s"
    if config.goal is not None:  # not beside the figures, which are those at the threshold above
        goal = " ".join(in_words(str(one)) for one in config.goal)
        yield goal, "no threshold" if result.chosen is None else _describe_chosen(result.chosen)


def _files(config: EvaluateConfig) -> Iterator[tuple[str, str]]:
    """Yields the files that were written; the disk may have been full."""
    from lstm_ray import storage

    report = None if config.output is None else storage.join(config.output, "report.html")
    for name, path in (("predictions", config.predictions), ("report", report)):
        if path is not None and storage.exists(path):
            yield name, storage.absolute(path)


def _describe_chosen(counts: BinaryCounts) -> str:
    metrics = counts.metrics()
    figures = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("precision", "recall", "accuracy"))
    return f"threshold {counts.threshold:g}: {figures}"


def _compared(comparison: Comparison, metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the figures of the comparison of a model with another one.

    Args:
        comparison: The comparison.
        metrics: The model's, on all rows that it can score; the other one, with another tokenizer, may find words in
            fewer.
    """
    from lstm_ray.evaluate.intervals import show_interval, show_p_value
    from lstm_ray.evaluate.ranking import show_threshold

    other, paired = comparison.other.metrics(), comparison.paired()
    if paired is None:
        yield "the other model", "no rows that both can score"
        return
    yield "accuracy of the other", f"{other['accuracy']:.4f}{show_threshold(other, metrics)}"
    if comparison.rows < metrics["rows"]:
        right = f"{comparison.right / comparison.rows:.4f}"
        yield "rows that both can score", f"{comparison.rows:,}; this model's accuracy there: {right}"
    p_value = show_p_value(paired.p_value)
    yield "difference", f"{paired.difference:+.4f}{show_interval(paired.interval)}, {p_value} ({paired.test})"
    yield (
        "only this model is right",
        f"{counted(comparison.only_this, 'row')}; only the other: {comparison.only_other:,}",
    )


def _beside_ngrams(ngrams: Comparison) -> str:
    """Returns the accuracy of a model's n-grams, which are a linear model, and what the whole model adds to it."""
    from lstm_ray.evaluate.intervals import show_interval, show_p_value

    accuracy, paired = f"accuracy {ngrams.other.metrics()['accuracy']:.4f}", ngrams.paired()
    if paired is None:
        return accuracy
    difference = f"{paired.difference:+.4f}{show_interval(paired.interval)}, {show_p_value(paired.p_value)}"
    return f"{accuracy}; the model: {difference}"


def _groups(groups: list[GroupResult]) -> list[tuple[str, str]]:
    """Returns lines for the groups of a column: for all if they are few, else for the largest ones that stand out."""
    from lstm_ray.evaluate.intervals import show_interval, show_p_value

    def line(group: GroupResult) -> tuple[str, str]:
        accuracy = f"{group.accuracy:.4f}{show_interval(group.accuracy_interval)} of {counted(group.rows, 'row')}"
        if group.p_value is not None and group.stands_out:
            accuracy += f", stands out ({show_p_value(group.p_value)})"
        return "null" if group.value is None else group.value, accuracy

    if len(groups) <= _MOST_GROUPS:
        return list(map(line, groups))
    found = sorted((group for group in groups if group.stands_out), key=lambda group: -group.rows)
    verb = "stands" if len(found) == 1 else "stand"
    rest = f"{len(groups):,}, of which {len(found) or 'none'} {verb} out; --json and metrics.json list all"
    return [*map(line, found[:_MOST_GROUPS]), ("groups", rest)]
