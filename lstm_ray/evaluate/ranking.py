"""Ranks models by the validation metric that `--best-by` names: epochs of a run, trials of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

METRIC_NAMES = {"loss": "validation loss", "auc": "validation AUC", "accuracy": "validation accuracy"}
"""What people call the values of `--best-by`."""

WORST = (-math.inf, -math.inf)
"""The rank of a model that was not measured."""


def metric_of(metrics: Mapping[str, Any], best_by: str) -> float | None:
    """Returns the metric that `best_by` names; None if it does not exist, as AUC where only one label occurs.

    Args:
        metrics: As `BinaryCounts.metrics` returns them.
        best_by: A key of `METRIC_NAMES`.
    """
    value: float | None = metrics.get("log_loss" if best_by == "loss" else best_by)
    return value


def rank(metrics: Mapping[str, Any], best_by: str) -> tuple[float, float]:
    """Returns a key that is greater for the better model: the metric that `best_by` names, then the loss.

    In both numbers higher is better. A metric that does not exist is worse than any other.
    """
    value, loss = metric_of(metrics, best_by), float(metrics["log_loss"])
    if value is None:
        return -math.inf, -loss
    return -value if best_by == "loss" else value, -loss
