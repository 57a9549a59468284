"""Ranks models by the validation metric that `--best-by` names: epochs of a run, trials of a search.

Also formats such a metric, and checks whether it is better than chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

METRIC_NAMES = {"loss": "validation loss", "auc": "validation AUC", "accuracy": "validation accuracy"}
"""The values of `--best-by` in words."""

_FEWEST_ROWS = 5  # that may show more than chance does

WORST = (-math.inf, -math.inf)
"""The rank of a model that was not measured."""


def metric_of(metrics: Mapping[str, Any], best_by: str) -> float | None:
    """Returns the metric that `best_by` names; None if it is undefined, as AUC is if only one label occurs.

    Args:
        metrics: As `BinaryCounts.metrics` returns them.
        best_by: A key of `METRIC_NAMES`.
    """
    value: float | None = metrics.get("log_loss" if best_by == "loss" else best_by)
    return value


def show_metric(metrics: Mapping[str, Any], best_by: str) -> str:
    """Returns the metric that `best_by` names in four digits, accuracy with its standard error: 0.9012 ± 0.0042.

    A dash if the metric is undefined. (Checkpoints and bundles of older versions have no standard error.)
    """
    value, error = metric_of(metrics, best_by), metrics.get("accuracy_standard_error")
    if value is None:
        return "-"
    return f"{value:.4f}" + (f" ± {error:.4f}" if best_by == "accuracy" and error is not None else "")


def show_threshold(metrics: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Returns which threshold metrics were measured at, after a comma; "" if others were measured at the same."""
    threshold = metrics["threshold"]
    return "" if threshold == others["threshold"] else f", at its threshold of {threshold:g}"


def metrics_of_epoch(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the validation metrics of an epoch's row of the history, under the names of `BinaryCounts.metrics`."""
    same = ("auc", "accuracy", "accuracy_standard_error")
    return {"log_loss": row["validation_loss"], **{name: row.get(f"validation_{name}") for name in same}}


def doubt(metrics: Mapping[str, Any]) -> str | None:
    """Returns a warning if the validation accuracy may be that of always predicting the larger class; else None.

    It may be if it is at most two standard errors above the base rate, or if the rows are very few or of one class.
    """
    if "base_rate" not in metrics or metrics["rows"] == 0:
        return None
    base, error = metrics["base_rate"], metrics["accuracy_standard_error"]
    rows, larger = metrics["rows"], "positive" if 2 * metrics["positives"] >= metrics["rows"] else "negative"
    if rows < _FEWEST_ROWS:
        return f"too few validation rows ({rows}) to show whether the model has learned"
    if base == 1:
        return f"all {rows:,} validation rows are {larger}: they cannot show whether the model has learned"
    if metrics["accuracy"] > base + 2 * error:
        return None
    return (
        f"validation accuracy {show_metric(metrics, 'accuracy')} is not two standard errors above {base:.4f}, the "
        f"accuracy of always predicting {larger}: nothing shows that the model has learned"
    )


def rank(metrics: Mapping[str, Any], best_by: str) -> tuple[float, float]:
    """Returns a key that is greater for the better model: the metric that `best_by` names, then the loss.

    In both numbers higher is better. An undefined metric ranks below all others.
    """
    value, loss = metric_of(metrics, best_by), float(metrics["log_loss"])
    if value is None:
        return -math.inf, -loss
    return -value if best_by == "loss" else value, -loss
