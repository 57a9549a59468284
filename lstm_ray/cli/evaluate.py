"""lstm-ray evaluate"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

import lstm_ray
from lstm_ray.cli import console
from lstm_ray.cli.options import takes_settings
from lstm_ray.config import EvaluateConfig
from lstm_ray.errors import ReportError

if TYPE_CHECKING:
    from lstm_ray.evaluate.evaluation import Evaluation


@takes_settings(EvaluateConfig)
def evaluate(
    config: EvaluateConfig,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel="Input and output")
    ] = False,
) -> None:
    """Measure a model on labelled reviews.

    Example: lstm-ray evaluate test.parquet --model runs/first/model --output evaluation
    """
    try:
        with console.progress("nothing is written") as progress:
            result = lstm_ray.evaluate(job=config, progress=progress)
    except ReportError as error:  # printed below the figures, which took long to compute
        _show(error.result, as_json, None)
        raise
    _show(result, as_json, config.output)


def _show(result: Evaluation, as_json: bool, output: str | None) -> None:
    if as_json:
        console.show_text(json.dumps(result.metrics) + "\n")
    else:
        _show_evaluation(result, output)


def _show_evaluation(result: Evaluation, output: str | None) -> None:
    """Prints the metrics of an evaluation."""
    from lstm_ray.evaluate.ranking import show_metric

    metrics = result.metrics
    names = ("base_rate", "balanced_accuracy", "auc", "precision", "recall", "f1", "log_loss")
    rows = [("rows", f"{metrics['rows']:,}"), ("accuracy", show_metric(metrics, "accuracy"))]
    rows += [(name, "none" if metrics[name] is None else f"{metrics[name]:.4f}") for name in names]
    if metrics["rows_without_text"]:
        rows.append(("rows without words", f"{metrics['rows_without_text']:,} left out"))
    if metrics["rows_with_other_label"]:
        rows.append(("rows with other labels", f"{metrics['rows_with_other_label']:,} left out"))
    if metrics["rows_seen_in_training"]:
        share = metrics["rows_seen_in_training"] / metrics["rows"]
        rows.append(("rows seen in training", f"{metrics['rows_seen_in_training']:,} ({share:.1%})"))
    rows.append(("speed", f"{metrics['rows_per_s']:,.0f} rows/s"))
    if output:
        rows.append(("report", f"{output}/report.html"))
    console.show_table("Evaluated", rows)
