"""lstm-ray train"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.cli.options import given_options, takes_settings
from lstm_ray.config import ColumnSettings, LabelSettings, TrainConfig, check_complete, option_name
from lstm_ray.wording import command_line

if TYPE_CHECKING:
    from lstm_ray.train.results import Outcome


@takes_settings(TrainConfig)
def train(
    config: TrainConfig,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show settings, model and workers; start nothing.", rich_help_panel="Compute"),
    ] = False,
) -> None:
    """Train a Keras LSTM or BiLSTM on labelled reviews.

    Example: lstm-ray train --train reviews.parquet --output runs/first --preset lstm --epochs 3
    """
    if dry_run:
        check_complete(config)
        from lstm_ray.train.dry_run import describe

        console.show_text(describe(config))
        return
    with bars.progress("the same command resumes from the last checkpoint, if there is one yet") as progress:
        outcome = lstm_ray.train(job=config, progress=progress)
    if outcome.was_complete:
        name = "early_stopping" if outcome.state.stops_early(outcome.config) else "epochs"
        more = f"raise {option_name(name)} to continue, or " if name in outcome.config.may_change() else ""
        console.say(f"{outcome.output}: already complete; {more}use --fresh to start over")
    show_outcome(outcome)


def show_outcome(outcome: Outcome) -> None:
    """Prints the results of a run, and commands to use them."""
    from lstm_ray import storage

    rows = [
        *_figures(outcome),
        ("model", outcome.model),
        ("report", storage.join(outcome.output, "report.html")),
        *_next_commands(outcome.model, outcome.config),
    ]
    console.show_table("Trained", rows)
    for line in _advice(outcome):
        console.warn(line)


def _figures(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yields name and value of the figures of a run."""
    from lstm_ray.evaluate.ranking import METRIC_NAMES, show_metric, show_threshold
    from lstm_ray.report.parts import part_figures

    state, config, metrics = outcome.state, outcome.config, outcome.metrics
    yield "training rows", f"{outcome.training_rows:,}"
    yield "validation rows", f"{outcome.validation_rows:,}"
    if (groups := outcome.groups) is not None:
        sides = f"{groups.training:,} to train on, {groups.validation:,} to validate on"
        yield f"groups of {config.validation_group}", sides
        if groups.rows_without:
            yield "rows without a group", f"{groups.rows_without:,}, split by their text"
    if outcome.validation_rows_seen:
        share = outcome.validation_rows_seen / outcome.validation_rows
        yield "seen in training", f"{outcome.validation_rows_seen:,} ({share:.1%})"
    if outcome.rows_without_text:
        yield "rows without words", f"{outcome.rows_without_text:,} left out"
    if outcome.rows_with_other_label:
        yield "rows with other labels", f"{outcome.rows_with_other_label:,} left out"
    stopped = f", stopped early of {config.epochs}" if state.epoch < config.epochs else ""
    by = f", by {METRIC_NAMES[config.best_by]}" if metrics else ""
    yield "best epoch", f"{state.best_epoch} of {state.epoch}{stopped}{by}"
    if before := outcome.before:
        accuracy = show_metric(before, "accuracy")
        yield "accuracy before", f"{accuracy}, of {config.from_}{show_threshold(before, metrics)}"
        yield "log loss", f"{before['log_loss']:.4f} -> {metrics['log_loss']:.4f}"
    if metrics:
        yield "validation accuracy", show_metric(metrics, "accuracy")
        if "base_rate" in metrics:  # older versions did not measure it
            yield "base rate", f"{metrics['base_rate']:.4f}"
            yield "balanced accuracy", f"{metrics['balanced_accuracy']:.4f}"
        auc = metrics["auc"]
        yield "validation AUC", "none: one class only" if auc is None else f"{auc:.4f}"
        if config.goal is not None:
            reached = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("precision", "recall"))
            others = "" if outcome.measured_otherwise is None else f"; {outcome.measured_otherwise}"
            yield "threshold", f"{metrics['threshold']:g}: {reached}{others}"
    for name, figure, _ in part_figures(state.best_row()):
        yield name, figure


def _advice(outcome: Outcome) -> Iterator[str]:
    """Yields what to try for a better model, and what its figures do not show."""
    from lstm_ray.evaluate.ranking import METRIC_NAMES, doubt, rank
    from lstm_ray.report.parts import advice

    state, config, metrics = outcome.state, outcome.config, outcome.metrics
    if (better := advice(state.best_row(), config.model_dump())) is not None:
        yield f"note: {better}"
    # A threshold that was chosen for a goal may cost accuracy on purpose.
    by = "loss" if config.goal is not None and config.best_by == "accuracy" else config.best_by
    if outcome.before and rank(outcome.before, by) > rank(metrics, by):
        lost = outcome.before["accuracy"] - metrics["accuracy"]
        is_close = by == "accuracy" and 0 < lost < metrics["accuracy_standard_error"]
        chance = "but by less than its standard error, so the next command decides"
        remedy = chance if is_close else "try a lower --learning-rate, or more rows"
        measure = METRIC_NAMES[by] + ("" if by == "loss" else " (if equal, by validation loss)")
        yield f"note: {config.from_} is still better on these rows, by {measure}: {remedy}"
    if (problem := outcome.threshold_problem) is not None:
        yield f"warning: {problem}"
    if (only := _only_class(metrics)) is not None:
        yield f"note: the model predicts {only} for every validation row: try more epochs, or another learning rate"
    if (sentence := doubt(metrics)) is not None:
        yield f"note: {sentence}"


def _next_commands(model: str, config: TrainConfig) -> list[tuple[str, str]]:
    """Returns commands that use the model, with the columns and labels that are not the defaults."""
    columns = given_options(config, ColumnSettings)
    compare = () if config.from_ is None else ("--compare", config.from_)
    labels = given_options(config, LabelSettings)
    evaluate = ("evaluate", "TEST.parquet", "--model", model, *compare, *columns, *labels)
    score = ("score", "REVIEWS.parquet", "--model", model, "--output", "SCORED", *columns)
    return [
        ("try it", command_line("predict", "--model", model, "Not bad at all")),
        ("next", command_line(*evaluate)),
        ("then", command_line(*score)),
    ]


def _only_class(metrics: dict[str, Any]) -> str | None:
    """Returns the class that a model predicts for all validation rows, or None if it predicts both."""
    if not metrics:
        return None
    positives = metrics["true_positives"] + metrics["false_positives"]
    return {0: "negative", metrics["rows"]: "positive"}.get(positives)
